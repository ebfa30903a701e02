//! Which host is in which cell: clusters that are kept small on purpose.
//!
//! A pure function of who is there: every agent that knows the same hosts comes to the same cells. A host is placed as a
//! whole, so that its gateway speaks for one cell. Hosts are divided by what the rules say (zone, a tag, or nothing), and
//! each part into as few cells as [`Rules::nodes_max`] allows. Within a part every host has an order of cells by
//! rendezvous hashing and goes to the first that has room, so one that comes or goes moves few others. No cell has fewer
//! than [`Rules::nodes_min`] nodes as long as its part has as many: fewer cells are made then, and that bound goes before
//! the other one. Where hosts have several nodes each, both bounds may be missed by those of one host.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use metacluster_types::{AgentId, CellName, ClusterName, NameError, NodeName, Tags, Zone};

use crate::directory::hash;

/// What divides hosts into parts that are never mixed.
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

/// What stands between the name of a cluster and that of a cell; no cluster's own name has it.
pub const SEPARATOR: char = ':';
/// The longest part of a cell's name that comes from a zone or a tag.
const PART_CHARACTERS_MAX: usize = 200;

/// A host, as far as cells go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its agent.
    pub agent: AgentId,
    /// Its nodes, as far as their names are known.
    pub nodes: BTreeSet<NodeName>,
    /// How many nodes it has; one that has none yet counts as one that has one.
    pub nodes_total: usize,
    /// Its zone.
    pub zone: Option<Zone>,
    /// Its tags.
    pub tags: Tags,
}

impl Placed {
    fn weight(&self) -> usize {
        self.nodes_total.max(self.nodes.len()).max(1)
    }
}

/// The cells and the hosts in each. A host that is there twice counts once.
#[must_use]
pub fn assign(hosts: &[Placed], rules: &Rules) -> BTreeMap<CellName, BTreeSet<AgentId>> {
    let mut parts: BTreeMap<String, BTreeMap<AgentId, usize>> = BTreeMap::new();
    for placed in hosts {
        let part = match &rules.by {
            By::Zone => placed.zone.as_ref().map_or("none", Zone::as_str),
            By::Tag(tag) => placed.tags.get(tag).map_or("none", String::as_str),
            By::Size => "cell",
        };
        let part = part.chars().filter(|c| !c.is_control()).take(PART_CHARACTERS_MAX).collect();
        parts.entry(part).or_default().insert(placed.agent, placed.weight());
    }
    parts.into_iter().flat_map(|(part, hosts)| divide(&part, &hosts, rules)).collect()
}

/// Divides the hosts of a part.
fn divide(part: &str, hosts: &BTreeMap<AgentId, usize>, rules: &Rules) -> BTreeMap<CellName, BTreeSet<AgentId>> {
    let total: usize = hosts.values().sum();
    let floor = rules.nodes_min.max(1);
    let wanted = total.div_ceil(rules.nodes_max.max(1));
    let count = wanted.min(total / floor).max(1);
    let names: Vec<String> = (1..=count).map(|number| format!("{part}-{number}")).collect();
    let room = capacities(total, count, rules);
    let mut cells = vec![(0_usize, BTreeSet::new()); count];
    // In an order that says nothing of ids, so that no cell fills up with those that come first.
    let mut order: Vec<(AgentId, usize)> = hosts.iter().map(|(&agent, &weight)| (agent, weight)).collect();
    order.sort_by_key(|(agent, _)| (hash(&[&agent.0.to_be_bytes()]), *agent));
    for (agent, weight) in order {
        let liking = |cell: usize| hash(&[&agent.0.to_be_bytes(), names[cell].as_bytes()]);
        let fits = |cell: &usize| cells[*cell].0 + weight <= room[*cell];
        let best = (0..count).filter(fits).max_by_key(|cell| (liking(*cell), *cell));
        // Hosts with several nodes may fit nowhere.
        let best = best.or_else(|| (0..count).min_by_key(|cell| (cells[*cell].0, *cell))).unwrap_or_default();
        cells[best].0 += weight;
        cells[best].1.insert(agent);
    }
    let named = names.into_iter().filter_map(|name| CellName::new(&name).ok());
    named.zip(cells.into_iter().map(|(_, agents)| agents)).collect()
}

/// How many nodes each cell takes: as many as one may have, so that few move when one comes, unless so few were left for
/// the last one that it were below the floor.
fn capacities(total: usize, count: usize, rules: &Rules) -> Vec<usize> {
    let even = total.div_ceil(count);
    let for_others = total.saturating_sub(rules.nodes_min.max(1)) / (count - 1).max(1);
    let most = if count == 1 { total } else { rules.nodes_max.min(for_others) };
    if most >= even {
        return vec![most; count];
    }
    let (each, more) = (total / count, total % count);
    (0..count).map(|cell| each + usize::from(cell < more)).collect()
}

/// What a cell of a cluster is called among clusters.
///
/// # Errors
/// When that is too long for a name.
pub fn cluster_of_cell(cluster: &ClusterName, cell: &CellName) -> Result<ClusterName, NameError> {
    ClusterName::new(&format!("{cluster}{SEPARATOR}{cell}"))
}

/// The cluster of which this is a cell, if it is one.
#[must_use]
pub fn parent(cluster: &ClusterName) -> Option<&str> {
    cluster.as_str().split_once(SEPARATOR).map(|(parent, _)| parent)
}

/// Where a host stands among those of its cell that can be its gateways: the first ones are.
#[must_use]
pub fn gateway_rank(cell: &CellName, agent: AgentId) -> (u64, AgentId) {
    (hash(&[b"gateway", cell.as_str().as_bytes(), &agent.0.to_be_bytes()]), agent)
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
        let agent = AgentId((zone as u128) << 64 | number as u128);
        Placed { agent, nodes: [node].into(), nodes_total: 1, zone: Zone::new(&format!("z{zone}")).ok(), tags }
    }

    fn zone_of(agent: &AgentId) -> usize {
        (agent.0 >> 64) as usize
    }

    fn names(cells: &BTreeMap<CellName, BTreeSet<AgentId>>) -> Vec<&str> {
        cells.keys().map(CellName::as_str).collect()
    }

    fn cell_of(cells: &BTreeMap<CellName, BTreeSet<AgentId>>) -> BTreeMap<AgentId, &str> {
        cells.iter().flat_map(|(cell, hosts)| hosts.iter().map(move |host| (*host, cell.as_str()))).collect()
    }

    fn rules(by: By) -> Rules {
        Rules { by, nodes_max: 50, nodes_min: 10 }
    }

    #[test]
    fn zones_and_tags_are_kept_apart() {
        let nodes: Vec<Placed> = (0..3).flat_map(|zone| (0..70).map(move |number| placed(zone, number))).collect();
        let cells = assign(&nodes, &rules(By::Zone));
        assert_eq!(names(&cells), ["z0-1", "z0-2", "z1-1", "z1-2", "z2-1", "z2-2"]);
        for (name, hosts) in &cells {
            assert!((20..=50).contains(&hosts.len()), "{}", hosts.len());
            assert!(hosts.iter().all(|host| zone_of(host).to_string() == name.as_str()[1..2]));
        }
        let racks = assign(&nodes, &rules(By::Tag("rack".to_owned())));
        assert!(racks.keys().all(|name| name.as_str().starts_with('r')));
        assert!(racks.values().all(|nodes| nodes.len() <= 50));
        assert_eq!(assign(&nodes, &rules(By::Tag("none".to_owned()))).values().map(BTreeSet::len).sum::<usize>(), 210);
    }

    #[test]
    fn a_host_that_comes_moves_few_others() {
        let all: Vec<Placed> = (0..240).map(|number| placed(0, number)).collect();
        let (mut moved, mut rounds) = (0, 0);
        for count in 201..240 {
            let (before, after) = (assign(&all[..count], &rules(By::Size)), assign(&all[..=count], &rules(By::Size)));
            assert_eq!(before.len(), after.len());
            let (before, after) = (cell_of(&before), cell_of(&after));
            moved += before.iter().filter(|(host, cell)| after[*host] != **cell).count();
            rounds += 1;
        }
        // Five cells, most of them full or nearly so; one that finds its place taken may take that of another.
        assert!(moved <= rounds * 5, "{moved} moves in {rounds} rounds");
    }

    #[test]
    fn hosts_with_many_nodes_weigh_as_much_and_stay_whole() {
        let hosts: Vec<Placed> = (0..20).map(|number| Placed { nodes_total: 10, ..placed(0, number) }).collect();
        let cells = assign(&hosts, &rules(By::Size));
        assert_eq!(cells.values().map(BTreeSet::len).collect::<Vec<_>>(), [5, 5, 5, 5]);
        let none = [Placed { nodes: BTreeSet::new(), nodes_total: 0, ..placed(0, 1) }];
        assert_eq!(names(&assign(&none, &rules(By::Zone))), ["z0-1"], "its node may come at any time");
    }

    #[test]
    fn a_cell_is_a_cluster_among_clusters() {
        let (main, cell) = (ClusterName::new("main").expect("a name"), CellName::new("a-1").expect("a name"));
        let name = cluster_of_cell(&main, &cell).expect("short");
        assert_eq!((name.as_str(), parent(&name), parent(&main)), ("main:a-1", Some("main"), None));
        let long = ClusterName::new(&"x".repeat(255)).expect("a name");
        assert!(cluster_of_cell(&long, &cell).is_err());
        let ranks: BTreeSet<_> = (0..50).map(|id| gateway_rank(&cell, AgentId(id))).collect();
        assert_eq!(ranks.len(), 50);
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
        fn every_host_has_one_cell_whatever_the_order(
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
                let zone = name.as_str()[1..2].parse::<usize>().expect("its zone");
                // The floor goes first where both cannot hold.
                let fits = nodes_min * 2 <= nodes_max.max(1);
                prop_assert!(cell.len() <= nodes_max || !fits, "{} in {}", cell.len(), name);
                prop_assert!(cell.len() >= nodes_min.min(of_zone(zone)), "{} in {}", cell.len(), name);
            }
        }
    }
}
