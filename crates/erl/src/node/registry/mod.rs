//! The processes of this node: names, links, monitors, calls that wait. One short lock, no socket.
//!
//! Invariants: whoever removes an entry answers for it, so each monitor gives one `Down`, each link one `Exit` and each
//! call one outcome, whether the peer, the end of its connection or the caller came first. What peers hold on a process
//! is bounded by `watchers_max`. Entries name the connection that they hang on, never only the node, so that the end of
//! an old connection does not touch what was made on its successor.

mod calls;
mod links;
mod monitors;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use metacluster_erl_wire::control::Process as Target;
use metacluster_erl_wire::{Atom, Pid, Reference, Term};
use tokio::sync::oneshot;

use super::{error::RegisterError, identifier::Identifiers, mailbox::Mailbox, process::Received};

/// The number that stands for this node itself where a connection's is expected.
pub(crate) const LOCAL: u64 = 0;

/// A signal that leaves a process of this node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Signal {
    /// A linked process ended.
    Exit { from: Pid, to: Pid, reason: Term },
    /// A monitored process ended, or is none.
    Down { from: Target, to: Pid, reference: Reference, reason: Term },
    /// A monitor is taken back.
    Demonitor { from: Pid, target: Target, reference: Reference },
}

/// Signals, each with the connection that it goes out on.
pub(crate) type Signals = Vec<(u64, Signal)>;

/// How a call ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The answer.
    Answer(Term),
    /// The process that was to answer ended, or the connection did.
    Down(Term),
    /// The process that was to answer could not be started.
    NotSpawned(Term),
}

/// Where a message for a process went.
pub(crate) enum Delivered {
    /// Into a mailbox, to a call, or nowhere.
    Done,
    /// To the node itself, which stands in for OTP's `net_kernel`.
    Kernel(Term),
}

/// What a process can do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has a mailbox.
    Ordinary,
    /// It is the node itself: it asks calls, and answers those of `net_kernel`.
    Kernel,
}

/// See the module.
pub(crate) struct Registry {
    identifiers: Identifiers,
    watchers_max: usize,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    processes: BTreeMap<Pid, Entry>,
    names: BTreeMap<Atom, Pid>,
    monitors: BTreeMap<Reference, Monitor>,
    watched: BTreeMap<(u64, Reference), Pid>,
    calls: BTreeMap<Reference, Call>,
}

struct Entry {
    kind: Kind,
    mailbox: Arc<Mailbox>,
    names: BTreeSet<Atom>,
    links: BTreeMap<Pid, Link>,
    monitors: BTreeSet<Reference>,
    watchers: BTreeMap<(u64, Reference), Watcher>,
}

struct Link {
    connection: u64,
    /// The id of the `UNLINK_ID` whose acknowledgement is awaited; the link is off meanwhile.
    unlinking: Option<u64>,
}

struct Monitor {
    process: Pid,
    connection: u64,
    target: Target,
}

struct Watcher {
    by: Pid,
    target: Target,
}

struct Call {
    connection: u64,
    spawned: Option<Pid>,
    done: oneshot::Sender<Outcome>,
}

impl Registry {
    pub(crate) fn new(identifiers: Identifiers, watchers_max: usize) -> Self {
        Self { identifiers, watchers_max, tables: Mutex::default() }
    }

    pub(crate) fn identifiers(&self) -> &Identifiers {
        &self.identifiers
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spawn(&self, kind: Kind, mailbox: Arc<Mailbox>) -> Pid {
        let mut tables = self.lock();
        loop {
            let pid = self.identifiers.pid();
            // After 2^28 processes the numbers start again; a process that still lives keeps its own.
            if tables.processes.contains_key(&pid) {
                continue;
            }
            let entry = Entry {
                kind,
                mailbox,
                names: BTreeSet::new(),
                links: BTreeMap::new(),
                monitors: BTreeSet::new(),
                watchers: BTreeMap::new(),
            };
            tables.processes.insert(pid.clone(), entry);
            return pid;
        }
    }

    pub(crate) fn is_alive(&self, pid: &Pid) -> bool {
        self.lock().processes.contains_key(pid)
    }

    pub(crate) fn register(&self, pid: &Pid, name: &Atom) -> Result<(), RegisterError> {
        let mut tables = self.lock();
        let Tables { processes, names, .. } = &mut *tables;
        let entry = processes.get_mut(pid).ok_or(RegisterError::Ended)?;
        if names.contains_key(name) {
            return Err(RegisterError::Taken(name.as_str().to_owned()));
        }
        entry.names.insert(name.clone());
        names.insert(name.clone(), pid.clone());
        Ok(())
    }

    pub(crate) fn unregister(&self, pid: &Pid, name: &Atom) -> bool {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.get_mut(pid) else { return false };
        let had = entry.names.remove(name);
        if had {
            tables.names.remove(name);
        }
        had
    }

    pub(crate) fn whereis(&self, name: &Atom) -> Option<Pid> {
        self.lock().names.get(name).cloned()
    }

    /// Ends a process: its names are free, its mailbox is gone, and the signals that follow from it are returned.
    pub(crate) fn end(&self, pid: &Pid, reason: &Term) -> Signals {
        let mut tables = self.lock();
        let Some(entry) = tables.processes.remove(pid) else { return Signals::new() };
        let mut signals = Signals::new();
        for name in &entry.names {
            tables.names.remove(name);
        }
        for (to, link) in entry.links {
            if link.unlinking.is_none() {
                signals.push((link.connection, Signal::Exit { from: pid.clone(), to, reason: reason.clone() }));
            }
        }
        for (key, watcher) in entry.watchers {
            tables.watched.remove(&key);
            let (connection, reference) = key;
            let down = Signal::Down { from: watcher.target, to: watcher.by, reference, reason: reason.clone() };
            signals.push((connection, down));
        }
        for reference in entry.monitors {
            if let Some(Monitor { connection, target, .. }) = tables.monitors.remove(&reference) {
                signals.push((connection, Signal::Demonitor { from: pid.clone(), target, reference }));
            }
        }
        signals
    }

    /// The mailbox of an ordinary process.
    pub(crate) fn mailbox(&self, pid: &Pid) -> Option<Arc<Mailbox>> {
        let tables = self.lock();
        let entry = tables.processes.get(pid).filter(|entry| entry.kind == Kind::Ordinary)?;
        Some(Arc::clone(&entry.mailbox))
    }

    /// A message to a pid, which may be an answer to a call of that process.
    pub(crate) fn deliver(&self, to: &Pid, message: Term) -> Delivered {
        let Some(message) = self.answer_call(message) else { return Delivered::Done };
        match self.lock().processes.get(to) {
            Some(entry) => entry.deliver(message),
            None => Delivered::Done,
        }
    }

    /// A message to a name.
    pub(crate) fn deliver_name(&self, to: &Atom, message: Term) -> Delivered {
        let tables = self.lock();
        match tables.names.get(to).and_then(|pid| tables.processes.get(pid)) {
            Some(entry) => entry.deliver(message),
            None => Delivered::Done,
        }
    }

    /// Whether a message is an answer to a call.
    pub(crate) fn is_answer(&self, message: &Term) -> bool {
        call_reference(message).is_some_and(|reference| self.identifiers.is_call(reference))
    }

    /// Gives an answer to the call that waits for it. A message that is none comes back; an answer that came too late
    /// is dropped.
    pub(crate) fn answer_call(&self, message: Term) -> Option<Term> {
        match call_reference(&message) {
            Some(reference) if self.identifiers.is_call(reference) => {
                let call = self.lock().calls.remove(reference);
                if let (Some(call), Term::Tuple(mut items)) = (call, message)
                    && let Some(answer) = items.pop()
                {
                    // A caller that has gone needs no answer.
                    drop(call.done.send(Outcome::Answer(answer)));
                }
                None
            }
            Some(_) | None => Some(message),
        }
    }

    /// A connection ended: everything that hung on it is told `noconnection`.
    pub(crate) fn connection_lost(&self, connection: u64) {
        let gone = || Term::atom("noconnection");
        let mut tables = self.lock();
        let Tables { processes, monitors, watched, calls, .. } = &mut *tables;
        watched.retain(|(on, _), _| *on != connection);
        for entry in processes.values_mut() {
            entry.watchers.retain(|(on, _), _| *on != connection);
            let mailbox = Arc::clone(&entry.mailbox);
            entry.links.retain(|peer, link| {
                if link.connection == connection && link.unlinking.is_none() {
                    mailbox.push_signal(Received::Exit { from: peer.clone(), reason: gone() });
                }
                link.connection != connection
            });
        }
        let lost = |on: u64| on == connection;
        let lost_monitors: Vec<_> =
            monitors.iter().filter(|(_, monitor)| lost(monitor.connection)).map(|(key, _)| key.clone()).collect();
        for reference in lost_monitors {
            let Some(monitor) = monitors.remove(&reference) else { continue };
            if let Some(entry) = processes.get_mut(&monitor.process) {
                entry.monitors.remove(&reference);
                entry.mailbox.push_signal(Received::Down { reference, reason: gone() });
            }
        }
        let lost_calls: Vec<_> =
            calls.iter().filter(|(_, call)| lost(call.connection)).map(|(key, _)| key.clone()).collect();
        for call in lost_calls.iter().filter_map(|key| calls.remove(key)) {
            drop(call.done.send(Outcome::Down(gone())));
        }
    }
}

impl Entry {
    fn deliver(&self, message: Term) -> Delivered {
        match self.kind {
            Kind::Ordinary => {
                self.mailbox.push(Received::Message(message));
                Delivered::Done
            }
            Kind::Kernel => Delivered::Kernel(message),
        }
    }

    fn held(&self) -> usize {
        self.links.len() + self.watchers.len()
    }
}

/// The reference of `{Reference, _}` and of `{[alias | Reference], _}`.
fn call_reference(message: &Term) -> Option<&Reference> {
    let [tag, _] = message.as_tuple()? else { return None };
    if let Term::ImproperList(items, tail) = tag
        && matches!(&items[..], [item] if item.is_atom("alias"))
    {
        return tail.as_reference();
    }
    tag.as_reference()
}
