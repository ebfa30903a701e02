//! How soon a change in a database or in etcd is a candidate: the median of 21 changes is held under 200 ms.

use std::time::Duration;

use metacluster_discovery::{sql::migrate::Migration, tls::TlsFiles};
use metacluster_testbed::{Contention, Etcd, Postgres, Tool, require};

use crate::support::{agent, announce};

const CHANGES: usize = 21;
const MEDIAN_MAX: Duration = Duration::from_millis(200);

/// From a node of one agent being there to its being a candidate of another: the write of the one and the notice of the other.
#[expect(clippy::print_stdout, reason = "the figure is what a person runs it for")]
async fn holds(source: &str, spec: &str) {
    let mut hears = agent(spec, 1, &[]);
    let speaks = agent(spec, 2, &["n0@h"]);
    hears.until(&["n0@h"]).await;
    let mut times = Vec::new();
    for at in 1..=CHANGES {
        let node = format!("n{at}@h");
        let begun = Contention::start();
        announce(&speaks, &[&node]);
        hears.until(&[&node]).await;
        times.push(begun.given());
    }
    times.sort();
    let (median, worst) = (times[CHANGES / 2], times[CHANGES - 1]);
    println!("{source}: median {median:?}, worst {worst:?}");
    assert!(median < MEDIAN_MAX, "{source}: median {median:?}, worst {worst:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_in_sqlite_is_a_candidate_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    holds("sqlite", &format!("sql:url=sqlite:{}/peers.db,interval=1h", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_in_postgresql_is_a_candidate_at_once() {
    if !require(&[Tool::Postgres]) {
        return;
    }
    let server = Postgres::start(&[]).expect("PostgreSQL");
    Migration::new(&server.url(), None, TlsFiles::default(), None).expect("valid").run().await.expect("the table");
    holds("postgresql", &format!("sql:url={},interval=1h", server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_in_etcd_is_a_candidate_at_once() {
    if !require(&[Tool::Etcd]) {
        return;
    }
    let server = Etcd::start().expect("etcd");
    holds("etcd", &format!("etcd:endpoints={},interval=1h", server.url())).await;
}
