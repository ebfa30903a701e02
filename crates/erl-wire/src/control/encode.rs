//! Control messages to terms, and to bytes: the most frequent ones without a term between.

use super::{Control, Destination, Process, SpawnResult, Trace};
use crate::{
    sink::Sink,
    term::{self, Atom, Pid, Reference, Term, tag},
};

/// A message to a process, as most are: without a trace token. It borrows the names of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields `from` and `to` say what they are")]
pub enum Sending<'a> {
    /// [`Control::SendSender`].
    Pid { from: &'a Pid, to: &'a Pid },
    /// [`Control::RegSend`].
    Name { from: &'a Pid, to: &'a Atom },
    /// [`Control::AliasSend`].
    Alias { from: &'a Pid, to: &'a Reference },
}

impl<'a> Sending<'a> {
    /// What this control message is, if it is one of these.
    fn of(control: &'a Control) -> Option<Self> {
        if let Control::SendSender { from, to, trace: None } = control {
            Some(Self::Pid { from, to })
        } else if let Control::RegSend { from, to, trace: None } = control {
            Some(Self::Name { from, to })
        } else if let Control::AliasSend { from, to, trace: None } = control {
            Some(Self::Alias { from, to })
        } else {
            None
        }
    }

    /// Who sends it.
    #[must_use]
    pub fn from(&self) -> &'a Pid {
        match self {
            Self::Pid { from, .. } | Self::Name { from, .. } | Self::Alias { from, .. } => from,
        }
    }

    /// Appends it in the external term format, without version byte.
    pub(crate) fn encode(&self, out: &mut impl Sink) {
        match self {
            Self::Pid { from, to } => {
                out.put_slice(&[tag::SMALL_TUPLE, 3, tag::SMALL_INTEGER, 22]);
                term::encode_pid(from, out);
                term::encode_pid(to, out);
            }
            Self::Name { from, to } => {
                out.put_slice(&[tag::SMALL_TUPLE, 4, tag::SMALL_INTEGER, 6]);
                term::encode_pid(from, out);
                term::encode_atom(&Atom::EMPTY, out);
                term::encode_atom(to, out);
            }
            Self::Alias { from, to } => {
                out.put_slice(&[tag::SMALL_TUPLE, 3, tag::SMALL_INTEGER, 33]);
                term::encode_pid(from, out);
                term::encode_reference(to, out);
            }
        }
    }
}

impl From<Sending<'_>> for Control {
    fn from(sending: Sending<'_>) -> Self {
        let (from, trace) = (sending.from().clone(), None);
        match sending {
            Sending::Pid { to, .. } => Self::SendSender { from, to: to.clone(), trace },
            Sending::Name { to, .. } => Self::RegSend { from, to: to.clone(), trace },
            Sending::Alias { to, .. } => Self::AliasSend { from, to: to.clone(), trace },
        }
    }
}

impl Control {
    /// Appends it in the external term format, without version byte.
    pub(crate) fn encode(self, out: &mut impl Sink) {
        match Sending::of(&self) {
            Some(sending) => sending.encode(out),
            None => term::encode(&Term::from(self), out),
        }
    }
}

impl From<Process> for Term {
    fn from(process: Process) -> Self {
        match process {
            Process::Pid(pid) => pid.into(),
            Process::Name(name) => name.into(),
        }
    }
}

impl From<Destination> for Term {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Pid(pid) => pid.into(),
            Destination::Name(name) => name.into(),
            Destination::Alias(reference) => reference.into(),
        }
    }
}

/// The unused second element of some operations: once a cookie.
const UNUSED: Term = Term::Atom(Atom::EMPTY);

/// A tuple of the operation, which depends on whether there is a token, of the elements, and of the token.
fn operation<const N: usize>(plain: i64, traced: i64, elements: [Term; N], trace: Trace) -> Term {
    let operation = if trace.is_some() { traced } else { plain };
    Term::Tuple(std::iter::once(Term::Integer(operation)).chain(elements).chain(trace).collect())
}

fn untraced<const N: usize>(plain: i64, elements: [Term; N]) -> Term {
    operation(plain, plain, elements, None)
}

impl From<Control> for Term {
    fn from(control: Control) -> Self {
        match control {
            Control::Link { from, to } => untraced(1, [from.into(), to.into()]),
            Control::Send { to, trace } => {
                // With a token, the elements are in this order, too: cookie, receiver, token.
                operation(2, 12, [UNUSED, to.into()], trace)
            }
            Control::Exit { from, to, reason, trace } => exit(3, 13, from.into(), to.into(), reason, trace),
            Control::Unlink { from, to } => untraced(4, [from.into(), to.into()]),
            Control::RegSend { from, to, trace } => operation(6, 16, [from.into(), UNUSED, to.into()], trace),
            Control::GroupLeader { from, to } => untraced(7, [from.into(), to.into()]),
            Control::Exit2 { from, to, reason, trace } => exit(8, 18, from.into(), to.into(), reason, trace),
            Control::MonitorP { from, to, reference } => untraced(19, [from.into(), to.into(), reference.into()]),
            Control::DemonitorP { from, to, reference } => untraced(20, [from.into(), to.into(), reference.into()]),
            Control::MonitorPExit { from, to, reference, reason } => {
                untraced(21, [from.into(), to.into(), reference.into(), reason])
            }
            Control::SendSender { from, to, trace } => operation(22, 23, [from.into(), to.into()], trace),
            Control::PayloadExit { from, to, trace } => operation(24, 25, [from.into(), to.into()], trace),
            Control::PayloadExit2 { from, to, trace } => operation(26, 27, [from.into(), to.into()], trace),
            Control::PayloadMonitorPExit { from, to, reference } => {
                untraced(28, [from.into(), to.into(), reference.into()])
            }
            Control::SpawnRequest(spawn) => {
                let function = [spawn.module.into(), spawn.function.into(), Term::Integer(spawn.arity.into())];
                let elements = [
                    spawn.request.into(),
                    spawn.from.into(),
                    spawn.group_leader.into(),
                    Term::tuple(function),
                    Term::List(spawn.options),
                ];
                operation(29, 30, elements, spawn.trace)
            }
            Control::SpawnReply { request, to, flags, result, trace } => {
                let result = match result {
                    SpawnResult::Started(pid) => pid.into(),
                    SpawnResult::Refused(reason) => reason.into(),
                };
                operation(31, 32, [request.into(), to.into(), flags.into(), result], trace)
            }
            Control::AliasSend { from, to, trace } => operation(33, 34, [from.into(), to.into()], trace),
            Control::UnlinkId { id, from, to } => untraced(35, [id.into(), from.into(), to.into()]),
            Control::UnlinkIdAck { id, from, to } => untraced(36, [id.into(), from.into(), to.into()]),
            Control::AltactSigSend { flags, from, to, trace } => {
                operation(37, 37, [flags.into(), from.into(), to.into()], trace)
            }
        }
    }
}

/// The token of an exit stands before its reason.
fn exit(plain: i64, traced: i64, from: Term, to: Term, reason: Term, trace: Trace) -> Term {
    match trace {
        None => untraced(plain, [from, to, reason]),
        Some(token) => untraced(traced, [from, to, token, reason]),
    }
}
