//! The binary on AWS: where credentials come from, what is said without them, and where an agent learns its zone.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metacluster_testbed::{Child, Imds, Moto, Said, Tool, Web, eventually_value, free_port, require};
use serde_json::Value;

/// How long the machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// An EC2 with one instance that notes who asks, by the id of the key.
fn ec2() -> (Web, Arc<Mutex<Vec<String>>>) {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let web = {
        let keys = Arc::clone(&keys);
        Web::start(move |asked| {
            let of = asked.headers["authorization"].split("Credential=").nth(1).and_then(|it| it.split('/').next());
            keys.lock().unwrap_or_else(PoisonError::into_inner).push(of.unwrap_or_default().to_owned());
            Said::ok(
                "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
                 <instanceState><name>running</name></instanceState><privateIpAddress>10.0.0.1</privateIpAddress>\
                 </item></instancesSet></item></reservationSet></DescribeInstancesResponse>",
            )
        })
    };
    (web.expect("a server"), keys)
}

/// `metacluster discover ec2` with nothing in its environment but what is given.
fn discover(endpoint: &str, environment: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a home");
    let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
    command.args(["discover", "ec2", "tag.app=shop", "basename=shop"]);
    command.env_clear().env("HOME", folder.path()).env("AWS_ENDPOINT_URL_EC2", endpoint);
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().expect("it runs")
}

/// What it said, and which key was used.
#[track_caller]
fn key_used(environment: &[(&str, &str)]) -> String {
    let (web, keys) = ec2();
    let output = discover(&web.url(), environment);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("shop@10.0.0.1"), "{out}{err}");
    let keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
    keys.first().expect("it was asked").clone()
}

const REGION: (&str, &str) = ("AWS_REGION", "eu-west-1");
const NO_IMDS: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

#[test]
fn credentials_of_the_environment_are_used() {
    let key = [("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "s"), REGION, NO_IMDS];
    assert_eq!(key_used(&key), "AKIDENVIRONMENT");
}

#[test]
fn credentials_region_and_endpoint_of_a_profile_are_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let (credentials, config) = (folder.path().join("credentials"), folder.path().join("config"));
    fs::write(&credentials, "[ops]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n").expect("written");
    fs::write(&config, "[profile ops]\nregion = eu-central-1\n").expect("written");
    let path = |path: &Path| path.display().to_string();
    let environment = [
        ("AWS_PROFILE", "ops".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", path(&credentials)),
        ("AWS_CONFIG_FILE", path(&config)),
        (NO_IMDS.0, NO_IMDS.1.to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(key_used(&environment), "AKIDPROFILE");
}

#[test]
fn credentials_of_a_container_are_used() {
    let web = Web::start(|asked| {
        if asked.headers.get("authorization").map(String::as_str) != Some("token") {
            return Said::status(401, "");
        }
        Said::ok(
            r#"{"RoleArn": "arn:aws:iam::1:role/task", "AccessKeyId": "AKIDCONTAINER", "SecretAccessKey": "s",
                "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}"#,
        )
    });
    let web = web.expect("a server");
    let uri = format!("{}/credentials", web.url());
    let environment =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token"), REGION];
    assert_eq!(key_used(&environment), "AKIDCONTAINER");
}

#[test]
fn credentials_and_region_of_the_instances_role_are_used() {
    let imds = Imds::start(&[
        ("/latest/meta-data/iam/security-credentials/", "web"),
        (
            "/latest/meta-data/iam/security-credentials/web",
            r#"{"Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
                "AccessKeyId": "ASIAINSTANCE", "SecretAccessKey": "s", "Token": "t",
                "Expiration": "2999-01-01T00:00:00Z"}"#,
        ),
        ("/latest/meta-data/placement/region", "eu-west-1"),
    ]);
    let imds = imds.expect("a service");
    assert_eq!(key_used(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url())]), "ASIAINSTANCE");
}

#[test]
fn credentials_of_a_web_identity_are_used() {
    if !require(&[Tool::Moto]) {
        return;
    }
    let moto = Moto::start().expect("moto");
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "a.web.token").expect("written");
    let token = token.display().to_string();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/shop"),
        ("AWS_ENDPOINT_URL_STS", moto.url()),
        REGION,
        NO_IMDS,
    ];
    assert!(key_used(&environment).starts_with("ASIA"), "keys of STS begin so");
}

#[test]
fn without_credentials_it_is_said_where_they_were_looked_for() {
    let (web, keys) = ec2();
    let output = discover(&web.url(), &[REGION, NO_IMDS]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    for part in
        ["no AWS credentials", "AWS_ACCESS_KEY_ID", "the profile `default`", "web identity", "instance metadata"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(keys.lock().unwrap_or_else(PoisonError::into_inner).len(), 0);
}

#[test]
fn without_a_region_it_is_said_how_to_give_one() {
    let (web, _) = ec2();
    let key = [("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "s"), NO_IMDS];
    let output = discover(&web.url(), &key);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no AWS region: set `region`, or AWS_REGION"), "{told}");
}

/// The zone and the region that an agent says it is in.
fn place_of_an_agent(environment: &[(&str, &str)]) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let cookie = folder.path().join("cookie");
    fs::write(&cookie, "a-cookie-for-the-tests").expect("written");
    fs::set_permissions(&cookie, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("permissions");
    let mut command = Command::new(env!("CARGO_BIN_EXE_metacluster"));
    command.args(["up", "--topology", "static:nodes=far@127.0.0.1", "--http", "off"]).env_clear();
    command.args(["--epmd-port", &free_port().expect("a port").to_string()]);
    command.arg("--cookie-file").arg(&cookie).arg("--state-dir").arg(folder.path().join("state"));
    command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Child::spawn(&mut command, "the agent").expect("it runs");
    let socket = folder.path().join("state/metacluster.sock");
    let place = eventually_value(PATIENCE, "the agent answers", || ask(&socket).map_err(|error| format!("{error:#}")));
    drop(child);
    place.expect("the agent answers")
}

fn ask(socket: &Path) -> anyhow::Result<(String, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /v1/agent HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body))?;
    let of = |key: &str| answer["agent"][key].as_str().unwrap_or_default().to_owned();
    Ok((of("zone"), of("region")))
}

fn place(zone: &str, region: &str) -> (String, String) {
    (zone.to_owned(), region.to_owned())
}

const PLACE: [(&str, &str); 3] = [
    ("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
    ("/latest/meta-data/placement/availability-zone", "eu-west-1b"),
    ("/latest/meta-data/placement/region", "eu-west-1"),
];

#[test]
fn an_agent_on_an_instance_is_in_the_zone_that_its_metadata_say_unless_told_otherwise() {
    let imds = Imds::start(&PLACE).expect("a service");
    let url = imds.url();
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    assert_eq!(place_of_an_agent(&[endpoint]), place("eu-west-1b", "eu-west-1"));
    assert_eq!(place_of_an_agent(&[endpoint, ("METACLUSTER_ZONE", "rack-1")]), place("rack-1", "eu-west-1"));
}

#[test]
fn an_agent_in_a_task_is_in_the_zone_of_its_task() {
    let task = r#"{"TaskARN": "arn:aws:ecs:eu-central-1:1:task/prod/7", "AvailabilityZone": "eu-central-1c"}"#;
    let web = Web::start(move |asked| match asked.path.as_str() {
        "/v4/abc/task" => Said::ok(task),
        _ => Said::status(404, ""),
    });
    let web = web.expect("a server");
    let uri = format!("{}/v4/abc", web.url());
    let wanted = place("eu-central-1c", "eu-central-1");
    assert_eq!(place_of_an_agent(&[("ECS_CONTAINER_METADATA_URI_V4", &uri)]), wanted);
    drop(web);
    assert_eq!(
        place_of_an_agent(&[("ECS_CONTAINER_METADATA_URI_V4", &uri)]),
        place("local", ""),
        "it starts all the same"
    );
}

#[test]
fn an_agent_starts_where_the_metadata_are_silent() {
    let imds = Imds::start(&PLACE).expect("a service");
    imds.move_beyond_hops();
    assert_eq!(place_of_an_agent(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.url())]), place("local", ""));
}
