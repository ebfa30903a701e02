//! What a message costs in two gateways, without sockets, and what a group member takes in memory.
//!
//! `cargo bench -p metacluster-federation`. One line a case: nanoseconds a message out of one cluster (the frame routed
//! and rewritten into a lane) and into the other (read from the link, rewritten for the node), and bytes a member.

#![expect(clippy::disallowed_methods, reason = "a bench has a clock; the machines that it runs have none")]

use std::{fmt::Write as _, io::Write as _, time::Duration, time::Instant as Clock};

use bytes::BytesMut;
use metacluster_erl_wire::{Atom, Control, Pid, Reference, Term, term};
use metacluster_federation::{ExportRule, Federation, GroupKey, Limits, LinkId, Output, Settings, Times};
use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Pattern, Place};

const HERE: LinkId = LinkId(1);
const NOW: Instant = Instant::from_origin(Duration::from_secs(1));

fn gateway(name: &str, number: u128) -> Federation {
    let rule = ExportRule { to: vec![Pattern::new("*")], scope: "pg".to_owned(), groups: vec![Pattern::new("*")] };
    let settings = Settings {
        cluster: ClusterName::new(name).expect("a name"),
        gateway: AgentId(number),
        epoch: 1,
        node: NodeName::new(&format!("metacluster@{name}")).expect("a name"),
        place: Place::default(),
        creation: 9,
        reference_mark: 4,
        exports: vec![rule],
        times: Times::default(),
        compress: false,
        limits: Limits { lane_bytes_max: 64 << 20, ..Limits::default() },
    };
    let mut machine = Federation::new(settings, NOW);
    machine.node_up(&NodeName::new(&format!("shop@{name}")).expect("a name"));
    machine
}

fn transmit(from: &mut Federation, to: &mut Federation) {
    while let Some(piece) = from.poll_transmit(NOW, HERE) {
        if let Some(head) = &piece.head {
            to.handle_link(NOW, HERE, head);
        }
        to.handle_link(NOW, HERE, &piece.body);
    }
}

/// Both until nothing is left; whom the second one publishes.
fn settle(east: &mut Federation, west: &mut Federation) -> Vec<Pid> {
    let mut published = Vec::new();
    loop {
        let mut quiet = true;
        while east.poll_output().is_some() {
            quiet = false;
        }
        while let Some(output) = west.poll_output() {
            quiet = false;
            if let Output::Publish { members, .. } = output {
                published.extend(members);
            }
        }
        transmit(east, west);
        transmit(west, east);
        if quiet {
            return published;
        }
    }
}

fn linked() -> (Federation, Federation) {
    let (mut east, mut west) = (gateway("east", 1), gateway("west", 2));
    east.link_opened(NOW, HERE, None, true);
    west.link_opened(NOW, HERE, None, false);
    settle(&mut east, &mut west);
    (east, west)
}

fn pid(node: &'static str, id: u32) -> Pid {
    Pid { node: Atom::from_static(node), id, serial: 0, creation: 7 }
}

fn group() -> GroupKey {
    let mut bytes = BytesMut::new();
    term::encode(&Term::atom("orders"), &mut bytes);
    GroupKey { scope: "pg".to_owned(), group: bytes.freeze() }
}

fn case(out: &mut String, name: &str, payload: &Term, rounds: u32) {
    let (mut east, mut west) = linked();
    east.local_joined(NOW, &group(), &[pid("shop@east", 1)]);
    let proxy = settle(&mut east, &mut west).remove(0);
    let mut body = BytesMut::new();
    let control = Control::SendSender { from: pid("shop@west", 2), to: proxy, trace: None };
    term::encode(&Term::from(control), &mut body);
    term::encode(payload, &mut body);
    let body = body.freeze();
    let (mut leaving, mut coming) = (Duration::ZERO, Duration::ZERO);
    let batch = 100;
    let mut delivered = 0;
    for _ in 0..rounds / batch {
        let start = Clock::now();
        for _ in 0..batch {
            west.handle_local(NOW, &body);
        }
        leaving += start.elapsed();
        while west.poll_output().is_some() {}
        let start = Clock::now();
        transmit(&mut west, &mut east);
        while let Some(output) = east.poll_output() {
            delivered += u32::from(matches!(output, Output::Deliver { .. }));
        }
        coming += start.elapsed();
    }
    assert_eq!(delivered, rounds / batch * batch, "all arrive");
    let nanoseconds = |time: Duration| time.as_nanos() / u128::from(delivered);
    let (leaving, coming) = (nanoseconds(leaving), nanoseconds(coming));
    writeln!(out, "{name}: {leaving} ns out, {coming} ns in, {} bytes a frame", body.len()).expect("a string");
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4_096
}

fn members(out: &mut String, count: u32) {
    let (mut east, mut west) = linked();
    let before = resident();
    let pids: Vec<Pid> = (0..count).map(|id| pid("shop@east", id)).collect();
    let own = resident() - before;
    let start = Clock::now();
    east.local_joined(NOW, &group(), &pids);
    let published = settle(&mut east, &mut west);
    let took = start.elapsed();
    assert_eq!(published.len(), pids.len());
    drop(published);
    let each = (resident() - before).saturating_sub(own) / u64::from(count) / 2;
    writeln!(out, "{count} members: {took:.0?}, about {each} bytes each a gateway").expect("a string");
}

fn main() {
    let mut out = String::new();
    case(&mut out, "100 bytes", &Term::binary([7; 100]), 200_000);
    let alias = Reference { node: Atom::from_static("shop@west"), creation: 7, ids: vec![1, 2, 3, 4, 5] };
    let call = term!({@"$gen_call", {(pid("shop@west", 2)), (&alias)}, {echo, 1}});
    case(&mut out, "gen_server:call", &call, 200_000);
    case(&mut out, "64 KiB", &Term::binary(vec![7; 64 << 10]), 5_000);
    members(&mut out, 100_000);
    // A closed pipe ends the talk.
    if std::io::stdout().write_all(out.as_bytes()).is_err() {}
}
