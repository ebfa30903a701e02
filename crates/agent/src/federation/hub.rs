//! The machine, what it drives, and the lock around both.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use metacluster_erl::{
    Node, RegisterError, SendError,
    node::{
        PeerInfo,
        relay::{Encoded, Relay},
    },
    pg::Scope,
    wire::{
        Atom, Term,
        frame::Payload,
        rewrite::{Endpoint, Route},
        term::{self, Limits},
    },
};
use metacluster_federation::{
    CloseReason, Federation, GroupKey, LinkId, Notice, Output, Piece, Refusal, Squeezed, Status,
};
use metacluster_types::{AgentId, ClusterName, EventKind, NodeName, Subject};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{core::Clock, events::EventLog};

/// How long links may take to say goodbye when all of them end.
const PARTING: Duration = Duration::from_secs(1);
/// How much a writer takes at once.
const BATCH_BYTES: usize = 128 << 10;

/// See the module.
pub(crate) struct Hub {
    state: Mutex<State>,
    clock: Clock,
    node: Node,
    log: EventLog,
    /// There may be an earlier deadline.
    sooner: Notify,
    /// Counts links that came and went.
    changed: watch::Sender<u64>,
}

struct State {
    machine: Federation,
    /// Empty but while what the machine puts out is carried out.
    bundle: Bundle,
    links: BTreeMap<LinkId, Arc<Outlet>>,
    scopes: BTreeMap<String, Scope>,
    last_link: u64,
}

/// Messages to one node that are sent together.
#[derive(Default)]
struct Bundle {
    node: Option<Atom>,
    messages: Vec<Encoded>,
}

impl Bundle {
    /// The messages that are there are for the same node, or there are none.
    fn add(&mut self, node: Atom, message: Encoded) {
        self.node.get_or_insert(node);
        self.messages.push(message);
    }
}

/// What the writer of a link waits for.
#[derive(Default)]
pub(crate) struct Outlet {
    ready: Notify,
    over: Notify,
    end: Mutex<Option<End>>,
}

/// How a link ends from here.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) farewell: Bytes,
    pub(crate) reason: CloseReason,
    pub(crate) gateway: Option<(ClusterName, AgentId)>,
}

impl Outlet {
    /// Waits until there may be something to write.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits until the link is to be dropped, whatever waits to be written: at once when it has no farewell, and when the
    /// farewell had its time.
    pub(crate) async fn given_up(&self, farewell: Duration) -> End {
        loop {
            if let Some(end) = self.end() {
                if !end.farewell.is_empty() {
                    tokio::time::sleep(farewell).await;
                }
                return end;
            }
            self.over.notified().await;
        }
    }

    /// Whether it has ended, and how.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Hub {
    pub(crate) fn new(machine: Federation, clock: Clock, node: Node, log: EventLog) -> Arc<Self> {
        let (links, scopes) = (BTreeMap::new(), BTreeMap::new());
        let state = State { machine, bundle: Bundle::default(), links, scopes, last_link: 0 };
        let (sooner, changed) = (Notify::new(), watch::Sender::new(0));
        Arc::new(Self { state: Mutex::new(state), clock, node, log, sooner, changed })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Links that came and went.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Feeds the machine, and carries out what follows.
    fn feed<R>(&self, feed: impl FnOnce(&mut Federation, metacluster_types::Instant) -> R) -> R {
        let mut state = self.lock();
        let fed = feed(&mut state.machine, self.clock.now());
        self.carry_out(&mut state);
        fed
    }

    /// Follows a scope of groups.
    pub(crate) fn add_scope(&self, name: &str) -> Result<Scope, RegisterError> {
        let scope = Scope::start(&self.node, name)?;
        self.lock().scopes.insert(name.to_owned(), scope.clone());
        Ok(scope)
    }

    /// Opens a link whose TLS is up.
    pub(crate) fn open(&self, certified: ClusterName, dialled: bool) -> (LinkId, Arc<Outlet>) {
        let outlet = Arc::new(Outlet::default());
        let mut state = self.lock();
        state.last_link += 1;
        let link = LinkId(state.last_link);
        state.links.insert(link, Arc::clone(&outlet));
        state.machine.link_opened(self.clock.now(), link, Some(certified), dialled);
        self.carry_out(&mut state);
        drop(state);
        self.sooner.notify_one();
        (link, outlet)
    }

    /// Bytes of a link.
    pub(crate) fn received(&self, link: LinkId, bytes: &[u8]) {
        self.feed(|machine, now| machine.handle_link(now, link, bytes));
    }

    /// What is to be written to a link now, and whether it may be compressed. `before` is what of the last that was taken
    /// was.
    pub(crate) fn take(&self, link: LinkId, pieces: &mut Vec<Piece>, before: Squeezed) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        state.machine.squeezed_out(link, before);
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(piece) = state.machine.poll_transmit(now, link)
        {
            bytes += piece.body.len();
            pieces.push(piece);
        }
        state.machine.squeezes(link)
    }

    /// The connection of a link is gone.
    pub(crate) fn closed(&self, link: LinkId) {
        let mut state = self.lock();
        state.machine.link_closed(self.clock.now(), link);
        self.carry_out(&mut state);
        state.links.remove(&link);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn is_linked(&self, (cluster, gateway): &(ClusterName, AgentId)) -> bool {
        self.lock().machine.is_linked(cluster, *gateway)
    }

    pub(crate) fn node_up(&self, node: &NodeName) {
        self.feed(|machine, _| machine.node_up(node));
    }

    pub(crate) fn node_down(&self, node: &NodeName) {
        self.feed(|machine, now| machine.node_down(now, node));
    }

    /// Tells the machine of groups of this cluster.
    pub(crate) fn groups(&self, tell: impl FnOnce(&mut Federation, metacluster_types::Instant)) {
        self.feed(tell);
    }

    /// Asks the machine what changes nothing.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Federation) -> R) -> R {
        look(&self.lock().machine)
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().machine.status(self.clock.now())
    }

    pub(crate) fn cut(&self, cluster: &ClusterName) {
        self.feed(|machine, now| machine.cut(now, cluster));
    }

    pub(crate) fn allow(&self, cluster: &ClusterName) -> bool {
        self.feed(|machine, _| machine.allow(cluster))
    }

    pub(crate) fn shutdown(&self) {
        self.feed(Federation::shutdown);
    }

    /// Ends all links, and waits a moment until they have.
    pub(crate) async fn part(&self) {
        let mut changes = self.changes();
        self.shutdown();
        let ended = async { while !self.lock().links.is_empty() && changes.changed().await.is_ok() {} };
        drop(timeout(PARTING, ended).await);
    }

    /// Speaks for another cluster: see [`Federation::speak_for`].
    pub(crate) fn speak_for(&self, cluster: &ClusterName, epoch: u64) {
        self.feed(|machine, now| machine.speak_for(now, cluster.clone(), epoch));
        self.sooner.notify_one();
    }

    /// Wakes the machine when it wants to be. A link that opens, is up or is down brings the time forward, which is said; what
    /// else happens puts it off, or is due no sooner than the next ping.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let deadline = self.lock().machine.next_deadline();
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.when(deadline)) => self.feed(Federation::handle_timeout),
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Nothing here waits.
    fn carry_out(&self, state: &mut State) {
        while let Some(output) = state.machine.poll_output() {
            // Nothing overtakes what waits to be sent, and messages to one node go together.
            let goes_on = match &output {
                Output::Deliver { node, .. } | Output::Signal { node, .. } => state.bundle.node.as_ref() == Some(node),
                Output::Transmit(_) => true,
                Output::Close { .. } | Output::Publish { .. } | Output::Withdraw { .. } | Output::Notice(_) => false,
            };
            if !goes_on {
                self.send_bundle(state);
            }
            match output {
                Output::Transmit(link) => {
                    if let Some(outlet) = state.links.get(&link) {
                        outlet.ready.notify_one();
                    }
                }
                Output::Close { link, reason, farewell, gateway } => {
                    if let Some(outlet) = state.links.get(&link) {
                        let end = End { farewell, reason, gateway };
                        outlet.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
                        outlet.ready.notify_one();
                        outlet.over.notify_one();
                    }
                }
                Output::Deliver { node, lane, control, payload, signal } => {
                    state.bundle.add(node, Encoded { lane, control, payload, signal });
                }
                Output::Signal { node, lane, control, payload } => {
                    let (control, payload) = (encoded(&Term::from(control)), payload.as_ref().map(Payload::from));
                    state.bundle.add(node, Encoded { lane, control, payload, signal: true });
                }
                Output::Publish { group, members } => {
                    if let (Some(scope), Some(name)) = (state.scopes.get(&group.scope), decoded(&group))
                        && let Err(error) = scope.announce(&name, &members)
                    {
                        warn!("federation: {name} is not published: {error}");
                    }
                }
                Output::Withdraw { group, members } => {
                    if let (Some(scope), Some(name)) = (state.scopes.get(&group.scope), decoded(&group)) {
                        scope.retract(&name, &members);
                    }
                }
                Output::Notice(notice) => self.tell(notice),
            }
        }
        self.send_bundle(state);
    }

    /// What a node does not take is dropped and counted.
    fn send_bundle(&self, state: &mut State) {
        let State { machine, bundle, .. } = state;
        let Some(node) = bundle.node.take() else { return };
        let Ok(name) = NodeName::new(node.as_str()) else { return bundle.messages.clear() };
        self.node.send_encoded(&name, &mut bundle.messages, |error| {
            if error != SendError::Busy {
                machine.dropped(Refusal::NoConnection);
                debug!("federation: a message to {node} is dropped: {error}");
            } else if machine.dropped(Refusal::SlowNode).is_power_of_two() {
                warn!("federation: {node} does not read, and messages to it are dropped");
            }
        });
    }

    fn tell(&self, notice: Notice) {
        let (kind, cluster, reason) = match notice {
            Notice::Linked { cluster, node } => {
                info!("federation: linked to {cluster} by {node}");
                self.sooner.notify_one();
                self.changed.send_modify(|count| *count += 1);
                (EventKind::ClusterLinked, cluster, format!("by {node}"))
            }
            Notice::Unlinked { cluster, node, reason } => {
                warn!("federation: the link to {cluster} by {node} is down: {reason}");
                self.sooner.notify_one();
                self.changed.send_modify(|count| *count += 1);
                (EventKind::ClusterUnlinked, cluster, reason.to_string())
            }
            Notice::Joined { cluster, group, members } => {
                (EventKind::GroupJoin, cluster, format!("{}: {members}", group.printed()))
            }
            Notice::Left { cluster, group, members } => {
                (EventKind::GroupLeave, cluster, format!("{}: {members}", group.printed()))
            }
            Notice::Refused { cluster, refusal, count } => {
                return warn!("federation: refused of {cluster}: {} (so far {count})", refusal.as_str());
            }
        };
        if self.log.publish_of(cluster, kind, Subject::default(), None, Some(reason)).is_none() {
            debug!("an event came after the log was closed");
        }
    }
}

impl Relay for Hub {
    fn take(&self, _peer: &PeerInfo, route: &Route<'_>, body: &Bytes) -> bool {
        // Most that the node itself gets says so without a lock.
        if !matches!(route.to, Some(Endpoint::Pid(_) | Endpoint::Alias(_))) {
            return false;
        }
        let mut state = self.lock();
        if !state.machine.is_for_far(route) {
            return false;
        }
        state.machine.handle_route(self.clock.now(), route, body);
        true
    }

    /// Writers are woken once for all that came.
    fn pause(&self) {
        self.carry_out(&mut self.lock());
    }
}

pub(crate) fn encoded(term: &Term) -> Bytes {
    let mut out = BytesMut::new();
    term::encode(term, &mut out);
    out.freeze()
}

fn decoded(group: &GroupKey) -> Option<Term> {
    term::decode(&group.group, &Limits::default()).ok().map(|(term, _)| term)
}

#[cfg(test)]
mod tests;
