//! The picture of a cluster: zones, the nodes in them, and the links that are known. From the nodes of one agent, or of
//! several agents that look at the same cluster.
//!
//! An agent knows all links of the nodes of its own host and none between two nodes elsewhere. A pair is therefore
//! linked, not linked, or unknown; only pairs with a node of an asked agent's host are ever called not linked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use metacluster_agent::view::{NodeState, NodeView};
use metacluster_types::NodeName;
use serde::Serialize;

use crate::{
    output::{Paint, clean},
    table::Tone,
};

/// What a node without a zone is listed under.
const NO_ZONE: &str = "no zone";
/// The most missing links that the text lists one by one.
const MISSING_LISTED_MAX: usize = 20;

/// Zones, nodes and links, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Picture {
    /// The shape of this answer.
    version: u32,
    /// The clusters that the nodes belong to, as one text.
    pub(crate) cluster: String,
    /// The zones.
    pub(crate) zones: Vec<ZoneGroup>,
    /// The links that are up, each once, the lesser name first.
    pub(crate) links: BTreeSet<(NodeName, NodeName)>,
    /// The pairs of nodes that are up and, as one of them says, not linked.
    pub(crate) unlinked: BTreeSet<(NodeName, NodeName)>,
}

/// A zone and its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ZoneGroup {
    /// Its name; `None` when the zone of its nodes is not known.
    pub(crate) zone: Option<String>,
    /// Its nodes.
    pub(crate) nodes: Vec<Member>,
}

impl ZoneGroup {
    /// What stands over the zone.
    pub(crate) fn title(&self) -> &str {
        self.zone.as_deref().unwrap_or(NO_ZONE)
    }
}

/// A node in the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: NodeName,
    /// Whether it is reachable.
    pub(crate) state: NodeState,
    /// Whether an asked agent looks after it, and so knows all its links.
    pub(crate) local: bool,
    /// How many nodes of the picture it is known to be linked to.
    pub(crate) links: usize,
}

impl Picture {
    /// Draws the picture up. The same node may come several times; what its own host says of it counts.
    pub(crate) fn of<'a>(nodes: impl IntoIterator<Item = &'a NodeView>) -> Self {
        let mut views: BTreeMap<&NodeName, &NodeView> = BTreeMap::new();
        let mut links = BTreeSet::new();
        for node in nodes {
            if node.state == NodeState::Up {
                links.extend(node.connected.iter().map(|peer| pair(&node.name, peer)));
            }
            let known = views.entry(&node.name).or_insert(node);
            if node.local && !known.local {
                *known = node;
            }
        }
        let is_up = |name: &NodeName| views.get(name).is_some_and(|node| node.state == NodeState::Up);
        links.retain(|(a, b)| a != b && is_up(a) && is_up(b));
        let mut unlinked = BTreeSet::new();
        let mut degree: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for (a, b) in &links {
            *degree.entry(a).or_default() += 1;
            *degree.entry(b).or_default() += 1;
        }
        let up: Vec<&NodeView> = views.values().copied().filter(|node| node.state == NodeState::Up).collect();
        for (index, a) in up.iter().enumerate() {
            for b in &up[index + 1..] {
                let both = pair(&a.name, &b.name);
                if (a.local || b.local) && a.cluster == b.cluster && !links.contains(&both) {
                    unlinked.insert(both);
                }
            }
        }
        let mut zones: BTreeMap<Option<String>, Vec<Member>> = BTreeMap::new();
        let mut clusters = BTreeSet::new();
        for node in views.values() {
            clusters.insert(node.cluster.as_str());
            zones.entry(node.zone.as_ref().map(ToString::to_string)).or_default().push(Member {
                name: node.name.clone(),
                state: node.state,
                local: node.local,
                links: degree.get(&node.name).copied().unwrap_or(0),
            });
        }
        // Nodes of an unknown zone stand last.
        let mut zones: Vec<ZoneGroup> = zones.into_iter().map(|(zone, nodes)| ZoneGroup { zone, nodes }).collect();
        zones.sort_by_key(|group| group.zone.is_none());
        Self {
            version: metacluster_agent::view::VERSION,
            cluster: clusters.into_iter().collect::<Vec<_>>().join(", "),
            zones,
            links,
            unlinked,
        }
    }

    /// Every node, in the order of the picture.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.zones.iter().flat_map(|zone| &zone.nodes)
    }

    /// How many nodes are up, and how many there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.members().filter(|node| node.state == NodeState::Up).count(), self.members().count())
    }

    /// The picture as lines of text.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let (up, all) = self.counts();
        if all == 0 {
            return "no nodes are known\n".to_owned();
        }
        let mut text = String::new();
        let known = self.links.len() + self.unlinked.len();
        let head = paint.bold(&clean(&self.cluster));
        let zones = self.zones.len();
        line(
            &mut text,
            &format!(
                "{head}: {up} of {} up in {}, {} of {} known",
                count(all, "node"),
                count(zones, "zone"),
                self.links.len(),
                count(known, "link")
            ),
        );
        let longest = self.members().map(|node| node.name.as_str().chars().count()).max().unwrap_or(0);
        for zone in &self.zones {
            line(&mut text, "");
            line(&mut text, &paint.bold(&clean(zone.title())));
            for (index, node) in zone.nodes.iter().enumerate() {
                let branch = if index + 1 == zone.nodes.len() { "└─" } else { "├─" };
                let state = match node.state {
                    NodeState::Up if node.local && node.links + 1 < up => Tone::Doubtful,
                    NodeState::Up => Tone::Good,
                    NodeState::Down => Tone::Bad,
                };
                let mark = match node.state {
                    NodeState::Up => "●",
                    NodeState::Down => "○",
                };
                let says = match node.state {
                    NodeState::Up if node.local => format!("{} of {}", node.links, count(up - 1, "link")),
                    NodeState::Up => format!("{} seen from here", count(node.links, "link")),
                    NodeState::Down => "down".to_owned(),
                };
                let name = node.name.as_str();
                line(
                    &mut text,
                    &format!("{branch} {} {name:longest$}  {}", state.apply(paint, mark), paint.dim(&says)),
                );
            }
        }
        self.render_zones(&mut text, paint);
        self.render_unlinked(&mut text, paint);
        text
    }

    /// How many links there are between any two zones, of how many that are known.
    fn render_zones(&self, text: &mut String, paint: Paint) {
        let zone_of: BTreeMap<&NodeName, &str> =
            self.zones.iter().flat_map(|zone| zone.nodes.iter().map(|node| (&node.name, zone.title()))).collect();
        let mut between: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        let linked = self.links.iter().map(|pair| (pair, 1));
        for ((a, b), is_linked) in linked.chain(self.unlinked.iter().map(|pair| (pair, 0))) {
            if let (Some(&a), Some(&b)) = (zone_of.get(a), zone_of.get(b)) {
                let entry = between.entry((a.min(b), a.max(b))).or_default();
                entry.0 += is_linked;
                entry.1 += 1;
            }
        }
        between.retain(|(a, b), _| a != b);
        if between.is_empty() {
            return;
        }
        line(text, "");
        for ((a, b), (up, known)) in between {
            let tone = if up == known { Tone::Good } else { Tone::Doubtful };
            let links = tone.apply(paint, &format!("{up} of {}", count(known, "link")));
            line(text, &format!("{} ── {}  {links}", clean(a), clean(b)));
        }
    }

    fn render_unlinked(&self, text: &mut String, paint: Paint) {
        if self.unlinked.is_empty() {
            return;
        }
        line(text, "");
        for (a, b) in self.unlinked.iter().take(MISSING_LISTED_MAX) {
            line(text, &format!("{} {a} and {b} are not linked", paint.yellow("!")));
        }
        let more = self.unlinked.len().saturating_sub(MISSING_LISTED_MAX);
        if more > 0 {
            line(text, &format!("… and {more} more pairs are not linked"));
        }
    }
}

/// Both names, the lesser first.
fn pair(a: &NodeName, b: &NodeName) -> (NodeName, NodeName) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

/// `1 link`, `2 links`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "{content}").expect("a text takes all that is written to it");
}

#[cfg(test)]
pub(crate) mod tests {
    use metacluster_agent::view::NodeKind;
    use metacluster_types::{ClusterName, Zone};

    use super::*;

    pub(crate) fn node(name: &str, zone: &str, up: bool, local: bool, connected: &[&str]) -> NodeView {
        let name = NodeName::new(name).expect("valid");
        NodeView {
            kind: NodeKind::Beam,
            host: name.host().to_owned(),
            name,
            cluster: ClusterName::new("main").expect("valid"),
            zone: (!zone.is_empty()).then(|| Zone::new(zone).expect("valid")),
            region: None,
            state: if up { NodeState::Up } else { NodeState::Down },
            connected: connected.iter().map(|name| NodeName::new(name).expect("valid")).collect(),
            otp: None,
            local,
            since: None,
            error: None,
        }
    }

    #[test]
    fn only_a_pair_with_a_node_of_this_host_is_called_unlinked() {
        let nodes = [
            node("a@h", "east", true, true, &["b@h"]),
            node("b@h", "west", true, false, &["a@h"]),
            node("c@h", "", true, false, &[]),
            node("d@h", "west", false, false, &["a@h"]),
        ];
        let picture = Picture::of(&nodes);
        let links: Vec<String> = picture.links.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        let unlinked: Vec<String> = picture.unlinked.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        assert_eq!((links.join(" "), unlinked.join(" ")), ("a@h-b@h".to_owned(), "a@h-c@h".to_owned()));
        assert_eq!(picture.counts(), (3, 4));
        let titles: Vec<&str> = picture.zones.iter().map(ZoneGroup::title).collect();
        assert_eq!(titles, ["east", "west", "no zone"]);
    }

    #[test]
    fn what_the_host_of_a_node_says_counts() {
        let nodes = [
            node("a@h", "", true, false, &[]),
            node("a@h", "east", true, true, &["b@h"]),
            node("b@h", "west", true, true, &["a@h"]),
        ];
        let picture = Picture::of(&nodes);
        assert!(picture.unlinked.is_empty());
        assert_eq!(picture.zones.len(), 2);
    }

    #[test]
    fn the_text_tells_zones_nodes_and_links() {
        let nodes = [
            node("a1@h", "east", true, true, &["b1@h"]),
            node("a2@h", "east", true, true, &[]),
            node("b1@h", "west", true, false, &["a1@h"]),
            node("b2@h", "west", false, false, &[]),
        ];
        assert_eq!(
            Picture::of(&nodes).render(Paint::PLAIN),
            "main: 3 of 4 nodes up in 2 zones, 1 of 3 links known\n\
             \n\
             east\n├─ ● a1@h  1 of 2 links\n└─ ● a2@h  0 of 2 links\n\
             \n\
             west\n├─ ● b1@h  1 link seen from here\n└─ ○ b2@h  down\n\
             \n\
             east ── west  1 of 2 links\n\
             \n\
             ! a1@h and a2@h are not linked\n! a2@h and b1@h are not linked\n"
        );
    }

    #[test]
    fn a_cluster_without_nodes_says_so() {
        assert_eq!(Picture::of([]).render(Paint::PLAIN), "no nodes are known\n");
    }
}
