//! One connection to an epmd: one request, one answer, and for a node the registration that follows.
//!
//! Most requests are there when the connection is, and their answer fits into the socket: then [`greet`] does all, and
//! the connection costs no task and no registration with the reactor. What has to wait becomes a [`Conversation`],
//! which holds at most the longest request or one page of a listing, for a bounded time; what registers becomes a
//! [`Hold`], which is as small as it can be.

use std::{
    future::poll_fn,
    io,
    net::{Shutdown, TcpStream as StdStream},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use metacluster_erl_wire::epmd::{
    KillReply, PortReply, REQUEST_BYTES_MAX, RegisterReply, Registration, Request, RequestError, StopReply,
};
use nix::sys::socket::{MsgFlags, recv, send};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    gate::Permit,
    names::Entry,
    server::Shared,
    table::{Cursor, Listing},
};

/// What a refused registration is told.
const REFUSED: u8 = 1;

/// The length and the longest request.
pub(super) const INPUT_BYTES_MAX: usize = 2 + REQUEST_BYTES_MAX;

/// How much of a listing is made at a time.
const PAGE_BYTES: usize = 16 * 1_024;

/// The whole of a conversation takes at most so many times the silence that is allowed in it.
const SILENCES_MAX: u32 = 10;

/// A peer that is gone is an error, not a signal. On Apple's systems std has seen to that when it made the socket.
#[cfg(not(target_vendor = "apple"))]
const WITHOUT_WAIT: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
#[cfg(target_vendor = "apple")]
const WITHOUT_WAIT: MsgFlags = MsgFlags::MSG_DONTWAIT;

/// The last bytes of a connection go out with its end, as one packet: half of the work, here and at the client, which is
/// woken once.
#[cfg(target_os = "linux")]
const LAST: MsgFlags = WITHOUT_WAIT.union(MsgFlags::from_bits_retain(nix::libc::MSG_MORE));
#[cfg(not(target_os = "linux"))]
const LAST: MsgFlags = WITHOUT_WAIT;

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Caller {
    /// Whether it is on this host.
    pub(super) local: bool,
    /// The port on which it reached us.
    pub(super) own_port: u16,
    pub(super) permit: Permit,
}

/// What has become of a connection.
#[derive(Debug)]
pub(super) enum Greeted {
    /// It is answered and closed.
    Done,
    /// Nothing has come yet.
    Silent(StdStream, Caller),
    /// It has to wait for more.
    Waits(Box<Conversation>),
    /// It stays open.
    Holds(Hold),
}

/// Reads and answers as far as that goes without waiting. `input` is for what comes.
pub(super) fn greet(
    shared: &Arc<Shared>,
    stream: StdStream,
    caller: Caller,
    input: &mut [u8; INPUT_BYTES_MAX],
) -> Greeted {
    let count = match recv(stream.as_raw_fd(), input, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => return Greeted::Done,
        Ok(count) => count,
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Greeted::Silent(stream, caller),
        Err(_) => return Greeted::Done,
    };
    let input = &input[..count];
    let Some(mut answer) = answer(shared, &stream, &caller, input) else {
        let state = State::Reading(BytesMut::from(input));
        return Greeted::Waits(Box::new(Conversation { stream, caller, state }));
    };
    if !matches!(answer.then, Then::Kill) && shared.options.delay_write.is_zero() {
        let flags = if matches!(answer.then, Then::Close) { LAST } else { WITHOUT_WAIT };
        match send(stream.as_raw_fd(), &answer.bytes, flags) {
            Ok(sent) => answer.bytes.advance(sent),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(_) => return Greeted::Done,
        }
        if answer.bytes.is_empty() {
            match answer.then {
                Then::Close => {
                    // Before the socket is closed: with bytes that nobody read it ends at once, and drops what it holds.
                    drop(stream.shutdown(Shutdown::Write));
                    return Greeted::Done;
                }
                Then::Hold(registered) => return Greeted::Holds(Hold { stream, registered, permit: caller.permit }),
                Then::List(..) | Then::Kill => {}
            }
        }
    }
    Greeted::Waits(Box::new(Conversation { stream, caller, state: State::Answering(answer) }))
}

/// A connection with a request that is not whole, or an answer that is not written.
#[derive(Debug)]
pub(super) struct Conversation {
    stream: StdStream,
    caller: Caller,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(BytesMut),
    Answering(Answer),
}

/// Bytes to write, and what follows.
#[derive(Debug)]
struct Answer {
    bytes: Bytes,
    then: Then,
}

/// What follows the bytes of an answer.
#[derive(Debug)]
enum Then {
    Close,
    /// The connection stays open: for a node that is registered, or for one that was refused.
    Hold(Option<Registered>),
    /// A listing goes on there.
    List(Listing, Cursor),
    /// The server ends. Its bytes are written when the port is free.
    Kill,
}

impl Answer {
    fn silence() -> Self {
        Self::bytes(Bytes::new())
    }

    fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), then: Then::Close }
    }
}

impl Conversation {
    /// A connection on which nothing has come.
    pub(super) fn new(stream: StdStream, caller: Caller) -> Self {
        Self { stream, caller, state: State::Reading(BytesMut::new()) }
    }

    /// Goes on until the connection ends or only has to be held.
    pub(super) async fn run(self, shared: Arc<Shared>) -> Option<Hold> {
        let silence = shared.options.packet_timeout;
        let all = silence.checked_mul(SILENCES_MAX).unwrap_or(Duration::MAX);
        timeout(all, self.go_on(&shared, silence)).await.ok()?.ok()?
    }

    async fn go_on(self, shared: &Arc<Shared>, silence: Duration) -> io::Result<Option<Hold>> {
        let Self { stream, caller, state } = self;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream)?;
        let Answer { mut bytes, mut then } = match state {
            State::Answering(answer) => answer,
            State::Reading(mut input) => loop {
                if let Some(answer) = answer(shared, &stream, &caller, &input) {
                    break answer;
                }
                // What comes behind the request is not read.
                let wanted = wanted(&input);
                let mut wanted = (&mut input).limit(wanted);
                let count = timeout(silence, stream.read_buf(&mut wanted)).await;
                let Ok(count) = count else {
                    tracing::debug!(target: "epmd", "closing because timed out on receive");
                    return Ok(None);
                };
                if count? == 0 {
                    tracing::debug!(
                        target: "epmd",
                        "got partial packet only on file descriptor {} ({})", stream.as_raw_fd(), input.len()
                    );
                    return Ok(None);
                }
            },
        };
        if matches!(then, Then::Kill) {
            shared.close_listeners().await;
        }
        loop {
            if !bytes.is_empty() && !shared.options.delay_write.is_zero() {
                sleep(shared.options.delay_write).await;
            }
            timeout(silence, stream.write_all(&bytes)).await??;
            match then {
                Then::List(listing, cursor) => (bytes, then) = page(shared, listing, cursor, BytesMut::new()),
                Then::Close => return Ok(None),
                Then::Kill => {
                    stream.shutdown().await?;
                    drop(stream);
                    shared.say_killed();
                    return Ok(None);
                }
                Then::Hold(registered) => {
                    return Ok(Some(Hold { stream: stream.into_std()?, registered, permit: caller.permit }));
                }
            }
        }
    }
}

/// How many bytes of the request are to come: all that may come as long as its length has not.
fn wanted(input: &[u8]) -> usize {
    match input {
        [high, low, rest @ ..] => usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(rest.len()),
        _ => INPUT_BYTES_MAX - input.len(),
    }
}

/// Does what is asked; `None` when the request is not whole.
fn answer(shared: &Arc<Shared>, stream: &impl AsRawFd, caller: &Caller, input: &[u8]) -> Option<Answer> {
    let request = match Request::decode(input) {
        Ok(request) => request?,
        Err(RequestError::BadRegistration { highest }) if caller.local => return Some(refusal(highest)),
        // epmd says nothing to what it does not understand.
        Err(error) => {
            tracing::debug!(target: "epmd", "closing file descriptor {}: {error}", stream.as_raw_fd());
            return Some(Answer::silence());
        }
    };
    let own_port = u32::from(caller.own_port);
    let listing = |listing| {
        let mut head = BytesMut::with_capacity(64);
        head.put_u32(own_port);
        let (bytes, then) = page(shared, listing, Cursor::START, head);
        Answer { bytes, then }
    };
    Some(match request {
        Request::PortPlease(name) => {
            let mut reply = BytesMut::with_capacity(64);
            let found = shared.table().names().get(&name).cloned();
            let word = if found.is_some() { "ok" } else { "error" };
            found.map_or(PortReply::NotFound, PortReply::Found).encode(&mut reply);
            tracing::debug!(target: "epmd", "** PORT_PLEASE2_REQ, PORT2_RESP ({word}) for \"{name}\"");
            Answer::bytes(reply)
        }
        Request::Names => {
            tracing::debug!(target: "epmd", "** got NAMES_REQ");
            listing(Listing::Names)
        }
        Request::Register(_) | Request::Dump | Request::Kill | Request::Stop(_) if !caller.local => {
            tracing::debug!(target: "epmd", "a request from a non local address that only this host may make");
            Answer::silence()
        }
        Request::Register(registration) => register(shared, stream, registration),
        Request::Dump => {
            tracing::debug!(target: "epmd", "** got DUMP_REQ");
            listing(Listing::Dump)
        }
        Request::Kill => {
            tracing::debug!(target: "epmd", "** got KILL_REQ");
            let allowed = shared.may_be_killed();
            let reply = if allowed { KillReply::Ok } else { KillReply::No };
            let then = if allowed { Then::Kill } else { Then::Close };
            Answer { bytes: Bytes::from_static(reply.as_bytes()), then }
        }
        Request::Stop(name) => {
            tracing::debug!(target: "epmd", "** got STOP_REQ");
            if !shared.options.relaxed {
                return Some(Answer::silence());
            }
            let reply = if shared.stop(&name) { StopReply::Stopped } else { StopReply::NoSuchNode };
            Answer::bytes(Bytes::from_static(reply.as_bytes()))
        }
    })
}

/// The next page of a listing behind `out`, and what follows it. Under the lock for one page only.
fn page(shared: &Shared, listing: Listing, cursor: Cursor, mut out: BytesMut) -> (Bytes, Then) {
    let mut text = String::new();
    let next = shared.table().list(listing, cursor, PAGE_BYTES, &mut text);
    let then = next.map_or(Then::Close, |cursor| Then::List(listing, cursor));
    if out.is_empty() {
        return (Bytes::from(text), then);
    }
    out.put_slice(text.as_bytes());
    (out.freeze(), then)
}

fn register(shared: &Arc<Shared>, stream: &impl AsRawFd, registration: Registration) -> Answer {
    let highest = registration.highest;
    let name = registration.name.clone();
    let Ok(entry) = shared.register(registration, stream.as_raw_fd()) else {
        tracing::info!(target: "epmd", "node name already occupied {name}");
        return refusal(highest);
    };
    tracing::debug!(
        target: "epmd",
        "registering '{name}:{}', port {}", entry.creation, entry.registration.port
    );
    // Nodes before version 6 know creations 1 to 3 only.
    let creation = if highest >= 6 { entry.creation } else { entry.creation % 3 + 1 };
    let registered = Registered { shared: Arc::clone(shared), entry };
    held(RegisterReply::Registered { creation }, highest, Some(registered))
}

fn refusal(highest: u16) -> Answer {
    held(RegisterReply::Refused { result: REFUSED }, highest, None)
}

fn held(reply: RegisterReply, highest: u16, registered: Option<Registered>) -> Answer {
    let mut bytes = BytesMut::with_capacity(8);
    reply.encode(highest, &mut bytes);
    Answer { bytes: bytes.freeze(), then: Then::Hold(registered) }
}

/// A registration; dropping it unregisters.
#[derive(Debug)]
pub(super) struct Registered {
    shared: Arc<Shared>,
    pub(super) entry: Arc<Entry>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.shared.unregister(&self.entry) {
            let (name, creation) = (self.entry.name(), self.entry.creation);
            tracing::debug!(target: "epmd", "unregistering '{name}:{creation}'");
        }
    }
}

/// A connection that stays open after its answer: that of a node, or of one that was refused. Any byte, and the end,
/// ends it, as in stock epmd.
#[derive(Debug)]
pub(super) struct Hold {
    stream: StdStream,
    pub(super) registered: Option<Registered>,
    permit: Permit,
}

impl Hold {
    /// Waits for the end.
    ///
    /// # Errors
    /// When the system cannot wait for one more connection; then it ends at once.
    pub(super) fn run(self, silence: Duration) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let Self { stream, registered, permit } = self;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        Ok(async move {
            if registered.is_some() {
                end(&stream).await;
            } else {
                // One that was refused and does not leave goes with the time that any request has.
                drop(timeout(silence, Box::pin(end(&stream))).await);
            }
            drop((registered, permit, stream));
        })
    }
}

/// Waits until anything comes.
async fn end(stream: &TcpStream) {
    let mut byte = [0];
    while poll_fn(|context| stream.poll_read_ready(context)).await.is_ok() {
        match stream.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Ends a connection that has no place here.
pub(super) fn turn_away(stream: &StdStream) {
    // It is closed in any case.
    drop(stream.shutdown(Shutdown::Both));
}
