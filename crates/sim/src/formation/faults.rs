//! The faults of a scenario, drawn from its seed before the run begins.

use std::time::Duration;

use metacluster_types::Instant;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{beam::NameId, scenario::Scenario};
use crate::network::HostId;

/// How a source misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Look-ups fail.
    Failing,
    /// Answers are empty.
    Empty,
    /// Answers hold a part.
    Partial,
    /// Answers are those of the moment at which this began.
    Stale,
}

/// One step of a fault.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill(NameId),
    Start(NameId, HostId),
    Retire(NameId),
    StopAgent(HostId),
    StartAgent(HostId),
    Cut(Vec<(HostId, HostId)>),
    Heal(Vec<(HostId, HostId)>),
    /// These hosts die with all that runs on them.
    HostsDie(Vec<HostId>),
    HostsBoot(Vec<HostId>),
    Mute(HostId),
    Unmute(HostId),
    Lie {
        host: HostId,
        topology: usize,
        lie: Option<Lie>,
    },
}

struct Draw<'a> {
    rng: &'a mut ChaCha8Rng,
    scenario: &'a Scenario,
    plan: Vec<(Instant, Fault)>,
}

impl Draw<'_> {
    fn host(&mut self) -> HostId {
        HostId(self.rng.random_range(0..self.scenario.hosts))
    }

    /// A begin and an end, both within the time of faults.
    fn span(&mut self, least: Duration) -> (Instant, Instant) {
        let within = self.scenario.faults.within;
        let from = self.rng.random_range(Duration::ZERO..=within.saturating_sub(least * 2));
        let to = self.rng.random_range(from + least..=within);
        (Instant::from_origin(from), Instant::from_origin(to))
    }

    fn both(&mut self, (from, to): (Instant, Instant), begin: Fault, end: Fault) {
        self.plan.push((from, begin));
        self.plan.push((to, end));
    }
}

/// Every step of every fault, in no order.
pub(crate) fn draw(scenario: &Scenario, names: &[NameId], rng: &mut ChaCha8Rng) -> Vec<(Instant, Fault)> {
    let mut it = Draw { rng, scenario, plan: Vec::new() };
    let faults = &scenario.faults;
    let least = Duration::from_millis(100);
    let name = |it: &mut Draw<'_>| names[it.rng.random_range(0..names.len())];
    for _ in 0..faults.restarts {
        // Most come back soon, on the host where they were.
        let (name, (from, latest)) = (name(&mut it), it.span(least));
        let to = latest.min(from + Duration::from_millis(it.rng.random_range(100..20_000)));
        let home = HostId(name.0 / scenario.nodes_per_host);
        it.both((from, to), Fault::Kill(name), Fault::Start(name, home));
    }
    for _ in 0..faults.moves {
        let (name, span, host) = (name(&mut it), it.span(least), it.host());
        it.both(span, Fault::Kill(name), Fault::Start(name, host));
    }
    for _ in 0..faults.deaths {
        let (name, (from, _)) = (name(&mut it), it.span(least));
        it.plan.push((from, Fault::Kill(name)));
    }
    for _ in 0..faults.retirements {
        let (name, (from, _)) = (name(&mut it), it.span(least));
        it.plan.push((from, Fault::Retire(name)));
    }
    for _ in 0..faults.agent_restarts {
        let (host, (from, latest)) = (it.host(), it.span(least));
        let to = latest.min(from + Duration::from_millis(it.rng.random_range(100..20_000)));
        it.both((from, to), Fault::StopAgent(host), Fault::StartAgent(host));
    }
    let hosts: Vec<HostId> = (0..scenario.hosts).map(HostId).collect();
    for _ in 0..faults.isolations {
        let (host, span) = (it.host(), it.span(least));
        let others = hosts.iter().filter(|&&other| other != host);
        let pairs: Vec<_> = others.flat_map(|&other| [(host, other), (other, host)]).collect();
        it.both(span, Fault::Cut(pairs.clone()), Fault::Heal(pairs));
    }
    for _ in 0..faults.partitions {
        let span = it.span(least);
        let side: Vec<bool> = hosts.iter().map(|_| it.rng.random()).collect();
        let pairs: Vec<_> = hosts
            .iter()
            .flat_map(|&one| hosts.iter().map(move |&other| (one, other)))
            .filter(|(one, other)| side[one.0 as usize] != side[other.0 as usize])
            .collect();
        it.both(span, Fault::Cut(pairs.clone()), Fault::Heal(pairs));
    }
    for _ in 0..faults.one_way_cuts {
        let (one, other, span) = (it.host(), it.host(), it.span(least));
        if one != other {
            it.both(span, Fault::Cut(vec![(one, other)]), Fault::Heal(vec![(one, other)]));
        }
    }
    for _ in 0..faults.source_faults {
        let (host, span) = (it.host(), it.span(least));
        let topology = it.rng.random_range(0..scenario.topologies.len());
        let lies = [Lie::Failing, Lie::Empty, Lie::Partial, Lie::Stale];
        let lie = Some(lies[it.rng.random_range(0..lies.len())]);
        it.both(span, Fault::Lie { host, topology, lie }, Fault::Lie { host, topology, lie: None });
    }
    let both_ways = |one: HostId, other: HostId| vec![(one, other), (other, one)];
    for _ in 0..faults.host_deaths {
        let (host, span) = (it.host(), it.span(Duration::from_secs(8)));
        it.both(span, Fault::HostsDie(vec![host]), Fault::HostsBoot(vec![host]));
    }
    for _ in 0..faults.zone_outages {
        let span = it.span(Duration::from_secs(8));
        let zone: Vec<HostId> = hosts.iter().copied().filter(|_| it.rng.random_range(0..3) == 0).collect();
        it.both(span, Fault::HostsDie(zone.clone()), Fault::HostsBoot(zone));
    }
    for _ in 0..faults.flaps {
        let (host, (from, latest)) = (it.host(), it.span(least));
        let to = latest.min(from + Duration::from_millis(it.rng.random_range(500..4_000)));
        let pairs: Vec<_> =
            hosts.iter().filter(|&&other| other != host).flat_map(|&other| both_ways(host, other)).collect();
        it.both((from, to), Fault::Cut(pairs.clone()), Fault::Heal(pairs));
    }
    for _ in 0..faults.partial_cuts {
        let (one, other, span) = (it.host(), it.host(), it.span(least));
        if one != other {
            it.both(span, Fault::Cut(both_ways(one, other)), Fault::Heal(both_ways(one, other)));
        }
    }
    for _ in 0..faults.mutes {
        let (host, span) = (it.host(), it.span(least));
        it.both(span, Fault::Mute(host), Fault::Unmute(host));
    }
    it.plan
}
