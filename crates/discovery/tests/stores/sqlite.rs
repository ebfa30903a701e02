//! `sql` over one file of SQLite that several agents share.

use std::time::Duration;

use metacluster_discovery::{sql::migrate::Migration, tls::TlsFiles, trial::Trial};
use metacluster_testbed::Contention;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{Mortal, agent, announce};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn spec(folder: &TempDir, more: &str) -> String {
    format!("sql:url=sqlite:{}/peers.db{more}", folder.path().display())
}

fn open(folder: &TempDir) -> Connection {
    let connection = Connection::open(folder.path().join("peers.db")).expect("the file");
    connection.busy_timeout(Duration::from_secs(5)).expect("set");
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_agents_of_one_host_find_one_another_and_who_leaves_is_gone_at_once() {
    let folder = folder();
    let names: Vec<String> = (0..10).map(|at| format!("n{at}@10.0.0.{at}")).collect();
    let mut trials: Vec<Trial> =
        names.iter().zip(1..).map(|(name, id)| agent(&spec(&folder, ",interval=1h"), id, &[name])).collect();
    for (at, trial) in trials.iter_mut().enumerate() {
        let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != names[at]).collect();
        trial.until(&others).await;
    }
    let zones = trials[0].hosts().iter().filter(|host| host.place.zone.is_some()).count();
    assert_eq!(zones, 9, "each row says where its agent is");
    let last = trials.pop().expect("ten");
    last.stop().await;
    for (at, trial) in trials.iter_mut().enumerate() {
        let others: Vec<&str> = names[..9].iter().map(String::as_str).filter(|name| *name != names[at]).collect();
        trial.until(&others).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_is_known_long_before_the_next_poll() {
    let folder = folder();
    let mut hears = agent(&spec(&folder, ",interval=1h"), 1, &[]);
    let speaks = agent(&spec(&folder, ",interval=1h"), 2, &["a@h1"]);
    hears.until(&["a@h1"]).await;
    for nodes in [&["a@h1", "b@h1"][..], &["b@h1"], &["c@h1", "d@h1"]] {
        let begun = Contention::start();
        announce(&speaks, nodes);
        hears.until(nodes).await;
        assert!(begun.given() < Duration::from_secs(5), "{nodes:?} took {:?}", begun.given());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_that_died_is_nobodys_peer_once_its_lease_ends_and_is_purged() {
    let folder = folder();
    let mut lives = agent(&spec(&folder, ",interval=500ms,lease=2s"), 1, &["a@h1"]);
    let dies = Mortal::start(&spec(&folder, ",lease=2s"), 2, &["b@h2"]);
    lives.until(&["b@h2"]).await;
    dies.die();
    lives.until(&[]).await;
    let rows = open(&folder);
    metacluster_testbed::eventually(Duration::from_secs(60), "the row is purged", || {
        let left: i64 = rows
            .query_row("SELECT count(*) FROM metacluster_nodes WHERE node = 'b@h2'", [], |row| row.get(0))
            .map_err(|error| error.to_string())?;
        if left == 0 { Ok(()) } else { Err(format!("{left} rows")) }
    })
    .expect("purged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_query_of_the_users_own_table_gives_nodes_and_hosts() {
    let folder = folder();
    let rows = open(&folder);
    rows.execute_batch(
        "CREATE TABLE nodes (node, ip, zone, state, tags);
         INSERT INTO nodes VALUES ('a@10.0.0.4', '10.0.0.4', 'z1', 'running', 'app=shop'), (NULL, '10.0.0.5', 'z2', NULL, NULL),
                                  ('c@10.0.0.6', '10.0.0.6', 'z2', 'terminated', NULL)",
    )
    .expect("a table");
    let mut trial = Trial::of(&spec(&folder, r",query=SELECT * FROM nodes,basename=a,interval=1h"));
    trial.until(&["a@10.0.0.4", "a@10.0.0.5"]).await;
    assert_eq!(trial.hosts().len(), 3, "terminated ones are told too");
    rows.execute("INSERT INTO nodes VALUES ('a@10.0.0.7', '10.0.0.7', 'z1', NULL, NULL)", []).expect("a row");
    trial.until(&["a@10.0.0.4", "a@10.0.0.5", "a@10.0.0.7"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_wrong_is_said_in_a_line_and_the_peers_stay() {
    let folder = folder();
    let rows = open(&folder);
    rows.execute_batch("CREATE TABLE nodes (node); INSERT INTO nodes VALUES ('a@h')").expect("a table");
    let mut trial = Trial::of(&spec(&folder, ",query=SELECT * FROM nodes,interval=100ms"));
    trial.until(&["a@h"]).await;
    rows.execute_batch("ALTER TABLE nodes RENAME COLUMN node TO hostname").expect("renamed");
    let line = trial.until_failed_with("the columns `hostname`").await;
    assert!(line.contains("AS node"), "{line}");
    rows.execute_batch("ALTER TABLE nodes RENAME TO machines").expect("renamed");
    loop {
        let line = trial.until_failed().await;
        if line.contains("no such table: nodes") {
            break;
        }
    }
    assert_eq!(trial.names(), ["a@h"], "a look-up that fails changes nothing");
    rows.execute_batch("CREATE TABLE nodes AS SELECT 'b@h' AS node").expect("a table");
    trial.until(&["b@h"]).await;

    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is no database, and it is longer than the header of one would be").expect("written");
    Trial::of(&format!("sql:url=sqlite:{}", path.display())).until_failed_with("is no database of SQLite").await;
    Trial::of("sql:url=sqlite:/nonexistent/peers.db").until_failed_with("does the folder exist").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_removed_or_replaced_is_opened_anew_and_costs_no_candidate() {
    let folder = folder();
    let mut one = agent(&spec(&folder, ",interval=200ms"), 1, &["a@h1"]);
    let two = agent(&spec(&folder, ",interval=200ms"), 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(folder.path().join(format!("peers.db{end}"))).ok();
    }
    let line = one.until_failed().await;
    assert!(line.contains("peers.db") && (line.contains("any more") || line.contains("replaced")), "{line}");
    assert_eq!(one.names(), ["b@h2"]);
    // Both meet in the new one.
    announce(&two, &["c@h2"]);
    one.until(&["c@h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_query_without_end_is_stopped_and_one_without_bounds_is_refused() {
    let folder = folder();
    open(&folder).execute_batch("CREATE TABLE nodes (node)").expect("a table");
    let endless = r"WITH RECURSIVE n(node) AS (SELECT 'a@h' UNION ALL SELECT node FROM n) SELECT";
    let mut hangs = Trial::of(&spec(&folder, &format!(",query={endless} count(*) AS node FROM n,timeout=200ms")));
    hangs.until_failed_with("did not answer within 200ms").await;
    hangs.stop().await;
    let mut floods = Trial::of(&spec(&folder, &format!(",query={endless} node FROM n,timeout=30s")));
    floods.until_failed_with("more than 20000 rows").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_peers_are_one_answer() {
    let folder = folder();
    open(&folder)
        .execute_batch(
            "CREATE TABLE nodes AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
             SELECT 'shop@10.0.' || (i / 250) || '.' || (i % 250) AS node FROM n",
        )
        .expect("a table");
    let mut trial = Trial::of(&spec(&folder, ",query=SELECT * FROM nodes"));
    let found = trial.until_candidates("10,000 candidates", |found| found.len() == 10_000).await;
    assert_eq!(found.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_migration_may_be_repeated_and_the_table_may_have_another_name() {
    let folder = folder();
    let url = format!("sqlite:{}/peers.db", folder.path().display());
    let migration = Migration::new(&url, Some("ours"), TlsFiles::default(), None).expect("a migration");
    for _ in 0..2 {
        migration.run().await.expect("it runs");
    }
    let mut one = agent(&spec(&folder, ",table=ours"), 1, &["a@h1"]);
    let _two = agent(&spec(&folder, ",table=ours"), 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
    assert!(Migration::new(&url, Some("ours; DROP"), TlsFiles::default(), None).is_err());
}
