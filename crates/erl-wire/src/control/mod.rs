//! Control messages: what one node tells another about processes, and what a message is for.
//!
//! Each is a tuple whose first element is its operation; some are followed by a second term, the payload. The forms
//! with a trace token (`…_TT`) are the same variants with [`Trace`] set. What OTP sends to no peer with our flags is an
//! error, since nothing sane can be done with it.
//!
//! Follows the guide's *Protocol between Connected Nodes*, up to OTP 28.

mod decode;
mod encode;
mod names;
#[cfg(test)]
mod tests;

pub use self::encode::Sending;
pub(crate) use self::names::Names;
use crate::term::{Atom, Pid, Reference, Term};

/// The token of sequential tracing, if there is one. Kept and passed on, never read.
pub type Trace = Option<Term>;

/// A process, by pid or by its registered name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// By pid.
    Pid(Pid),
    /// By the name under which the receiving node has registered it.
    Name(Atom),
}

/// What a signal of operation 37 goes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A process.
    Pid(Pid),
    /// A registered name.
    Name(Atom),
    /// An alias.
    Alias(Reference),
}

/// What became of a request to spawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnResult {
    /// The process.
    Started(Pid),
    /// Why there is none: an atom such as `notsup` or `badopt`.
    Refused(Atom),
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields `from`, `to`, `reason`, `reference` and `trace` say what they are")]
pub enum Control {
    /// 1: `from` links to `to`.
    Link { from: Pid, to: Pid },
    /// 2, 12: the payload is a message to `to`.
    Send { to: Pid, trace: Trace },
    /// 3, 13: `from` has ended, and is linked to `to`.
    Exit { from: Pid, to: Pid, reason: Term, trace: Trace },
    /// 4: the unlink of OTP 22 and older. Nothing that we talk to sends it.
    Unlink { from: Pid, to: Pid },
    /// 6, 16: the payload is a message to the process that is registered as `to`.
    RegSend { from: Pid, to: Atom, trace: Trace },
    /// 7: `from` becomes the group leader of `to`.
    GroupLeader { from: Pid, to: Pid },
    /// 8, 18: `from` calls `exit(To, Reason)`.
    Exit2 { from: Pid, to: Pid, reason: Term, trace: Trace },
    /// 19: `from` monitors `to`.
    MonitorP { from: Pid, to: Process, reference: Reference },
    /// 20: and no longer does.
    DemonitorP { from: Pid, to: Process, reference: Reference },
    /// 21: `from`, which `to` monitors, has ended.
    MonitorPExit { from: Process, to: Pid, reference: Reference, reason: Term },
    /// 22, 23: the payload is a message to `to`, and says who sends it.
    SendSender { from: Pid, to: Pid, trace: Trace },
    /// 24, 25: as 3, with the reason as payload.
    PayloadExit { from: Pid, to: Pid, trace: Trace },
    /// 26, 27: as 8, with the reason as payload.
    PayloadExit2 { from: Pid, to: Pid, trace: Trace },
    /// 28: as 21, with the reason as payload.
    PayloadMonitorPExit { from: Process, to: Pid, reference: Reference },
    /// 29, 30: start a process; the payload is its list of arguments.
    SpawnRequest(Box<SpawnRequest>),
    /// 31, 32: the answer.
    SpawnReply {
        /// The request that this answers.
        request: Reference,
        to: Pid,
        /// [`SPAWN_LINKED`] and [`SPAWN_MONITORED`].
        flags: u32,
        result: SpawnResult,
        trace: Trace,
    },
    /// 33, 34: the payload is a message to an alias.
    AliasSend { from: Pid, to: Reference, trace: Trace },
    /// 35: `from` unlinks from `to`, and must be told that this has come. OTP 25 closes the connection when `to` is a pid
    /// that it can never have had, such as one of another creation, while it answers a link to the same pid.
    UnlinkId {
        /// Names this unlink to its answer; not 0.
        id: u64,
        from: Pid,
        to: Pid,
    },
    /// 36: and it has.
    UnlinkIdAck {
        /// That of the unlink.
        id: u64,
        from: Pid,
        to: Pid,
    },
    /// 37 (OTP 28): the payload is a message, or an exit reason, for `to`.
    AltactSigSend {
        /// Which kind of signal: see the `ALTACT_…` constants.
        flags: u32,
        /// The sender; an atom when it is not a process.
        from: Process,
        to: Destination,
        trace: Trace,
    },
}

/// A request to start a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnRequest {
    /// Names the request to its answer.
    pub request: Reference,
    /// Who asks.
    pub from: Pid,
    /// The group leader of the new process.
    pub group_leader: Pid,
    /// The module of the function that it is to run.
    pub module: Atom,
    /// The function.
    pub function: Atom,
    /// How many arguments the payload holds.
    pub arity: u8,
    /// Such as `link` or `monitor`.
    pub options: Vec<Term>,
    /// The trace token.
    pub trace: Trace,
}

/// In the flags of a spawn's answer: the link that was asked for is made.
pub const SPAWN_LINKED: u32 = 1;
/// In the flags of a spawn's answer: the monitor that was asked for is made.
pub const SPAWN_MONITORED: u32 = 2;

/// In the flags of operation 37: a priority signal.
pub const ALTACT_PRIORITY: u32 = 1;
/// In the flags of operation 37: the tuple has a trace token.
pub const ALTACT_TOKEN: u32 = 2;
/// In the flags of operation 37: the receiver is an alias.
pub const ALTACT_ALIAS: u32 = 4;
/// In the flags of operation 37: the receiver is a registered name.
pub const ALTACT_NAME: u32 = 8;
/// In the flags of operation 37: the payload is an exit reason, not a message.
pub const ALTACT_EXIT: u32 = 16;

/// Why a term is no control message. The link that it came over cannot be trusted any more, and should be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Not a tuple that starts with a small integer.
    #[error("not a control message: no tuple that starts with an operation")]
    NotAControlMessage,
    /// An operation of a later version, which we have not offered, or of no version.
    #[error("unknown operation {0}")]
    UnknownOperation(i64),
    /// A tuple of the wrong size, or an element of the wrong type.
    #[error("a malformed control message of operation {0}")]
    Malformed(i64),
}

impl Control {
    /// Whether a second term follows.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        match self {
            Self::Send { .. }
            | Self::RegSend { .. }
            | Self::SendSender { .. }
            | Self::PayloadExit { .. }
            | Self::PayloadExit2 { .. }
            | Self::PayloadMonitorPExit { .. }
            | Self::SpawnRequest(_)
            | Self::AliasSend { .. }
            | Self::AltactSigSend { .. } => true,
            Self::Link { .. }
            | Self::Exit { .. }
            | Self::Unlink { .. }
            | Self::GroupLeader { .. }
            | Self::Exit2 { .. }
            | Self::MonitorP { .. }
            | Self::DemonitorP { .. }
            | Self::MonitorPExit { .. }
            | Self::SpawnReply { .. }
            | Self::UnlinkId { .. }
            | Self::UnlinkIdAck { .. } => false,
        }
    }
}
