//! Membership as the formation machines see it: who is judged failed by whom, and when; and hosts that die.
//!
//! It stands for the machine of the membership crate, which has a world of its own. An agent sees another one directly
//! or through a third, as indirect probes do; what it has not seen for a while is failed. The times are drawn anew for
//! each verdict, so that survivors do not act in step. Checked here: a live link whose ends reach one another is never
//! dropped, and every survivor of a death is told of it in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metacluster_formation::{DropHow, Input, Output, Settings};
use metacluster_types::{AgentId, Instant, NodeName};
use rand::RngExt;

use super::{
    beam::NameId,
    checks::Violation,
    machine::Machine,
    world::{Broken, Event, World},
};
use crate::network::HostId;

/// How often agents look at one another.
pub(crate) const JUDGE_INTERVAL: Duration = Duration::from_millis(100);
/// How long an agent is not seen before it is failed, at least and at most.
const FAILED_AFTER: (Duration, Duration) = (Duration::from_millis(1_200), Duration::from_millis(2_500));
/// A check looks at the network when it begins and answers up to half a second later.
const CHECK_SPAN: Duration = Duration::from_millis(600);
/// How soon after a death every survivor is told: verdict, check, disconnect, and the steps between.
const TOLD_WITHIN: Duration = Duration::from_millis(3_500);

/// What every agent makes of the others.
#[derive(Debug)]
pub(crate) struct Members {
    hosts: u32,
    down: BTreeMap<HostId, u32>,
    boots: BTreeMap<HostId, u32>,
    muted: BTreeMap<HostId, u32>,
    /// Since when the observer does not see the other, and when it will hold it failed.
    unseen: BTreeMap<(HostId, HostId), Instant>,
    /// The observer holds the other failed.
    failed: BTreeSet<(HostId, HostId)>,
    /// The observer has seen the other in this life.
    met: BTreeSet<(HostId, HostId)>,
    healed: BTreeMap<(HostId, HostId), Instant>,
}

impl Members {
    pub(crate) fn new(hosts: u32) -> Self {
        Self {
            hosts,
            down: BTreeMap::new(),
            boots: BTreeMap::new(),
            muted: BTreeMap::new(),
            unseen: BTreeMap::new(),
            failed: BTreeSet::new(),
            met: BTreeSet::new(),
            healed: BTreeMap::new(),
        }
    }

    pub(crate) fn is_down(&self, host: HostId) -> bool {
        self.down.contains_key(&host)
    }

    pub(crate) fn mute(&mut self, host: HostId) {
        *self.muted.entry(host).or_default() += 1;
    }

    pub(crate) fn unmute(&mut self, host: HostId) {
        release(&mut self.muted, host);
    }

    pub(crate) fn healed(&mut self, now: Instant, from: HostId, to: HostId) {
        self.healed.insert((from.min(to), from.max(to)), now);
    }

    /// An agent that starts anew knows nobody.
    pub(crate) fn forget_view(&mut self, host: HostId) {
        self.unseen.retain(|(observer, _), _| *observer != host);
        self.failed.retain(|(observer, _)| *observer != host);
        self.met.retain(|(observer, _)| *observer != host);
    }

    fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts).map(HostId)
    }
}

/// Takes one hold back; says whether it was the last.
fn release(holds: &mut BTreeMap<HostId, u32>, host: HostId) -> bool {
    match holds.get_mut(&host) {
        Some(count) if *count > 1 => {
            *count -= 1;
            false
        }
        Some(_) | None => holds.remove(&host).is_some(),
    }
}

fn agent_of(host: HostId) -> AgentId {
    AgentId(u128::from(host.0))
}

impl<M: Machine, F: FnMut(Settings, u64) -> M> World<'_, M, F> {
    fn others(&self, host: HostId) -> Vec<(HostId, HostId)> {
        let others = self.members.hosts().filter(|&other| other != host);
        others.flat_map(|other| [(host, other), (other, host)]).collect()
    }

    /// The hosts fall silent: no packet of theirs tells of it.
    pub(crate) fn hosts_die(&mut self, hosts: &[HostId]) {
        for &host in hosts {
            let holds = self.members.down.entry(host).or_default();
            *holds += 1;
            if *holds > 1 {
                continue;
            }
            let boot = self.members.boots.entry(host).or_default();
            *boot += 1;
            let boot = *boot;
            let pairs = self.others(host);
            self.cut(pairs);
            for life in self.beams.alive_on(host) {
                let name = self.beams.life(life).name;
                self.kill_node(name);
            }
            self.stop_agent(host);
            self.queue.push_after(TOLD_WITHIN, Event::Told { host, boot });
        }
    }

    pub(crate) fn hosts_boot(&mut self, hosts: &[HostId]) -> Result<(), Broken> {
        for &host in hosts {
            if !release(&mut self.members.down, host) {
                continue;
            }
            let pairs = self.others(host);
            self.heal(pairs);
            let names: Vec<NameId> = self.beams.names().filter(|&name| self.beams.home(name) == host).collect();
            for name in names {
                self.start_node(name, host);
            }
            self.start_agent(host)?;
        }
        Ok(())
    }

    /// Whether anything of a host answers another host's check.
    pub(crate) fn answers(&self, from: HostId, host: HostId) -> bool {
        !self.members.is_down(host) && self.network.connects(from, host)
    }

    fn talks(&self, one: HostId, other: HostId) -> bool {
        let speaks =
            |host: HostId| self.agents[host.0 as usize].machine.is_some() && !self.members.muted.contains_key(&host);
        speaks(one) && speaks(other) && self.network.connects(one, other)
    }

    fn sees(&self, observer: HostId, other: HostId) -> bool {
        self.talks(observer, other)
            || self
                .members
                .hosts()
                .filter(|&third| third != observer && third != other)
                .any(|third| self.talks(observer, third) && self.talks(third, other))
    }

    pub(crate) fn judge(&mut self) -> Result<(), Broken> {
        let now = self.queue.now();
        for observer in self.members.hosts() {
            if self.agents[observer.0 as usize].machine.is_none() {
                continue;
            }
            let (mut alive, mut late) = (Vec::new(), Vec::new());
            let mut witnesses = 0;
            for other in self.members.hosts().filter(|&other| other != observer) {
                if self.sees(observer, other) {
                    witnesses += 1;
                    self.members.met.insert((observer, other));
                    self.members.unseen.remove(&(observer, other));
                    if self.members.failed.contains(&(observer, other)) {
                        alive.push(other);
                    }
                } else if self.members.met.contains(&(observer, other)) {
                    let wait = self.rng.random_range(FAILED_AFTER.0..=FAILED_AFTER.1);
                    let at = *self.members.unseen.entry((observer, other)).or_insert(now + wait);
                    if !self.members.failed.contains(&(observer, other)) && at <= now {
                        late.push(other);
                    }
                }
            }
            if !late.is_empty() && witnesses == 0 {
                // Nobody is left to ask: all who do not answer are told of at once.
                let met = self.members.met.range((observer, HostId(0))..(HostId(observer.0 + 1), HostId(0)));
                late = met.map(|&(_, other)| other).collect();
            }
            for other in alive {
                self.members.failed.remove(&(observer, other));
                let (agent, nodes) = (agent_of(other), self.told_by(other));
                self.feed(observer, Input::HostAlive { agent, nodes })?;
            }
            for other in late {
                self.members.failed.insert((observer, other));
                let (agent, nodes) = (agent_of(other), self.told_by(other));
                self.feed(observer, Input::HostFailed { agent, nodes, witnesses })?;
            }
        }
        Ok(())
    }

    /// The nodes that a member tells, or told last.
    fn told_by(&self, host: HostId) -> Vec<NodeName> {
        let names = self.beams.names().filter(|&name| self.beams.home(name) == host);
        names.map(|name| self.beams.name(name).clone()).collect()
    }

    /// A drop of a link between two nodes that live, on hosts that have reached one another for longer than a check
    /// takes.
    pub(crate) fn check_drop(&self, host: HostId, output: &Output) -> Result<(), Broken> {
        let Output::Drop { local, peer, how: DropHow::Disconnect } = output else { return Ok(()) };
        let Some((local_name, peer_name)) = self.beams.find(local).zip(self.beams.find(peer)) else { return Ok(()) };
        let Some((one, other)) = self.beams.current(local_name).zip(self.beams.current(peer_name)) else {
            return Ok(());
        };
        let home = self.beams.life(other).host;
        let healed = self.members.healed.get(&(host.min(home), host.max(home)));
        let long = healed.is_none_or(|&at| self.queue.now().since(at) > CHECK_SPAN);
        if self.answers(host, home) && long && self.beams.linked(one, other) {
            let violation = Violation::LiveLinkDropped { local: local.clone(), peer: peer.clone() };
            return Err((host, violation));
        }
        Ok(())
    }

    /// In a world in which nothing but deaths happens, no survivor holds a link to the dead any more.
    pub(crate) fn everybody_was_told(&self, host: HostId, boot: u32) -> Result<(), Broken> {
        let same = self.members.is_down(host) && self.members.boots.get(&host) == Some(&boot);
        if !self.scenario.faults.only_deaths() || !same {
            return Ok(());
        }
        for life in self.beams.alive() {
            let (observer, name) = (self.beams.life(life).host, self.beams.life(life).name);
            if !self.members.met.contains(&(observer, host)) || !self.agents[observer.0 as usize].ready.contains(&life)
            {
                continue;
            }
            if let Some(peer) = self.beams.life(life).view.keys().find(|&&peer| self.beams.home(peer) == host) {
                let (local, peer) = (self.beams.name(name).clone(), self.beams.name(*peer).clone());
                return Err((observer, Violation::NotTold { local, peer, after: TOLD_WITHIN }));
            }
        }
        Ok(())
    }
}
