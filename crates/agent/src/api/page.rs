//! `GET /`: the dashboard, one page without scripts or anything from elsewhere. It loads itself anew every five seconds.
//!
//! Names come from the network: all text is escaped, and the policy in its header lets nothing run.

use std::fmt::{self, Write as _};

use axum::{
    extract::State as Extract,
    http::header,
    response::{IntoResponse, Response},
};
use metacluster_types::time::format_duration;

use super::State;
use crate::view::{CandidateState, NodeKind, NodeState, NodeView, TopologyState, TopologyView, View};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}\
body{max-width:72rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.3rem}h2{font-size:1rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}\
th{font-weight:600;opacity:.7}.up{color:#2a7}.down{color:#d33}.wait{color:#b80}small{opacity:.7}";

pub(super) async fn page(Extract(state): Extract<State>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, render(&state.current(), state.uptime_seconds())).into_response()
}

/// The whole page.
pub(super) fn render(view: &View, uptime_seconds: u64) -> String {
    let mut page = String::new();
    write_page(&mut page, view, uptime_seconds).expect("a String takes all that is written");
    page
}

fn write_page(page: &mut String, view: &View, uptime_seconds: u64) -> fmt::Result {
    let agent = &view.agent;
    let cluster = Escaped(agent.cluster.as_str());
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>metacluster: {cluster}</title>\
         <style>{STYLE}</style></head><body>\n<h1>Cluster {cluster}</h1>\n"
    )?;
    let ready = &view.readiness;
    let (class, verdict) = if ready.ready { ("up", "ready") } else { ("wait", "not ready") };
    write!(page, "<p><span class=\"{class}\">{verdict}</span>: ")?;
    match &ready.reason {
        Some(reason) => write!(page, "{}", Escaped(reason))?,
        None => write!(page, "{} nodes up", ready.nodes_up)?,
    }
    page.push_str("</p>\n<h2>Nodes</h2>\n");
    nodes(page, &view.nodes)?;
    page.push_str("<h2>Topologies</h2>\n");
    topologies(page, &view.topologies)?;
    let names: Vec<&str> = agent.names.iter().map(metacluster_types::NodeName::as_str).collect();
    let uptime = format_duration(std::time::Duration::from_secs(uptime_seconds));
    writeln!(
        page,
        "<p><small>{} {}, zone {}, up {}</small></p>\n</body></html>",
        Escaped(if names.is_empty() { "agent".to_owned() } else { names.join(", ") }.as_str()),
        Escaped(&agent.version),
        Escaped(agent.zone.as_ref().map_or("unknown", |zone| zone.as_str())),
        Escaped(&uptime),
    )
}

fn nodes(page: &mut String, nodes: &[NodeView]) -> fmt::Result {
    if nodes.is_empty() {
        page.push_str("<p>None yet.</p>\n");
        return Ok(());
    }
    page.push_str(
        "<table><thead><tr><th>Name</th><th>State</th><th>Kind</th><th>Zone</th><th>Connected</th></tr></thead><tbody>\n",
    );
    for node in nodes {
        let state = match node.state {
            NodeState::Up => "up",
            NodeState::Down => "down",
        };
        let kind = match node.kind {
            NodeKind::Beam => "BEAM",
            NodeKind::Rust => "Rust",
        };
        write!(
            page,
            "<tr><td>{}{}</td><td class=\"{state}\">{state}",
            Escaped(node.name.as_str()),
            if node.local { " <small>here</small>" } else { "" },
        )?;
        if let Some(error) = &node.error {
            write!(page, " <small>{}</small>", Escaped(error))?;
        }
        writeln!(
            page,
            "</td><td>{kind} {}</td><td>{}</td><td>{}</td></tr>",
            Escaped(node.otp.as_deref().unwrap_or("")),
            Escaped(node.zone.as_ref().map_or("", |zone| zone.as_str())),
            node.connected.len(),
        )?;
    }
    page.push_str("</tbody></table>\n");
    Ok(())
}

fn topologies(page: &mut String, topologies: &[TopologyView]) -> fmt::Result {
    if topologies.is_empty() {
        page.push_str("<p>None.</p>\n");
        return Ok(());
    }
    page.push_str(
        "<table><thead><tr><th>Name</th><th>Strategy</th><th>State</th><th>Candidates</th></tr></thead><tbody>\n",
    );
    for topology in topologies {
        let (class, state) = match topology.state {
            TopologyState::Ok => ("up", "ok"),
            TopologyState::Failing => ("down", "failing"),
            TopologyState::Waiting => ("wait", "waiting"),
        };
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"{class}\">{state}",
            Escaped(topology.name.as_str()),
            Escaped(&topology.strategy),
        )?;
        if let (TopologyState::Failing, Some(error)) = (topology.state, &topology.last_error) {
            write!(page, " <small>{}</small>", Escaped(error))?;
        }
        let failing = topology.candidates.iter().filter(|peer| peer.state == CandidateState::Failing).count();
        write!(page, "</td><td>{}", topology.candidates.len())?;
        if failing > 0 {
            write!(page, " <small>{failing} failing</small>")?;
        }
        page.push_str("</td></tr>\n");
    }
    page.push_str("</tbody></table>\n");
    Ok(())
}

/// A text that may hold anything, safe in an element and in an attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
