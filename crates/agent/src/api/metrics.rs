//! `GET /metrics`: the Prometheus text format, version 0.0.4.

use std::fmt::Write as _;

use axum::{
    extract::State as Extract,
    http::header,
    response::{IntoResponse, Response},
};

use super::State;
use crate::{
    handlers::Stats,
    view::{CandidateState, MemberState, NodeState, TopologyState, View},
};

pub(super) async fn metrics(Extract(state): Extract<State>) -> Response {
    let text = render(&state.current(), state.events.last_seq(), &state.handlers, state.uptime_seconds());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Every metric, each with its help and type.
pub(super) fn render(view: &View, events: u64, handlers: &Stats, uptime_seconds: u64) -> String {
    let mut page = Page(String::new());
    let agent = &view.agent;
    page.family("metacluster_info", "gauge", "The agent: always 1.");
    let place = agent.zone.as_ref().map_or("", |zone| zone.as_str());
    let labels = [("version", agent.version.as_str()), ("cluster", agent.cluster.as_str()), ("zone", place)];
    page.sample("metacluster_info", &labels, 1);
    page.single("metacluster_uptime_seconds", "gauge", "Time since the agent started.", uptime_seconds);
    page.single("metacluster_ready", "gauge", "1 when clustered as asked.", view.readiness.ready.into());

    page.family("metacluster_nodes", "gauge", "Known nodes by state.");
    for (label, state) in [("up", NodeState::Up), ("down", NodeState::Down)] {
        let count = view.nodes.iter().filter(|node| node.state == state).count();
        page.sample("metacluster_nodes", &[("state", label)], count as u64);
    }
    let local = view.nodes.iter().filter(|node| node.local).count();
    page.single("metacluster_local_nodes", "gauge", "Nodes of this host that the agent looks after.", local as u64);

    let counters = view.counters;
    page.single("metacluster_links", "gauge", "Links between nodes of this host and peers.", counters.links);
    page.single("metacluster_dials_total", "counter", "Dials ordered.", counters.dials);
    page.single("metacluster_dials_failed_total", "counter", "Dials that failed.", counters.dials_failed);
    page.single("metacluster_drops_total", "counter", "Links dropped on order.", counters.drops);

    members(&mut page, view);

    page.family("metacluster_topology_up", "gauge", "1 when the topology's last look-up succeeded.");
    for topology in &view.topologies {
        let labels = [("topology", topology.name.as_str()), ("strategy", topology.strategy.as_str())];
        page.sample("metacluster_topology_up", &labels, u64::from(topology.state == TopologyState::Ok));
    }
    page.family("metacluster_candidates", "gauge", "Peers that the topology found.");
    for topology in &view.topologies {
        let labels = [("topology", topology.name.as_str())];
        page.sample("metacluster_candidates", &labels, topology.candidates.len() as u64);
    }
    page.family("metacluster_candidates_failing", "gauge", "Peers whose last dial failed.");
    for topology in &view.topologies {
        let failing = topology.candidates.iter().filter(|peer| peer.state == CandidateState::Failing).count();
        page.sample("metacluster_candidates_failing", &[("topology", topology.name.as_str())], failing as u64);
    }

    page.single("metacluster_events_total", "counter", "Events published.", events);
    let counts = handlers.counts();
    page.family("metacluster_handler_runs_total", "counter", "Commands of handlers by how they ended.");
    for (outcome, count) in [
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("timed_out", counts.timed_out),
        ("stopped", counts.stopped),
    ] {
        page.sample("metacluster_handler_runs_total", &[("outcome", outcome)], count);
    }
    let help = "Events that no command saw, since its queue was full.";
    page.single("metacluster_handler_overflow_total", "counter", help, counts.overflowed);
    page.0
}

/// What is known and counted of members.
fn members(page: &mut Page, view: &View) {
    page.family("metacluster_members", "gauge", "Known members by state.");
    for state in [MemberState::Alive, MemberState::Suspect, MemberState::Failed, MemberState::Left] {
        let count = view.members.iter().filter(|member| member.state == state).count();
        page.sample("metacluster_members", &[("state", state.as_str())], count as u64);
    }
    let counters = view.member_counters;
    page.family("metacluster_members_packets_total", "counter", "Packets of members by direction.");
    let directions =
        [("sent", counters.packets_sent), ("received", counters.packets_received), ("lost", counters.packets_lost)];
    for (direction, count) in directions {
        page.sample("metacluster_members_packets_total", &[("direction", direction)], count);
    }
    let help = "Bytes sent to members, without what sealing and the network add.";
    page.single(
        "metacluster_members_sent_bytes_total",
        "counter",
        help,
        counters.bytes_sent + counters.stream_bytes_sent,
    );
    page.family("metacluster_members_refused_total", "counter", "Packets refused by reason.");
    for (reason, count) in [
        ("foreign", counters.foreign),
        ("malformed", counters.malformed),
        ("incompatible", counters.incompatible),
        ("wrong_key", counters.wrong_key),
        ("forged", counters.forged),
        ("plain", counters.plain),
        ("replayed", counters.replayed),
        ("stale", counters.stale),
        ("own", counters.own),
        ("lies", counters.lies),
    ] {
        page.sample("metacluster_members_refused_total", &[("reason", reason)], count);
    }
    for (name, help, count) in [
        ("metacluster_members_probes_total", "Probes sent.", counters.probes),
        ("metacluster_members_probes_failed_total", "Probes without any answer.", counters.probes_failed),
        ("metacluster_members_failed_total", "Members that were held failed here.", counters.failed),
        ("metacluster_members_refuted_total", "Suspicions of this member that it refuted.", counters.refuted),
        ("metacluster_members_pauses_total", "How often this process stood still.", counters.pauses),
        ("metacluster_members_names_shared_total", "Two members with one name.", counters.names_shared),
        ("metacluster_members_snapshot_failures_total", "Snapshots not read or written.", counters.snapshot_failures),
    ] {
        page.single(name, "counter", help, count);
    }
    let help = "How little this agent trusts its own judgement of members, from 0 to 8.";
    page.single("metacluster_members_health", "gauge", help, counters.health);
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("{name}{labels} {value}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("a String takes all that is written");
    }
}

/// A label's value, as the format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
