//! Answers in the shapes that the reference of the API gives, and what becomes of them.

use metacluster_types::{HostState, Zone};

use super::*;
use crate::kubernetes::object::{self, Endpoint, EndpointSlice, Event, Item, Object, Pod, Target};

const SLICES: &[u8] = include_bytes!("../answers/endpointslices.json");
const PODS: &[u8] = include_bytes!("../answers/pods.json");

fn known<O: Object>(bytes: &[u8]) -> (Vec<O>, usize) {
    let page = object::page::<O>(bytes).expect("a page");
    let all = page.items.len();
    let known: Vec<O> = page.items.into_iter().filter_map(|item| matches_known(item)).collect();
    let odd = all - known.len();
    (known, odd)
}

fn matches_known<O>(item: Item<O>) -> Option<O> {
    if let Item::Known(object) = item { Some(object) } else { None }
}

/// The name, addresses, state and zone of each peer.
fn shown(peers: &[Peer]) -> Vec<String> {
    let line = |peer: &Peer| {
        let host = &peer.host;
        let zone = host.place.zone.as_ref().map_or("-", Zone::as_str).to_owned();
        format!("{} {:?} {:?} {zone}", host.name.as_deref().unwrap_or("-"), host.addresses, host.state)
    };
    peers.iter().map(line).collect()
}

#[test]
fn slices_of_all_families_make_one_host_a_pod() {
    let (slices, odd) = known::<EndpointSlice>(SLICES);
    assert_eq!(odd, 1, "the object of another shape spoils nothing");
    let peers = of_slices(&slices, true);
    assert_eq!(
        shown(&peers),
        [
            "shop-0 [10.0.1.4, fd00:10:0:1::4] Running eu-west-1a",
            "shop-1 [10.0.2.5] Pending eu-west-1b",
            "shop-2 [10.0.2.6] Terminating eu-west-1b",
            "- [192.0.2.7] Running -",
            "db.example.com [] Running -",
            "old-8 [192.0.2.8] Running -",
        ]
    );
    assert_eq!(peers[0].host.port, Some(45_900));
    assert_eq!(peers[0].host.instance.as_deref(), Some("pod-0"));
    assert_eq!(peers[0].host.tags.keys().collect::<Vec<_>>(), ["app", "tier"]);
    assert_eq!(
        (peers[0].namespace.as_str(), peers[0].service.as_str(), peers[0].hostname.as_deref()),
        ("prod", "shop", Some("shop-0"))
    );
}

#[test]
fn the_list_says_where_its_next_page_begins() {
    let page = object::page::<EndpointSlice>(SLICES).expect("a page");
    assert_eq!((page.metadata.resource_version.as_str(), page.metadata.next.as_str()), ("88123", "eyJ2IjoibWV0YSJ9"));
}

#[test]
fn what_is_not_ready_runs_if_that_is_wanted_and_what_ends_does_not() {
    let (slices, _) = known::<EndpointSlice>(SLICES);
    let states: Vec<HostState> = of_slices(&slices, false).iter().take(3).map(|peer| peer.host.state).collect();
    assert_eq!(states, [HostState::Running, HostState::Running, HostState::Terminating]);
}

#[test]
fn an_address_without_a_pod_runs_if_one_slice_says_so() {
    let of = |terminating: bool| Endpoint {
        addresses: vec!["192.0.2.7".to_owned()],
        conditions: object::Conditions { ready: Some(!terminating), terminating: Some(terminating) },
        ..Endpoint::default()
    };
    let slice = |endpoint| EndpointSlice { endpoints: vec![endpoint], ..EndpointSlice::default() };
    for slices in [[slice(of(true)), slice(of(false))], [slice(of(false)), slice(of(true))]] {
        assert_eq!(shown(&of_slices(&slices, true)), ["- [192.0.2.7] Running -"]);
    }
}

#[test]
fn an_endpoint_with_thousands_of_addresses_keeps_some() {
    let endpoint = Endpoint {
        addresses: (0..5000).map(|n| format!("10.1.{}.{}", n / 256, n % 256)).collect(),
        target_ref: Some(Target { uid: "pod-0".to_owned(), ..Target::default() }),
        ..Endpoint::default()
    };
    let slice = EndpointSlice { endpoints: vec![endpoint], ..EndpointSlice::default() };
    assert_eq!(of_slices([&slice, &slice], true)[0].host.addresses.len(), ADDRESSES_MAX);
}

#[test]
fn pods_have_their_phase_their_place_and_their_port() {
    let (pods, _) = known::<Pod>(PODS);
    let peers = of_pods(&pods, true);
    assert_eq!(
        shown(&peers),
        [
            "shop-0 [10.0.1.4, fd00:10:0:1::4] Running eu-west-1a",
            "starting [10.0.2.5] Pending -",
            "draining [10.0.2.6] Terminating -",
            "done [10.0.2.7] Terminated -",
        ]
    );
    let first = &peers[0];
    assert_eq!(first.host.port, Some(45_900));
    assert_eq!(first.host.place.region.as_ref().map(ToString::to_string).as_deref(), Some("eu-west-1"));
    assert_eq!(first.host.tags["role"], "web,api");
    assert_eq!((first.service.as_str(), first.hostname.as_deref()), ("shop", Some("shop-0")));
    assert_eq!(of_pods(&pods, false)[1].host.state, HostState::Running);
}

#[test]
fn the_end_of_a_pod_is_said_only_where_it_is_certain() {
    let (pods, _) = known::<Pod>(PODS);
    let ends: Vec<End> = pods.iter().map(end_of).collect();
    assert_eq!(ends, [End::Unknown, End::Unknown, End::Unknown, End::Ended, End::Unborn]);
    let mut draining = pods[2].clone();
    draining.status.container_statuses[0].state.terminated = Some(object::Empty {});
    assert_eq!(end_of(&draining), End::Ended, "each of its containers has stopped");
}

#[test]
fn events_are_read_as_the_api_writes_them() {
    let event = |line: &str| object::event::<Pod>(line.as_bytes());
    let pod = r#"{"metadata":{"name":"a","resourceVersion":"5"},"spec":{},"status":{"podIP":null}}"#;
    for (kind, is_so) in [("ADDED", true), ("MODIFIED", true), ("DELETED", false)] {
        let read = event(&format!(r#"{{"type":"{kind}","object":{pod}}}"#)).expect("an event");
        assert_eq!(matches!(read, Event::Applied(_)), is_so, "{kind}");
    }
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12746","creationTimestamp":null}}}"#;
    assert_eq!(event(bookmark).ok(), Some(Event::Bookmark("12746".to_owned())));
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (9)","reason":"Expired","code":410}}"#;
    assert!(
        matches!(event(gone), Ok(Event::Error(status)) if (status.code, status.reason.as_str()) == (410, "Expired"))
    );
    let bare = r#"{"kind":"Status","status":"Failure","message":"etcd is away","code":500}"#;
    assert!(matches!(event(bare), Ok(Event::Error(status)) if status.code == 500));
    assert_eq!(event(r#"{"type":"LATER","object":{"new":1}}"#).ok(), Some(Event::Odd));
    assert_eq!(event(r#"{"type":"ADDED","object":{"metadata":7}}"#).ok(), Some(Event::Odd));
    for garbage in ["<html>502</html>", r#"{"type":"ADDED","object":"#, "", "null"] {
        assert!(event(garbage).is_err(), "{garbage}");
    }
}
