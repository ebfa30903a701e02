//! `rancher` against a fixture that follows the documents of Rancher's metadata service.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use metacluster_discovery::trial::Trial;
use metacluster_testbed::{Said, Web};
use metacluster_types::HostState;

/// What the fixture says: a version and the containers of `shop/web`.
type State = Arc<Mutex<(u32, String)>>;

fn start(state: &State) -> Web {
    let state = Arc::clone(state);
    Web::start(move |asked| {
        if asked.headers.get("accept").is_some_and(|accept| accept != "application/json") {
            return Said::status(406, "");
        }
        if let Some((_, value)) = asked.path.split_once("/2015-12-19/version?wait=true&value=") {
            let value = value.split('&').next().unwrap_or_default();
            for _ in 0..200 {
                if state.lock().expect("whole").0.to_string() != value {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        let (version, containers) = state.lock().expect("whole").clone();
        match asked.path.split('?').next().unwrap_or_default() {
            "/2015-12-19/version" => Said::ok(version.to_string()),
            "/2015-12-19/self/service"
            | "/2015-12-19/stacks/shop/services/web"
            | "/2015-12-19/self/stack/services/web" => {
                Said::ok(format!(r#"{{"name":"web","stack_name":"shop","containers":[{containers}]}}"#))
            }
            _ => Said::status(404, "Not found"),
        }
    })
    .expect("a server")
}

const ONE: &str = r#"{"name":"shop_web_1","uuid":"u-1","primary_ip":"10.42.0.1","ips":["10.42.0.1"],"state":"running",
    "health_state":"healthy","labels":{"app":"shop"}}"#;
const TWO: &str =
    r#"{"name":"shop_web_2","uuid":"u-2","ips":["10.42.0.2"],"state":"starting","health_state":null,"labels":null}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn containers_are_peers_and_a_new_version_is_known_at_once() {
    let state: State = Arc::new(Mutex::new((1, format!("{ONE},{TWO}"))));
    let web = start(&state);
    let mut trial = Trial::of(&format!("rancher:address={},basename=shop", web.url()));
    trial.until(&["shop@10.42.0.1"]).await;
    assert_eq!(trial.hosts().len(), 2);
    assert_eq!(trial.hosts()[1].state, HostState::Pending);
    assert_eq!(trial.hosts()[0].tags["app"], "shop");
    *state.lock().expect("whole") = (2, format!("{ONE},{}", TWO.replace("starting", "running")));
    trial.until(&["shop@10.42.0.1", "shop@10.42.0.2"]).await;
    *state.lock().expect("whole") = (3, ONE.to_owned());
    trial.until(&["shop@10.42.0.1"]).await;
    trial.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_are_named_by_stack_and_one_that_is_not_there_is_said_so() {
    let state: State = Arc::new(Mutex::new((1, ONE.to_owned())));
    let web = start(&state);
    for services in ["web", "shop/web"] {
        let mut trial = Trial::of(&format!("rancher:address={},basename=shop,services={services}", web.url()));
        trial.until(&["shop@10.42.0.1"]).await;
    }
    let mut trial = Trial::of(&format!("rancher:address={},basename=shop,services=web,shop/till", web.url()));
    let line = trial.until_failed().await;
    assert!(line.contains("stacks/shop/services/till"), "{line}");
    assert_eq!(trial.names(), Vec::<String>::new(), "a part of the services is no answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn garbage_half_an_answer_and_silence_are_failures() {
    for (says, expected) in [
        (Said::ok("<html>"), "not Rancher's"),
        (Said::ok(r#"{"containers":[]}"#).half(), "broken"),
        (Said::never(), "did not answer within 300ms"),
    ] {
        let web = Web::start(
            move |asked| {
                if asked.path.ends_with("/version") { Said::status(404, "") } else { says.clone() }
            },
        )
        .expect("a server");
        let line = Trial::of(&format!("rancher:address={},timeout=300ms", web.url())).until_failed().await;
        assert!(line.contains(expected), "{line}");
    }
}
