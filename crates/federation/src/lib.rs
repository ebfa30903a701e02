//! Clusters that work as one: what a gateway knows and decides.
//!
//! [`Federation`] is a pure machine: it has no clock, socket, thread or randomness. A driver feeds it what comes from the
//! nodes of its own cluster ([`Federation::handle_local`], groups, nodes that come and go) and over links to the gateways
//! of others ([`Federation::handle_link`]), drains [`Federation::poll_output`] after each, and wakes it at
//! [`Federation::next_deadline`]. A wake-up that is late or spurious is harmless.
//!
//! A far process is, in this cluster, a pid of the gateway's own node. What is sent to it comes here; the control message
//! alone says to whom, and the payload is rewritten as it is copied once into a lane of the link. On the link, an
//! identifier stands in its *home form*, which names its cluster, so that one that comes back is the original again.
//!
//! Invariants, which the simulation checks:
//! - Signals of one sender to one receiver keep their order; each arrives once or not at all.
//! - A gateway can reach only what it was handed out: members of groups that the policy names, and identifiers in messages
//!   to it. Requests to spawn, registered names, group leaders and exits without a link never cross.
//! - Each monitor and each link fires once: with the far process's reason, or `noconnection` when the link is lost.
//! - What is known of others is bounded, and goes away when no one can use it any more. A send to such a pid is a send to
//!   nobody.
//! - What a far gateway announced is published while its link is up, and at no other time.
//!
//! | file | holds |
//! |---|---|
//! | `settings`, `output`, `refusal`, `status` | the words between machine and world |
//! | `codec` | bytes of a link |
//! | `names`, `table`, `hash`, `identifiers` | who is known |
//! | `translate` | what becomes of identifiers as they cross |
//! | `link`, `lanes`, `squeeze`, `peer` | links, what waits for them, its compression, and far gateways |
//! | `local`, `remote`, `carry` | signals out, signals in, and what both do |
//! | `watches`, `through`, `lost` | monitors and links, also of two other clusters, and what fires them |
//! | `directory`, `groups` | groups |
//! | `cells` | who is in which cell, beside the machine |
//! | `services` | groups that are services, and who serves a key |
//! | `roles` | which of several gateways of a cluster publishes |

mod carry;
pub mod cells;
mod codec;
mod directory;
mod groups;
mod hash;
mod hello;
mod identifiers;
mod lanes;
mod link;
mod local;
mod lost;
mod names;
mod output;
mod peer;
mod refusal;
mod remote;
mod roles;
mod services;
mod settings;
mod squeeze;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod through;
mod translate;
mod watches;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::BytesMut;
use metacluster_erl_wire::{
    Atom,
    rewrite::{RewriteLimits, Rewriter},
};
use metacluster_types::{ClusterName, Instant, NodeName};

pub use crate::{
    codec::CodecError,
    directory::GroupKey,
    identifiers::PROXY_SERIAL,
    lanes::Piece,
    link::LinkId,
    output::{CloseReason, Notice, Output},
    peer::Traffic,
    refusal::{Refusal, Refusals},
    services::Service,
    settings::{ExportRule, Limits, Settings, Times},
    squeeze::{Squeezed, Squeezer},
    status::{GatewayStatus, Sizes, Status},
};
use crate::{
    directory::Exports,
    identifiers::Identifiers,
    link::Link,
    peer::{Peer, PeerId},
    services::Services,
    squeeze::Inflater,
    watches::Watches,
};

/// Refusals of one gateway are told at most so often; all are counted.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// How often what is idle is looked for.
const COLLECT_INTERVAL: Duration = Duration::from_secs(1);

/// The machine. See the crate's documentation.
#[derive(Debug)]
pub struct Federation {
    settings: Settings,
    identifiers: Identifiers,
    rewriter: Rewriter,
    scratch: BytesMut,
    inflater: Inflater,
    peers: Vec<Peer>,
    links: BTreeMap<LinkId, Link>,
    nodes: BTreeSet<Atom>,
    exports: Exports,
    services: Services,
    watches: Watches,
    cut: BTreeSet<ClusterName>,
    /// Clusters whose gateway that was asked is lost (which one), or which let this gateway ask in the place of another
    /// one (none); and when.
    takeovers: BTreeMap<ClusterName, (Option<PeerId>, Instant)>,
    /// Clusters of which another gateway is asked than the one that comes first; and when that one is known to stay.
    returns: BTreeMap<ClusterName, Instant>,
    outputs: VecDeque<Output>,
    collected: Instant,
    /// Local messages that went nowhere for want of a gateway to count them at.
    refusals: Refusals,
    /// For how many clusters it spoke before this one.
    life: u32,
}

impl Federation {
    /// A gateway without links.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let written_bytes_max = (settings.limits.message_bytes_max as u64).saturating_mul(2);
        let limits = RewriteLimits { written_bytes_max, ..RewriteLimits::default() };
        Self {
            identifiers: Identifiers::new(&settings, 0),
            rewriter: Rewriter::new(limits),
            scratch: BytesMut::new(),
            inflater: Inflater::default(),
            peers: Vec::new(),
            links: BTreeMap::new(),
            nodes: BTreeSet::new(),
            exports: Exports::default(),
            services: Services::default(),
            watches: Watches::default(),
            cut: BTreeSet::new(),
            takeovers: BTreeMap::new(),
            returns: BTreeMap::new(),
            outputs: VecDeque::new(),
            collected: now,
            refusals: Refusals::default(),
            life: 0,
            settings,
        }
    }

    /// Speaks for another cluster from now on, in a new life (see [`Settings::epoch`]). All links end, what hung on them
    /// fires, and all that was known of others, of groups and of nodes is forgotten: it is to be told anew. No pid of
    /// before stands for anybody again. What an operator cut off stays so.
    pub fn speak_for(&mut self, now: Instant, cluster: ClusterName, epoch: u64) {
        self.shutdown(now);
        let life = self.life + 1;
        let settings = Settings { cluster, epoch, ..self.settings.clone() };
        *self = Self {
            identifiers: Identifiers::new(&settings, life),
            cut: std::mem::take(&mut self.cut),
            outputs: std::mem::take(&mut self.outputs),
            refusals: std::mem::take(&mut self.refusals),
            life,
            ..Self::new(settings, now)
        };
    }

    /// The settings that it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What is to be written to a link next; `None` until [`Output::Transmit`] says otherwise.
    pub fn poll_transmit(&mut self, now: Instant, link: LinkId) -> Option<Piece> {
        let link = self.links.get_mut(&link)?;
        let piece = link.lanes.poll();
        match &piece {
            Some(_) => link.written = now,
            None => link.woken = false,
        }
        piece
    }

    /// Whether what is written to a link may be compressed: see [`Squeezer`].
    #[must_use]
    pub fn squeezes(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.squeezes)
    }

    /// So much was compressed of what was written to a link.
    pub fn squeezed_out(&mut self, link: LinkId, squeezed: Squeezed) {
        if let Some(peer) = self.links.get(&link).and_then(Link::peer) {
            self.peer_mut(peer).traffic.squeezed_out.add(squeezed);
        }
    }

    /// When the machine wants to be woken: see [`Federation::handle_timeout`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let times = &self.settings.times;
        let links = self.links.values().map(|link| match link.peer() {
            None => link.opened + times.hello_within,
            Some(_) => (link.heard + times.dead_after).min(link.written + times.ping_after),
        });
        let restless = self.peers.iter().filter_map(|peer| Some(peer.restless_since? + times.dead_after));
        let sizes = self.sizes();
        let kept = sizes.far + sizes.own > 0;
        let takeovers = self.takeovers.values().map(|(_, lost)| *lost + times.takeover_after);
        let turns = takeovers.chain(self.returns.values().copied());
        links.chain(restless).chain(turns).chain(kept.then(|| self.collected + COLLECT_INTERVAL)).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tend_links(now);
        self.take_over(now);
        if now.since(self.collected) >= COLLECT_INTERVAL {
            self.collected = now;
            self.drop_old_directories(now);
            self.identifiers.collect(seconds(now));
        }
    }

    /// A node of this cluster is connected to the gateway's node.
    pub fn node_up(&mut self, node: &NodeName) {
        self.nodes.insert(Atom::from(node));
    }

    /// Cuts a cluster off until it is allowed again: its links are closed, and none is let in.
    pub fn cut(&mut self, now: Instant, cluster: &ClusterName) {
        self.cut.insert(cluster.clone());
        let links: Vec<LinkId> =
            self.peers.iter().filter(|peer| peer.cluster == *cluster).filter_map(|peer| peer.link).collect();
        for link in links {
            self.close(now, link, CloseReason::Cut);
        }
    }

    /// Lets a cluster in again that was cut off. False if it was not.
    pub fn allow(&mut self, cluster: &ClusterName) -> bool {
        self.cut.remove(cluster)
    }

    /// Ends all links.
    pub fn shutdown(&mut self, now: Instant) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.close(now, link, CloseReason::Shutdown);
        }
    }

    fn peer(&self, peer: PeerId) -> &Peer {
        &self.peers[peer.index()]
    }

    fn peer_mut(&mut self, peer: PeerId) -> &mut Peer {
        &mut self.peers[peer.index()]
    }

    /// Counts what did not cross, and says so now and then.
    fn refuse(&mut self, now: Instant, peer: PeerId, refusal: Refusal) {
        let peer = self.peer_mut(peer);
        let count = peer.refusals.count(refusal);
        if peer.told.is_none_or(|told| now.since(told) >= SAMPLE_INTERVAL) {
            peer.told = Some(now);
            let cluster = peer.cluster.clone();
            self.outputs.push_back(Output::Notice(Notice::Refused { cluster, refusal, count }));
        }
    }

    /// Tells the driver that a link has something to write.
    fn wake(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link).filter(|link| !link.woken) {
            state.woken = true;
            self.outputs.push_back(Output::Transmit(link));
        }
    }
}

/// The time as the tables have it.
fn seconds(now: Instant) -> u32 {
    u32::try_from(now.since_origin().as_secs()).unwrap_or(u32::MAX)
}
