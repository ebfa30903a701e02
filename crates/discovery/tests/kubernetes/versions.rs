//! Lists in pages, watches from a version on, bookmarks, versions that are too old.

use metacluster_discovery::trial::Trial;
use metacluster_types::SourceUpdate;
use serde_json::json;

use crate::{event, list, script::Script, slice, status};

/// The next update must be the hosts of an answer, and then its candidates: nothing failed.
async fn expect_answer(trial: &mut Trial, names: &[&str]) {
    loop {
        match trial.next().await {
            SourceUpdate::Snapshot(_) if trial.names() == names => return,
            SourceUpdate::Failed(line) => panic!("{line}"),
            SourceUpdate::Snapshot(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Found(_)
            | SourceUpdate::Lost(_)
            | SourceUpdate::Notes(_) => {}
        }
    }
}

#[tokio::test]
async fn a_watch_follows_the_list_and_goes_on_where_it_stopped_in_silence() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop,selector=tier=web"));
    let first = script.list().await;
    assert_eq!(first.path, "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices");
    assert_eq!(first.query["labelSelector"], "tier%3Dweb%2Ckubernetes.io%2Fservice-name%3Dshop");
    assert_eq!((first.query["limit"].as_str(), first.query.get("continue")), ("500", None));
    first.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", "page-2"));
    let second = script.list().await;
    assert_eq!(second.query["continue"], "page-2");
    second.json(&list(&[slice("b", "shop-1", "10.0.0.5", "4")], "10", ""));
    expect_answer(&mut trial, &["shop@10.0.0.4", "shop@10.0.0.5"]).await;

    let live = script.watch("10").await.stream();
    live.event(&event("ADDED", &slice("c", "shop-2", "10.0.0.6", "11"))).await;
    expect_answer(&mut trial, &["shop@10.0.0.4", "shop@10.0.0.5", "shop@10.0.0.6"]).await;
    live.event(&event("BOOKMARK", &json!({"metadata": {"resourceVersion": "40"}}))).await;
    drop(live);
    let live = script.watch("40").await.stream();
    live.event(&event("DELETED", &slice("a", "shop-0", "10.0.0.4", "41"))).await;
    expect_answer(&mut trial, &["shop@10.0.0.5", "shop@10.0.0.6"]).await;
    // Half an event is none, and comes again.
    live.raw(r#"{"type":"ADDED","object":{"metadata":{"name":"d""#).await;
    live.cut().await;
    let live = script.watch("41").await.stream();
    live.event(&event("ADDED", &slice("d", "shop-3", "10.0.0.7", "42"))).await;
    expect_answer(&mut trial, &["shop@10.0.0.5", "shop@10.0.0.6", "shop@10.0.0.7"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn a_version_that_is_too_old_is_listed_over_and_nothing_fails() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    expect_answer(&mut trial, &["shop@10.0.0.4"]).await;
    let live = script.watch("10").await.stream();
    live.event(&event("ADDED", &slice("b", "shop-1", "10.0.0.5", "11"))).await;
    live.event(&event("ERROR", &status(410, "Expired", "too old resource version: 11 (90)"))).await;
    script.list().await.json(&list(&[slice("c", "shop-2", "10.0.0.6", "80")], "95", ""));
    expect_answer(&mut trial, &["shop@10.0.0.6"]).await;
    let live = script.watch("95").await.stream();
    live.event(&event("BOOKMARK", &json!({"metadata": {"resourceVersion": "96"}}))).await;
    drop(live);
    script.watch("96").await.refuse(410, "Expired", "too old resource version");
    script.list().await.json(&list(&[slice("d", "shop-3", "10.0.0.7", "120")], "130", ""));
    expect_answer(&mut trial, &["shop@10.0.0.7"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn pages_that_grow_old_begin_anew() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    for _ in 0..3 {
        script.list().await.json(&list(&[slice("old", "shop-9", "10.0.0.9", "3")], "10", "page-2"));
        script.list().await.refuse(410, "Expired", "The provided continue parameter is too old");
    }
    let whole = script.list().await;
    assert_eq!(whole.query.get("limit"), None, "the fourth time all is asked for at once");
    whole.json(&list(&[slice("a", "shop-0", "10.0.0.4", "11")], "12", ""));
    expect_answer(&mut trial, &["shop@10.0.0.4"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_silent_for_too_long_is_begun_again() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop,idle_timeout=1s"));
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    let dead = script.watch("10").await.stream();
    let live = script.watch("10").await.stream();
    live.event(&event("ADDED", &slice("b", "shop-1", "10.0.0.5", "11"))).await;
    expect_answer(&mut trial, &["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    drop(dead);
    trial.stop().await;
}

#[tokio::test]
async fn ten_thousand_endpoints_are_one_answer() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    let slice = |number: usize| {
        let endpoints: Vec<_> = (0..100)
            .map(|n| metacluster_testbed::endpoint(&format!("shop-{number}-{n}"), &format!("10.1.{number}.{n}")))
            .collect();
        metacluster_testbed::endpoint_slice("shop", &format!("s{number}"), "shop", &endpoints)
    };
    let slices: Vec<_> = (0..100).map(slice).collect();
    script.list().await.json(&list(&slices[..50], "10", "page-2"));
    script.list().await.json(&list(&slices[50..], "10", ""));
    let found = trial.until_candidates("10,000 candidates", |found| found.len() == 10_000).await;
    assert_eq!(found[0].node.to_string(), "shop@10.1.0.0");
    assert_eq!(trial.hosts().len(), 10_000);
    trial.stop().await;
}
