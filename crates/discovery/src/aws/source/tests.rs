//! A cluster of a hundred agents on virtual time, with an API that counts.

use std::{cell::Cell, collections::BTreeSet};

use metacluster_types::{AgentId, ClusterName, Place, TopologyName};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::*;
use crate::{
    Local,
    aws::trial::{credentials, read},
    naming::Gives,
};

const AGENTS: u128 = 100;
/// How long a call takes.
const CALL: Duration = Duration::from_millis(80);
/// When the agents of a cluster that comes up as one have heard of one another.
const MEET: Duration = Duration::from_secs(2);
const WATCHED: Duration = Duration::from_secs(1200);

thread_local! {
    static ORIGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A time of day that goes with virtual time.
fn time_of_day() -> SystemTime {
    let since = ORIGIN.get().map_or(Duration::ZERO, |origin| origin.elapsed());
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + since
}

/// An API whose answer takes so many calls. It notes when each look-up was over.
struct Counted {
    calls: u32,
    looks: Arc<Mutex<Vec<Instant>>>,
}

impl Source for Counted {
    fn region(&self) -> &str {
        "eu-west-1"
    }

    async fn look(&self, caller: &Caller) -> Result<Vec<Host>, AwsError> {
        for _ in 0..self.calls {
            caller.count();
            sleep(CALL).await;
        }
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        Ok(Vec::new())
    }
}

/// The look-ups of all agents together, in seconds from their common beginning. If they know one another from the
/// beginning, that is in the middle of their life.
async fn looks_of_a_cluster(calls: u32, know_one_another: bool) -> Vec<f64> {
    let begun = Instant::now();
    ORIGIN.set(Some(begun));
    let looks: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let agents: BTreeSet<AgentId> = (1..=AGENTS).map(AgentId).collect();
    let cluster = ClusterName::new("main").expect("a name");
    let mut tasks = JoinSet::new();
    for &agent in &agents {
        let read_all = |reader: &mut Reader<'_>| {
            let naming = Naming::read(reader, Gives::Hosts);
            Asking::read(reader, naming)
        };
        let asking = read("ec2:region=eu-west-1", read_all).expect("valid settings");
        let asking = Asking { clock: time_of_day, ..asking };
        let local = Local {
            agent,
            cluster: cluster.clone(),
            place: Place::default(),
            nodes: BTreeSet::new(),
            agents: if know_one_another { agents.clone() } else { BTreeSet::new() },
            port: None,
        };
        let (keeper, local) = watch::channel(local);
        let (updates, mut reader) = mpsc::channel(16);
        let (feed, switch) = Feed::new(TopologyName::new("ec2").expect("a name"), local, updates);
        let caller = Caller::new(Account::given("http://127.0.0.1:1", credentials()), Duration::from_secs(5));
        let (looks, agents) = (Arc::clone(&looks), agents.clone());
        tasks.spawn(async move {
            let make = move |_| Counted { calls, looks: Arc::clone(&looks) };
            let hears = async { while reader.recv().await.is_some() {} };
            let meets = async {
                sleep(MEET).await;
                keeper.send_modify(|local| local.agents = agents);
            };
            tokio::join!(asking.run_as(&feed, caller, make), hears, meets);
            drop((keeper, switch));
        });
    }
    sleep(WATCHED).await;
    tasks.shutdown().await;
    let looks = std::mem::take(&mut *looks.lock().unwrap_or_else(PoisonError::into_inner));
    looks.into_iter().map(|at| at.duration_since(begun).as_secs_f64()).collect()
}

/// The most calls within any so many seconds.
fn most_within(looks: &[f64], calls: u32, seconds: f64) -> f64 {
    let within = |from: f64| looks.iter().filter(|&&at| (from..from + seconds).contains(&at)).count();
    looks.iter().map(|&from| within(from) as f64 * f64::from(calls)).fold(0.0, f64::max)
}

fn longest_gap(looks: &[f64]) -> f64 {
    looks.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

/// The interval with its jitter, and what the calls take; with four calls a second's budget is the bound. A timer goes off
/// up to a millisecond late.
fn gap_max(calls: u32) -> f64 {
    5.5_f64.max(2.5 * f64::from(calls)) + CALL.as_secs_f64() * f64::from(calls) + 0.001 * f64::from(calls + 1)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_agents_make_a_call_a_second_at_most_and_every_interval_has_a_look() {
    for calls in [1, 2, 4] {
        let looks = looks_of_a_cluster(calls, true).await;
        let rate = looks.len() as f64 * f64::from(calls) / WATCHED.as_secs_f64();
        assert!(rate <= 1.0, "{calls} calls a look-up: {rate:.3} calls a second");
        // Where a look-up of one of the others is many calls, a single minute may have more of them.
        let most = most_within(&looks, calls, 60.0);
        assert!(calls > 2 || most <= 60.0, "{calls} calls a look-up: {most} calls within a minute");
        let longest = longest_gap(&looks);
        assert!(longest <= gap_max(calls), "{calls} calls a look-up: nobody looked for {longest:.1} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_up_as_one_asks_once_each_and_then_by_turns() {
    for calls in [1, 2] {
        let looks = looks_of_a_cluster(calls, false).await;
        let (first, later): (Vec<f64>, Vec<f64>) = looks.into_iter().partition(|&at| at < MEET.as_secs_f64());
        // Nobody knows yet that another one asks too, and a first agent is not to wait.
        assert_eq!(first.len() as u128, AGENTS);
        let most = most_within(&later, calls, 60.0);
        assert!(most <= 60.0, "{calls} calls a look-up: {most} calls within a minute");
        assert!(longest_gap(&later) <= gap_max(calls), "{:.4} s", longest_gap(&later));
    }
}
