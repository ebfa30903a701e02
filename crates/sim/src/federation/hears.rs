//! What processes get: each message and each signal is checked as it arrives.

use bytes::Bytes;
use metacluster_erl_wire::{
    Control, Pid, Term,
    control::Process as Target,
    term::{self, Limits as TermLimits},
};

use super::{
    Process, Sabotage, Violation,
    processes::{Actor, Message},
    world::{Gateway, World},
};

/// In the serial of a pid that nobody has.
const NOBODY: u32 = (1 << 26) - 1;

impl World {
    pub(super) fn deliver(&mut self, gateway: usize, control: Bytes, payload: Option<Bytes>) -> Result<(), Violation> {
        let is_message = payload.is_some() && control.get(3) == Some(&22);
        if is_message && !self.sabotaged {
            match self.scenario.sabotage {
                Some(Sabotage::Duplicate) => {
                    self.sabotaged = true;
                    self.delivered(gateway, &control, payload.as_ref())?;
                }
                Some(Sabotage::Reorder) if self.report.delivered > 20 => match self.held.take() {
                    None => {
                        self.held = Some((gateway, control, payload));
                        return Ok(());
                    }
                    Some((other, first, body)) => {
                        self.delivered(gateway, &control, payload.as_ref())?;
                        return self.delivered(other, &first, body.as_ref());
                    }
                },
                Some(_) | None => {}
            }
        }
        let garbles = self.scenario.sabotage == Some(Sabotage::Garble);
        let garbled = payload.as_ref().filter(|bytes| garbles && bytes.len() > 40_000).map(|bytes| {
            let mut bytes = bytes.to_vec();
            bytes[20_000] ^= 1;
            Bytes::from(bytes)
        });
        self.delivered(gateway, &control, garbled.or(payload).as_ref())
    }

    fn delivered(&mut self, gateway: usize, control: &Bytes, payload: Option<&Bytes>) -> Result<(), Violation> {
        let read = |bytes: &Bytes| term::decode(bytes, &TermLimits::default()).map(|(term, _)| term);
        let control = read(control).ok().and_then(|term| Control::try_from(term).ok());
        let payload = payload.and_then(|bytes| read(bytes).ok());
        match control {
            Some(control) => self.signal(gateway, control, payload),
            None => Ok(()),
        }
    }

    fn actor(&mut self, at: usize, pid: &Pid) -> Option<&mut Actor> {
        self.clusters[at].actors.iter_mut().find(|actor| actor.pid == *pid)
    }

    pub(super) fn signal(&mut self, gateway: usize, control: Control, payload: Option<Term>) -> Result<(), Violation> {
        let at = self.gateways[gateway].at;
        match control {
            Control::SendSender { from, mut to, .. } => {
                let message = payload.as_ref().and_then(Message::read).ok_or(Violation::Garbled { at })?;
                if self.scenario.sabotage == Some(Sabotage::Misdeliver) {
                    to = self.clusters[at].actors[(to.id as usize) % self.clusters[at].actors.len()].pid.clone();
                }
                self.report.delivered += 1;
                self.face(gateway, &from, message.from)?;
                for (pid, process) in &message.pids {
                    self.face(gateway, pid, *process)?;
                }
                let mut known = message.pids.clone();
                known.retain(|(pid, process)| process.cluster != at && pid.serial & NOBODY != NOBODY);
                let Some(actor) = self.actor(at, &to) else {
                    return Err(Violation::WrongReceiver { to: message.to, got: None });
                };
                if actor.alive {
                    actor.take(&message)?;
                    actor.known.extend(known);
                    let forget = actor.known.len().saturating_sub(8);
                    actor.known.drain(..forget);
                }
                Ok(())
            }
            Control::MonitorP { from, to: Target::Pid(to), reference } => match self.actor(at, &to) {
                Some(actor) if actor.alive => {
                    actor.watchers.push((from, reference));
                    Ok(())
                }
                Some(_) | None => {
                    let control = Control::PayloadMonitorPExit { from: Target::Pid(to), to: from, reference };
                    self.say(control, Some(&Term::atom("noproc")))
                }
            },
            Control::DemonitorP { to: Target::Pid(to), reference, .. } => {
                if let Some(actor) = self.actor(at, &to) {
                    actor.watchers.retain(|(_, known)| *known != reference);
                }
                Ok(())
            }
            Control::PayloadMonitorPExit { to, reference, .. } => {
                let times = match self.scenario.sabotage {
                    Some(Sabotage::LoseDown) => 0,
                    Some(Sabotage::RepeatDown) => 2,
                    Some(_) | None => 1,
                };
                let word = reference.ids.first().copied().unwrap_or_default();
                let Some(actor) = self.actor(at, &to) else { return Ok(()) };
                (0..times).try_for_each(|_| actor.fired(word))
            }
            Control::Link { from, to } => match self.actor(at, &to) {
                Some(actor) if actor.alive => {
                    let number = actor.is.number;
                    self.clusters[at].links.insert((number, from));
                    Ok(())
                }
                Some(_) | None => {
                    let control = Control::PayloadExit { from: to, to: from, trace: None };
                    self.say(control, Some(&Term::atom("noproc")))
                }
            },
            // Processes here trap exits.
            Control::PayloadExit { from, to, .. } => {
                self.clusters[at].links.remove(&(to.id, from));
                Ok(())
            }
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
            | Control::AltactSigSend { .. } => Ok(()),
        }
    }

    /// A pid came, and whom it stands for. The same pid never stands for another; one of this cluster is the original.
    fn face(&mut self, gateway: usize, pid: &Pid, is: Process) -> Result<(), Violation> {
        let at = self.gateways[gateway].at;
        if pid.serial & NOBODY == NOBODY {
            return Ok(());
        }
        if is.cluster == at {
            let own = self.clusters[at].actors.iter().any(|actor| actor.is == is && actor.pid == *pid);
            return if own { Ok(()) } else { Err(Violation::NotHome(is)) };
        }
        let was = *self.gateways[gateway].faces.entry(pid.clone()).or_insert(is);
        if was == is { Ok(()) } else { Err(Violation::TwoFaced { was, is }) }
    }

    /// Whom a member stands for is asked of nobody but the one who has it: its number in its cluster.
    pub(super) fn publish(&mut self, gateway: usize, members: Vec<Pid>) -> Result<(), Violation> {
        for member in members {
            let home = self.gateways[gateway].machine.home_of(&member);
            let process = home.and_then(|home| {
                let (cluster, _) = home.node.as_str().split_once('/')?;
                let cluster = cluster.strip_prefix('c')?.parse().ok()?;
                Some(Process { cluster, number: home.id })
            });
            if let Some(process) = process {
                self.alone(gateway, process)?;
                self.gateways[gateway].faces.insert(member.clone(), process);
            }
            self.gateways[gateway].published.push(member);
        }
        Ok(())
    }

    /// No other gateway of the cluster publishes it; where links are cut, who may not any more may learn that late.
    fn alone(&self, gateway: usize, member: Process) -> Result<(), Violation> {
        let at = self.gateways[gateway].at;
        let others = self.gateways.iter().enumerate().filter(|(other, state)| *other != gateway && state.at == at);
        let published = |other: &Gateway| other.published.iter().any(|pid| other.faces.get(pid) == Some(&member));
        let twice = self.scenario.cuts == 0 && others.into_iter().any(|(_, other)| published(other));
        if twice { Err(Violation::PublishedTwice { at, member }) } else { Ok(()) }
    }
}
