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
/// A cluster that comes up as one has no askers yet: each agent asks once.
const START: Duration = Duration::from_secs(60);
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

/// The look-ups of all agents together, once all have asked for the first time.
async fn looks_of_a_cluster(calls: u32) -> Vec<Instant> {
    ORIGIN.set(Some(Instant::now()));
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
            agents: agents.clone(),
            port: None,
        };
        let (keeper, local) = watch::channel(local);
        let (updates, mut reader) = mpsc::channel(16);
        let (feed, switch) = Feed::new(TopologyName::new("ec2").expect("a name"), local, updates);
        let caller = Caller::new(Account::given("http://127.0.0.1:1", credentials()), Duration::from_secs(5));
        let looks = Arc::clone(&looks);
        tasks.spawn(async move {
            let make = move |_| Counted { calls, looks: Arc::clone(&looks) };
            let hears = async { while reader.recv().await.is_some() {} };
            tokio::join!(asking.run_as(&feed, caller, make), hears);
            drop((keeper, switch));
        });
    }
    sleep(START + WATCHED).await;
    tasks.shutdown().await;
    let begun = ORIGIN.get().expect("it was set") + START;
    let looks = std::mem::take(&mut *looks.lock().unwrap_or_else(PoisonError::into_inner));
    looks.into_iter().filter(|&at| at >= begun).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_agents_make_a_call_a_second_at_most_and_every_interval_has_a_look() {
    for calls in [1, 2, 4] {
        let looks = looks_of_a_cluster(calls).await;
        let rate = looks.len() as f64 * f64::from(calls) / WATCHED.as_secs_f64();
        assert!(rate <= 1.0, "{calls} calls a look-up: {rate:.3} calls a second");
        let longest = looks.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
        // The interval with its jitter, and what the calls take; with four calls a second's budget is the bound.
        let bound = Duration::from_secs_f64(5.5_f64.max(2.5 * f64::from(calls))) + CALL * calls;
        assert!(longest <= bound, "{calls} calls a look-up: nobody looked for {longest:?}");
    }
}
