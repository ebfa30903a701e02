//! What a source may do, and what no strategy makes of it: one table of faults, and every source that is asked over TCP
//! behind a proxy that commits them.
//!
//! Whatever happens, the strategy says in one line what is wrong, changes no candidate and no host, takes no more than so
//! many bytes, and finds what is new once the source is well again. What only one protocol can do wrong (a status, a
//! missing right, a cursor that is too old) is tested beside the tests of its strategy. The strategies of AWS are driven in
//! the same way by their own tests, since only there they can be given credentials.

mod sources;

use std::net::Ipv4Addr;

use metacluster_discovery::trial::Trial;
use metacluster_testbed::{Proxy, Wire};

use self::sources::Source;

/// A strategy may take this much of one answer: 64 MiB and what sockets hold.
const BYTES_MAX: usize = 80 << 20;

fn host(at: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 7, 0, 0).to_bits() + at)
}

fn hosts(count: u32) -> Vec<Ipv4Addr> {
    (1..=count).map(host).collect()
}

async fn until(trial: &mut Trial, hosts: &[Ipv4Addr]) {
    let nodes: Vec<String> = hosts.iter().map(|host| format!("shop@{host}")).collect();
    trial.until(&nodes.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Holds a source to the table.
async fn withstands(source: impl Source) {
    source.set(&hosts(2));
    let mut proxy = Proxy::start(source.upstream()).expect("a proxy");
    let mut trial = Trial::of(&format!("{},timeout=1s", source.spec(proxy.address())));
    let mut known = hosts(2);
    until(&mut trial, &known).await;
    for (at, fault) in Wire::FAULTS.into_iter().enumerate() {
        trial.endures(source.name(), || proxy.set(fault).expect("set")).await;
        // What is new meanwhile is known once the source is well again.
        known.push(host(100 + u32::try_from(at).expect("few")));
        source.set(&known);
        proxy.set(Wire::Good).expect("set");
        until(&mut trial, &known).await;
    }
    assert!((1..BYTES_MAX).contains(&proxy.drunk()), "{} bytes of one answer were taken", proxy.drunk());

    // All are gone for one answer, which is for the guard to doubt, and then there are very many.
    source.set(&[]);
    trial.until(&[]).await;
    trial.stop().await;
    source.set(&hosts(10_000));
    let mut trial = Trial::of(&format!("{},timeout=20s", source.spec(source.upstream())));
    trial.until_candidates("10,000 candidates", |found| found.len() == 10_000).await;
    trial.stop().await;
}

macro_rules! each {
    ($($test:ident: $source:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(source) = $source {
                    withstands(source).await;
                }
            }
        )*
    };
}

each! {
    consul_withstands_the_table: sources::consul();
    etcd_withstands_the_table: sources::etcd();
    kubernetes_withstands_the_table: sources::kubernetes();
    postgresql_withstands_the_table: sources::postgresql();
    rancher_withstands_the_table: sources::rancher();
}
