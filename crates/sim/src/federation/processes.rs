//! Processes of a cluster, as its nodes keep them: what they know, whom they watch, who watches them.

use std::collections::{BTreeMap, BTreeSet};

use metacluster_erl_wire::{Atom, Pid, Reference, Term, term};

use super::{Process, Violation};

/// A process of the simulation.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) is: Process,
    pub(super) pid: Pid,
    pub(super) alive: bool,
    pub(super) member: bool,
    /// Pids that it was sent, and whom they stand for.
    pub(super) known: Vec<(Pid, Process)>,
    /// What it sent to whom, counted.
    pub(super) sent: BTreeMap<Process, u64>,
    /// The last that it got of whom, over which way.
    pub(super) got: BTreeMap<(Process, u64), u64>,
    /// All that it got of whom.
    pub(super) all: BTreeMap<Process, BTreeSet<u64>>,
    /// Its monitors that have not fired.
    pub(super) monitors: BTreeMap<u32, (Pid, Process)>,
    /// Those that it took back, which may still fire on their way.
    pub(super) taken_back: BTreeSet<u32>,
    /// Who monitors it, by the pid that stands for the watcher.
    pub(super) watchers: Vec<(Pid, Reference)>,
}

impl Actor {
    pub(super) fn new(is: Process, node: &str) -> Self {
        let node = Atom::new(node).expect("a short name");
        let pid = Pid { node, id: is.number, serial: 0, creation: 3 };
        let (sent, got, all) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (monitors, taken_back) = (BTreeMap::new(), BTreeSet::new());
        let (known, watchers) = (Vec::new(), Vec::new());
        Self { is, pid, alive: true, member: false, known, sent, got, all, monitors, taken_back, watchers }
    }

    /// Takes the next number of a message to that process.
    pub(super) fn next(&mut self, to: Process) -> u64 {
        let sent = self.sent.entry(to).or_default();
        *sent += 1;
        *sent
    }

    /// Takes a message that arrived.
    pub(super) fn take(&mut self, message: &Message) -> Result<(), Violation> {
        if message.to != self.is {
            return Err(Violation::WrongReceiver { to: message.to, got: Some(self.is) });
        }
        let new = self.all.entry(message.from).or_default().insert(message.sequence);
        let last = self.got.entry((message.from, message.way)).or_default();
        if message.sequence <= *last || !new {
            let (from, to, sequence, last) = (message.from, message.to, message.sequence, *last);
            return Err(Violation::OutOfOrder { from, to, sequence, last });
        }
        *last = message.sequence;
        Ok(())
    }

    /// A monitor fired.
    pub(super) fn fired(&mut self, word: u32) -> Result<(), Violation> {
        if self.monitors.remove(&word).is_some() || self.taken_back.remove(&word) {
            return Ok(());
        }
        Err(Violation::FiredTwice(self.is))
    }
}

/// What processes send: who, to whom, which one, and pids with whom they stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) from: Process,
    pub(super) to: Process,
    pub(super) sequence: u64,
    /// Of several pids that its sender may have for its receiver, the one that it used; messages of one keep their order.
    pub(super) way: u64,
    pub(super) pids: Vec<(Pid, Process)>,
}

fn number(process: Process) -> Term {
    term!({(process.cluster as u32), (process.number)})
}

fn process(term: &Term) -> Option<Process> {
    match term.as_tuple()? {
        [cluster, number] => Some(Process {
            cluster: usize::try_from(cluster.as_u64()?).ok()?,
            number: u32::try_from(number.as_u64()?).ok()?,
        }),
        _ => None,
    }
}

/// Of so many messages one is large.
const LARGE_EVERY: u64 = 16;
/// How large: some fit a frame of a link, some do not.
const LARGE_BYTES: std::ops::Range<u64> = 10_000..110_000;

impl Message {
    /// What it holds besides: nothing in most.
    fn cargo(&self) -> Vec<u8> {
        let number = self.sequence + u64::from(self.from.number);
        if !number.is_multiple_of(LARGE_EVERY) {
            return Vec::new();
        }
        let size = LARGE_BYTES.start + number.wrapping_mul(7_919) % (LARGE_BYTES.end - LARGE_BYTES.start);
        (0..size).map(|place| (place / 251 + number) as u8).collect()
    }

    pub(super) fn to_term(&self) -> Term {
        let pids = self.pids.iter().map(|(pid, is)| Term::tuple([pid.into(), number(*is)]));
        let integer = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let (sequence, way) = (integer(self.sequence), integer(self.way));
        term!({m, (number(self.from)), (number(self.to)), (Term::Integer(sequence)), (Term::Integer(way)), (Term::binary(self.cargo())),
            (Term::list(pids))})
    }

    pub(super) fn read(term: &Term) -> Option<Self> {
        let [_, from, to, sequence, way, cargo, pids] = term.as_tuple()? else { return None };
        let pid = |entry: &Term| match entry.as_tuple()? {
            [pid, is] => Some((pid.as_pid()?.clone(), process(is)?)),
            _ => None,
        };
        let pids = pids.as_list()?.iter().map(pid).collect::<Option<_>>()?;
        let (sequence, way) = (sequence.as_u64()?, way.as_u64()?);
        let message = Self { from: process(from)?, to: process(to)?, sequence, way, pids };
        (*cargo.as_binary()? == message.cargo()).then_some(message)
    }
}
