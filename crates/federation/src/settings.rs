//! Who this gateway is, what it lets out, and its bounds.

use std::time::Duration;

use metacluster_types::{AgentId, ClusterName, NodeName, Pattern, Place};

/// Which groups the clusters of a rule may see. Without a rule, nothing crosses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRule {
    /// The clusters, by name; that of a cluster is for all of its cells.
    pub to: Vec<Pattern>,
    /// The `pg` scope.
    pub scope: String,
    /// The groups: an atom or a text by itself, a tuple by its first element.
    pub groups: Vec<Pattern>,
}

/// Times of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A sign of life goes out when nothing was written for so long. Default 500 ms.
    pub ping_after: Duration,
    /// A link that brought nothing for so long is dead, and so is one whose gateway does not answer for so long that it asks
    /// no more. Default 2.5 s.
    pub dead_after: Duration,
    /// A link that has not said who it is by then is closed. Default 5 s.
    pub hello_within: Duration,
    /// How long what another gateway had sent, or its loss, may take to be known to the nodes, before one takes its place.
    /// Default 250 ms.
    pub takeover_after: Duration,
    /// How long a gateway that comes before the one that is asked must have been linked before it is asked in its place.
    /// Longer than [`Times::dead_after`], so that it was heard both ways. Default 5 s.
    pub settled_after: Duration,
    /// How long a pid or a port that was handed out in a message stays usable without being used. Default 1 h.
    pub identifier_idle: Duration,
    /// How long a reference does, when no monitor holds it. Default 60 s.
    pub reference_idle: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_millis(500),
            dead_after: Duration::from_millis(2_500),
            hello_within: Duration::from_secs(5),
            takeover_after: Duration::from_millis(250),
            settled_after: Duration::from_secs(5),
            identifier_idle: Duration::from_secs(3_600),
            reference_idle: Duration::from_secs(60),
        }
    }
}

/// Bounds, each with what happens when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pids, ports and references of each kind that are known of other clusters, and as many of this one that are handed
    /// out. Past it the one that was idle longest goes; if none is idle, the message is refused. Default 1,048,576.
    pub identifiers_max: usize,
    /// Of those, what one gateway may bring: past it, as above. Default 524,288.
    pub identifiers_of_peer_max: usize,
    /// Names of nodes. Past it messages that name another are refused. Default 65,536.
    pub names_max: usize,
    /// Monitors and links across, each. Past it they fire at once with `noconnection`. Default 262,144.
    pub watches_max: usize,
    /// Bytes that wait in one lane of a link. Past it messages of that lane are refused; one of any size fits an empty
    /// lane. Signals, and what the link itself has to say, may go to four times as much before the link ends. Default 4 MiB.
    pub lane_bytes_max: usize,
    /// The largest message. A larger one is refused where it starts and ends the link where it arrives. Default 64 MiB.
    pub message_bytes_max: usize,
    /// Group members that one gateway may announce. Past it they are not published. Default 262,144.
    pub members_of_peer_max: usize,
    /// Messages a second that one gateway may bring, with a second's worth at once. Default: no limit.
    pub messages_per_second: Option<u32>,
    /// Bytes a second that one gateway may bring, with a second's worth at once. Default: no limit.
    pub bytes_per_second: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            identifiers_max: 1 << 20,
            identifiers_of_peer_max: 1 << 19,
            names_max: 1 << 16,
            watches_max: 1 << 18,
            lane_bytes_max: 4 << 20,
            message_bytes_max: 64 << 20,
            members_of_peer_max: 1 << 18,
            messages_per_second: None,
            bytes_per_second: None,
        }
    }
}

/// All that the machine is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster that this gateway is of.
    pub cluster: ClusterName,
    /// The gateway's id, kept over restarts.
    pub gateway: AgentId,
    /// This life of the gateway, greater than all before.
    pub epoch: u64,
    /// The gateway's own node, whose pids stand for far processes.
    pub node: NodeName,
    /// Where the gateway is, for who looks for a member that is near.
    pub place: Place,
    /// The creation of that node.
    pub creation: u32,
    /// The last word of the references that stand for far ones; no other reference of the node ends in it.
    pub reference_mark: u32,
    /// What is let out.
    pub exports: Vec<ExportRule>,
    /// Whether compression is offered.
    pub compress: bool,
    /// Times.
    pub times: Times,
    /// Bounds.
    pub limits: Limits,
}
