//! Figures: what a cluster needs to form, to notice a death, to stay, and to come back. Each is a pure function of its
//! seed; the bench prints them.

use std::{net::SocketAddr, time::Duration};

use metacluster_membership::{DownReason, Standing};
use metacluster_types::{AgentId, Instant};
use rand::RngExt;

use super::{
    checks::Violation,
    scenario::Scenario,
    world::{self, Waking, World},
};
use crate::network::HostId;

/// A rule broke while a figure was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("on host {host}: {violation}")]
pub struct Broken {
    /// Where.
    pub host: u32,
    /// What.
    pub violation: Box<Violation>,
}

fn run_until(world: &mut World<'_>, until: Instant) -> Result<(), Broken> {
    while let Some(event) = world.queue.pop_until(until) {
        world.handle(event).map_err(|(host, violation)| Broken { host: host.0, violation: Box::new(violation) })?;
    }
    Ok(())
}

fn whole(world: &World<'_>) -> bool {
    let running = world.running().count();
    running == world.hosts.iter().filter(|host| !host.over).count()
        && world.running().all(|(_, _, machine)| machine.live() == running)
        && world.wrong().0 == 0
}

fn run_until_whole(world: &mut World<'_>, step: Duration, most: Duration) -> Result<Option<Duration>, Broken> {
    let begin = world.queue.now();
    while !whole(world) {
        if world.queue.now().since(begin) > most {
            return Ok(None);
        }
        let next = world.queue.now() + step;
        run_until(world, next)?;
    }
    Ok(Some(world.queue.now().since(begin)))
}

/// From a cold start within a second, with one seed, until all see all; `None` if not within two minutes.
///
/// # Errors
/// A rule that broke.
pub fn cold_start(hosts: u32, seed: u64) -> Result<Option<Duration>, Broken> {
    let scenario = Scenario::sound(hosts);
    let mut world = World::new(&scenario, seed);
    run_until_whole(&mut world, Duration::from_millis(100), Duration::from_secs(120))
}

/// A silent death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Until the first was told that it failed.
    pub first: Duration,
    /// Until all were.
    pub all: Duration,
}

/// How long a silent death needs to be known; `None` if not by all within two minutes.
///
/// # Errors
/// A rule that broke.
pub fn death(hosts: u32, loss_per_mille: u32, seed: u64) -> Result<Option<Death>, Broken> {
    let mut scenario = Scenario::sound(hosts);
    scenario.network.loss_per_mille = loss_per_mille;
    let mut world = World::new(&scenario, seed);
    run_until_whole(&mut world, Duration::from_secs(1), Duration::from_secs(60))?;
    let settled = world.queue.now() + Duration::from_secs(20);
    let moment = world.rng.random_range(Duration::ZERO..Duration::from_secs(2));
    run_until(&mut world, settled + moment)?;
    let victim = HostId(world.rng.random_range(0..hosts));
    let id = world.host(victim).id;
    world.kill(victim);
    let begin = world.queue.now();
    world.downs.clear();
    let known = |world: &World<'_>| {
        world.running().all(|(_, _, machine)| machine.standing(id).is_none_or(|(_, held)| held >= Standing::Failed))
    };
    for step in 1..1200 {
        run_until(&mut world, begin + Duration::from_millis(100) * step)?;
        if known(&world) {
            run_until(&mut world, begin + Duration::from_millis(100) * step + Duration::from_millis(400))?;
            let told: Vec<Instant> = world.downs.iter().filter(|down| down.member == id).map(|down| down.at).collect();
            let first = told.iter().min().map_or(Duration::ZERO, |at| at.since(begin));
            let all = told.iter().max().map_or(Duration::ZERO, |at| at.since(begin));
            return Ok(Some(Death { first, all }));
        }
    }
    Ok(None)
}

/// How many times a healthy member held a healthy one failed, while some stand still for `pause` at a time with gaps of
/// a millisecond, for two minutes.
///
/// # Errors
/// A rule that broke.
pub fn expelled(hosts: u32, paused: u32, pause: Duration, waking: Waking, seed: u64) -> Result<usize, Broken> {
    let mut scenario = Scenario::sound(hosts);
    // The machine's own rule about flapping is for its peers' sake; those that stand still flap.
    scenario.name = "pauses";
    let mut world = World::new(&scenario, seed);
    run_until_whole(&mut world, Duration::from_secs(1), Duration::from_secs(60))?;
    let settled = world.queue.now() + Duration::from_secs(10);
    run_until(&mut world, settled)?;
    world.downs.clear();
    world.waking = waking;
    let end = world.queue.now() + Duration::from_secs(120);
    while world.queue.now() < end {
        for number in 0..paused {
            world.pause(HostId(number), pause);
        }
        let next = world.queue.now() + pause + Duration::from_millis(1);
        run_until(&mut world, next)?;
    }
    let healthy: Vec<AgentId> = world.hosts.iter().skip(paused as usize).map(|host| host.id).collect();
    let false_downs = world
        .downs
        .iter()
        .filter(|down| down.observer >= paused && down.reason == DownReason::Failed && healthy.contains(&down.member));
    Ok(false_downs.count())
}

/// Pairs of healthy members of which one held the other failed, over so long under loss.
///
/// # Errors
/// A rule that broke.
pub fn expelled_by_loss(hosts: u32, loss_per_mille: u32, time: Duration, seed: u64) -> Result<usize, Broken> {
    let mut scenario = Scenario::sound(hosts);
    scenario.network.loss_per_mille = loss_per_mille;
    let mut world = World::new(&scenario, seed);
    run_until(&mut world, Instant::from_origin(time))?;
    Ok(world.downs.len())
}

/// Bytes a second that a member sends in a calm cluster, with what sealing, UDP, IP and TCP add.
///
/// # Errors
/// A rule that broke.
pub fn load(hosts: u32, seed: u64) -> Result<f64, Broken> {
    let scenario = Scenario::sound(hosts);
    let mut world = World::new(&scenario, seed);
    run_until_whole(&mut world, Duration::from_secs(1), Duration::from_secs(120))?;
    let settled = world.queue.now() + Duration::from_secs(30);
    run_until(&mut world, settled)?;
    let before: u64 = world.hosts.iter().map(|host| host.sent).sum();
    let time = Duration::from_secs(60);
    run_until(&mut world, settled + time)?;
    let after: u64 = world.hosts.iter().map(|host| host.sent).sum();
    Ok((after - before) as f64 / f64::from(hosts) / time.as_secs_f64())
}

/// How many clusters there are a minute after some agents started together, with a discovery that is late, partial and
/// stale. One is right.
///
/// # Errors
/// A rule that broke.
pub fn clusters_formed(seed: u64) -> Result<usize, Broken> {
    let mut scenario = Scenario::sound(3 + u32::try_from(seed % 8).unwrap_or(0));
    scenario.start_within = Duration::from_millis(200);
    let mut world = World::new(&scenario, seed);
    // At first discovery knows nothing but addresses of agents that are gone.
    world.seeds = Some(vec![world::address(500), world::address(501)]);
    run_until(&mut world, Instant::from_origin(Duration::from_millis(300)))?;
    let hosts = scenario.hosts;
    // Then each agent hears, in its own time, of two others, and of the gone; as a ring, so that all are reachable.
    for number in 0..hosts {
        let at = world.queue.now() + world.rng.random_range(Duration::ZERO..Duration::from_millis(800));
        run_until(&mut world, at)?;
        let other = world.rng.random_range(0..hosts);
        let seeds: Vec<SocketAddr> = [500, (number + 1) % hosts, other].into_iter().map(world::address).collect();
        world
            .input(HostId(number), metacluster_membership::Input::Seeds(seeds))
            .map_err(|(host, violation)| Broken { host: host.0, violation: Box::new(violation) })?;
    }
    let end = world.queue.now() + Duration::from_secs(30);
    run_until(&mut world, end)?;
    let mut views: Vec<Vec<AgentId>> = world
        .running()
        .map(|(_, host, machine)| {
            let live = machine.standings().filter(|(_, _, held)| *held <= Standing::Suspect).map(|(id, _, _)| id);
            let mut view: Vec<AgentId> = live.chain([host.id]).collect();
            view.sort_unstable();
            view
        })
        .collect();
    views.sort_unstable();
    views.dedup();
    Ok(views.len())
}

/// How long a cluster needs to be whole again after every host died and came back with a new address; discovery knows
/// of the new addresses after a while. `None` if not within a minute.
///
/// # Errors
/// A rule that broke.
pub fn outage(hosts: u32, seed: u64) -> Result<Option<Duration>, Broken> {
    let scenario = Scenario::sound(hosts);
    let mut world = World::new(&scenario, seed);
    run_until_whole(&mut world, Duration::from_secs(1), Duration::from_secs(60))?;
    for number in 0..hosts {
        world.kill(HostId(number));
    }
    let dead = world.queue.now() + Duration::from_secs(30);
    run_until(&mut world, dead)?;
    let begin = world.queue.now();
    world.seeds = Some(vec![world::address(1000), world::address(1000 + hosts / 2)]);
    for number in 0..hosts {
        world.host(HostId(number)).address = world::address(1000 + number);
        let at = begin + world.rng.random_range(Duration::ZERO..Duration::from_secs(5));
        world.queue.push_at(at, world::Event::Boot(HostId(number)));
    }
    let whole = run_until_whole(&mut world, Duration::from_millis(250), Duration::from_secs(60))?;
    Ok(whole.map(|_| world.queue.now().since(begin)))
}
