//! What a gateway says of itself, in the shape of its JSON.

use std::collections::BTreeMap;

use metacluster_federation::{Refusals, Squeezed, Status};
use metacluster_types::{ClusterName, NodeName, Place};
use serde::{Deserialize, Serialize};

use crate::view::VERSION;

/// The answer of `GET /v1/federation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The gateways of others that were met, by cluster.
    pub gateways: Vec<GatewayView>,
    /// Clusters that an operator cut off.
    pub cut: Vec<ClusterName>,
    /// Groups of this cluster that a rule lets out.
    pub exported_groups: usize,
    /// Pids, ports and references of others that are known.
    pub identifiers: usize,
    /// Monitors and links across.
    pub watches: usize,
    /// What was dropped within this cluster, by kind: to processes that no one can use any more, and to nodes that do not
    /// read or are gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
}

/// One gateway of another cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayView {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its node.
    pub node: NodeName,
    /// Its zone and region, as far as it says.
    #[serde(flatten)]
    pub place: Place,
    /// How many microseconds a ping takes there and back, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Whether the link is up.
    pub linked: bool,
    /// Whether its groups are published here; of several gateways of a cluster one is asked for them, the others stand
    /// by.
    #[serde(default)]
    pub publishing: bool,
    /// For how many whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked_seconds: Option<u64>,
    /// Groups that it announces.
    pub groups: usize,
    /// Their members.
    pub members: usize,
    /// Signals and bytes that went out and came in.
    pub signals_out: u64,
    /// See `signals_out`.
    pub signals_in: u64,
    /// See `signals_out`.
    pub bytes_out: u64,
    /// See `signals_out`.
    pub bytes_in: u64,
    /// Whether the link is compressed, because both ends want it.
    #[serde(default)]
    pub compressed: bool,
    /// What went out and came in compressed, where something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_out: Option<CompressedView>,
    /// See `compressed_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_in: Option<CompressedView>,
    /// Bytes that wait to be written.
    pub waiting_bytes: usize,
    /// What did not cross, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

/// Bytes before and after compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedView {
    /// Before.
    pub plain_bytes: u64,
    /// After: this is what crossed.
    pub compressed_bytes: u64,
}

fn compressed(squeezed: Squeezed) -> Option<CompressedView> {
    let Squeezed { plain_bytes, squeezed_bytes } = squeezed;
    (plain_bytes > 0).then_some(CompressedView { plain_bytes, compressed_bytes: squeezed_bytes })
}

fn named(refusals: &Refusals) -> BTreeMap<String, u64> {
    refusals.iter().map(|(kind, count)| (kind.as_str().to_owned(), count)).collect()
}

pub(super) fn answer(status: &Status) -> FederationAnswer {
    let gateway = |gateway: &metacluster_federation::GatewayStatus| GatewayView {
        cluster: gateway.cluster.clone(),
        node: gateway.node.clone(),
        place: gateway.place.clone(),
        round_trip_us: gateway.round_trip.and_then(|time| u64::try_from(time.as_micros()).ok()),
        linked: gateway.up.is_some(),
        publishing: gateway.asked,
        linked_seconds: gateway.up.map(|up| up.as_secs()),
        groups: gateway.groups,
        members: gateway.members,
        signals_out: gateway.traffic.signals_out,
        signals_in: gateway.traffic.signals_in,
        bytes_out: gateway.traffic.bytes_out,
        bytes_in: gateway.traffic.bytes_in,
        compressed: gateway.squeezes,
        compressed_out: compressed(gateway.traffic.squeezed_out),
        compressed_in: compressed(gateway.traffic.squeezed_in),
        waiting_bytes: gateway.waiting_bytes,
        refused: named(&gateway.refusals),
    };
    FederationAnswer {
        version: VERSION,
        gateways: status.gateways.iter().map(gateway).collect(),
        cut: status.cut.clone(),
        exported_groups: status.exported_groups,
        identifiers: status.sizes.far,
        watches: status.sizes.watches,
        dropped: named(&status.refused_here),
    }
}
