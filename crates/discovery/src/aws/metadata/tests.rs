//! The client of the instance metadata service and of the task metadata against fixtures that follow AWS's documents.

use metacluster_testbed::{Imds as Service, Said, Web};
use metacluster_types::{Region, Zone};

use super::*;

const ITEMS: [(&str, &str); 8] = [
    ("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
    ("/latest/meta-data/placement/availability-zone", "eu-west-1b"),
    ("/latest/meta-data/placement/region", "eu-west-1"),
    ("/latest/meta-data/local-hostname", "ip-10-0-0-9.eu-west-1.compute.internal"),
    ("/latest/meta-data/local-ipv4", "10.0.0.9"),
    ("/latest/meta-data/tags/instance", "app\nName"),
    ("/latest/meta-data/tags/instance/app", "shop"),
    ("/latest/meta-data/tags/instance/Name", "web 1"),
];

/// A client that waits as long as a busy machine may take.
fn client(bases: Vec<String>) -> Imds {
    Imds::waiting(bases, crate::trial::PATIENCE)
}

fn service() -> (Service, Imds) {
    let service = Service::start(&ITEMS).expect("a service");
    let imds = client(vec![service.url()]);
    (service, imds)
}

#[tokio::test]
async fn an_instance_learns_who_and_where_it_is_with_one_token() {
    let (service, imds) = service();
    let host = own_instance(&imds).await.expect("an answer").expect("an instance");
    assert_eq!(host.instance.as_deref(), Some("i-0123456789abcdef0"));
    assert_eq!(host.place, Place { zone: Zone::new("eu-west-1b").ok(), region: Region::new("eu-west-1").ok() });
    assert_eq!(host.addresses, ["10.0.0.9".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!((host.tags["app"].as_str(), host.tags["Name"].as_str()), ("shop", "web 1"));
    assert_eq!(service.tokens_made(), 1);
}

#[tokio::test]
async fn an_instance_that_keeps_its_tags_to_itself_has_none() {
    let (service, imds) = service();
    service.set("/latest/meta-data/tags/instance", None);
    let host = own_instance(&imds).await.expect("an answer").expect("an instance");
    assert!(host.tags.is_empty());
}

#[tokio::test]
async fn a_token_that_expired_is_replaced() {
    let (service, imds) = service();
    imds.text("/latest/meta-data/instance-id").await.expect("an answer");
    service.expire_tokens();
    let again = imds.text("/latest/meta-data/instance-id").await.expect("an answer");
    assert_eq!((again.as_deref(), service.tokens_made()), (Some("i-0123456789abcdef0"), 2));
}

#[tokio::test]
async fn what_is_not_there_is_no_error() {
    let (_service, imds) = service();
    assert_eq!(imds.get("/latest/user-data").await, Ok(None));
}

#[tokio::test]
async fn a_service_that_is_off_is_said_so() {
    let (service, imds) = service();
    service.switch_off();
    let error = imds.get("/latest/user-data").await.expect_err("it is off");
    assert_eq!(error, ImdsError::Off);
    assert!(error.to_string().contains("--http-endpoint enabled"), "{error}");
}

#[tokio::test]
async fn a_container_beyond_the_hop_limit_is_told_how_to_raise_it() {
    let service = Service::start(&ITEMS).expect("a service");
    let imds = Imds::at(vec![service.url()]);
    service.move_beyond_hops();
    let error = imds.get("/latest/user-data").await.expect_err("no answer arrives");
    assert!(matches!(error, ImdsError::Silent { .. }), "{error:?}");
    assert!(error.to_string().contains("--http-put-response-hop-limit 2"), "{error}");
}

#[tokio::test]
async fn where_the_first_address_is_silent_the_second_is_asked() {
    let (service, _) = service();
    let nobody = format!("http://127.0.0.1:{}", metacluster_testbed::free_port().expect("a port"));
    let imds = client(vec![nobody, service.url()]);
    assert_eq!(imds.text("/latest/meta-data/placement/region").await, Ok(Some("eu-west-1".to_owned())));
}

#[tokio::test]
async fn something_else_at_the_address_is_no_service() {
    for said in [
        Said::status(404, "not found"),
        Said::ok("<html>\n<p>hello"),
        Said::ok(""),
        Said::ok("x".repeat(10_000)),
        Said::ok("abcdef").half(),
    ] {
        let web = Web::start(move |_| said.clone()).expect("a server");
        let error = client(vec![web.url()]).get("/latest/user-data").await.expect_err("no service");
        assert!(matches!(error, ImdsError::Other { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_service_that_refuses_every_token_is_asked_twice_and_no_more() {
    let web = Web::start(|asked| if asked.method == "PUT" { Said::ok("token") } else { Said::status(401, "") });
    let web = web.expect("a server");
    let error = client(vec![web.url()]).get("/latest/user-data").await.expect_err("refused");
    assert_eq!(error, ImdsError::TokenRefused);
}

#[tokio::test]
async fn a_task_reads_its_own_metadata() {
    let task = r#"{"Cluster": "prod", "TaskARN": "arn:aws:ecs:eu-west-1:1:task/prod/7", "Family": "shop",
        "AvailabilityZone": "eu-west-1a", "Containers": [{"Networks": [{"IPv4Addresses": ["10.0.0.7"]}]}]}"#;
    let web = Web::start(move |asked| match asked.path.as_str() {
        "/v4/7/task" => Said::ok(task),
        _ => Said::status(404, ""),
    });
    let web = web.expect("a server");
    let host = Task::at(&format!("{}/v4/7", web.url())).await.expect("a task").host();
    assert_eq!(host.instance.as_deref(), Some("arn:aws:ecs:eu-west-1:1:task/prod/7"));
    assert_eq!(host.place.zone, Zone::new("eu-west-1a").ok());
    let error = Task::at(&web.url()).await.expect_err("another path");
    assert!(matches!(error, TaskError::Http(_)), "{error:?}");
}
