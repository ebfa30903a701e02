//! The strategy against kmock, over TLS and with its real watch streams. The talk with kmock blocks, so the strategy has a
//! thread of its own.

use metacluster_discovery::trial::{PATIENCE, Trial};
use metacluster_testbed::{Contention, Kmock, Tool, endpoint, endpoint_slice, require};
use metacluster_types::SourceUpdate;
use tokio::time::Instant;

use crate::pod;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

fn start() -> Option<Kmock> {
    require(&[Tool::Kmock]).then(|| Kmock::start().expect("kmock"))
}

fn spec(kmock: &Kmock, rest: &str) -> String {
    let kubeconfig = kmock.kubeconfig().expect("a kubeconfig");
    format!("kubernetes:kubeconfig={},basename=shop,{rest}", kubeconfig.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn endpoints_come_change_and_go() {
    let Some(kmock) = start() else { return };
    let first = endpoint_slice("shop", "a", "shop", &[endpoint("shop-0", "10.0.0.4")]);
    kmock.apply(SLICES, &first).expect("applied");
    let mut trial = Trial::of(&spec(&kmock, "service=shop"));
    trial.until(&["shop@10.0.0.4"]).await;
    kmock.wait_for_watches("endpointslices", 1).expect("a watch");
    let both = endpoint_slice("shop", "a", "shop", &[endpoint("shop-0", "10.0.0.4"), endpoint("shop-1", "10.0.0.5")]);
    kmock.apply(SLICES, &both).expect("applied");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    kmock.apply(SLICES, &endpoint_slice("shop", "b", "shop", &[endpoint("shop-2", "10.0.0.6")])).expect("applied");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5", "shop@10.0.0.6"]).await;
    kmock.delete(SLICES, "a").expect("deleted");
    trial.until(&["shop@10.0.0.6"]).await;
    trial.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pods_of_all_namespaces_in_one_watch_and_of_some_in_several() {
    let Some(kmock) = start() else { return };
    for (namespace, name, address) in
        [("shop", "a", "10.0.0.4"), ("other", "b", "10.0.0.5"), ("third", "c", "10.0.0.6")]
    {
        kmock.apply(&format!("/api/v1/namespaces/{namespace}/pods"), &pod(namespace, name, address)).expect("applied");
    }
    let mut all = Trial::of(&spec(&kmock, "resource=pods,selector=app=shop,namespace=*"));
    all.until(&["shop@10.0.0.4", "shop@10.0.0.5", "shop@10.0.0.6"]).await;
    all.stop().await;
    kmock.forbid("/namespaces/other/").expect("forbidden");
    let mut some = Trial::of(&spec(&kmock, "resource=pods,selector=app=shop,namespace=shop,other"));
    some.until(&["shop@10.0.0.4"]).await;
    kmock.forbid("").expect("allowed");
    some.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    some.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rotated_token_is_followed() {
    let Some(kmock) = start() else { return };
    kmock.apply(SLICES, &endpoint_slice("shop", "a", "shop", &[endpoint("shop-0", "10.0.0.4")])).expect("applied");
    let mut trial = Trial::of(&spec(&kmock, "service=shop,idle_timeout=1s"));
    trial.until(&["shop@10.0.0.4"]).await;
    kmock.accept_token("token-2").expect("accepted");
    trial.until_failed_with("401 Unauthorized").await;
    assert_eq!(trial.names(), ["shop@10.0.0.4"], "what is up stays up");
    kmock.write_token("token-2").expect("written");
    kmock.apply(SLICES, &endpoint_slice("shop", "b", "shop", &[endpoint("shop-1", "10.0.0.5")])).expect("applied");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rotated_authority_is_followed() {
    let Some(kmock) = start() else { return };
    kmock.apply(SLICES, &endpoint_slice("shop", "a", "shop", &[endpoint("shop-0", "10.0.0.4")])).expect("applied");
    let mut trial = Trial::of(&spec(&kmock, "service=shop,idle_timeout=1s"));
    trial.until(&["shop@10.0.0.4"]).await;
    kmock.rotate_authority().expect("rotated");
    trial.until_failed_with("the certificate of the Kubernetes API is not trusted").await;
    kmock.trust().expect("trusted");
    kmock.apply(SLICES, &endpoint_slice("shop", "b", "shop", &[endpoint("shop-1", "10.0.0.5")])).expect("applied");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_api_that_hangs_dies_and_returns_changes_nothing_by_that() {
    let Some(kmock) = start() else { return };
    let slice = endpoint_slice("shop", "a", "shop", &[endpoint("shop-0", "10.0.0.4")]);
    kmock.apply(SLICES, &slice).expect("applied");
    let mut trial = Trial::of(&spec(&kmock, "service=shop,idle_timeout=1s,timeout=1s"));
    trial.until(&["shop@10.0.0.4"]).await;
    kmock.pause().expect("paused");
    let line = trial.until_failed().await;
    assert!(line.contains("did not answer within 1s") || line.contains("cannot be reached"), "{line}");
    kmock.resume().expect("resumed");
    // An answer says that it is well again.
    let deadline = Instant::now() + PATIENCE;
    while !matches!(trial.next().await, SourceUpdate::Snapshot(_)) {
        assert!(Instant::now() < deadline, "it does not recover");
    }
    let kmock = kmock.restart().expect("kmock");
    let both = endpoint_slice("shop", "a", "shop", &[endpoint("shop-0", "10.0.0.4"), endpoint("shop-1", "10.0.0.5")]);
    kmock.apply(SLICES, &both).expect("applied");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_is_a_candidate_within_200_milliseconds() {
    let Some(kmock) = start() else { return };
    let mut trial = Trial::of(&spec(&kmock, "service=shop,node_labels=false"));
    trial.until(&[]).await;
    kmock.wait_for_watches("endpointslices", 1).expect("a watch");
    let mut endpoints = Vec::new();
    let mut took = Vec::new();
    for n in 0..21 {
        endpoints.push(endpoint(&format!("shop-{n}"), &format!("10.0.1.{n}")));
        let changed = endpoint_slice("shop", "a", "shop", &endpoints);
        // From before the change is even sent.
        let began = Contention::start();
        kmock.apply(SLICES, &changed).expect("applied");
        trial.until_candidates("one more", |found| found.len() == endpoints.len()).await;
        took.push(began.given());
    }
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("a change in Kubernetes is a candidate after {median:?} (median of {}), {most:?} at most", took.len());
    // The median, so that a machine which stands still for a moment does not count.
    assert!(median.as_millis() < 200, "{took:?}");
    trial.stop().await;
}
