//! The shape of OTP's `gen_server:call`, seen from the server: a call is a message that says whom to answer.
//!
//! [`Process::serve`] makes a server of a process. What it does by hand: it reads `{'$gen_call', From, Request}` from the mailbox and answers `From`. OTP
//! 24 and later ask for the answer at an alias, so that one that comes too late is dropped. Follows `gen.erl` of OTP.

mod serve;

use metacluster_erl_wire::{Pid, Reference, Term};

pub use self::serve::{Next, Request};

use crate::node::{Node, error::SendError, process::Process};

/// Who is to be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct From {
    /// The caller.
    pub pid: Pid,
    /// What the answer must carry.
    tag: Term,
}

impl From {
    /// The alias that the answer goes to, if the caller made one.
    fn alias(&self) -> Option<&Reference> {
        // `[alias | Reference]`, or that as the first element of a list.
        if let Term::ImproperList(items, _) | Term::List(items) = &self.tag {
            return alias_tag(&self.tag).or_else(|| alias_tag(items.first()?));
        }
        None
    }
}

/// The reference of `[alias | Reference]`.
fn alias_tag(tag: &Term) -> Option<&Reference> {
    let Term::ImproperList(items, tail) = tag else { return None };
    if matches!(&items[..], [item] if item.is_atom("alias")) { tail.as_reference() } else { None }
}

/// A call that waits for an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who is to be answered, with [`reply`].
    pub from: From,
    /// What was asked.
    pub request: Term,
}

impl Call {
    /// Reads a message as a call.
    ///
    /// # Errors
    /// The message, when it is none.
    pub fn parse(message: Term) -> Result<Self, Term> {
        let Some([tag, from, request]) = message.as_tuple() else { return Err(message) };
        match from.as_tuple() {
            Some([Term::Pid(pid), from_tag]) if tag.is_atom("$gen_call") => {
                Ok(Self { from: From { pid: pid.clone(), tag: from_tag.clone() }, request: request.clone() })
            }
            Some(_) | None => Err(message),
        }
    }
}

/// The request of a `gen_server:cast`.
///
/// # Errors
/// The message, when it is none.
pub fn parse_cast(message: Term) -> Result<Term, Term> {
    match message.as_tuple() {
        Some([tag, request]) if tag.is_atom("$gen_cast") => Ok(request.clone()),
        Some(_) | None => Err(message),
    }
}

/// Answers a call, as the process that was called: what it has sent to the caller before comes before.
///
/// # Errors
/// When the answer was not queued.
pub fn reply_as(process: &Process, from: &From, answer: Term) -> Result<(), SendError> {
    let message = Term::tuple([from.tag.clone(), answer]);
    match from.alias() {
        Some(alias) => process.node().send_alias_from(process.pid(), alias, &from.pid, message),
        None => process.send(&from.pid, message),
    }
}

/// [`reply_as`] that waits for room in the queue to the caller's node.
///
/// # Errors
/// When there is no connection to the caller.
pub async fn reply_when_room(process: &Process, from: &From, answer: Term) -> Result<(), SendError> {
    loop {
        match reply_as(process, from, answer.clone()) {
            Err(SendError::Busy) => process.node().room(&from.pid).await,
            done => return done,
        }
    }
}

/// The message of a `gen_server:cast`.
pub(crate) fn cast(request: Term) -> Term {
    Term::tuple([Term::atom("$gen_cast"), request])
}

/// Answers a call, as the node. A large message that a process has sent to the caller before may come after; see
/// [`reply_as`].
///
/// # Errors
/// When the answer was not queued.
pub fn reply(node: &Node, from: &From, answer: Term) -> Result<(), SendError> {
    let message = Term::tuple([from.tag.clone(), answer]);
    match from.alias() {
        Some(alias) => node.send_alias(alias, &from.pid, message),
        None => node.send(&from.pid, message),
    }
}

#[cfg(test)]
mod tests {
    use metacluster_erl_wire::Atom;

    use super::*;

    fn pid() -> Pid {
        Pid { node: Atom::from_static("a@b"), id: 1, serial: 0, creation: 4 }
    }

    fn reference() -> Reference {
        Reference { node: Atom::from_static("a@b"), creation: 4, ids: vec![1, 2, 3] }
    }

    #[test]
    fn a_call_names_its_caller_and_where_the_answer_goes() {
        let alias = Term::ImproperList(vec![Term::atom("alias")], Box::new(reference().into()));
        let nested = Term::ImproperList(vec![alias.clone()], Box::new(reference().into()));
        for (tag, to_alias) in [(reference().into(), false), (alias, true), (nested, true), (Term::atom("x"), false)] {
            let from = Term::tuple([pid().into(), tag]);
            let message = Term::tuple([Term::atom("$gen_call"), from, Term::atom("ready")]);
            let call = Call::parse(message).expect("a call");
            assert_eq!(call.request, Term::atom("ready"));
            assert_eq!(call.from.pid, pid());
            assert_eq!(call.from.alias().is_some(), to_alias);
        }
    }

    #[test]
    fn what_is_no_call_comes_back_whole() {
        for message in [
            Term::atom("hello"),
            Term::tuple([]),
            Term::tuple([Term::atom("$gen_call"), Term::atom("x"), Term::atom("y")]),
            Term::tuple([Term::atom("$gen_call"), Term::tuple([Term::atom("x"), Term::atom("y")]), Term::atom("z")]),
        ] {
            assert_eq!(Call::parse(message.clone()), Err(message));
        }
        let cast = Term::tuple([Term::atom("$gen_cast"), Term::Integer(1)]);
        assert_eq!(parse_cast(cast), Ok(Term::Integer(1)));
    }
}
