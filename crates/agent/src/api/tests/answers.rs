//! What each path answers, and to whom.

use super::*;
use crate::view::{AgentAnswer, ClustersAnswer, ErrorAnswer, LeaveAnswer, NodesAnswer, ReadyAnswer, TopologiesAnswer};

#[tokio::test]
async fn every_listing_reads_back_as_it_was_published() {
    let api = Api::start().await;
    let published = view();
    assert_eq!(api.get::<NodesAnswer>("/v1/nodes", 200).await.nodes, published.nodes);
    assert_eq!(api.get::<TopologiesAnswer>("/v1/topologies", 200).await.topologies, published.topologies);
    assert_eq!(api.get::<ClustersAnswer>("/v1/clusters", 200).await.clusters, published.clusters);
    let answer = api.get::<AgentAnswer>("/v1/agent", 200).await;
    assert_eq!((answer.agent.id, answer.counters), (AgentId(7), published.counters));
    assert_eq!(answer.version, 1);
}

#[tokio::test]
async fn a_node_has_the_documented_fields() {
    let api = Api::start().await;
    let body = api.unix("GET", "/v1/nodes").await.body;
    let expected = r#"{"version":1,"nodes":[{"name":"a@h1","kind":"beam","host":"h1","cluster":"main","zone":"<b>&\"z","state":"up","connected":[],"otp":"25","local":true,"since":"1970-01-01T00:00:01.000Z"},"#;
    assert!(body.starts_with(expected), "{body}");
}

#[tokio::test]
async fn a_changed_view_is_answered_at_once() {
    let api = Api::start().await;
    api.view.send_modify(|view| Arc::make_mut(view).nodes.clear());
    assert_eq!(api.get::<NodesAnswer>("/v1/nodes", 200).await.nodes, []);
}

#[tokio::test]
async fn ready_says_why_not() {
    let api = Api::start().await;
    assert_eq!(api.unix("GET", "/healthz").await.status, 200);
    let answer = api.get::<ReadyAnswer>("/readyz", 503).await;
    assert_eq!(answer.readiness, view().readiness);
    api.view.send_modify(|view| Arc::make_mut(view).readiness.ready = true);
    assert!(api.get::<ReadyAnswer>("/readyz", 200).await.readiness.ready);
}

#[tokio::test]
async fn an_unknown_path_is_told_what_there_is() {
    let api = Api::start().await;
    let answer = api.get::<ErrorAnswer>("/v1/node", 404).await;
    assert_eq!(answer.error, "there is no /v1/node: did you mean /v1/nodes?");
    assert_eq!(answer.paths, PATHS);
    assert_eq!(api.get::<ErrorAnswer>("/elsewhere", 404).await.error, "there is no /elsewhere");
    let reply = api.unix("GET", "/v1/leave").await;
    assert_eq!(reply.status, 405);
    assert!(reply.body.contains("GET is not for /v1/leave: use POST /v1/leave"), "{}", reply.body);
    assert_eq!(api.unix("DELETE", "/v1/nodes").await.status, 405);
}

#[tokio::test]
async fn every_listed_path_exists() {
    let api = Api::start().await;
    for entry in PATHS {
        let (method, path) = entry.split_once(' ').expect("a method and a path");
        let path = if path == "/v1/events" { "/v1/events?follow=false" } else { path };
        let status = api.unix(method, path).await.status;
        // Those that want a body say so, and an agent without members has nobody to ask.
        assert!([200, 202, 400, 415, 503].contains(&status), "{entry}: {status}");
    }
}

#[tokio::test]
async fn leave_is_taken_on_the_unix_socket_alone() {
    let mut api = Api::start().await;
    let host = format!("Host: {}\r\n", api.address());
    for extra in ["", "X-Metacluster: 1\r\n", "Origin: http://127.0.0.1\r\n"] {
        let reply = api.tcp(&format!("POST /v1/leave HTTP/1.1\r\n{host}{extra}Content-Length: 0\r\n")).await;
        assert_eq!(reply.status, 403, "{extra}");
        assert!(reply.body.contains("Unix socket"), "{}", reply.body);
    }
    assert!(api.leaving.try_recv().is_err(), "nobody may have asked to leave");
    assert_eq!(api.unix("POST", "/v1/leave?nodes=perhaps").await.status, 400);
    assert!(api.leaving.try_recv().is_err(), "a question that is none asks for nothing");
    for path in ["/v1/leave?nodes=true", "/v1/leave", "/v1/leave"] {
        let reply = api.unix("POST", path).await;
        assert_eq!(reply.status, 202);
        let answer: LeaveAnswer = serde_json::from_str(&reply.body).expect("json");
        assert!(answer.leaving);
    }
    assert_eq!(api.leaving.recv().await, Some(Leave { nodes: true }));
    assert!(api.leaving.try_recv().is_err(), "asking again changes nothing");
    api.leaving.close();
    assert_eq!(api.unix("POST", "/v1/leave").await.status, 503);
}

#[tokio::test]
async fn a_rebound_name_gets_nothing_over_tcp() {
    let api = Api::start().await;
    let port = api.address().port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]".to_owned()] {
        assert_eq!(api.tcp(&format!("GET /v1/nodes HTTP/1.1\r\nHost: {host}\r\n")).await.status, 200, "{host}");
    }
    for head in [
        format!("GET /v1/nodes HTTP/1.1\r\nHost: evil.example:{port}\r\n"),
        "GET /nothing HTTP/1.1\r\nHost: evil.example\r\n".to_owned(),
        "GET /v1/nodes HTTP/1.1\r\n".to_owned(),
        format!("GET /v1/nodes HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://evil.example\r\n"),
    ] {
        let reply = api.tcp(&head).await;
        assert!(reply.status == 403 || reply.status == 400, "{head}: {}", reply.status);
        assert!(!reply.body.contains("a@h1"), "{head}");
    }
}

#[tokio::test]
async fn the_page_escapes_what_comes_from_the_network() {
    let api = Api::start().await;
    let reply = api.unix("GET", "/").await;
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("content-security-policy: default-src 'none'"), "{}", reply.head);
    assert!(reply.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", reply.body);
    assert!(reply.body.contains("&lt;b&gt;&amp;&quot;z") && reply.body.contains("l&quot;an"));
    assert!(reply.body.contains("no &lt;answer&gt;"));
    for never in ["<script", "<b>", "http://", "https://", "src=", "href="] {
        assert!(!reply.body.contains(never), "{never} in {}", reply.body);
    }
    for opened in ["<table", "<tr", "<td", "<th>", "<p>", "<small", "<span"] {
        let closed = format!("</{}>", opened.trim_start_matches('<').trim_end_matches('>'));
        assert_eq!(reply.body.matches(opened).count(), reply.body.matches(&closed).count(), "{opened}");
    }
}

#[test]
fn the_metrics_are_prometheus_text() {
    let text = metrics::render(&view(), 12, &Stats::default(), 60);
    for line in [
        "metacluster_info{version=\"0.1.0\",cluster=\"main\",zone=\"z1\"} 1",
        "metacluster_uptime_seconds 60",
        "metacluster_ready 0",
        "metacluster_nodes{state=\"up\"} 1",
        "metacluster_nodes{state=\"down\"} 1",
        "metacluster_local_nodes 1",
        "metacluster_links 1",
        "metacluster_dials_total 5",
        "metacluster_dials_failed_total 3",
        "metacluster_topology_up{topology=\"l\\\"an\",strategy=\"static\"} 0",
        "metacluster_candidates{topology=\"l\\\"an\"} 1",
        "metacluster_events_total 12",
        "metacluster_handler_runs_total{outcome=\"failed\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
    // Each family is announced once, before its samples.
    let mut announced = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let name = family.split(' ').next().expect("a name");
            assert!(announced.insert(name), "{name} twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert!(announced.contains(name), "{name} is not announced");
        }
    }
    assert!(text.ends_with('\n'));
}
