//! Which node is in which cell: clusters that are kept small on purpose.
//!
//! A pure function of who is there: every agent that knows the same nodes comes to the same cells. Nodes are divided by
//! what the rules say (zone, a tag, or nothing), and each part into as few cells as [`Rules::nodes_max`] allows. Within a
//! part every node has an order of cells by rendezvous hashing and goes to the first that has room, so the cells are of
//! equal size and a node that comes or goes moves few others. No cell is smaller than [`Rules::nodes_min`] as long as its
//! part is not: fewer cells are made then, and that bound goes before the other one.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use metacluster_types::{NodeName, Tags, Zone};

use crate::directory::hash;

/// What divides nodes into parts that are never mixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Their zone; those of none are a part of their own.
    Zone,
    /// The value of this tag; those without it are a part of their own.
    Tag(String),
    /// Nothing: zones are mixed.
    Size,
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "zone" => Ok(Self::Zone),
            None if text == "size" => Ok(Self::Size),
            Some(("tag", tag)) if !tag.is_empty() => Ok(Self::Tag(tag.to_owned())),
            Some(_) | None => Err("expected `zone`, `size` or `tag:NAME`".to_owned()),
        }
    }
}

/// How cells are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What divides nodes.
    pub by: By,
    /// The most nodes of a cell; at least 1.
    pub nodes_max: usize,
    /// The fewest nodes of a cell whose part has as many.
    pub nodes_min: usize,
}

/// A node, as far as cells go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its name.
    pub node: NodeName,
    /// Its zone.
    pub zone: Option<Zone>,
    /// The tags of its host.
    pub tags: Tags,
}

/// The cells and who is in each. A node that is there twice counts once.
#[must_use]
pub fn assign(nodes: &[Placed], rules: &Rules) -> BTreeMap<String, BTreeSet<NodeName>> {
    let mut parts: BTreeMap<&str, BTreeSet<&NodeName>> = BTreeMap::new();
    for placed in nodes {
        let part = match &rules.by {
            By::Zone => placed.zone.as_ref().map_or("none", Zone::as_str),
            By::Tag(tag) => placed.tags.get(tag).map_or("none", String::as_str),
            By::Size => "cell",
        };
        parts.entry(part).or_default().insert(&placed.node);
    }
    parts.into_iter().flat_map(|(part, nodes)| divide(part, &nodes, rules)).collect()
}

/// Divides the nodes of a part.
fn divide(part: &str, nodes: &BTreeSet<&NodeName>, rules: &Rules) -> BTreeMap<String, BTreeSet<NodeName>> {
    let wanted = nodes.len().div_ceil(rules.nodes_max.max(1));
    let count = wanted.min(nodes.len() / rules.nodes_min.max(1)).max(1);
    let names: Vec<String> = (1..=count).map(|number| format!("{part}-{number}")).collect();
    let (each, more) = (nodes.len() / count, nodes.len() % count);
    let mut cells: Vec<BTreeSet<NodeName>> = vec![BTreeSet::new(); count];
    // In an order that says nothing of names, so that no cell fills up with those that come first.
    let mut nodes: Vec<&NodeName> = nodes.iter().copied().collect();
    nodes.sort_by_key(|node| (hash(&[node.as_str().as_bytes()]), *node));
    for node in nodes {
        let liking = |cell: usize| hash(&[node.as_str().as_bytes(), names[cell].as_bytes()]);
        let room = |cell: &usize| cells[*cell].len() < each + usize::from(*cell < more);
        // There are as many places as nodes.
        if let Some(best) = (0..count).filter(room).max_by_key(|cell| (liking(*cell), *cell)) {
            cells[best].insert(node.clone());
        }
    }
    names.into_iter().zip(cells).collect()
}

/// Connections between so many nodes that are a mesh.
#[must_use]
pub fn connections(nodes: usize) -> usize {
    nodes * nodes.saturating_sub(1) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(zone: usize, number: usize) -> Placed {
        let node = NodeName::new(&format!("shop@10.{zone}.0.{number}")).expect("a name");
        let tags = Tags::from([("rack".to_owned(), format!("r{}", number % 3))]);
        Placed { node, zone: Zone::new(&format!("z{zone}")).ok(), tags }
    }

    fn cell_of(cells: &BTreeMap<String, BTreeSet<NodeName>>) -> BTreeMap<&NodeName, &str> {
        cells.iter().flat_map(|(cell, nodes)| nodes.iter().map(move |node| (node, cell.as_str()))).collect()
    }

    fn rules(by: By) -> Rules {
        Rules { by, nodes_max: 50, nodes_min: 10 }
    }

    #[test]
    fn zones_and_tags_are_kept_apart() {
        let nodes: Vec<Placed> = (0..3).flat_map(|zone| (0..70).map(move |number| placed(zone, number))).collect();
        let cells = assign(&nodes, &rules(By::Zone));
        assert_eq!(cells.keys().collect::<Vec<_>>(), ["z0-1", "z0-2", "z1-1", "z1-2", "z2-1", "z2-2"]);
        for (name, nodes) in &cells {
            assert_eq!(nodes.len(), 35);
            assert!(nodes.iter().all(|node| node.host().starts_with(&format!("10.{}.", &name[1..2]))));
        }
        let racks = assign(&nodes, &rules(By::Tag("rack".to_owned())));
        assert!(racks.keys().all(|name| name.starts_with('r')) && racks.values().all(|nodes| nodes.len() <= 50));
        assert_eq!(assign(&nodes, &rules(By::Tag("none".to_owned()))).values().map(BTreeSet::len).sum::<usize>(), 210);
    }

    #[test]
    fn a_node_that_comes_moves_few_others() {
        let all: Vec<Placed> = (0..240).map(|number| placed(0, number)).collect();
        let (mut moved, mut rounds) = (0, 0);
        for count in 201..240 {
            let (before, after) = (assign(&all[..count], &rules(By::Size)), assign(&all[..=count], &rules(By::Size)));
            assert_eq!(before.len(), after.len());
            let (before, after) = (cell_of(&before), cell_of(&after));
            moved += before.iter().filter(|(node, cell)| after[**node] != **cell).count();
            rounds += 1;
        }
        // Five cells; a node that finds its place taken may take that of another.
        assert!(moved <= rounds * 15, "{moved} moves in {rounds} rounds");
    }

    #[test]
    fn words_for_rules_are_read() {
        assert_eq!("zone".parse(), Ok(By::Zone));
        assert_eq!("tag:rack".parse(), Ok(By::Tag("rack".to_owned())));
        assert!("tag:".parse::<By>().is_err() && "zones".parse::<By>().is_err());
        assert_eq!((connections(0), connections(1), connections(50)), (0, 0, 1_225));
    }

    proptest! {
        #[test]
        fn every_node_has_one_cell_whatever_the_order(
            mut nodes in prop::collection::vec((0_usize..4, 0_usize..200), 0..250),
            nodes_max in 1_usize..60,
            nodes_min in 0_usize..60,
        ) {
            let rules = Rules { by: By::Zone, nodes_max, nodes_min };
            let list = |nodes: &[(usize, usize)]| nodes.iter().map(|&(zone, node)| placed(zone, node)).collect::<Vec<_>>();
            let cells = assign(&list(&nodes), &rules);
            nodes.reverse();
            prop_assert_eq!(&cells, &assign(&list(&nodes), &rules));
            let distinct: BTreeSet<_> = nodes.iter().collect();
            prop_assert_eq!(cells.values().map(BTreeSet::len).sum::<usize>(), distinct.len());
            let of_zone = |zone: usize| distinct.iter().filter(|(of, _)| *of == zone).count();
            for (name, cell) in &cells {
                let zone = name[1..2].parse::<usize>().expect("its zone");
                // The floor goes first where both cannot hold.
                let fits = nodes_min * 2 <= nodes_max.max(1);
                prop_assert!(cell.len() <= nodes_max || !fits, "{} in {}", cell.len(), name);
                prop_assert!(cell.len() >= nodes_min.min(of_zone(zone)), "{} in {}", cell.len(), name);
            }
        }
    }
}
