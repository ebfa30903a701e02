//! What the machine tells the world.

use std::net::SocketAddr;

use metacluster_types::AgentId;

use crate::{
    input::{ExchangeId, StreamToken},
    record::{DownReason, Epoch},
    user::{Query, QueryId, Reply, UserEvent},
};

/// Something to do or to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a packet, sealed if there is a key.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// Header and body.
        bytes: Vec<u8>,
    },
    /// Open a stream, send one message, take one in return, and tell the outcome. The machine gives it up by itself after
    /// the stream's timeout.
    Request {
        /// The exchange.
        exchange: ExchangeId,
        /// Where to.
        to: SocketAddr,
        /// Header and body.
        bytes: Vec<u8>,
    },
    /// Answer a stream, and close it.
    Reply {
        /// The stream.
        stream: StreamToken,
        /// Header and body.
        bytes: Vec<u8>,
    },
    /// Close a stream without an answer.
    Close {
        /// The stream.
        stream: StreamToken,
    },
    /// The view changed. What happens together is told together, in order of the members' ids.
    View(Vec<Change>),
    /// Something that a person should know, or that the driver must act on.
    Notice(Notice),
    /// A user event, in the order of its sender.
    UserEvent(UserEvent),
    /// A query came that wants an answer of this member.
    Query(Query),
    /// What became of a query of this member's.
    Replied {
        /// The query.
        query: QueryId,
        /// What became of it.
        reply: Reply,
    },
}

/// A change of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The member.
    pub id: AgentId,
    /// Its boot.
    pub epoch: Epoch,
    /// What changed.
    pub kind: ChangeKind,
}

/// What changed. For each member `Joined` and `Down` alternate, beginning with `Joined`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is up.
    Joined,
    /// It is up, but does not answer; it may be about to fail.
    Suspect,
    /// It answers again.
    Recovered,
    /// Its description changed.
    Updated,
    /// It is down.
    Down(DownReason),
    /// It had failed, and it is now known that it ended for good.
    Ended(DownReason),
    /// Its record is gone.
    Reaped,
}

/// Something that is said once, not at each packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The leave has been told; the driver may stop.
    LeaveTold,
    /// Another boot of this id is at work, or was believed to be. The machine went on as a later boot, which the
    /// driver should keep in its snapshot.
    EpochRaised(Epoch),
    /// Another process uses this id. The machine is silent; the driver should start one with a fresh id.
    IdentityTaken,
    /// The provider says that this host has ended. The machine is silent for a while, and comes back as a later boot
    /// if it still lives then.
    EndedByProvider,
    /// Two members have one name.
    NameShared {
        /// The one that was there.
        one: AgentId,
        /// The one that came.
        other: AgentId,
    },
    /// This process stood still; its judgement was suspended for the while.
    Paused(std::time::Duration),
}
