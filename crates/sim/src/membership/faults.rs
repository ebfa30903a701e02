//! The faults of a scenario, drawn from its seed before the run begins.

use std::time::Duration;

use metacluster_types::Instant;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::scenario::Scenario;
use crate::network::HostId;

/// One step of a fault.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill(HostId),
    /// Boots the agent that was there, with its id.
    Boot(HostId),
    /// Boots a new agent, with a new id, at the address of this host.
    Replace(HostId),
    Leave(HostId),
    /// The provider tells some agent that this host has ended.
    Terminate(HostId),
    Pause(HostId, Duration),
    Slow(HostId, Duration),
    Jump(HostId),
    Cut(Vec<(HostId, HostId)>),
    Heal(Vec<(HostId, HostId)>),
    Lie,
    Update(HostId),
    Say(HostId),
    Ask(HostId),
    Flood,
}

/// Every step of every fault, in no order.
pub(crate) fn draw(scenario: &Scenario, rng: &mut ChaCha8Rng) -> Vec<(Instant, Fault)> {
    let plan = &scenario.faults;
    let mut steps = Vec::new();
    let hosts: Vec<HostId> = (0..scenario.hosts).map(HostId).collect();
    let second = Duration::from_secs(1);
    let end = plan.within.max(second * 2);
    let host = |rng: &mut ChaCha8Rng| hosts[rng.random_range(0..hosts.len())];
    let span = |rng: &mut ChaCha8Rng| {
        let from = rng.random_range(Duration::ZERO..end - second);
        let to = rng.random_range(from..end);
        (Instant::from_origin(from), Instant::from_origin(to))
    };
    let both = |pairs: Vec<(HostId, HostId)>, (from, to), steps: &mut Vec<(Instant, Fault)>| {
        steps.push((from, Fault::Cut(pairs.clone())));
        steps.push((to, Fault::Heal(pairs)));
    };
    for number in 0..plan.restarts {
        let (host, (from, to)) = (host(rng), span(rng));
        steps.push((from, Fault::Kill(host)));
        if number > 0 {
            steps.push((to, Fault::Boot(host)));
        }
    }
    for _ in 0..plan.reuses {
        let (host, (from, to)) = (host(rng), span(rng));
        steps.extend([(from, Fault::Kill(host)), (to, Fault::Replace(host))]);
    }
    for _ in 0..plan.leaves {
        steps.push((span(rng).0, Fault::Leave(host(rng))));
    }
    for _ in 0..plan.terminations {
        let (host, (from, _)) = (host(rng), span(rng));
        steps.extend([(from, Fault::Kill(host)), (from + second, Fault::Terminate(host))]);
    }
    for _ in 0..plan.pauses {
        let (host, (from, to)) = (host(rng), span(rng));
        steps.push((from, Fault::Pause(host, to.since(from).min(second * 20))));
    }
    for _ in 0..plan.slow {
        let (host, (from, to)) = (host(rng), span(rng));
        let lag = rng.random_range(Duration::from_millis(50)..second);
        steps.extend([(from, Fault::Slow(host, lag)), (to, Fault::Slow(host, Duration::ZERO))]);
    }
    for _ in 0..plan.clock_jumps {
        steps.push((span(rng).0, Fault::Jump(host(rng))));
    }
    for _ in 0..plan.one_way_cuts {
        let (one, other, span) = (host(rng), host(rng), span(rng));
        both(vec![(one, other)], span, &mut steps);
    }
    for _ in 0..plan.isolations {
        let (host, span) = (host(rng), span(rng));
        let pairs = hosts.iter().filter(|&&other| other != host).flat_map(|&other| [(host, other), (other, host)]);
        both(pairs.collect(), span, &mut steps);
    }
    for _ in 0..plan.zone_cuts {
        let (zone, span) = (rng.random_range(0..scenario.zones.max(1)), span(rng));
        let inside = |host: HostId| host.0 % scenario.zones.max(1) == zone;
        let pairs = hosts.iter().flat_map(|&one| hosts.iter().map(move |&other| (one, other)));
        both(pairs.filter(|&(one, other)| inside(one) != inside(other)).collect(), span, &mut steps);
    }
    for _ in 0..plan.lies {
        steps.push((span(rng).0, Fault::Lie));
    }
    for _ in 0..plan.updates {
        steps.push((span(rng).0, Fault::Update(host(rng))));
    }
    for _ in 0..plan.events {
        steps.push((span(rng).0, Fault::Say(host(rng))));
    }
    for _ in 0..plan.queries {
        steps.push((span(rng).0, Fault::Ask(host(rng))));
    }
    for _ in 0..plan.floods {
        steps.push((span(rng).0, Fault::Flood));
    }
    steps
}
