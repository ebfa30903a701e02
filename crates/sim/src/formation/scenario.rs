//! Scenarios: how large a world is, what its sources are like and what befalls it.

use std::time::Duration;

use metacluster_formation::{Guard, Settings};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::network::NetworkRules;

/// How a topology learns of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Each agent asks a registry now and then. A dead node stays in it for a while.
    Poll {
        /// How often, ± a quarter.
        interval: Duration,
    },
    /// Each agent tells the others of its nodes now and then, and says goodbye for one that died.
    Gossip {
        /// The longest wait between two heartbeats of an agent.
        interval: Duration,
    },
}

/// A topology of every agent.
#[derive(Clone, Debug)]
pub struct TopologyPlan {
    /// Its name.
    pub name: &'static str,
    /// How it learns of nodes.
    pub kind: SourceKind,
    /// Whether peers that left it are pruned.
    pub prune: bool,
    /// For which local nodes it speaks: a pattern.
    pub nodes: &'static str,
    /// Which nodes it names: a pattern.
    pub lists: &'static str,
}

/// How many faults of each kind befall the world, spread over `within` at random.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// The time that they are spread over; each one is over by its end.
    pub within: Duration,
    /// A node dies and starts again on its host.
    pub restarts: u32,
    /// A node dies and its name starts on another host.
    pub moves: u32,
    /// A node dies for good.
    pub deaths: u32,
    /// An agent stops and starts again, knowing nothing; its nodes do not notice.
    pub agent_restarts: u32,
    /// A host is cut off from all others, both ways.
    pub isolations: u32,
    /// The hosts are cut in two.
    pub partitions: u32,
    /// One direction between two hosts is cut.
    pub one_way_cuts: u32,
    /// A source of one agent fails, lies empty, gives a part, or grows stale.
    pub source_faults: u32,
    /// A node leaves every registry while it lives.
    pub retirements: u32,
    /// A host dies with all that runs on it, without a word, and boots again.
    pub host_deaths: u32,
    /// A third of the hosts die at once, and boot again.
    pub zone_outages: u32,
    /// A host is cut off from all others for half a second to four.
    pub flaps: u32,
    /// Two hosts cannot see one another; all others see both.
    pub partial_cuts: u32,
    /// What an agent says to other agents is lost, and what they say to it; its nodes do not notice.
    pub mutes: u32,
}

impl FaultPlan {
    /// Whether hosts die and nothing else happens, so that the time until survivors are told is theirs alone.
    #[must_use]
    pub fn only_deaths(&self) -> bool {
        let others = [
            self.restarts,
            self.moves,
            self.deaths,
            self.agent_restarts,
            self.isolations,
            self.partitions,
            self.one_way_cuts,
            self.source_faults,
            self.retirements,
            self.flaps,
            self.partial_cuts,
            self.mutes,
        ];
        others.iter().all(|&count| count == 0)
    }
}

/// A world and what befalls it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// A word for it.
    pub name: &'static str,
    /// Hosts, each with an agent.
    pub hosts: u32,
    /// Nodes on each.
    pub nodes_per_host: u32,
    /// Every n-th node is named `core…`, the others `edge…`.
    pub core_every: u32,
    /// The topologies of every agent.
    pub topologies: Vec<TopologyPlan>,
    /// Agents are members of one another, and tell formation of hosts that fail.
    pub membership: bool,
    /// The network.
    pub network: NetworkRules,
    /// What befalls it.
    pub faults: FaultPlan,
    /// All nodes start within this.
    pub start_within: Duration,
    /// The BEAM completes the mesh by itself, as with `connect_all`.
    pub connect_all: bool,
    /// How long a BEAM takes to notice that a peer was cut off.
    pub tick_time: Duration,
    /// How many dials of a thousand never get an answer from the driver, for as long as there are faults.
    pub silent_dials_per_mille: u32,
    /// The machines' settings.
    pub settings: Settings,
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Scenario {
    /// Five hosts, fifteen nodes, one registry, every fault.
    #[must_use]
    pub fn small() -> Self {
        Self {
            name: "small",
            hosts: 5,
            nodes_per_host: 3,
            core_every: 3,
            topologies: vec![TopologyPlan {
                name: "registry",
                kind: SourceKind::Poll { interval: secs(5) },
                prune: false,
                nodes: "*",
                lists: "*",
            }],
            membership: false,
            network: NetworkRules { loss_per_mille: 20, ..NetworkRules::default() },
            faults: FaultPlan {
                within: secs(120),
                restarts: 6,
                moves: 3,
                deaths: 1,
                agent_restarts: 3,
                isolations: 2,
                partitions: 1,
                one_way_cuts: 2,
                source_faults: 6,
                retirements: 0,
                ..FaultPlan::default()
            },
            start_within: secs(2),
            connect_all: false,
            tick_time: secs(15),
            silent_dials_per_mille: 10,
            settings: Settings::default(),
        }
    }

    /// As small, with gossip in place of the registry.
    #[must_use]
    pub fn gossip() -> Self {
        let mut it = Self { name: "gossip", ..Self::small() };
        it.topologies[0] =
            TopologyPlan { name: "lan", kind: SourceKind::Gossip { interval: secs(5) }, ..it.topologies[0].clone() };
        it
    }

    /// As small, with BEAMs that complete the mesh by themselves and both kinds of source.
    #[must_use]
    pub fn mesh() -> Self {
        let mut it = Self { name: "mesh", connect_all: true, ..Self::small() };
        it.topologies.extend(Self::gossip().topologies);
        it
    }

    /// A registry that prunes, and nodes that leave it.
    #[must_use]
    pub fn pruning() -> Self {
        let mut it = Self { name: "pruning", ..Self::small() };
        it.topologies[0].prune = true;
        it.faults.deaths = 3;
        it.faults.retirements = 3;
        it
    }

    /// Core nodes that all dial, and edge nodes that dial nothing but the core.
    #[must_use]
    pub fn cells() -> Self {
        let mut it = Self { name: "cells", hosts: 8, ..Self::small() };
        it.topologies[0].lists = "core*";
        it
    }

    /// Hosts that die, flap and lose sight of one another, and agents that die alone, with membership to tell of it.
    #[must_use]
    pub fn hosts() -> Self {
        let mut it = Self { name: "hosts", hosts: 6, membership: true, tick_time: secs(60), ..Self::mesh() };
        it.faults = FaultPlan {
            within: secs(120),
            restarts: 3,
            agent_restarts: 4,
            one_way_cuts: 2,
            partitions: 1,
            host_deaths: 4,
            zone_outages: 1,
            flaps: 8,
            partial_cuts: 3,
            mutes: 3,
            ..FaultPlan::default()
        };
        it
    }

    /// Hosts die one after the other, and nothing else happens: every survivor must be told within the bound.
    #[must_use]
    pub fn deaths() -> Self {
        let mut it = Self { name: "deaths", ..Self::hosts() };
        it.network.loss_per_mille = 0;
        it.silent_dials_per_mille = 0;
        it.faults = FaultPlan { within: secs(120), host_deaths: 3, zone_outages: 1, ..FaultPlan::default() };
        it
    }

    /// 2,000 nodes: 200 hosts with ten each, every node linked to the 100 core nodes.
    #[must_use]
    pub fn large() -> Self {
        Self {
            name: "large",
            hosts: 200,
            nodes_per_host: 10,
            core_every: 20,
            network: NetworkRules { loss_per_mille: 20, ..NetworkRules::default() },
            faults: FaultPlan {
                within: secs(60),
                restarts: 100,
                moves: 50,
                deaths: 5,
                agent_restarts: 20,
                isolations: 5,
                partitions: 1,
                one_way_cuts: 20,
                source_faults: 40,
                retirements: 0,
                ..FaultPlan::default()
            },
            start_within: secs(10),
            ..Self::cells()
        }
    }

    /// So many nodes, four a host, in one full mesh.
    #[must_use]
    pub fn full_mesh(nodes: u32) -> Self {
        let hosts = nodes.div_ceil(4).max(2);
        let mut it = Self { name: "full mesh", hosts, nodes_per_host: 4, start_within: secs(10), ..Self::small() };
        it.topologies[0].kind = SourceKind::Poll { interval: secs(15) };
        it.faults = FaultPlan {
            within: secs(60),
            restarts: nodes / 20,
            moves: nodes / 40,
            deaths: nodes / 400,
            agent_restarts: hosts / 20,
            isolations: 2,
            partitions: 1,
            one_way_cuts: hosts / 10,
            source_faults: hosts / 5,
            retirements: 0,
            ..FaultPlan::default()
        };
        it
    }

    /// A scenario that the seed chooses: one of the small ones, with other numbers.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5ce0_a110);
        let all = [Self::small, Self::gossip, Self::mesh, Self::pruning, Self::cells, Self::hosts, Self::hosts];
        let mut it = all[rng.random_range(0..all.len())]();
        it.hosts = rng.random_range(2..9);
        it.nodes_per_host = rng.random_range(1..5);
        it.core_every = rng.random_range(1..4);
        it.network.loss_per_mille = rng.random_range(0..100);
        it.network.delay_max = Duration::from_millis(rng.random_range(1..200));
        it.silent_dials_per_mille = rng.random_range(0..50);
        it.tick_time = secs(rng.random_range(4..60));
        let faults = &mut it.faults;
        for count in [
            &mut faults.restarts,
            &mut faults.moves,
            &mut faults.deaths,
            &mut faults.agent_restarts,
            &mut faults.isolations,
            &mut faults.partitions,
            &mut faults.one_way_cuts,
            &mut faults.source_faults,
            &mut faults.retirements,
            &mut faults.host_deaths,
            &mut faults.zone_outages,
            &mut faults.flaps,
            &mut faults.partial_cuts,
            &mut faults.mutes,
        ] {
            *count = rng.random_range(0..=*count * 2);
        }
        it
    }

    /// How many nodes there are at the start.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.hosts * self.nodes_per_host
    }

    /// How long after the last fault every wanted link is there, worked out from the settings:
    ///
    /// - a source answers anew, and the guard may want three answers before it lets go of the dead;
    /// - what hangs since the faults is given up: a dial, or a connection until its tick runs out;
    /// - the longest back-off, thrice: of a failing peer, of a link that did not last, and once for bad luck between;
    /// - every pair of an agent may have to be dialled, at the pace of the settings, while half of that pace goes to
    ///   names that are dead.
    #[must_use]
    pub fn convergence_bound(&self) -> Duration {
        let slowest = self.topologies.iter().map(|topology| match topology.kind {
            SourceKind::Poll { interval } => interval * 5 / 4 * (Guard::default().answers + 1),
            SourceKind::Gossip { interval } => interval * 2,
        });
        let source = slowest.max().unwrap_or_default();
        let hanging = self.settings.dial_timeout.max(self.tick_time * 5 / 4);
        let back_off = self.settings.back_off.cap * 3;
        // Names move, so that a host may come to hold more nodes than it began with.
        let core_only = self.topologies.iter().all(|topology| topology.lists == "core*");
        let listed = if core_only { self.nodes().div_ceil(self.core_every.max(1)) } else { self.nodes() };
        let pairs = (self.nodes_per_host * 2 + 2) * listed;
        let dials = secs(1) * pairs * 2 / self.settings.dials_per_second;
        source + hanging + back_off + dials + secs(5)
    }
}
