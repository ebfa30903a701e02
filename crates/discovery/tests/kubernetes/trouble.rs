//! What an API does wrong, and what is said of it: nothing that was known changes.

use metacluster_discovery::trial::Trial;
use metacluster_types::SourceUpdate;
use tokio::time::Instant;

use crate::{event, list, script::Script, slice};

/// A strategy that knows one candidate, and a watch that is asked for.
async fn knowing(script: &mut Script, rest: &str) -> Trial {
    let mut trial = Trial::of(&script.spec(rest));
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    trial.until(&["shop@10.0.0.4"]).await;
    trial
}

#[tokio::test]
async fn what_fails_is_told_and_changes_nothing() {
    let mut script = Script::start().await;
    let mut trial = knowing(&mut script, "service=shop,timeout=1s").await;
    script.watch("10").await.refuse(500, "InternalError", "etcd is away");
    assert_eq!(
        trial.until_failed().await,
        "endpointslices in the namespace `shop`: the Kubernetes API failed (500: etcd is away)"
    );
    // No answer at all.
    drop(script.watch("10").await);
    assert!(trial.until_failed().await.contains("did not answer within 1s (`timeout`)"));
    let live = script.watch("10").await.stream();
    live.raw("<html>502 Bad Gateway</html>\n").await;
    let line = trial.until_failed_with("cannot be read").await;
    assert!(line.contains("is it the API, or a proxy before it?"), "{line}");
    assert_eq!(trial.names(), ["shop@10.0.0.4"]);
    let live = script.watch("10").await.stream();
    live.event(&event("ADDED", &slice("b", "shop-1", "10.0.0.5", "11"))).await;
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn a_list_that_cannot_be_used_is_asked_for_again() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    script.list().await.raw("{\"items\": [{\"metadata\": ");
    assert!(trial.until_failed().await.contains("cannot be read"));
    let half = script.list().await.stream();
    half.raw("{\"items\": [").await;
    half.cut().await;
    assert!(trial.until_failed().await.contains("broke off"));
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    trial.until(&["shop@10.0.0.4"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn an_event_without_an_end_is_given_up() {
    let mut script = Script::start().await;
    let mut trial = knowing(&mut script, "service=shop").await;
    let live = script.watch("10").await.stream();
    let flood = tokio::spawn(async move {
        // The client hangs up somewhere within.
        for _ in 0..100 {
            live.raw(vec![b'x'; 1 << 20]).await;
        }
    });
    assert!(trial.until_failed().await.contains("sent more than 4194304 bytes at once"));
    assert!(flood.await.is_err(), "the client read all of it");
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    assert_eq!(trial.names(), ["shop@10.0.0.4"]);
    trial.stop().await;
}

#[tokio::test]
async fn a_403_names_the_verb_the_resource_and_the_rule() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    script.list().await.refuse(403, "Forbidden", "User \"system:serviceaccount:shop:agent\" cannot list");
    assert_eq!(
        trial.until_failed().await,
        "the Kubernetes API forbids to list endpointslices in the namespace `shop` (403 Forbidden: User \
         \"system:serviceaccount:shop:agent\" cannot list): add the rule {apiGroups: [\"discovery.k8s.io\"], resources: \
         [\"endpointslices\"], verbs: [\"list\", \"watch\"]} to a Role in `shop` and bind it to the agent's service account"
    );
    trial.stop().await;
}

#[tokio::test]
async fn without_the_right_to_watch_the_list_is_repeated() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    script.watch("10").await.refuse(403, "Forbidden", "");
    trial.until(&["shop@10.0.0.4"]).await;
    script.list().await.json(&list(&[slice("b", "shop-1", "10.0.0.5", "12")], "13", ""));
    trial.until(&["shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn a_forbidden_namespace_takes_no_other_down() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop,namespace=a,b"));
    let mut live = None;
    for _ in 0..3 {
        let ask = script.next().await;
        match (ask.path.contains("/namespaces/a/"), ask.is_watch()) {
            (true, _) => ask.refuse(403, "Forbidden", ""),
            (false, false) => ask.json(&list(&[slice("b", "shop-1", "10.0.0.5", "3")], "10", "")),
            (false, true) => live = Some(ask.stream()),
        }
    }
    // The answer of the one is told, and nothing failed.
    loop {
        match trial.next().await {
            SourceUpdate::Snapshot(_) if trial.names() == ["shop@10.0.0.5"] => break,
            SourceUpdate::Failed(line) => panic!("{line}"),
            SourceUpdate::Snapshot(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Found(_)
            | SourceUpdate::Lost(_)
            | SourceUpdate::Notes(_) => {}
        }
    }
    let live = live.expect("a watch");
    live.event(&event("ADDED", &slice("c", "shop-2", "10.0.0.6", "11"))).await;
    trial.until(&["shop@10.0.0.5", "shop@10.0.0.6"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn an_api_that_asks_for_rest_gets_it() {
    let mut script = Script::start().await;
    let mut trial = Trial::of(&script.spec("service=shop"));
    let began = Instant::now();
    script.list().await.refuse_with(429, "TooManyRequests", "", &[("retry-after", "2")]);
    assert!(trial.until_failed().await.contains("it asks for 2s of rest"));
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    assert!(began.elapsed().as_secs_f64() >= 2.0, "it was asked again after {:?}", began.elapsed());
    trial.until(&["shop@10.0.0.4"]).await;
    trial.stop().await;
}
