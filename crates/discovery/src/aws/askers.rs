//! Who asks: an API that is limited per account is asked by a few agents of the cluster, which change by turns.
//!
//! [`is_asker`] is a pure function of the time slot and the live agents, so each agent knows its turn without a word to
//! another: every agent has a rank in each slot, drawn from the slot and its id, and the lowest ranks ask. Agents that
//! see different members draw the same ranks for those that both see, so a split view adds askers and never leaves a slot
//! without one. The others keep their last answer and ask seldom, so that all of them together make no
//! more calls than half an asker does. An agent that has never asked and knows of others waits its turn too: what they learned
//! reaches it. One that knows of nobody asks at once.
//!
//! What an asker learns reaches the others by membership: an agent that it found joins, and every agent hears of the
//! join with the nodes there; that a host was terminated ends its member everywhere.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use metacluster_types::AgentId;
use rand::RngExt;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};

use crate::Local;

/// How long one turn lasts.
pub const TURN: Duration = Duration::from_secs(60);
/// The most askers of one turn.
pub const ASKERS_MAX: usize = 3;
/// The calls a second that all agents of a cluster together plan to make. The tenth up to one is for changes of turns, when
/// those who asked and those who begin to may both ask.
const CALLS_PER_SECOND: f64 = 0.9;
/// The calls of all that are no askers, in those of one asker. They come at random times, so that they are few enough for no
/// minute to have many.
const OTHERS: f64 = 0.5;
/// The longest wait of an agent that is no asker.
const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far throttling slows the asking down.
const SLOWNESS_MAX: u32 = 64;

/// Where the time of day comes from.
pub(super) type WallTime = fn() -> SystemTime;

/// The turn that a time is in.
#[must_use]
pub fn turn(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / TURN.as_secs()
}

/// How long it is until the next turn.
fn until_next_turn(now: SystemTime) -> Duration {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    TURN - Duration::from_nanos(u64::try_from(since.as_nanos() % TURN.as_nanos()).unwrap_or_default())
}

/// Whether an agent asks in a turn, among the agents that live. One that is not among them is added, so an agent that
/// knows of nobody asks.
#[must_use]
pub fn is_asker(turn: u64, me: AgentId, agents: &BTreeSet<AgentId>, askers_max: usize) -> bool {
    let rank = |agent: AgentId| {
        let mut hash = Sha256::new();
        hash.update(turn.to_be_bytes());
        hash.update(agent.0.to_be_bytes());
        <[u8; 32]>::from(hash.finalize())
    };
    let mine = rank(me);
    let before = agents.iter().filter(|&&agent| agent != me && rank(agent) < mine).take(askers_max).count();
    before < askers_max
}

/// What one look-up of the whole cluster costs, and how it is shared out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    askers: usize,
    /// Between two look-ups of an asker.
    wait: Duration,
    /// Between two look-ups of any other.
    wait_other: Duration,
}

/// Shares the asking out among `agents`, this one counted, so that no more than [`CALLS_PER_SECOND`] are made: as many
/// askers as that allows at the interval, at least one; if one is too many, longer waits.
fn share(interval: Duration, calls: u64, agents: usize, slowness: u32) -> Share {
    let agents = agents.max(1);
    let seconds = interval.as_secs_f64().max(0.001) * CALLS_PER_SECOND;
    let calls = calls.max(1) as f64;
    let all = |askers: usize| askers as f64 + if agents > askers { OTHERS } else { 0.0 };
    let affordable = (1..=ASKERS_MAX.min(agents)).rev().find(|&askers| all(askers) * calls <= seconds);
    let askers = affordable.unwrap_or(1);
    let others = agents - askers.min(agents);
    let needed = all(askers) * calls / CALLS_PER_SECOND;
    let wait = interval.max(Duration::from_secs_f64(needed.min(WAIT_MAX.as_secs_f64()))) * slowness;
    let wait = wait.min(WAIT_MAX.max(interval));
    let wait_other = (wait.as_secs_f64() * others.max(1) as f64 / OTHERS).min(WAIT_MAX.max(wait).as_secs_f64());
    Share { askers, wait, wait_other: Duration::from_secs_f64(wait_other) }
}

/// The share of one agent, as it changes: with the members, with what a look-up costs, and with throttling.
#[derive(Debug)]
pub(super) struct Rota {
    interval: Duration,
    local: watch::Receiver<Local>,
    clock: WallTime,
    /// The calls of the last look-up; none before the first.
    calls: AtomicU64,
    slowness: AtomicU64,
    last: Mutex<Last>,
}

/// The last look-up, or the beginning.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: Instant,
    /// Which part of the wait of an agent whose turn it is not this one takes, so that agents which asked together do not
    /// do so again.
    part: f64,
}

impl Last {
    fn now() -> Self {
        Self { at: Instant::now(), part: rand::rng().random_range(0.5..1.5) }
    }
}

impl Rota {
    pub(super) fn new(interval: Duration, local: watch::Receiver<Local>, clock: WallTime) -> Self {
        let (calls, slowness) = (AtomicU64::new(0), AtomicU64::new(1));
        Self { interval, local, clock, calls, slowness, last: Mutex::new(Last::now()) }
    }

    /// A look-up is over that made so many calls: how long this agent waits before it asks again, if it is its turn then.
    pub(super) fn wait_after(&self, calls: u64, throttled: bool) -> Duration {
        self.calls.store(calls.max(1), Ordering::Relaxed);
        let slowness = self.slowness.load(Ordering::Relaxed);
        let next = if throttled { (slowness * 2).min(SLOWNESS_MAX.into()) } else { (slowness / 2).max(1) };
        self.slowness.store(next, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Last::now();
        self.share().0.wait
    }

    fn share(&self) -> (Share, bool) {
        let local = self.local.borrow();
        let known = local.agents.len() + usize::from(!local.agents.contains(&local.agent));
        let slowness = u32::try_from(self.slowness.load(Ordering::Relaxed)).unwrap_or(SLOWNESS_MAX);
        let calls = self.calls.load(Ordering::Relaxed);
        let mut share = share(self.interval, calls, known, slowness);
        if calls == 0 {
            // What a look-up costs is not known here yet, so that only the first of all may begin.
            share.askers = 1;
        }
        (share, is_asker(turn((self.clock)()), local.agent, &local.agents, share.askers))
    }

    /// Resolves when this agent is to ask: at once if it is its turn, else when that comes, or when the wait of all others
    /// is over.
    pub(super) async fn turn_comes(&self) {
        let mut local = self.local.clone();
        let mut followed = true;
        loop {
            let (share, asks) = self.share();
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = share.wait_other.mul_f64(last.part).saturating_sub(last.at.elapsed());
            if asks || rest.is_zero() {
                return;
            }
            tokio::select! {
                changed = local.changed(), if followed => followed = changed.is_ok(),
                () = sleep(rest.min(until_next_turn((self.clock)()))) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(count: u128) -> BTreeSet<AgentId> {
        (1..=count).map(|id| AgentId(id * 0x9e37_79b9_7f4a_7c15)).collect()
    }

    #[test]
    fn exactly_as_many_ask_as_may_and_the_turns_go_round() {
        let all = agents(100);
        let mut asked: BTreeSet<AgentId> = BTreeSet::new();
        for turn in 0..200 {
            let askers: Vec<AgentId> = all.iter().copied().filter(|&me| is_asker(turn, me, &all, 3)).collect();
            assert_eq!(askers.len(), 3, "turn {turn}");
            asked.extend(askers);
        }
        assert!(asked.len() > 95, "only {} of 100 agents ever asked", asked.len());
    }

    #[test]
    fn who_knows_of_nobody_asks() {
        assert!(is_asker(7, AgentId(1), &BTreeSet::new(), 1));
        assert!(is_asker(7, AgentId(1), &[AgentId(1)].into(), 1));
    }

    #[test]
    fn each_half_of_a_split_cluster_has_its_askers_and_they_are_those_of_the_whole_or_more() {
        let all = agents(50);
        let half: BTreeSet<AgentId> = all.iter().copied().take(25).collect();
        for turn in 0..50 {
            let of = |known: &BTreeSet<AgentId>| -> BTreeSet<AgentId> {
                known.iter().copied().filter(|&me| is_asker(turn, me, known, 2)).collect()
            };
            let whole: BTreeSet<AgentId> = of(&all).intersection(&half).copied().collect();
            assert_eq!(of(&half).len(), 2);
            assert!(of(&half).is_superset(&whole));
        }
    }

    #[test]
    fn a_dead_asker_is_replaced_as_soon_as_membership_says_so() {
        let mut all = agents(10);
        let asker = all.iter().copied().find(|&me| is_asker(3, me, &all, 1)).expect("one asks");
        all.remove(&asker);
        assert_eq!(all.iter().filter(|&&me| is_asker(3, me, &all, 1)).count(), 1);
    }

    /// The calls a second of all agents together.
    fn rate(interval: Duration, calls: u64, agents: usize) -> f64 {
        let share = share(interval, calls, agents, 1);
        let others = agents - share.askers;
        let of_askers = share.askers as f64 / share.wait.as_secs_f64();
        let of_others = if others == 0 { 0.0 } else { others as f64 / share.wait_other.as_secs_f64() };
        calls as f64 * (of_askers + of_others)
    }

    #[test]
    fn a_cluster_makes_at_most_one_call_a_second() {
        let interval = Duration::from_secs(5);
        for agents in [1, 2, 3, 4, 10, 100, 500] {
            for calls in [1, 2, 3, 10, 200] {
                let rate = rate(interval, calls, agents);
                assert!(rate <= 1.001, "{agents} agents, {calls} calls a look-up: {rate} calls a second");
            }
        }
        // EC2 within its interval, with as many askers as there may be; ECS takes two calls and has one.
        assert_eq!(share(interval, 1, 100, 1).askers, 3);
        assert_eq!(share(interval, 1, 100, 1).wait, interval);
        assert_eq!(share(interval, 2, 100, 1).askers, 1);
        assert_eq!(share(interval, 2, 100, 1).wait, interval);
    }

    #[test]
    fn throttling_slows_all_waits_down() {
        let slow = share(Duration::from_secs(5), 1, 100, 8);
        assert_eq!(slow.wait, Duration::from_secs(40));
        assert!(slow.wait_other > Duration::from_secs(500));
    }
}
