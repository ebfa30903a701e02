//! What a gateway says of itself.

use std::time::Duration;

use metacluster_erl_wire::{Pid, rewrite::PidView};
use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Place};

use crate::{
    Federation, Traffic,
    identifiers::Local,
    refusal::{Refusal, Refusals},
};

/// See [`Federation::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The gateways that were met, in the order of their clusters.
    pub gateways: Vec<GatewayStatus>,
    /// Clusters that are cut off.
    pub cut: Vec<ClusterName>,
    /// Groups of this cluster that some rule lets out.
    pub exported_groups: usize,
    /// How much is kept.
    pub sizes: Sizes,
    /// What was dropped within this cluster.
    pub refused_here: Refusals,
}

/// A far gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its id.
    pub gateway: AgentId,
    /// Its node.
    pub node: NodeName,
    /// Where it is, as far as it says.
    pub place: Place,
    /// How long a ping takes there and back, once that is known.
    pub round_trip: Option<Duration>,
    /// For how long the link is up; `None` when it is not.
    pub up: Option<Duration>,
    /// Whether the link is compressed, because both ends want it.
    pub squeezes: bool,
    /// Whether what it announces is published here; of several gateways of a cluster one is asked.
    pub asked: bool,
    /// Groups and members that it announces.
    pub groups: usize,
    /// See `groups`.
    pub members: usize,
    /// What crossed.
    pub traffic: Traffic,
    /// What did not.
    pub refusals: Refusals,
    /// Bytes that wait to be written.
    pub waiting_bytes: usize,
}

/// How much a gateway keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Identifiers of others.
    pub far: usize,
    /// Identifiers of this cluster that were handed out.
    pub own: usize,
    /// Names of nodes.
    pub names: usize,
    /// Monitors and links across.
    pub watches: usize,
}

impl Federation {
    /// What is so now.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let mut gateways: Vec<GatewayStatus> = self
            .peers
            .iter()
            .map(|peer| GatewayStatus {
                cluster: peer.cluster.clone(),
                gateway: peer.gateway,
                node: peer.node.clone(),
                place: peer.place.clone(),
                round_trip: peer.round_trip,
                up: peer.link.map(|_| now.since(peer.since)),
                squeezes: peer.link.is_some_and(|link| self.squeezes(link)),
                asked: peer.asked,
                groups: peer.directory.groups.len(),
                members: peer.directory.members,
                traffic: peer.traffic,
                refusals: peer.refusals.clone(),
                waiting_bytes: peer.link.and_then(|link| self.links.get(&link)).map_or(0, |link| link.lanes.bytes()),
            })
            .collect();
        gateways.sort_by(|one, other| (&one.cluster, one.gateway).cmp(&(&other.cluster, other.gateway)));
        let exported_groups = self.exports.groups.len();
        let (cut, sizes, refused_here) = (self.cut.iter().cloned().collect(), self.sizes(), self.refusals.clone());
        Status { gateways, cut, exported_groups, sizes, refused_here }
    }

    /// What a pid of the gateway's node stands for, in its home form: `west/shop@web1` in the place of the node.
    #[must_use]
    pub fn home_of(&self, pid: &Pid) -> Option<Pid> {
        match self.identifiers.local_pid(&PidView::from(pid)) {
            Local::Proxy(slot) => Some(self.identifiers.home_pid(&self.identifiers.far.pids.at(slot)?.key)),
            Local::Own | Local::Dead => None,
        }
    }

    /// Whether there is a link to this gateway.
    #[must_use]
    pub fn is_linked(&self, cluster: &ClusterName, gateway: AgentId) -> bool {
        self.peers.iter().any(|peer| peer.link.is_some() && peer.gateway == gateway && peer.cluster == *cluster)
    }

    /// How much is kept.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let (far, own) = (&self.identifiers.far, &self.identifiers.own);
        let watches = &self.watches;
        Sizes {
            far: far.pids.len() + far.ports.len() + far.references.len(),
            own: own.pids.len() + own.ports.len() + own.references.len(),
            names: self.identifiers.names.len(),
            watches: watches.outward.len() + watches.inward.len() + watches.links.len() + watches.between.len(),
        }
    }

    /// The driver could not give a message to a node; how often this kind was, then.
    pub fn dropped(&mut self, refusal: Refusal) -> u64 {
        self.refusals.count(refusal)
    }

    /// Messages that were dropped within this cluster, such as to processes that no one can use any more.
    #[must_use]
    pub fn refused_here(&self) -> &Refusals {
        &self.refusals
    }
}
