//! `consul` against a fixture that follows the public API documents of Consul: blocking queries, indexes, registration.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use metacluster_discovery::trial::Trial;
use metacluster_testbed::{Asked, Said, Web, eventually};
use serde_json::{Value, json};

use crate::support::{agent, announce};

/// One datacentre's service `web`.
#[derive(Default)]
struct State {
    index: u64,
    instances: BTreeMap<String, Value>,
    token: Option<String>,
    filtered: bool,
    fails: Option<u16>,
    passes: usize,
    asked: usize,
}

/// A Consul with two datacentres; the agent that is asked is in `dc1`.
struct Consul {
    web: Web,
    centres: Arc<(Mutex<BTreeMap<String, State>>, Condvar)>,
}

impl Consul {
    fn start() -> Self {
        let centres: Arc<(Mutex<BTreeMap<String, State>>, Condvar)> = Arc::default();
        for name in ["dc1", "dc2"] {
            centres.0.lock().expect("whole").insert(name.to_owned(), State { index: 10, ..State::default() });
        }
        let shared = Arc::clone(&centres);
        let web = Web::start(move |asked| answer(&shared, asked)).expect("a server");
        Self { web, centres }
    }

    fn spec(&self, more: &str) -> String {
        format!("consul:address={},service=web,interval=2s{more}", self.web.url())
    }

    fn change(&self, centre: &str, change: impl FnOnce(&mut State)) {
        let (centres, changed) = &*self.centres;
        let mut centres = centres.lock().expect("whole");
        let state = centres.get_mut(centre).expect("a datacentre");
        state.index += 1;
        change(state);
        changed.notify_all();
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.centres.0.lock().expect("whole")["dc1"])
    }
}

fn instance(id: &str, address: &str, node: Option<&str>) -> Value {
    json!({ "ID": id, "Address": address, "Tags": ["app=shop"], "Meta": node.map(|node| json!({ "node": node })) })
}

fn parameter(path: &str, name: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(ToOwned::to_owned))
}

fn answer(shared: &(Mutex<BTreeMap<String, State>>, Condvar), asked: &Asked) -> Said {
    let (centres, changed) = shared;
    let mut centres = centres.lock().expect("whole");
    let centre = parameter(&asked.path, "dc").unwrap_or_else(|| "dc1".to_owned());
    let path = asked.path.split('?').next().unwrap_or_default().to_owned();
    if path == "/v1/catalog/datacenters" {
        return Said::ok(r#"["dc1","dc2"]"#);
    }
    let Some(state) = centres.get_mut(&centre) else { return Said::status(500, "No path to datacenter") };
    if state.token.is_some() && asked.headers.get("x-consul-token") != state.token.as_ref() {
        return Said::status(403, "Permission denied: anonymous token lacks permission 'service:read' on \"web\"");
    }
    if let Some(status) = state.fails {
        return Said::status(status, "rpc error: No cluster leader");
    }
    if asked.method == "PUT" {
        return put(state, changed, &path, &asked.body);
    }
    state.asked += 1;
    let index: u64 = parameter(&asked.path, "index").and_then(|index| index.parse().ok()).unwrap_or(0);
    let wait = parameter(&asked.path, "wait").and_then(|wait| wait.trim_end_matches("ms").parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_millis(wait);
    // As Consul: an index of 0, or one that is not the present one, is answered at once.
    while index > 0 && centres[&centre].index == index && centres[&centre].fails.is_none() && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(200));
        centres = changed.wait_timeout(centres, left).expect("whole").0;
    }
    let state = &centres[&centre];
    let listed: Vec<Value> =
        state.instances.values().filter(|_| !state.filtered).map(|it| entry(it, &centre, &path)).collect();
    let said = Said::ok(Value::from(listed).to_string()).header("x-consul-index", &state.index.to_string());
    if state.filtered { said.header("x-consul-results-filtered-by-acls", "true") } else { said }
}

fn entry(service: &Value, centre: &str, path: &str) -> Value {
    let address = &service["Address"];
    if path.starts_with("/v1/catalog") {
        return json!({ "ID": "n1", "Node": "m1", "Address": "192.168.0.1", "Datacenter": centre, "ServiceID": service["ID"],
            "ServiceAddress": address, "ServiceTags": service["Tags"], "ServiceMeta": service["Meta"] });
    }
    json!({ "Node": { "ID": "n1", "Node": "m1", "Address": "192.168.0.1", "Datacenter": centre },
        "Service": service, "Checks": [{ "Status": "passing" }] })
}

fn put(state: &mut State, changed: &Condvar, path: &str, body: &[u8]) -> Said {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if path == "/v1/agent/service/register" {
        assert_eq!(body["Name"], "web");
        assert!(body["Check"]["TTL"].is_string() && body["Check"]["DeregisterCriticalServiceAfter"].is_string());
        state.instances.insert(body["ID"].as_str().expect("an id").to_owned(), body);
    } else if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
        state.instances.remove(&id.replace("%40", "@"));
    } else if let Some(id) = path.strip_prefix("/v1/agent/check/pass/service%3A") {
        state.passes += 1;
        if !state.instances.contains_key(&id.replace("%40", "@")) {
            return Said::status(404, "Unknown check ID");
        }
        return Said::ok("");
    } else {
        return Said::status(405, "");
    }
    state.index += 1;
    changed.notify_all();
    Said::ok("")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_ends_the_wait_and_an_index_that_runs_back_begins_anew() {
    let consul = Consul::start();
    consul.change("dc1", |it| drop(it.instances.insert("1".into(), instance("1", "10.0.0.1", None))));
    let mut trial = Trial::of(&consul.spec(",basename=shop"));
    trial.until(&["shop@10.0.0.1"]).await;
    assert_eq!(trial.hosts()[0].tags["app"], "shop");
    let begun = Instant::now();
    consul.change("dc1", |it| drop(it.instances.insert("2".into(), instance("2", "10.0.0.2", Some("till@10.0.0.2")))));
    trial.until(&["shop@10.0.0.1", "shop@10.0.0.2"]).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    consul.change("dc1", |it| {
        it.index = 2;
        it.instances.remove("1");
    });
    trial.until(&["shop@10.0.0.2"]).await;
    let mut catalog = Trial::of(&consul.spec(",from=catalog"));
    catalog.until(&["till@10.0.0.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_never_waits_is_not_asked_without_rest() {
    let consul = Consul::start();
    consul.change("dc1", |it| it.index = 0);
    let mut trial = Trial::of(&consul.spec(""));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        trial.next().await;
    }
    let asked = consul.look(|it| it.asked);
    assert!(asked <= 5, "{asked} questions in 3 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn datacentres_are_one_answer_and_one_that_fails_keeps_its_peers() {
    let consul = Consul::start();
    for (centre, address) in [("dc1", "10.0.0.1"), ("dc2", "10.2.0.1")] {
        consul.change(centre, |it| drop(it.instances.insert("1".into(), instance("1", address, None))));
    }
    let mut trial = Trial::of(&consul.spec(r",datacenters=*,basename=shop"));
    trial.until(&["shop@10.0.0.1", "shop@10.2.0.1"]).await;
    consul.change("dc2", |it| it.fails = Some(500));
    consul.change("dc1", |it| drop(it.instances.insert("2".into(), instance("2", "10.0.0.2", None))));
    trial.until(&["shop@10.0.0.1", "shop@10.0.0.2", "shop@10.2.0.1"]).await;
    consul.change("dc1", |it| it.fails = Some(500));
    let line = trial.until_failed().await;
    assert!(line.contains("No cluster leader"), "{line}");
    for centre in ["dc1", "dc2"] {
        consul.change(centre, |it| it.fails = None);
    }
    trial.until_candidates("an answer", |found| found.len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_are_registered_kept_up_registered_again_and_removed() {
    let consul = Consul::start();
    let mut one = agent(&consul.spec(",register=true,lease=2s"), 1, &["a@10.0.0.1"]);
    let two = agent(&consul.spec(",register=true,lease=2s"), 2, &["b@10.0.0.2"]);
    one.until(&["b@10.0.0.2"]).await;
    announce(&two, &["b@10.0.0.2", "c@10.0.0.2"]);
    one.until(&["b@10.0.0.2", "c@10.0.0.2"]).await;
    announce(&two, &["c@10.0.0.2"]);
    one.until(&["c@10.0.0.2"]).await;
    consul.change("dc1", |it| it.instances.clear());
    one.until(&["c@10.0.0.2"]).await;
    eventually(Duration::from_secs(20), "checks are kept up", || {
        let passes = consul.look(|it| it.passes);
        if passes > 2 { Ok(()) } else { Err(format!("{passes}")) }
    })
    .expect("passes");
    two.stop().await;
    one.until(&[]).await;
    one.stop().await;
    assert_eq!(consul.look(|it| it.instances.len()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_that_lacks_a_right_is_said_so_and_a_new_one_is_taken() {
    let consul = Consul::start();
    consul.change("dc1", |it| {
        it.token = Some("t0ken-2".into());
        it.instances.insert("1".into(), instance("1", "10.0.0.1", Some("a@10.0.0.1")));
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "t0ken-1\n").expect("written");
    let mut trial = Trial::of(&consul.spec(&format!(",token_file={}", file.display())));
    let line = trial.until_failed().await;
    assert!(line.contains("'service:read'") && line.contains(r#"service "web" { policy = "read" }"#), "{line}");
    std::fs::write(&file, "t0ken-2\n").expect("written");
    trial.until(&["a@10.0.0.1"]).await;
    consul.change("dc1", |it| it.filtered = true);
    let line = trial.until_failed().await;
    assert!(line.contains("keeps the instances") && !line.contains("t0ken"), "{line}");
    assert_eq!(trial.names(), ["a@10.0.0.1"], "an answer that rights emptied is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn garbage_half_an_answer_and_silence_are_failures() {
    for (says, expected) in [
        (Said::ok("<html>"), "not Consul's"),
        (Said::ok("[]             ").half(), "broken"),
        (Said::never(), "did not answer within 300ms"),
        (Said::status(429, "slow down"), "429"),
    ] {
        let web = Web::start(move |_| says.clone()).expect("a server");
        let spec = format!("consul:address={},service=web,timeout=300ms", web.url());
        let line = Trial::of(&spec).until_failed().await;
        assert!(line.contains(expected), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_instances_are_one_answer() {
    let consul = Consul::start();
    consul.change("dc1", |it| {
        for at in 0..10_000 {
            let address = format!("10.1.{}.{}", at / 250, at % 250);
            it.instances.insert(at.to_string(), instance(&at.to_string(), &address, None));
        }
    });
    let mut trial = Trial::of(&consul.spec(",basename=shop"));
    trial.until_candidates("all", |found| found.len() == 10_000).await;
}
