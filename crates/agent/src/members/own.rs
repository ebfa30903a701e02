//! What this agent says of itself, where it looks for others, and what it shows.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use metacluster_membership::{Description, DescriptionError, Input, MemberView as Known};
use tracing::{info, warn};

use super::{
    Agent, MembersView, PORT,
    address::{self, choose},
    book,
    complaints::Refusal,
    driver::Driver,
    sources::Seed,
    state::{MemberState, STATE_BYTES_MAX},
    truth::Subject,
};

/// How soon others are told of a change of the local nodes, and of their links.
pub(super) const TELL_NODES: Duration = Duration::from_millis(50);
const TELL_LINKS: Duration = Duration::from_secs(10);
/// The longest name that the machine carries.
const NAME_BYTES_MAX: usize = 128;
/// What is tried when names, roles and tags leave no room for the whole state.
const STATE_SIZES: [usize; 5] = [STATE_BYTES_MAX, 384, 256, 160, 0];

impl Driver {
    /// The local nodes changed.
    pub(super) fn on_local(&mut self) {
        let local = self.channels.local.borrow_and_update().clone();
        let told = local.nodes == self.told_nodes && local.gateway == self.told_gateway;
        let wait = if told { TELL_LINKS } else { TELL_NODES };
        self.tell_within(wait);
    }

    /// Others are told of this agent within this time.
    pub(super) fn tell_within(&mut self, wait: Duration) {
        let at = self.clock.now() + wait;
        self.schedule.describe = Some(self.schedule.describe.map_or(at, |due| due.min(at)));
    }

    /// The addresses of this machine may have changed; what providers say may be clear by now.
    pub(super) fn look(&mut self) {
        let own = address::own_addresses();
        if own != self.own_addresses {
            self.own_addresses = own;
            self.tell_within(Duration::ZERO);
        }
        self.judge(false);
    }

    /// Where this agent is, for others.
    fn address(&self, hosts: &[&str]) -> SocketAddr {
        let advertise = self.config.advertise;
        let known = address::Known {
            advertise: advertise.map(|address| address.ip()),
            bound: self.at.ip(),
            hosts,
            own: &self.own_addresses,
            default_route: address::default_route(),
        };
        let ip = choose(&known, |name| self.resolver.addresses(name));
        let port = advertise.map(|address| address.port()).filter(|&port| port != 0).unwrap_or(self.at.port());
        SocketAddr::new(ip, port)
    }

    /// Tells the machine what this agent is now.
    pub(super) fn describe(&mut self) -> Result<(), DescriptionError> {
        let local = self.channels.local.borrow().clone();
        let hosts: BTreeSet<&str> = local.nodes.iter().map(|node| node.host()).collect();
        let hosts: Vec<&str> = hosts.into_iter().chain(self.agent.host.as_deref()).collect();
        let address = self.address(&hosts);
        let first = self.agent.host.as_deref().or(hosts.first().copied());
        let name = first.map_or_else(
            || format!("{}@{}", self.agent.node_name, address.ip()),
            |host| format!("{}@{host}", self.agent.node_name),
        );
        let nodes_total = u32::try_from(local.nodes.len()).unwrap_or(u32::MAX);
        let state = MemberState {
            nodes: local.nodes.clone(),
            nodes_total,
            links: local.links,
            key: self.key(),
            instance: self.config.instance.clone(),
            gateway: local.gateway,
        };
        let mut told = Err(DescriptionError::TooLong("the state"));
        let mut all = false;
        for size in STATE_SIZES {
            let (bytes, whole) = if size == 0 { (Vec::new(), false) } else { state.encode(size) };
            all = whole;
            told = self.machine.describe(self.clock.now(), describe(&self.agent, name.clone(), address, bytes));
            if told.is_ok() {
                break;
            }
        }
        told?;
        if !all && !std::mem::replace(&mut self.told_short, true) {
            warn!(
                "the names of {nodes_total} local nodes do not all fit into what other agents are told; the rest is \
                 found by topologies alone"
            );
        }
        self.told_short &= !all;
        (self.told_nodes, self.told_gateway) = (local.nodes, local.gateway);
        if self.told_address != Some(address) {
            self.told_address = Some(address);
            info!("other agents reach this one at {address} (UDP and TCP)");
        }
        self.publish_soon();
        Ok(())
    }

    fn key(&mut self) -> u32 {
        let seals = self.config.encryption.seals();
        if seals { self.sealer.ring().used().0 } else { 0 }
    }

    /// Where others may be, for the machine.
    pub(super) fn seed(&mut self) {
        let now = self.clock.now();
        let sources = self.channels.sources.borrow_and_update().clone();
        let local = self.channels.local.borrow().clone();
        let mut names: BTreeSet<String> = local.nodes.iter().map(|node| node.host().to_owned()).collect();
        names.extend(self.agent.host.clone());
        let mut seeds = Vec::new();
        for seed in sources.seeds(self.config.port.unwrap_or(PORT)) {
            match seed {
                Seed::Address(address) => seeds.push(address),
                Seed::Name(name, port) => {
                    seeds.extend(self.resolver.addresses(&name).iter().map(|&ip| SocketAddr::new(ip, port)));
                    names.insert(name);
                }
            }
        }
        names.retain(|name| name.parse::<IpAddr>().is_err());
        self.resolver.want(now, &names);
        seeds.extend(&self.kept_seeds);
        // Of what an IPv4 socket cannot reach nothing comes but failures.
        let reachable = |seed: &SocketAddr| self.at.is_ipv6() || self.at.ip().is_unspecified() || seed.is_ipv4();
        seeds.retain(reachable);
        let mut seen = BTreeSet::new();
        seeds.retain(|seed| seen.insert(*seed));
        seeds.truncate(self.settings.seeds_max);
        self.machine.handle_input(now, Input::Seeds(seeds));
    }

    /// Ends the members of which a provider says that they have ended. With `heard`, the sources said something new.
    pub(super) fn judge(&mut self, heard: bool) {
        if !heard && self.truth.is_empty() {
            return;
        }
        let now = self.clock.now();
        let members: Vec<(Known, Option<String>)> = self
            .machine
            .members()
            .map(|known| {
                let instance = MemberState::decode(&known.description.state).ok().and_then(|state| state.instance);
                (known, instance)
            })
            .collect();
        let subjects = members.iter().map(|(known, instance)| Subject {
            id: known.id,
            stamp: known.stamp,
            standing: known.standing,
            address: known.description.address,
            instance: instance.as_deref(),
        });
        let ended = if heard {
            let gone = self.channels.sources.borrow().gone();
            self.truth.say(now, gone, subjects)
        } else {
            self.truth.judge(now, subjects)
        };
        for id in ended {
            self.machine.handle_input(now, Input::Terminated(id));
        }
    }

    /// Brings the view up to date.
    pub(super) fn publish(&mut self) {
        let now = self.clock.now();
        let description = self.machine.description();
        let mut own = book::own(&self.agent, self.id, &description.name, description.address);
        own.epoch = self.machine.stamp().epoch.0;
        own.instance = self.config.instance.clone();
        own.nodes = book::nodes(&self.told_nodes);
        own.nodes_total = u32::try_from(self.told_nodes.len()).unwrap_or(u32::MAX);
        (own.links, own.gateway) = (self.channels.local.borrow().links, self.told_gateway);
        own.key = (self.key() != 0).then(|| self.sealer.ring().used().to_string());
        let mut members = vec![own];
        members.extend(self.book.members(now, &self.machine, &self.agent.cluster));
        let mut counters = book::counters(self.machine.counters(), self.machine.health());
        let refused = |refusal| self.counted.refused.get(&refusal).copied().unwrap_or_default();
        counters.packets_lost = self.counted.lost;
        counters.names_shared = self.counted.names_shared;
        counters.foreign += refused(Refusal::Foreign);
        counters.malformed += refused(Refusal::Malformed);
        counters.incompatible += refused(Refusal::Incompatible);
        counters.wrong_key = refused(Refusal::UnknownKey);
        counters.forged = refused(Refusal::Forged);
        counters.plain = refused(Refusal::Plain);
        counters.replayed = refused(Refusal::Replayed);
        counters.snapshot_failures = self.keeper.failures;
        let view = MembersView { id: self.id, members, counters };
        self.view.send_replace(Arc::new(view));
    }
}

/// What an agent says of itself.
pub(super) fn describe(agent: &Agent, name: String, address: SocketAddr, state: Vec<u8>) -> Description {
    let mut name = name;
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    Description {
        name,
        address,
        place: agent.place.clone(),
        roles: agent.roles.clone(),
        tags: agent.tags.clone(),
        state,
    }
}
