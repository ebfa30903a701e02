//! The peers that were heard of, bounded, each with when it was heard last.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use metacluster_types::{AgentId, Candidate, Instant, NodeName};

use super::packet::{About, Packet};

/// How many peers are kept. When there are as many, further ones are refused and counted.
pub(crate) const PEERS_MAX: usize = 10_000;

/// A silence of an agent's node that is longer than this many mean intervals is a sign that packets were lost.
const QUIET_INTERVALS: u32 = 3;
/// The same for a libcluster node, whose heartbeats have gaps of up to five seconds.
const QUIET_LIBCLUSTER: Duration = Duration::from_millis(5500);
/// So many addresses of a peer are kept. A host sends through each of its interfaces, so it may be heard from several.
const ADDRESSES_MAX: usize = 4;

#[derive(Debug)]
struct Peer {
    candidate: Candidate,
    heard: Instant,
    /// Where its heartbeats came from, each with when it was heard last.
    from: Vec<(Ipv4Addr, Instant)>,
}

/// What a heartbeat meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An unknown peer, or one that was silent for long: it may not know us.
    New(Candidate),
    /// A known peer with new details.
    Changed(Candidate),
    /// A known peer as it was.
    Again,
    /// The table is full. Nothing changed.
    Refused,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Peers {
    table: BTreeMap<NodeName, Peer>,
    interval: Duration,
    expire: Duration,
}

impl Peers {
    pub(crate) fn new(interval: Duration, expire: Duration) -> Self {
        Self { table: BTreeMap::new(), interval, expire }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        self.table.values().map(|peer| peer.candidate.clone()).collect()
    }

    /// Takes a heartbeat that came from this address. One without details (libcluster's, from a host that has an agent
    /// too) leaves those that are known.
    pub(crate) fn hear(&mut self, now: Instant, from: Ipv4Addr, packet: Packet) -> Heard {
        let len = self.table.len();
        match self.table.entry(packet.node) {
            Entry::Vacant(_) if len >= PEERS_MAX => Heard::Refused,
            Entry::Vacant(entry) => {
                let mut candidate = Candidate::new(entry.key().clone());
                detail(&mut candidate, packet.about);
                let mut peer = Peer { candidate, heard: now, from: Vec::new() };
                peer.came_from(now, from, self.expire);
                Heard::New(entry.insert(peer).candidate.clone())
            }
            Entry::Occupied(mut entry) => {
                let peer = entry.get_mut();
                let silence = now.since(peer.heard);
                peer.heard = now;
                let changed = detail(&mut peer.candidate, packet.about) | peer.came_from(now, from, self.expire);
                let patience =
                    if peer.candidate.agent.is_some() { self.interval * QUIET_INTERVALS } else { QUIET_LIBCLUSTER };
                if silence > patience {
                    Heard::New(peer.candidate.clone())
                } else if changed {
                    Heard::Changed(peer.candidate.clone())
                } else {
                    Heard::Again
                }
            }
        }
    }

    /// Takes a goodbye, which counts only from the agent that spoke for the node. Says whether the node was known.
    pub(crate) fn bid_goodbye(&mut self, node: &NodeName, agent: AgentId) -> bool {
        let known = self.table.get(node).is_some_and(|peer| peer.candidate.agent == Some(agent));
        if known {
            self.table.remove(node);
        }
        known
    }

    /// Forgets a node that is a local one now. Says whether it was known.
    pub(crate) fn forget(&mut self, node: &NodeName) -> bool {
        self.table.remove(node).is_some()
    }

    /// Removes who was silent for too long. If that is everyone at once, it is more likely that we cannot hear: then
    /// they are kept for as long again.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<NodeName> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.table.iter().partition(|(_, peer)| now.since(peer.heard) > self.expire);
        let all_at_once = kept.is_empty() && gone.len() > 1;
        let newest = gone.iter().map(|(_, peer)| peer.heard).max();
        if all_at_once && newest.is_some_and(|newest| now.since(newest) <= self.expire * 2) {
            return Vec::new();
        }
        let gone: Vec<NodeName> = gone.into_iter().map(|(node, _)| node.clone()).collect();
        for node in &gone {
            self.table.remove(node);
        }
        gone
    }

    /// Leaves a time in which we could not hear anyone out of every silence.
    pub(crate) fn forgive(&mut self, deaf: Duration) {
        for peer in self.table.values_mut() {
            peer.heard = peer.heard + deaf;
            peer.from.iter_mut().for_each(|(_, heard)| *heard = *heard + deaf);
        }
    }
}

impl Peer {
    /// Its host is where its heartbeats come from, so an agent of it is found though its name cannot be resolved. A
    /// loopback address says only that it is this host: to a reader of candidates that is no address. Says whether it is
    /// news.
    fn came_from(&mut self, now: Instant, from: Ipv4Addr, expire: Duration) -> bool {
        if from.is_loopback() || from.is_unspecified() {
            return false;
        }
        if let Some((_, heard)) = self.from.iter_mut().find(|(known, _)| *known == from) {
            *heard = now;
            return false;
        }
        self.from.retain(|(_, heard)| now.since(*heard) <= expire);
        if self.from.len() < ADDRESSES_MAX {
            self.from.push((from, now));
        }
        let addresses: Vec<IpAddr> = self.from.iter().map(|&(address, _)| address.into()).collect();
        let changed = self.candidate.host.addresses != addresses;
        self.candidate.host.addresses = addresses;
        changed
    }
}

/// Adds what an agent said to a candidate. Says whether that changed it.
fn detail(candidate: &mut Candidate, about: Option<About>) -> bool {
    let Some(about) = about else { return false };
    let changed = candidate.agent != Some(about.agent) || candidate.host.place != about.place;
    candidate.agent = Some(about.agent);
    candidate.host.place = about.place;
    changed
}
