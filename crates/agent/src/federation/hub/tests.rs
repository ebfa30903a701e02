//! The time of links, on a clock that stands still until nothing else is to be done.

use std::collections::BTreeSet;

use metacluster_federation::{Limits, Settings, Times};
use metacluster_types::Place;

use super::*;

fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).expect("a name")
}

async fn hub(name: &str, number: u128, clock: Clock) -> Arc<Hub> {
    let node = Node::builder(&format!("metacluster@{name}")).cookie("secret").start().await.expect("a node");
    let settings = Settings {
        cluster: cluster(name),
        gateway: AgentId(number),
        epoch: 1,
        node: node.name().clone(),
        place: Place::default(),
        creation: node.creation(),
        reference_mark: node.mark_of_relay(),
        exports: Vec::new(),
        times: Times::default(),
        compress: false,
        limits: Limits::default(),
    };
    Hub::new(Federation::new(settings, clock.now()), clock, node, EventLog::new(cluster(name), 10))
}

/// Timers count in milliseconds, and the clock goes on a little while there is something to do.
const SLACK: Duration = Duration::from_millis(20);

/// What is to be written to a link now.
fn taken(hub: &Hub, link: LinkId) -> Vec<u8> {
    let mut pieces = Vec::new();
    hub.take(link, &mut pieces, Squeezed::default());
    let bytes = |piece: Piece| [piece.head.as_ref().map_or(&[][..], |head| head), &piece.body].concat();
    pieces.into_iter().flat_map(bytes).collect()
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_up_is_pinged_in_time_though_nothing_else_happens() {
    let clock = Clock::start();
    let (east, west) = (hub("east", 1, clock).await, hub("west", 2, clock).await);
    let keeper = tokio::spawn(Arc::clone(&east).keep_time());
    let ((here, outlet), (there, _)) = (east.open(cluster("west"), true), west.open(cluster("east"), false));
    // The keeper knows the time by which a link must have said who it is.
    tokio::time::sleep(Duration::from_millis(1)).await;
    loop {
        let (out, back) = (taken(&east, here), taken(&west, there));
        if out.is_empty() && back.is_empty() {
            break;
        }
        west.received(there, &out);
        east.received(here, &back);
    }
    let linked: BTreeSet<_> = east.status().gateways.iter().map(|gateway| gateway.cluster.clone()).collect();
    assert_eq!(linked, BTreeSet::from([cluster("west")]));
    // What woke the writer until now is written.
    drop(timeout(Duration::from_millis(1), outlet.ready()).await);
    let ping_after = Times::default().ping_after;
    timeout(ping_after + SLACK, outlet.ready()).await.expect("a ping");
    assert!(!taken(&east, here).is_empty());

    // Nothing comes back, and the link is found dead in time, too.
    let gone =
        timeout(Times::default().dead_after + SLACK, outlet.given_up(Duration::ZERO)).await.expect("it is given up");
    assert_eq!(gone.reason, CloseReason::Silent);
    keeper.abort();
}
