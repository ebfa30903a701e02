//! Scenarios: how many hosts, what network, which faults.

use std::time::Duration;

use metacluster_membership::Settings;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::network::NetworkRules;

/// How many of which faults take place.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// Within this time from the start; then all faults end.
    pub within: Duration,
    /// A host dies silently and, but for the last of them, boots again.
    pub restarts: usize,
    /// A host dies and another one, with an id of its own, takes its address.
    pub reuses: usize,
    /// A host leaves in good order.
    pub leaves: usize,
    /// A host dies and its provider says so.
    pub terminations: usize,
    /// A host's process stands still for up to 20 s.
    pub pauses: usize,
    /// A host handles all that comes up to a second late.
    pub slow: usize,
    /// A host's suspend-aware clock jumps forward by an hour.
    pub clock_jumps: usize,
    /// One direction between two hosts is cut.
    pub one_way_cuts: usize,
    /// A host is cut off from all.
    pub isolations: usize,
    /// A zone is cut off from the others.
    pub zone_cuts: usize,
    /// Packets that a member of ill will sends.
    pub lies: usize,
    /// Hosts whose description changes.
    pub updates: usize,
    /// User events.
    pub events: usize,
    /// Queries.
    pub queries: usize,
    /// Bursts of user events and queries that a member of ill will makes up.
    pub floods: usize,
}

/// A world.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// How many hosts there are from the start.
    pub hosts: u32,
    /// Over what time they start.
    pub start_within: Duration,
    /// In how many zones.
    pub zones: u32,
    /// How many addresses discovery tells each host; 0 means all.
    pub seeds: usize,
    /// What the machines are set to.
    pub settings: Settings,
    /// What the network is like.
    pub network: NetworkRules,
    /// How many packets of a thousand come twice.
    pub duplicates_per_mille: u32,
    /// What goes wrong.
    pub faults: FaultPlan,
}

impl Scenario {
    /// A sound world of so many hosts that start within a second and know one seed.
    #[must_use]
    pub fn sound(hosts: u32) -> Self {
        Self {
            name: "sound",
            hosts,
            start_within: Duration::from_secs(1),
            zones: 3,
            seeds: 1,
            settings: Settings::lan(),
            network: NetworkRules { delay_max: Duration::from_millis(1), ..NetworkRules::default() },
            duplicates_per_mille: 0,
            faults: FaultPlan::default(),
        }
    }

    /// A few hosts and every kind of fault.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_5eed);
        let mut some = |most: usize| rng.random_range(0..=most);
        let hosts = 3 + some(13);
        let faults = FaultPlan {
            within: Duration::from_secs(60),
            restarts: some(4),
            reuses: some(2),
            leaves: some(2).min(hosts / 3),
            terminations: some(1),
            pauses: some(4),
            slow: some(2),
            clock_jumps: some(1),
            one_way_cuts: some(4),
            isolations: some(2),
            zone_cuts: some(2),
            lies: some(40),
            updates: some(6),
            events: 0,
            queries: 0,
            floods: 0,
        };
        let loss = [0, 0, 50, 200][some(3)];
        let mut scenario = Self {
            name: "random",
            hosts: u32::try_from(hosts).unwrap_or(3),
            start_within: Duration::from_secs(2),
            zones: 1 + u32::try_from(some(3)).unwrap_or(0),
            seeds: 1 + some(3),
            settings: Settings::lan(),
            network: NetworkRules {
                loss_per_mille: loss,
                delay_max: Duration::from_millis(1 + some(30) as u64),
                ..NetworkRules::default()
            },
            duplicates_per_mille: [0, 50][some(1)],
            faults,
        };
        scenario.faults.events = some(60);
        scenario.faults.queries = some(10);
        scenario.faults.floods = some(2);
        scenario
    }

    /// Everyone talks all the time, while packets are lost, come twice, and hosts are cut off, stand still and restart.
    #[must_use]
    pub fn talkative() -> Self {
        let faults = FaultPlan {
            within: Duration::from_secs(90),
            restarts: 3,
            pauses: 3,
            isolations: 2,
            zone_cuts: 1,
            one_way_cuts: 3,
            events: 200,
            queries: 30,
            ..FaultPlan::default()
        };
        let network = NetworkRules { loss_per_mille: 50, ..NetworkRules::default() };
        Self { name: "talkative", network, faults, duplicates_per_mille: 50, seeds: 3, ..Self::sound(10) }
    }

    /// A member of ill will makes events and queries up as fast as it can, in its own name and in others'.
    #[must_use]
    pub fn flooded() -> Self {
        let faults =
            FaultPlan { within: Duration::from_secs(60), floods: 30, events: 40, queries: 10, ..FaultPlan::default() };
        Self { name: "flooded", faults, ..Self::sound(8) }
    }

    /// Zones that are cut off from one another, again and again.
    #[must_use]
    pub fn zones() -> Self {
        let faults = FaultPlan { within: Duration::from_secs(120), zone_cuts: 6, ..FaultPlan::default() };
        Self { name: "zones", hosts: 24, seeds: 4, faults, ..Self::sound(24) }
    }

    /// Hosts that come, go and are replaced all the time.
    #[must_use]
    pub fn churn() -> Self {
        let faults = FaultPlan {
            within: Duration::from_secs(90),
            restarts: 12,
            reuses: 8,
            leaves: 4,
            terminations: 3,
            updates: 10,
            ..FaultPlan::default()
        };
        Self { name: "churn", seeds: 3, faults, ..Self::sound(20) }
    }

    /// A member of ill will that never stops talking.
    #[must_use]
    pub fn hostile() -> Self {
        let faults = FaultPlan { within: Duration::from_secs(60), lies: 400, ..FaultPlan::default() };
        Self { name: "hostile", faults, ..Self::sound(10) }
    }

    /// A fifth of all packets is lost.
    #[must_use]
    pub fn lossy() -> Self {
        let faults = FaultPlan { within: Duration::from_secs(120), restarts: 3, ..FaultPlan::default() };
        let network = NetworkRules { loss_per_mille: 200, ..NetworkRules::default() };
        Self { name: "lossy", network, faults, ..Self::sound(8) }
    }
}
