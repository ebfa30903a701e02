//! What processes do: join and leave, send, watch, and end.

use bytes::BytesMut;
use metacluster_erl_wire::{Atom, Control, Pid, Reference, Term, control::Process as Target, term};
use rand::RngExt;

use super::{Process, Violation, figures::group, processes::Message, world::World};

impl World {
    /// A process does something.
    pub(super) fn act(&mut self) -> Result<(), Violation> {
        let at = self.rng.random_range(0..self.clusters.len());
        let place = self.rng.random_range(0..self.clusters[at].actors.len());
        if !self.clusters[at].actors[place].alive {
            return Ok(());
        }
        match self.rng.random_range(0..20) {
            0..2 => {
                let actor = &mut self.clusters[at].actors[place];
                actor.member = !actor.member;
                let (pid, member) = (actor.pid.clone(), actor.member);
                self.told(at, &pid, member);
                Ok(())
            }
            2 if self.rng.random_bool(0.3) => self.exit(at, place),
            3..6 => self.monitor(at, place),
            6 => self.demonitor(at, place),
            7 => self.link_process(at, place),
            _ => self.send(at, place),
        }
    }

    /// The gateways of a cluster are told who joined or left.
    fn told(&mut self, at: usize, pid: &Pid, joined: bool) {
        let (now, pids) = (self.now(), std::slice::from_ref(pid));
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.at == at) {
            if joined {
                gateway.machine.local_joined(now, &group(), pids);
            } else {
                gateway.machine.local_left(now, &group(), pids);
            }
        }
    }

    /// The gateway whose pid it is.
    pub(super) fn gateway_of(&self, pid: &Pid) -> Option<usize> {
        self.gateways.iter().position(|gateway| gateway.node == pid.node)
    }

    fn home_of(&self, pid: &Pid) -> Option<Pid> {
        self.gateways[self.gateway_of(pid)?].machine.home_of(pid)
    }

    fn is_published(&self, pid: &Pid) -> bool {
        self.gateways.iter().any(|gateway| gateway.published.contains(pid))
    }

    /// A number for a pid of some gateway, other than zero.
    fn way(&self, pid: &Pid) -> u64 {
        let gateway = self.gateway_of(pid).unwrap_or_default() as u64 + 1;
        gateway << 58 | u64::from(pid.id) << 32 | u64::from(pid.serial & !(1 << 31))
    }

    /// Somebody whom a process can reach in another cluster.
    fn somebody(&mut self, at: usize, place: usize) -> Option<(Pid, Process)> {
        let mut all: Vec<(Pid, Process)> = self.clusters[at].actors[place].known.clone();
        for gateway in self.gateways.iter().filter(|gateway| gateway.at == at) {
            all.extend(gateway.published.iter().filter_map(|pid| Some((pid.clone(), *gateway.faces.get(pid)?))));
        }
        all.retain(|(_, process)| process.cluster != at);
        if all.is_empty() { None } else { Some(all.swap_remove(self.rng.random_range(0..all.len()))) }
    }

    fn send(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        for _ in 0..self.rng.random_range(1..4) {
            let Some((pid, to)) = self.somebody(at, place) else { return Ok(()) };
            let mut pids = vec![(self.clusters[at].actors[place].pid.clone(), self.clusters[at].actors[place].is)];
            // A gateway knows what its own pids stand for, and no other's.
            if let Some(other) = self.somebody(at, place).filter(|(other, _)| other.node == pid.node) {
                pids.push(other);
            }
            let neighbour = self.rng.random_range(0..self.clusters[at].actors.len());
            let neighbour = &self.clusters[at].actors[neighbour];
            pids.push((neighbour.pid.clone(), neighbour.is));
            // One that no one can use any more goes out as nobody's.
            pids.retain(|(pid, is)| is.cluster == at || self.home_of(pid).is_some());
            // Where there are two ways to a cluster, a process has two pids there, and the order is that of each.
            let strict = !self.scenario.is_ring() || self.is_published(&pid) && self.scenario.cuts == 0;
            let way = if strict { 0 } else { self.way(&pid) };
            let actor = &mut self.clusters[at].actors[place];
            let message = Message { from: actor.is, to, sequence: actor.next(to), way, pids };
            let control = Control::SendSender { from: actor.pid.clone(), to: pid, trace: None };
            self.report.sent += 1;
            self.say(control, Some(&message.to_term()))?;
        }
        Ok(())
    }

    fn monitor(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let Some((pid, target)) = self.somebody(at, place) else { return Ok(()) };
        self.last_word += 1;
        let word = self.last_word;
        let actor = &mut self.clusters[at].actors[place];
        actor.monitors.insert(word, (pid.clone(), target));
        let reference = reference(&actor.pid.node, word);
        let control = Control::MonitorP { from: actor.pid.clone(), to: Target::Pid(pid), reference };
        self.report.monitors += 1;
        self.say(control, None)
    }

    fn demonitor(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let actor = &mut self.clusters[at].actors[place];
        let Some((word, (pid, _))) = actor.monitors.pop_first() else { return Ok(()) };
        actor.taken_back.insert(word);
        let reference = reference(&actor.pid.node, word);
        let control = Control::DemonitorP { from: actor.pid.clone(), to: Target::Pid(pid), reference };
        self.say(control, None)
    }

    fn link_process(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let Some((pid, _)) = self.somebody(at, place) else { return Ok(()) };
        let number = self.clusters[at].actors[place].is.number;
        if !self.clusters[at].links.insert((number, pid.clone())) {
            return Ok(());
        }
        let from = self.clusters[at].actors[place].pid.clone();
        self.say(Control::Link { from, to: pid }, None)
    }

    /// A process ends: it leaves its groups, and tells who watches it.
    pub(super) fn exit(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let actor = &mut self.clusters[at].actors[place];
        if !std::mem::replace(&mut actor.alive, false) {
            return Ok(());
        }
        let (pid, number) = (actor.pid.clone(), actor.is.number);
        if std::mem::replace(&mut actor.member, false) {
            self.told(at, &pid, false);
        }
        let cluster = &mut self.clusters[at];
        let actor = &mut cluster.actors[place];
        let watchers = std::mem::take(&mut actor.watchers);
        let monitors = std::mem::take(&mut actor.monitors);
        actor.taken_back.extend(monitors.keys());
        let links: Vec<Pid> = cluster.links.extract_if(.., |(own, _)| *own == number).map(|(_, far)| far).collect();
        for (word, (target, _)) in monitors {
            let reference = reference(&pid.node, word);
            self.say(Control::DemonitorP { from: pid.clone(), to: Target::Pid(target), reference }, None)?;
        }
        for (to, reference) in watchers {
            let control = Control::PayloadMonitorPExit { from: Target::Pid(pid.clone()), to, reference };
            self.say(control, Some(&Term::atom("done")))?;
        }
        for to in links {
            self.say(Control::PayloadExit { from: pid.clone(), to, trace: None }, Some(&Term::atom("done")))?;
        }
        Ok(())
    }

    /// A node says something to a pid of the gateway.
    pub(super) fn say(&mut self, control: Control, payload: Option<&Term>) -> Result<(), Violation> {
        let Some(gateway) = to(&control).and_then(|to| self.gateway_of(to)) else { return Ok(()) };
        let mut body = BytesMut::new();
        term::encode(&Term::from(control), &mut body);
        if let Some(payload) = payload {
            term::encode(payload, &mut body);
        }
        let now = self.now();
        self.gateways[gateway].machine.handle_local(now, &body.freeze());
        self.drain()
    }
}

/// To whom a signal of a process goes.
fn to(control: &Control) -> Option<&Pid> {
    match control {
        Control::SendSender { to, .. }
        | Control::Link { to, .. }
        | Control::PayloadExit { to, .. }
        | Control::PayloadMonitorPExit { to, .. }
        | Control::MonitorP { to: Target::Pid(to), .. }
        | Control::DemonitorP { to: Target::Pid(to), .. } => Some(to),
        Control::Send { .. }
        | Control::Exit { .. }
        | Control::Unlink { .. }
        | Control::RegSend { .. }
        | Control::GroupLeader { .. }
        | Control::Exit2 { .. }
        | Control::MonitorP { .. }
        | Control::DemonitorP { .. }
        | Control::MonitorPExit { .. }
        | Control::PayloadExit2 { .. }
        | Control::SpawnRequest(_)
        | Control::SpawnReply { .. }
        | Control::AliasSend { .. }
        | Control::UnlinkId { .. }
        | Control::UnlinkIdAck { .. }
        | Control::AltactSigSend { .. } => None,
    }
}

fn reference(node: &Atom, word: u32) -> Reference {
    Reference { node: node.clone(), creation: 3, ids: vec![word, 7, 9] }
}
