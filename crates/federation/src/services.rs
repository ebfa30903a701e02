//! Services: groups named `{Service, Partition}`, wherever their members are, and who of them is to serve a key.
//!
//! A key goes to a partition by rendezvous hashing: of all partitions the one that the key's hash likes best, so that a
//! partition that comes takes only what it serves, and one that goes leaves the rest where it was. Of the partition's
//! members those are taken that are in the caller's zone, else those in its region, else those of the gateway that
//! answers fastest; of several, again the one that the key's hash likes best. The hashes are of home forms, so that every
//! gateway of every cluster comes to the same.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use metacluster_erl_wire::{
    Pid, Term,
    term::{self, Limits},
};
use metacluster_types::{ClusterName, NodeName, Place};

use crate::{Federation, GroupKey, directory::hash, identifiers::PidKey, peer::PeerId};

/// The scope whose groups are services.
const SCOPE: &str = "pg";
/// Members of services that are kept. Those past it are not found by [`Federation::route`]. A member takes some 100 bytes.
const MEMBERS_MAX: usize = 1 << 20;

/// A member of a partition.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    pid: Pid,
    /// The hash of its home form.
    home: u64,
    /// Through whom; `None` for those of this cluster.
    via: Option<PeerId>,
}

/// See the module. Services and partitions are terms as bytes.
#[derive(Debug, Default)]
pub(crate) struct Services {
    services: BTreeMap<Bytes, BTreeMap<Bytes, Vec<Member>>>,
    members: usize,
    /// Where nodes of this cluster are.
    places: BTreeMap<NodeName, Place>,
}

/// A service, for who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: Term,
    /// Its partitions, and how many members each has in which cluster.
    pub partitions: Vec<(Term, BTreeMap<ClusterName, usize>)>,
}

fn encoded(term: &Term) -> Bytes {
    let mut out = BytesMut::new();
    term::encode(term, &mut out);
    out.freeze()
}

fn decoded(bytes: &[u8]) -> Option<Term> {
    term::decode(bytes, &Limits::default()).ok().map(|(term, _)| term)
}

/// The service and the partition that a group is.
fn parts(key: &GroupKey) -> Option<(Bytes, Bytes)> {
    // A tuple of two, before it is built.
    if key.scope != SCOPE || !key.group.starts_with(&[104, 2]) {
        return None;
    }
    match decoded(&key.group)?.as_tuple()? {
        [service, partition] => Some((encoded(service), encoded(partition))),
        _ => None,
    }
}

impl Services {
    fn join(&mut self, key: &GroupKey, members: impl Iterator<Item = Member>) {
        let Some((service, partition)) = parts(key) else { return };
        let partitions = self.services.entry(service).or_default();
        let all = partitions.entry(partition).or_default();
        for member in members {
            if self.members < MEMBERS_MAX {
                self.members += 1;
                all.push(member);
            }
        }
    }

    fn leave(&mut self, key: &GroupKey, pids: &[Pid]) {
        let Some((service, partition)) = parts(key) else { return };
        let Some(partitions) = self.services.get_mut(&service) else { return };
        let Some(all) = partitions.get_mut(&partition) else { return };
        for pid in pids {
            if let Some(place) = all.iter().position(|member| member.pid == *pid) {
                all.swap_remove(place);
                self.members -= 1;
            }
        }
        if all.is_empty() {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.services.remove(&service);
        }
    }

    /// Forgets the members of this cluster.
    fn forget_own(&mut self) {
        for partitions in self.services.values_mut() {
            for all in partitions.values_mut() {
                all.retain(|member| member.via.is_some());
            }
            partitions.retain(|_, all| !all.is_empty());
        }
        self.services.retain(|_, partitions| !partitions.is_empty());
        self.members = self.services.values().flat_map(BTreeMap::values).map(Vec::len).sum();
    }
}

fn home_hash(cluster: &str, node: &str, pid: (u32, u32, u32)) -> u64 {
    let (creation, id, serial) = pid;
    let numbers = [creation.to_be_bytes(), id.to_be_bytes(), serial.to_be_bytes()].concat();
    hash(&[cluster.as_bytes(), node.as_bytes(), &numbers])
}

/// How much a key likes something.
fn liking(key: &[u8], other: &[u8]) -> u64 {
    hash(&[key, other])
}

impl Federation {
    /// Where a node of this cluster is.
    pub fn set_place(&mut self, node: &NodeName, place: &Place) {
        if *place == Place::default() {
            self.services.places.remove(node);
        } else if self.services.places.get(node) != Some(place) {
            self.services.places.insert(node.clone(), place.clone());
        }
    }

    /// The member of a service that is to serve a key, for a caller on that node. `None` when the service has none.
    #[must_use]
    pub fn route(&self, service: &Term, key: &Term, caller: &NodeName) -> Option<Pid> {
        let partitions = self.services.services.get(&encoded(service))?;
        let key = encoded(key);
        let (_, members) = partitions.iter().max_by_key(|(partition, _)| (liking(&key, partition), *partition))?;
        let here = self.services.places.get(caller).unwrap_or(&self.settings.place);
        let distance = |member: &Member| -> (u8, Duration) {
            let (place, rtt) = match member.via {
                None => {
                    let node = NodeName::new(member.pid.node.as_str()).ok();
                    let place = node.and_then(|node| self.services.places.get(&node));
                    (place.unwrap_or(&self.settings.place), Duration::ZERO)
                }
                Some(peer) => (&self.peer(peer).place, self.peer(peer).round_trip.unwrap_or(Duration::MAX)),
            };
            if here.zone.is_some() && place.zone == here.zone {
                (0, Duration::ZERO)
            } else if here.region.is_some() && place.region == here.region {
                (1, Duration::ZERO)
            } else {
                (2, rtt)
            }
        };
        let nearest = members.iter().map(distance).min()?;
        let near = members.iter().filter(|member| distance(member) == nearest);
        near.max_by_key(|member| liking(&key, &member.home.to_be_bytes())).map(|member| member.pid.clone())
    }

    /// The members of a service, by partition.
    #[must_use]
    pub fn members_of(&self, service: &Term) -> Vec<(Term, Vec<Pid>)> {
        let partitions = self.services.services.get(&encoded(service)).into_iter().flatten();
        let pids = |members: &[Member]| members.iter().map(|member| member.pid.clone()).collect();
        partitions.filter_map(|(partition, members)| Some((decoded(partition)?, pids(members)))).collect()
    }

    /// All services of all clusters.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        let counted = |members: &[Member]| {
            let mut counts: BTreeMap<ClusterName, usize> = BTreeMap::new();
            for member in members {
                let cluster = member.via.map_or(&self.settings.cluster, |peer| &self.peer(peer).cluster);
                *counts.entry(cluster.clone()).or_default() += 1;
            }
            counts
        };
        let service = |(name, partitions): (&Bytes, &BTreeMap<Bytes, Vec<Member>>)| {
            let partitions = partitions.iter().filter_map(|(name, members)| Some((decoded(name)?, counted(members))));
            Some(Service { name: decoded(name)?, partitions: partitions.collect() })
        };
        self.services.services.iter().filter_map(service).collect()
    }

    pub(crate) fn serves_here(&mut self, key: &GroupKey, pids: &[Pid]) {
        let cluster = self.settings.cluster.as_str();
        let member = |pid: &Pid| {
            let home = home_hash(cluster, pid.node.as_str(), (pid.creation, pid.id, pid.serial));
            Member { pid: pid.clone(), home, via: None }
        };
        self.services.join(key, pids.iter().map(member));
    }

    pub(crate) fn serves_here_no_more(&mut self, key: &GroupKey, pids: &[Pid]) {
        self.services.leave(key, pids);
    }

    /// These are all of this cluster.
    pub(crate) fn services_here_are(&mut self, groups: &BTreeMap<GroupKey, Vec<Pid>>) {
        self.services.forget_own();
        for (key, pids) in groups {
            self.serves_here(key, pids);
        }
    }

    pub(crate) fn serves_there(&mut self, peer: PeerId, key: &GroupKey, members: &[(Pid, PidKey)]) {
        let cluster = self.peers[peer.index()].cluster.as_str();
        let names = &self.identifiers.names;
        let member = |(pid, home): &(Pid, PidKey)| {
            let node = names.name(home.name).node.as_str();
            let home = home_hash(cluster, node, (home.creation, home.id, home.serial));
            Member { pid: pid.clone(), home, via: Some(peer) }
        };
        self.services.join(key, members.iter().map(member));
    }

    pub(crate) fn serves_there_no_more(&mut self, key: &GroupKey, pids: &[Pid]) {
        self.services.leave(key, pids);
    }
}
