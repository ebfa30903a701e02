//! `rancher` against a fixture that follows the documents of Rancher's metadata service.

use metacluster_discovery::trial::Trial;
use metacluster_testbed::{Rancher, Said, Web};
use metacluster_types::HostState;

const ONE: &str = r#"{"name":"shop_web_1","uuid":"u-1","primary_ip":"10.42.0.1","ips":["10.42.0.1"],"state":"running",
    "health_state":"healthy","labels":{"app":"shop"}}"#;
const TWO: &str =
    r#"{"name":"shop_web_2","uuid":"u-2","ips":["10.42.0.2"],"state":"starting","health_state":null,"labels":null}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn containers_are_peers_and_a_new_version_is_known_at_once() {
    let rancher = Rancher::start().expect("a server");
    rancher.set_containers(&format!("{ONE},{TWO}"));
    let mut trial = Trial::of(&format!("rancher:address={},basename=shop", rancher.url()));
    trial.until(&["shop@10.42.0.1"]).await;
    assert_eq!(trial.hosts().len(), 2);
    assert_eq!(trial.hosts()[1].state, HostState::Pending);
    assert_eq!(trial.hosts()[0].tags["app"], "shop");
    rancher.set_containers(&format!("{ONE},{}", TWO.replace("starting", "running")));
    trial.until(&["shop@10.42.0.1", "shop@10.42.0.2"]).await;
    rancher.set_containers(ONE);
    trial.until(&["shop@10.42.0.1"]).await;
    trial.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_are_named_by_stack_and_one_that_is_not_there_is_said_so() {
    let rancher = Rancher::start().expect("a server");
    rancher.set_containers(ONE);
    for services in ["web", "shop/web"] {
        let mut trial = Trial::of(&format!("rancher:address={},basename=shop,services={services}", rancher.url()));
        trial.until(&["shop@10.42.0.1"]).await;
    }
    let mut trial = Trial::of(&format!("rancher:address={},basename=shop,services=web,shop/till", rancher.url()));
    trial.until_failed_with("stacks/shop/services/till").await;
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
        Trial::of(&format!("rancher:address={},timeout=300ms", web.url())).until_failed_with(expected).await;
    }
}
