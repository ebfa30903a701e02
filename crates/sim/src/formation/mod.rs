//! Formation under simulation: many agents' machines against a model of BEAM nodes, sources and the network.

mod acts;
mod beam;
mod checks;
mod faults;
mod machine;
mod members;
mod scenario;
mod world;

#[cfg(test)]
mod tests;

use std::time::Duration;

use metacluster_formation::Settings;
use metacluster_types::Instant;

pub use checks::{Checker, Violation};
pub use machine::Machine;
pub use scenario::{FaultPlan, Scenario, SourceKind, TopologyPlan};

use world::World;

use crate::failure::Rules;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Dials of all agents.
    pub dials: u64,
    /// Events that the world handled.
    pub events: u64,
    /// How long after the last fault every wanted link was there, to the step of the check.
    pub converged_after: Duration,
    /// What it had to stay below.
    pub bound: Duration,
}

/// A run that broke a rule.
pub type Failure = crate::failure::Failure<Violation>;

impl Rules for Violation {
    const OF: &'static str = "formation";
}

/// Runs a scenario: faults first, then quiet, and all that is wanted must come about within the bound. The same seed
/// gives the same run.
///
/// # Errors
/// The first rule that is broken.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Report, Failure> {
    run_with(seed, scenario, world::sound)
}

/// As [`run`], with machines of the caller's making.
///
/// # Errors
/// The first rule that is broken.
pub fn run_with<M: Machine>(
    seed: u64,
    scenario: &Scenario,
    new_machine: impl FnMut(Settings, u64) -> M,
) -> Result<Report, Failure> {
    let mut world = World::new(scenario, seed, new_machine);
    let fail = |at, host: Option<u32>, violation| Failure {
        seed,
        scenario: scenario.name,
        at,
        host,
        violation: Box::new(violation),
    };
    let quiet = Instant::from_origin(scenario.faults.within);
    let bound = scenario.convergence_bound();
    let step = if scenario.nodes() > 500 { Duration::from_secs(5) } else { Duration::from_secs(1) };
    // Runs up to an instant.
    let run_until = |world: &mut World<'_, M, _>, until: Instant| {
        while let Some(event) = world.queue.pop_until(until) {
            let at = world.queue.now();
            world.handle(event).map_err(|(host, violation)| fail(at, Some(host.0), violation))?;
        }
        Ok(())
    };
    run_until(&mut world, quiet)?;
    let mut after = Duration::ZERO;
    loop {
        let (missing, example) = world.missing();
        let Some((local, peer)) = example else { break };
        if after > bound {
            let violation = Violation::NotConverged { missing, after, bound, local, peer };
            return Err(fail(world.queue.now(), None, violation));
        }
        after += step;
        run_until(&mut world, quiet + after)?;
    }
    // What is still on its way arrives: connections of the dead run out, and every machine hears of its links.
    let settle = scenario.tick_time * 5 / 4 + Duration::from_secs(10);
    run_until(&mut world, quiet + after + settle)?;
    if let (missing, Some((local, peer))) = world.missing() {
        let violation = Violation::NotConverged { missing, after: after + settle, bound, local, peer };
        return Err(fail(world.queue.now(), None, violation));
    }
    world.links_agree().map_err(|(host, violation)| fail(world.queue.now(), Some(host.0), violation))?;
    Ok(Report { dials: world.dials, events: world.events, converged_after: after, bound })
}

/// Seeds that once broke a rule, and the scenario in which they did. All of them hold now.
pub const SEEDS: &[KeptSeed] = &[
    // A candidate that several local nodes waited for left, and was looked at once more after it was forgotten.
    KeptSeed { seed: 0, scenario: Scenario::small },
    // A local node died while another one on its host was dialling it, and was dialled a second time.
    KeptSeed { seed: 19, scenario: Scenario::pruning },
    // A reset of an old connection took down the new one in the model of the BEAM.
    KeptSeed { seed: 303, scenario: Scenario::cells },
    // A check from before a verdict came in after the one that the verdict asked for.
    KeptSeed { seed: 1_795_423_333_198_936, scenario: || Scenario::random(1_795_423_333_198_936) },
];

/// A seed that is run for ever.
#[derive(Clone, Copy, Debug)]
pub struct KeptSeed {
    /// The seed.
    pub seed: u64,
    /// The scenario in which it once broke a rule.
    pub scenario: fn() -> Scenario,
}
