//! `consul` against a fixture that follows the public API documents of Consul.

use std::time::{Duration, Instant};

use metacluster_discovery::trial::Trial;
use metacluster_testbed::{Consul, Contention, Said, Web, eventually};
use serde_json::{Value, json};

use crate::support::{agent, announce};

fn spec(consul: &Consul, more: &str) -> String {
    format!("consul:address={},service=web,interval=2s{more}", consul.url())
}

fn instance(id: &str, address: &str, node: Option<&str>) -> Value {
    json!({ "ID": id, "Address": address, "Tags": ["app=shop"], "Meta": node.map(|node| json!({ "node": node })) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_ends_the_wait_and_an_index_that_runs_back_begins_anew() {
    let consul = Consul::start().expect("a server");
    consul.change("dc1", |it| drop(it.instances.insert("1".into(), instance("1", "10.0.0.1", None))));
    let mut trial = Trial::of(&spec(&consul, ",basename=shop"));
    trial.until(&["shop@10.0.0.1"]).await;
    assert_eq!(trial.hosts()[0].tags["app"], "shop");
    let begun = Contention::start();
    consul.change("dc1", |it| drop(it.instances.insert("2".into(), instance("2", "10.0.0.2", Some("till@10.0.0.2")))));
    trial.until(&["shop@10.0.0.1", "shop@10.0.0.2"]).await;
    assert!(begun.given() < Duration::from_secs(10), "{:?}", begun.given());
    consul.change("dc1", |it| {
        it.index = 2;
        it.instances.remove("1");
    });
    trial.until(&["shop@10.0.0.2"]).await;
    let mut catalog = Trial::of(&spec(&consul, ",from=catalog"));
    catalog.until(&["till@10.0.0.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_never_waits_is_not_asked_without_rest() {
    let consul = Consul::start().expect("a server");
    consul.change("dc1", |it| it.index = 0);
    let mut trial = Trial::of(&spec(&consul, ""));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        trial.next().await;
    }
    let asked = consul.look(|it| it.asked);
    assert!(asked <= 5, "{asked} questions in 3 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn datacentres_are_one_answer_and_one_that_fails_keeps_its_peers() {
    let consul = Consul::start().expect("a server");
    for (centre, address) in [("dc1", "10.0.0.1"), ("dc2", "10.2.0.1")] {
        consul.change(centre, |it| drop(it.instances.insert("1".into(), instance("1", address, None))));
    }
    let mut trial = Trial::of(&spec(&consul, r",datacenters=*,basename=shop"));
    trial.until(&["shop@10.0.0.1", "shop@10.2.0.1"]).await;
    consul.change("dc2", |it| it.fails = Some(500));
    consul.change("dc1", |it| drop(it.instances.insert("2".into(), instance("2", "10.0.0.2", None))));
    trial.until(&["shop@10.0.0.1", "shop@10.0.0.2", "shop@10.2.0.1"]).await;
    consul.change("dc1", |it| it.fails = Some(500));
    trial.until_failed_with("No cluster leader").await;
    for centre in ["dc1", "dc2"] {
        consul.change(centre, |it| it.fails = None);
    }
    trial.until_candidates("an answer", |found| found.len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_are_registered_kept_up_registered_again_and_removed() {
    let consul = Consul::start().expect("a server");
    let mut one = agent(&spec(&consul, ",register=true,lease=2s"), 1, &["a@10.0.0.1"]);
    let two = agent(&spec(&consul, ",register=true,lease=2s"), 2, &["b@10.0.0.2"]);
    one.until(&["b@10.0.0.2"]).await;
    announce(&two, &["b@10.0.0.2", "c@10.0.0.2"]);
    one.until(&["b@10.0.0.2", "c@10.0.0.2"]).await;
    announce(&two, &["c@10.0.0.2"]);
    one.until(&["c@10.0.0.2"]).await;
    consul.change("dc1", |it| it.instances.clear());
    one.until(&["c@10.0.0.2"]).await;
    eventually(Duration::from_secs(60), "checks are kept up", || {
        let passes = consul.look(|it| it.passes);
        if passes > 2 { Ok(()) } else { Err(format!("{passes}")) }
    })
    .expect("passes");
    two.stop().await;
    one.until(&[]).await;
    one.stop().await;
    assert_eq!(consul.look(|it| it.instances.len()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_that_lacks_a_right_is_said_so_and_a_new_one_is_taken() {
    let consul = Consul::start().expect("a server");
    consul.change("dc1", |it| {
        it.token = Some("t0ken-2".into());
        it.instances.insert("1".into(), instance("1", "10.0.0.1", Some("a@10.0.0.1")));
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "t0ken-1\n").expect("written");
    let mut trial = Trial::of(&spec(&consul, &format!(",token_file={}", file.display())));
    let line = trial.until_failed_with("'service:read'").await;
    assert!(line.contains(r#"service "web" { policy = "read" }"#), "{line}");
    std::fs::write(&file, "t0ken-2\n").expect("written");
    trial.until(&["a@10.0.0.1"]).await;
    consul.change("dc1", |it| it.filtered = true);
    let line = trial.until_failed_with("keeps the instances").await;
    assert!(!line.contains("t0ken"), "{line}");
    assert_eq!(trial.names(), ["a@10.0.0.1"], "an answer that rights emptied is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn garbage_half_an_answer_and_silence_are_failures() {
    for (says, expected) in [
        (Said::ok("<html>"), "not Consul's"),
        (Said::ok("[]             ").half(), "broken"),
        (Said::never(), "did not answer within 300ms"),
        (Said::status(429, "slow down"), "429"),
    ] {
        let web = Web::start(move |_| says.clone()).expect("a server");
        let spec = format!("consul:address={},service=web,timeout=300ms", web.url());
        Trial::of(&spec).until_failed_with(expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_instances_are_one_answer() {
    let consul = Consul::start().expect("a server");
    consul.change("dc1", |it| {
        for at in 0..10_000 {
            let address = format!("10.1.{}.{}", at / 250, at % 250);
            it.instances.insert(at.to_string(), instance(&at.to_string(), &address, None));
        }
    });
    let mut trial = Trial::of(&spec(&consul, ",basename=shop"));
    trial.until_candidates("all", |found| found.len() == 10_000).await;
}
