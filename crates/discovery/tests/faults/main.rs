//! What a source may do, and what no strategy makes of it.
//!
//! [`table`] says for every strategy which test shows which fault, or why there is no such fault. Whatever happens, the
//! strategy says in one line what is wrong, changes no candidate and no host, takes no more than so many bytes, and finds
//! what is new once the source is well again. [`sources`] commit the faults that are shown here.

mod sources;
mod table;

use std::{net::Ipv4Addr, time::Duration};

use metacluster_discovery::trial::{PATIENCE_WITH_FAILURES, Trial};
use metacluster_testbed::Wire;

use self::{
    sources::Source,
    table::{Fault, Shown, row},
};

/// A strategy may take this much of one answer: 64 MiB and what sockets hold.
const BYTES_MAX: usize = 80 << 20;
/// Slower than anybody waits.
const SLOW: Duration = Duration::from_secs(30);
/// How long a test waits for a file that the strategy reads at the same time.
const BUSY_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may take: nobody waits longer for one that never comes, and a busy machine gives it in this time.
const TIMEOUT: &str = "3s";
/// The same where the answer holds very many hosts.
const TIMEOUT_MANY: &str = "60s";

fn host(at: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 7, 0, 0).to_bits() + at)
}

fn hosts(count: u32) -> Vec<Ipv4Addr> {
    (1..=count).map(host).collect()
}

async fn until(trial: &mut Trial, source: &impl Source, hosts: &[Ipv4Addr]) {
    let nodes: Vec<String> = hosts.iter().map(|&host| source.node(host)).collect();
    trial.until(&nodes.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Holds a source to all that its row of the table says is shown here.
async fn withstands(name: &str, mut source: impl Source) {
    let row = row(name);
    let here = |fault: Fault| *row.shown(fault) == Shown::Here;
    let mut known = hosts(2);
    source.set(&known);
    let mut trial = Trial::of(&source.spec(TIMEOUT)).patient(PATIENCE_WITH_FAILURES);
    until(&mut trial, &source, &known).await;
    for (fault, at) in Fault::ALL.into_iter().zip(100..) {
        let Some(wire) = fault.wire().filter(|_| here(fault)) else { continue };
        trial.endures(source.says(wire), || source.wire(wire)).await;
        if wire == Wire::Flood && source.drunk().is_some() {
            trial.until_taken(|| source.drunk().unwrap_or_default()).await;
        }
        // What is new meanwhile is known once the source is well again.
        source.wire(Wire::Good);
        known.push(host(at));
        source.set(&known);
        until(&mut trial, &source, &known).await;
    }
    if let Some(drunk) = source.drunk() {
        assert!((1..BYTES_MAX).contains(&drunk), "{drunk} bytes of one answer were taken");
    }
    if here(Fault::Forgets) {
        // The strategy tells it as it is; that such an answer is doubted is a rule for all sources.
        source.set(&[]);
        trial.until(&[]).await;
    }
    trial.stop().await;
    if here(Fault::Many) {
        source.set(&hosts(10_000));
        let mut trial = Trial::of(&source.spec(TIMEOUT_MANY)).patient(PATIENCE_WITH_FAILURES);
        let most = source.hosts_max();
        trial.until_candidates(&format!("{most} candidates"), |found| found.len() == most).await;
        trial.stop().await;
    }
}

macro_rules! each {
    ($($test:ident: $name:literal, $source:expr;)*) => {
        /// The rows whose faults are committed here.
        const COMMITTED: &[&str] = &[$($name),*];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(source) = $source {
                    withstands($name, source).await;
                }
            }
        )*
    };
}

each! {
    consul_withstands_the_table: "consul", sources::consul();
    dns_withstands_the_table: "dns", sources::dns();
    epmd_withstands_the_table: "epmd", sources::epmd();
    etcd_withstands_the_table: "etcd", sources::etcd();
    exec_withstands_the_table: "exec", sources::exec();
    file_withstands_the_table: "file", sources::file();
    kubernetes_withstands_the_table: "kubernetes", sources::kubernetes();
    launch_data_withstands_the_table: "launch-data, a file", sources::launch_data();
    postgresql_withstands_the_table: "sql, PostgreSQL", sources::postgresql();
    rancher_withstands_the_table: "rancher", sources::rancher();
    sqlite_withstands_the_table: "sql, SQLite", sources::sqlite();
}
