//! What processes do: join and leave, send, watch, and end.

use bytes::BytesMut;
use metacluster_erl_wire::{Atom, Control, Pid, Reference, Term, control::Process as Target, term};
use rand::RngExt;

use super::{
    Process, Violation,
    figures::group,
    processes::Message,
    world::{Cluster, World},
};

impl World {
    /// A process does something.
    pub(super) fn act(&mut self) -> Result<(), Violation> {
        let at = self.rng.random_range(0..self.clusters.len());
        let place = self.rng.random_range(0..self.clusters[at].actors.len());
        let now = self.now();
        if !self.clusters[at].actors[place].alive {
            return Ok(());
        }
        match self.rng.random_range(0..20) {
            0..2 => {
                let Cluster { machine, actors, .. } = &mut self.clusters[at];
                let actor = &mut actors[place];
                actor.member = !actor.member;
                let pids = std::slice::from_ref(&actor.pid);
                if actor.member {
                    machine.local_joined(now, &group(), pids);
                } else {
                    machine.local_left(now, &group(), pids);
                }
                Ok(())
            }
            2 if self.rng.random_bool(0.3) => self.exit(at, place),
            3..6 => self.monitor(at, place),
            6 => self.demonitor(at, place),
            7 => self.link_process(at, place),
            _ => self.send(at, place),
        }
    }

    /// Somebody whom a process can reach in another cluster.
    fn somebody(&mut self, at: usize, place: usize) -> Option<(Pid, Process)> {
        let cluster = &self.clusters[at];
        let mut all: Vec<(Pid, Process)> = cluster.actors[place].known.clone();
        all.extend(cluster.published.iter().filter_map(|pid| Some((pid.clone(), *cluster.faces.get(pid)?))));
        all.retain(|(_, process)| process.cluster != at);
        if all.is_empty() { None } else { Some(all.swap_remove(self.rng.random_range(0..all.len()))) }
    }

    fn send(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        for _ in 0..self.rng.random_range(1..4) {
            let Some((pid, to)) = self.somebody(at, place) else { return Ok(()) };
            let mut pids = vec![(self.clusters[at].actors[place].pid.clone(), self.clusters[at].actors[place].is)];
            if let Some(other) = self.somebody(at, place) {
                pids.push(other);
            }
            let neighbour = self.rng.random_range(0..self.clusters[at].actors.len());
            let neighbour = &self.clusters[at].actors[neighbour];
            pids.push((neighbour.pid.clone(), neighbour.is));
            // One that no one can use any more goes out as nobody's.
            let machine = &self.clusters[at].machine;
            pids.retain(|(pid, is)| is.cluster == at || machine.home_of(pid).is_some());
            // Where there are two ways to a cluster, a process has two pids there, and the order is that of each.
            let way = if self.scenario.is_ring() { u64::from(pid.id) << 32 | u64::from(pid.serial) } else { 0 };
            let actor = &mut self.clusters[at].actors[place];
            let message = Message { from: actor.is, to, sequence: actor.next(to), way, pids };
            let control = Control::SendSender { from: actor.pid.clone(), to: pid, trace: None };
            self.report.sent += 1;
            self.say(at, control, Some(&message.to_term()))?;
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
        self.say(at, control, None)
    }

    fn demonitor(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let actor = &mut self.clusters[at].actors[place];
        let Some((word, (pid, _))) = actor.monitors.pop_first() else { return Ok(()) };
        actor.taken_back.insert(word);
        let reference = reference(&actor.pid.node, word);
        let control = Control::DemonitorP { from: actor.pid.clone(), to: Target::Pid(pid), reference };
        self.say(at, control, None)
    }

    fn link_process(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let Some((pid, _)) = self.somebody(at, place) else { return Ok(()) };
        let number = self.clusters[at].actors[place].is.number;
        if !self.clusters[at].links.insert((number, pid.clone())) {
            return Ok(());
        }
        let from = self.clusters[at].actors[place].pid.clone();
        self.say(at, Control::Link { from, to: pid }, None)
    }

    /// A process ends: it leaves its groups, and tells who watches it.
    pub(super) fn exit(&mut self, at: usize, place: usize) -> Result<(), Violation> {
        let now = self.now();
        let cluster = &mut self.clusters[at];
        let actor = &mut cluster.actors[place];
        if !std::mem::replace(&mut actor.alive, false) {
            return Ok(());
        }
        let (pid, number) = (actor.pid.clone(), actor.is.number);
        if std::mem::replace(&mut actor.member, false) {
            cluster.machine.local_left(now, &group(), std::slice::from_ref(&pid));
        }
        let watchers = std::mem::take(&mut actor.watchers);
        let monitors = std::mem::take(&mut actor.monitors);
        actor.taken_back.extend(monitors.keys());
        let links: Vec<Pid> = cluster.links.extract_if(.., |(own, _)| *own == number).map(|(_, far)| far).collect();
        for (word, (target, _)) in monitors {
            let reference = reference(&pid.node, word);
            self.say(at, Control::DemonitorP { from: pid.clone(), to: Target::Pid(target), reference }, None)?;
        }
        for (to, reference) in watchers {
            let control = Control::PayloadMonitorPExit { from: Target::Pid(pid.clone()), to, reference };
            self.say(at, control, Some(&Term::atom("done")))?;
        }
        for to in links {
            self.say(at, Control::PayloadExit { from: pid.clone(), to, trace: None }, Some(&Term::atom("done")))?;
        }
        Ok(())
    }

    /// A node says something to a pid of the gateway.
    pub(super) fn say(&mut self, at: usize, control: Control, payload: Option<&Term>) -> Result<(), Violation> {
        let mut body = BytesMut::new();
        term::encode(&Term::from(control), &mut body);
        if let Some(payload) = payload {
            term::encode(payload, &mut body);
        }
        let now = self.now();
        self.clusters[at].machine.handle_local(now, &body);
        self.drain()
    }
}

fn reference(node: &Atom, word: u32) -> Reference {
    Reference { node: node.clone(), creation: 3, ids: vec![word, 7, 9] }
}
