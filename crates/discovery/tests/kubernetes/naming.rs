//! What hosts and their nodes are called, where they are, and how they end.

use metacluster_discovery::trial::Trial;
use metacluster_types::{Host, HostState};
use serde_json::{Value, json};

use crate::{
    event, list, pod,
    script::{Live, Script},
    slice,
};

/// A strategy of pods that knows these, and its watch.
async fn pods(script: &mut Script, rest: &str, items: &[Value]) -> (Trial, Live) {
    let trial = Trial::of(&script.spec(&format!("resource=pods,selector=app=shop{rest}")));
    let ask = script.list().await;
    assert_eq!(ask.path, "/api/v1/namespaces/shop/pods");
    ask.json(&list(items, "10", ""));
    let live = script.watch("10").await.stream();
    (trial, live)
}

fn ended(hosts: &[Host]) -> Vec<&str> {
    let ended = hosts.iter().filter(|host| host.state == HostState::Terminated);
    ended.filter_map(|host| host.instance.as_deref()).collect()
}

#[tokio::test]
async fn nodes_are_called_as_the_naming_says() {
    for (naming, names) in [
        ("ip", ["shop@10.0.0.4"]),
        ("dns", ["shop@10-0-0-4.shop.pod.k8s.example"]),
        ("hostname", ["shop@shop-0.shop.shop.svc.k8s.example"]),
    ] {
        let mut script = Script::start().await;
        let mut trial = Trial::of(&script.spec(&format!("service=shop,naming={naming},cluster_domain=k8s.example.")));
        let mut unnamed = slice("b", "x", "10.0.0.5", "4");
        unnamed["endpoints"][0]["hostname"] = Value::Null;
        unnamed["endpoints"][0]["conditions"]["ready"] = false.into();
        script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3"), unnamed], "10", ""));
        trial.until(&names).await;
        trial.stop().await;
    }
}

#[tokio::test]
async fn addresses_of_both_families_are_one_host_and_the_wanted_family_names_it() {
    let mut six = slice("b", "shop-0", "fd00::4", "4");
    six["addressType"] = "IPv6".into();
    for (rest, name) in [
        ("", "shop@10.0.0.4"),
        (",addresses=ipv6", "shop@fd00::4"),
        (",addresses=ipv6,naming=dns,cluster_domain=a.b", "shop@fd00--4.shop.pod.a.b"),
    ] {
        let mut script = Script::start().await;
        let mut trial = Trial::of(&script.spec(&format!("service=shop{rest}")));
        script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3"), six.clone()], "10", ""));
        trial.until(&[name]).await;
        assert_eq!(trial.hosts().len(), 1);
        trial.stop().await;
    }
}

#[tokio::test]
async fn a_pod_that_is_not_ready_is_a_host_and_no_candidate() {
    let mut script = Script::start().await;
    let mut starting = pod("shop", "b", "10.0.0.5");
    starting["status"]["conditions"][0]["status"] = "False".into();
    let (mut trial, live) = pods(&mut script, "", &[pod("shop", "a", "10.0.0.4"), starting]).await;
    trial.until(&["shop@10.0.0.4"]).await;
    assert_eq!(trial.hosts()[1].state, HostState::Pending);
    live.event(&event("MODIFIED", &pod("shop", "b", "10.0.0.5"))).await;
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_told_to_end_is_no_candidate_and_its_end_is_told() {
    let mut script = Script::start().await;
    let (mut trial, live) = pods(&mut script, "", &[pod("shop", "a", "10.0.0.4"), pod("shop", "b", "10.0.0.5")]).await;
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    let mut ending = pod("shop", "b", "10.0.0.5");
    ending["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
    live.event(&event("MODIFIED", &ending)).await;
    trial.until(&["shop@10.0.0.4"]).await;
    assert_eq!(trial.hosts()[1].state, HostState::Terminating);
    ending["status"]["phase"] = "Succeeded".into();
    live.event(&event("DELETED", &ending)).await;
    let hosts = trial.until_hosts("an end", |hosts| !ended(hosts).is_empty()).await;
    assert_eq!(ended(&hosts), ["uid-b"]);
    trial.stop().await;
}

#[tokio::test]
async fn a_pod_that_the_selector_left_has_not_ended() {
    let mut script = Script::start().await;
    let items = [pod("shop", "a", "10.0.0.4"), pod("shop", "b", "10.0.0.5"), pod("shop", "c", "10.0.0.6")];
    let (mut trial, live) = pods(&mut script, "", &items).await;
    live.event(&event("DELETED", &items[1])).await;
    let look = script.next().await;
    assert_eq!(look.path, "/api/v1/namespaces/shop/pods/b");
    look.json(&items[1]);
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.6"]).await;
    // One that was removed by force is not there.
    live.event(&event("DELETED", &items[2])).await;
    let look = script.next().await;
    assert_eq!(look.path, "/api/v1/namespaces/shop/pods/c");
    look.refuse(404, "NotFound", "pods \"c\" not found");
    let hosts = trial.until_hosts("an end", |hosts| !ended(hosts).is_empty()).await;
    assert_eq!(ended(&hosts), ["uid-c"], "b lives on under other labels");
    trial.stop().await;
}

#[tokio::test]
async fn zones_and_regions_are_those_of_the_nodes() {
    let mut script = Script::start().await;
    let spec = script.spec("service=shop").replace("node_labels=false,", "");
    let mut trial = Trial::of(&spec);
    script.list().await.json(&list(&[slice("a", "shop-0", "10.0.0.4", "3")], "10", ""));
    let mut live = None;
    for _ in 0..2 {
        let ask = script.next().await;
        if ask.path == "/api/v1/nodes" {
            let labels = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "eu-west-1"});
            ask.json(&list(&[json!({"metadata": {"name": "worker-1", "labels": labels}})], "10", ""));
        } else {
            live = Some(ask.stream());
        }
    }
    let region = |host: &Host| host.place.region.as_ref().map(ToString::to_string);
    let hosts = trial.until_hosts("a region", |hosts| hosts.iter().any(|host| region(host).is_some())).await;
    assert_eq!(region(&hosts[0]).as_deref(), Some("eu-west-1"));
    let zone = hosts[0].place.zone.as_ref().map(ToString::to_string);
    assert_eq!(zone.as_deref(), Some("eu-west-1a"), "the slice's own zone comes first");
    drop(live);
    trial.stop().await;
}

#[tokio::test]
async fn labels_are_tags_and_give_roles() {
    let mut script = Script::start().await;
    let mut labelled = pod("shop", "a", "10.0.0.4");
    labelled["metadata"]["labels"] = json!({"app": "shop", "role": "web,api"});
    let (mut trial, _live) = pods(&mut script, ",roles_from=role", &[labelled]).await;
    trial.until(&["shop@10.0.0.4"]).await;
    let host = &trial.hosts()[0];
    assert_eq!(host.tags["app"], "shop");
    assert_eq!(host.roles.iter().map(ToString::to_string).collect::<Vec<_>>(), ["api", "web"]);
    trial.stop().await;
}
