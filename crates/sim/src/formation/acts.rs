//! What the world does with a machine's outputs: dials, drops and checks.

use std::time::Duration;

use metacluster_formation::{DialError, DropHow, Input, Output, Settings};
use metacluster_types::NodeName;
use rand::RngExt;

use super::{
    beam::{LifeId, NameId},
    machine::Machine,
    world::{Event, World},
};
use crate::network::HostId;

/// How long a BEAM tries to connect to a host that does not answer (`net_setuptime`).
const SETUP_TIME: Duration = Duration::from_secs(7);

impl<M: Machine, F: FnMut(Settings, u64) -> M> World<'_, M, F> {
    pub(crate) fn act(&mut self, host: HostId, output: Output) {
        match output {
            Output::Dial { local, peer } => self.dial(host, &local, &peer),
            Output::Drop { local, peer, how } => self.drop_link(host, &local, &peer, how),
            Output::Check { peer } => {
                // The kernel of a host answers for it, whether or not a node of that name runs there.
                let home = self.beams.find(&peer).map(|name| self.beams.home(name));
                let alive = home.is_some_and(|home| self.answers(host, home));
                let wait = Duration::from_millis(self.rng.random_range(10..500));
                let agent = &mut self.agents[host.0 as usize];
                let (number, epoch) = (agent.checks.entry(peer.clone()).or_default(), agent.epoch);
                *number += 1;
                let number = *number;
                self.queue.push_after(wait, Event::CheckEnds { host, epoch, peer, number, alive });
            }
            Output::Note(_)
            | Output::CandidateFound { .. }
            | Output::CandidateLost { .. }
            | Output::TopologyError { .. }
            | Output::TopologyRecovered { .. } => {}
        }
    }

    fn answer(&mut self, host: HostId, wait: Duration, input: Input) {
        let epoch = self.agents[host.0 as usize].epoch;
        self.queue.push_after(wait, Event::Input { host, epoch, input });
    }

    fn ready_life(&self, host: HostId, name: NameId) -> Option<LifeId> {
        self.beams.current(name).filter(|life| self.agents[host.0 as usize].ready.contains(life))
    }

    fn dial(&mut self, host: HostId, local: &NodeName, peer: &NodeName) {
        self.dials += 1;
        let names = self.beams.find(local).zip(self.beams.find(peer));
        let Some((life, name)) = names.and_then(|(local, peer)| Some((self.ready_life(host, local)?, peer))) else {
            let outcome = Err(DialError::LocalUnavailable);
            let input = Input::Dialled { local: local.clone(), peer: peer.clone(), outcome };
            self.answer(host, Duration::from_millis(1), input);
            return;
        };
        let (epoch, silent) = (self.agents[host.0 as usize].epoch, self.silent());
        let target = self.beams.current(name);
        let (wait, target) = if let Some(&held) = self.beams.life(life).view.get(&name) {
            (Duration::from_micros(300), Some(held.to))
        } else {
            match self.network.exchange(host, self.beams.home(name), 3, &mut self.rng) {
                None => (SETUP_TIME, None),
                Some(wait) if target.is_none() => (wait / 3, None),
                Some(wait) => (wait, target),
            }
        };
        self.queue.push_after(wait, Event::DialEnds { host, epoch, local: life, peer: name, target, silent });
    }

    pub(crate) fn on_dial_ends(
        &mut self,
        host: HostId,
        epoch: u32,
        (local, peer, target): (LifeId, NameId, Option<LifeId>),
        silent: bool,
    ) {
        let outcome = if !self.beams.life(local).alive {
            Err(DialError::LocalUnavailable)
        } else if self.beams.life(local).view.contains_key(&peer)
            || target.is_some_and(|target| self.establish(local, target))
        {
            Ok(())
        } else {
            Err(DialError::Unreachable("no answer".to_owned()))
        };
        if !silent {
            let local = self.beams.name(self.beams.life(local).name).clone();
            let peer = self.beams.name(peer).clone();
            let wait = Duration::from_micros(self.rng.random_range(100..20_000));
            let input = Input::Dialled { local, peer, outcome };
            self.queue.push_after(wait, Event::Input { host, epoch, input });
        }
    }

    /// Two live nodes that reach one another hold a connection from now on; says whether they do.
    pub(crate) fn establish(&mut self, one: LifeId, other: LifeId) -> bool {
        let (a, b) = (self.beams.life(one), self.beams.life(other));
        if !a.alive || !b.alive || one == other || !self.network.connects(a.host, b.host) {
            return false;
        }
        if self.beams.linked(one, other) {
            return true;
        }
        let replaced = self.beams.connect(one, other);
        for ((from, to), replaced) in [(one, other), (other, one)].into_iter().zip(replaced) {
            let peer = self.beams.life(to).name;
            if replaced {
                // What it held under that name was half open, or of an earlier life.
                self.notice(from, peer, false);
            }
            self.notice(from, peer, true);
        }
        if self.scenario.connect_all {
            self.complete_mesh(one, other);
            self.complete_mesh(other, one);
        }
        true
    }

    /// `one` connects to all that `other` is connected to.
    fn complete_mesh(&mut self, one: LifeId, other: LifeId) {
        for peer in self.beams.connections(other).into_iter().map(|held| held.to) {
            let (from, to) = (self.beams.life(one).host, self.beams.life(peer).host);
            if peer != one
                && !self.beams.life(one).view.contains_key(&self.beams.life(peer).name)
                && let Some(wait) = self.network.exchange(from, to, 3, &mut self.rng)
            {
                self.queue.push_after(wait, Event::MeshDial { one, other: peer });
            }
        }
    }

    fn drop_link(&mut self, host: HostId, local: &NodeName, peer: &NodeName, how: DropHow) {
        let names = self.beams.find(local).zip(self.beams.find(peer));
        if let Some((life, peer)) = names.and_then(|(local, peer)| Some((self.ready_life(host, local)?, peer))) {
            for held in self.beams.connections(life) {
                if how == DropHow::LeaveMesh || self.beams.life(held.to).name == peer {
                    self.lose(life, held);
                    self.closed_by(life, held);
                }
            }
        }
        let input = Input::Dropped { local: local.clone(), peer: peer.clone() };
        self.answer(host, Duration::from_millis(2), input);
    }
}
