//! What comes over a connection, signal by signal, and what must be answered so that nobody waits in vain.
//!
//! The must-answers: a monitor or a link to nobody gets `noproc`, a request to spawn gets its reply, an unlink gets its
//! acknowledgement, and `net_kernel`'s `is_auth` gets `yes`, which is what `net_adm:ping` asks. Follows the section
//! "Protocol between Connected Nodes" of the guide.

use std::sync::Arc;

use metacluster_erl_wire::{
    Atom, Pid, Reference, Term,
    control::{ALTACT_EXIT, Control, Destination, SPAWN_MONITORED, SpawnResult},
    frame::{Message, Payload},
    term::{DecodeError, Limits},
};

use super::{
    Inner, Node,
    connection::Connection,
    functions,
    registry::{Delivered, LOCAL, Outcome, Signal, Target},
};
use crate::gen_server;

/// Takes one message of a peer.
///
/// # Errors
/// When its payload is no term, so that nothing that the peer sends can be trusted; or is beyond the limits, which says
/// [`is_limit`] and concerns this message alone.
pub(crate) fn receive(
    inner: &Arc<Inner>,
    connection: &Arc<Connection>,
    message: Message,
    limits: &Limits,
) -> Result<(), DecodeError> {
    let payload = |payload: Option<Payload>| payload.map_or_else(|| Ok(Term::list([])), |bytes| bytes.decode(limits));
    // A reason beyond the limits is cut: the signal itself must not be lost.
    let reason = |bytes: Option<Payload>| match payload(bytes) {
        Err(error) if is_limit(&error) => Ok(Term::atom("system_limit")),
        other => other,
    };
    let registry = &inner.registry;
    let id = connection.info().connection;
    match message.control {
        Control::Send { to, trace: _ } | Control::SendSender { from: _, to, trace: _ } => {
            deliver(inner, &to, payload(message.payload)?);
        }
        Control::RegSend { from: _, to, trace: _ } => deliver_name(inner, &to, payload(message.payload)?),
        Control::AliasSend { from: _, to, trace: _ } => deliver_alias(inner, &to, payload(message.payload)?),
        Control::AltactSigSend { flags, from, to, trace: _ } => {
            let payload = payload(message.payload)?;
            if flags & ALTACT_EXIT == 0 {
                match to {
                    Destination::Pid(pid) => deliver(inner, &pid, payload),
                    Destination::Name(name) => deliver_name(inner, &name, payload),
                    Destination::Alias(alias) => deliver_alias(inner, &alias, payload),
                }
            } else if let (Target::Pid(from), Destination::Pid(to)) = (from, to) {
                registry.exit_signal(&from, &to, payload);
            }
        }
        Control::Link { from, to } => answer(connection, registry.link_from(id, from, &to)),
        Control::Unlink { from, to } => registry.unlink_from(&from, &to),
        Control::UnlinkId { id, from, to } => {
            registry.unlink_from(&from, &to);
            connection.push_control(Control::UnlinkIdAck { id, from: to, to: from }, None);
        }
        Control::UnlinkIdAck { id, from, to } => registry.unlinked(&to, &from, id),
        Control::Exit { from, to, reason, trace: _ } => registry.exit_from(&from, &to, reason),
        Control::PayloadExit { from, to, trace: _ } => registry.exit_from(&from, &to, reason(message.payload)?),
        Control::Exit2 { from, to, reason, trace: _ } => registry.exit_signal(&from, &to, reason),
        Control::PayloadExit2 { from, to, trace: _ } => registry.exit_signal(&from, &to, reason(message.payload)?),
        Control::MonitorP { from, to, reference } => answer(connection, registry.watch(id, from, to, reference)),
        Control::DemonitorP { from: _, to: _, reference } => registry.unwatch(id, reference),
        Control::MonitorPExit { from: _, to: _, reference, reason } => registry.down(&reference, reason),
        Control::PayloadMonitorPExit { from: _, to: _, reference } => {
            registry.down(&reference, reason(message.payload)?);
        }
        Control::SpawnRequest(request) => {
            functions::requested(inner, connection, *request, message.payload, limits)?;
        }
        Control::SpawnReply { request, to, flags, result, trace: _ } => {
            spawned(inner, connection, request, to, flags, result);
        }
        // Processes of ours have no group leader.
        Control::GroupLeader { from: _, to: _ } => {}
    }
    Ok(())
}

/// Whether the bytes were good as far as they were read, and only more than is taken.
pub(crate) fn is_limit(error: &DecodeError) -> bool {
    matches!(error, DecodeError::TooDeep(_) | DecodeError::TooManyElements(_) | DecodeError::TooLong(_))
}

/// Says that a message beyond the limits was dropped.
pub(crate) fn say_dropped(connection: &Connection, error: &DecodeError) {
    tracing::warn!(peer = %connection.info().name, "a message was dropped: {error}");
}

/// Takes a signal of a process of this node.
pub(crate) fn take_local(inner: &Inner, signal: Signal) {
    match signal {
        Signal::Exit { from, to, reason } => inner.registry.exit_from(&from, &to, reason),
        Signal::Down { from: _, to: _, reference, reason } => inner.registry.down(&reference, reason),
        Signal::Demonitor { from: _, target: _, reference } => inner.registry.unwatch(LOCAL, reference),
    }
}

/// A message for a process of this node. Those of another node, or of another life of this one, get nothing.
pub(crate) fn deliver(inner: &Arc<Inner>, to: &Pid, message: Term) {
    let delivered = inner.registry.deliver(to, message);
    serve_kernel(inner, delivered);
}

/// A message for a name of this node.
pub(crate) fn deliver_name(inner: &Arc<Inner>, to: &Atom, message: Term) {
    let delivered = inner.registry.deliver_name(to, message);
    serve_kernel(inner, delivered);
}

/// A message for an alias. Only calls have one, and to those the tag of the answer says which.
fn deliver_alias(inner: &Arc<Inner>, _alias: &Reference, message: Term) {
    let delivered = inner.registry.deliver(&inner.kernel, message);
    serve_kernel(inner, delivered);
}

fn answer(connection: &Connection, signal: Option<Signal>) {
    if let Some(signal) = signal {
        connection.push_signal(None, signal);
    }
}

fn spawned(inner: &Arc<Inner>, connection: &Connection, request: Reference, to: Pid, flags: u32, result: SpawnResult) {
    match result {
        SpawnResult::Started(process) => {
            // Nobody waits any more: the monitor that was asked for is taken back.
            if !inner.registry.call_spawned(&request, &process) && flags & SPAWN_MONITORED != 0 {
                let signal = Signal::Demonitor { from: to, target: Target::Pid(process), reference: request };
                connection.push_signal(None, signal);
            }
        }
        SpawnResult::Refused(reason) => {
            inner.registry.fail_call(&request, Outcome::NotSpawned(reason.into()));
        }
    }
}

/// Answers what OTP's `net_kernel` is asked: whether this node is one of the cluster. Anything else gets no answer, as
/// there.
fn serve_kernel(inner: &Arc<Inner>, delivered: Delivered) {
    let Delivered::Kernel(message) = delivered else { return };
    let Ok(call) = gen_server::Call::parse(message) else { return };
    let is_auth = matches!(call.request.as_tuple(), Some([question, _]) if question.is_atom("is_auth"));
    if is_auth && gen_server::reply(&Node::of(inner), &call.from, Term::atom("yes")).is_err() {
        tracing::debug!(to = ?call.from.pid, "a ping was not answered: the connection is busy or gone");
    }
}
