//! `launch-data` with real files, a metadata service, and what is not there.

use std::{collections::BTreeSet, fs, path::Path};

use metacluster_testbed::Imds as Service;

use super::*;
use crate::{
    aws::{metadata::imds::Imds, trial::withstands},
    settings::Settings,
    spec::Spec,
    strategies,
    trial::Trial,
};

fn read(spec: &str) -> Result<LaunchData, Vec<crate::Fault>> {
    let spec: Spec = spec.parse().expect("a spec");
    let info = strategies().iter().find(|info| info.name == spec.strategy).expect("a strategy");
    let settings: Settings = spec.settings;
    let keys = info.all_keys();
    let mut reader = Reader::new(&[&keys], &settings);
    let value = LaunchData::read(&mut reader);
    reader.finish().map(|()| value)
}

fn of(path: &Path, settings: &str) -> String {
    format!("launch-data:from=file,path={},interval=100ms{settings}", path.display())
}

/// The addresses and ports of hosts, in order.
fn shown(hosts: &[Host]) -> Vec<String> {
    let shown = |host: &Host| {
        let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
        host.addresses.first().map(|address| format!("{address}{port}")).unwrap_or_default()
    };
    hosts.iter().map(shown).collect::<BTreeSet<_>>().into_iter().collect()
}

#[tokio::test]
async fn a_file_of_seeds_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seeds");
    fs::write(&path, "seed=10.0.0.4\nseed=10.0.0.5:7000\n").expect("written");
    let mut trial = Trial::of(&of(&path, ",basename=shop"));
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    assert_eq!(shown(trial.hosts()), ["10.0.0.4", "10.0.0.5:7000"]);
    fs::write(&path, "{\"seeds\": [\"10.0.0.6\"]}").expect("written");
    trial.until(&["shop@10.0.0.6"]).await;
    // A file that is gone, or empty, is no answer.
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "").expect("written");
    let line = trial.until_failed_with("no seeds in ").await;
    assert!(line.contains("give one such as seed=10.0.0.4"), "{line}");
    assert_eq!(trial.names(), ["shop@10.0.0.6"]);
    trial.stop().await;
}

#[tokio::test]
async fn a_seed_by_name_is_resolved_and_one_that_does_not_resolve_hides_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seeds");
    fs::write(&path, "no-such-host.invalid localhost:7000 10.0.0.4 10.0.0.999").expect("written");
    let mut trial = Trial::of(&of(&path, ""));
    let hosts = trial.until_hosts("three hosts", |hosts| hosts.len() == 3).await;
    let local = hosts.iter().find(|host| host.name.as_deref() == Some("localhost")).expect("localhost");
    assert!(local.addresses.iter().all(IpAddr::is_loopback) && !local.addresses.is_empty(), "{local:?}");
    assert_eq!(local.port, Some(7000));
    trial.stop().await;

    fs::write(&path, "no-such-host.invalid").expect("written");
    Trial::of(&of(&path, "")).until_failed_with("the seed no-such-host.invalid does not resolve").await;
}

#[tokio::test]
async fn user_data_gives_seeds_and_keeps_them_while_the_service_fails() {
    let script = "#!/bin/sh\n#metacluster seed=10.0.0.4 seed=10.0.0.5\necho hello\n";
    let service = Service::start(&[("/latest/user-data", script)]).expect("a service");
    let mut strategy = read("launch-data:from=user-data,interval=100ms,basename=shop").expect("valid");
    strategy.places = vec![Place::UserData { imds: Arc::new(Imds::at(vec![service.url()])), sure: true }];
    let mut trial = Trial::start(Box::new(strategy));
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    service.expire_tokens();
    service.set("/latest/user-data", Some("#metacluster seed=10.0.0.6"));
    trial.until(&["shop@10.0.0.6"]).await;
    service.switch_off();
    trial.until_failed_with("the instance metadata service is off (403)").await;
    assert_eq!(trial.names(), ["shop@10.0.0.6"]);
    trial.stop().await;
}

#[tokio::test]
async fn user_data_withstand_the_table_of_faults() {
    let service = Service::start(&[]).expect("a service");
    let at = service.url().trim_start_matches("http://").parse().expect("an address");
    let begin = |url: &str| {
        let mut strategy = read("launch-data:from=user-data,interval=200ms,timeout=5s").expect("valid");
        strategy.places = vec![Place::UserData { imds: Arc::new(Imds::at(vec![url.to_owned()])), sure: true }];
        Trial::start(Box::new(strategy))
    };
    let grow = |count: usize| {
        let seeds: String = (1..=count).map(|at| format!("#metacluster seed=10.0.0.{at}\n")).collect();
        service.set("/latest/user-data", Some(&seeds));
    };
    withstands("instance metadata service", at, begin, grow).await;
}

#[tokio::test]
async fn a_service_without_user_data_and_one_that_is_off_are_told_apart() {
    let service = Service::start(&[]).expect("a service");
    let mut strategy = read("launch-data:from=user-data,interval=100ms").expect("valid");
    strategy.places = vec![Place::UserData { imds: Arc::new(Imds::at(vec![service.url()])), sure: true }];
    let mut trial = Trial::start(Box::new(strategy));
    let line = trial.until_failed().await;
    assert!(line.starts_with("no seeds in the user data: "), "{line}");
    service.switch_off();
    service.expire_tokens();
    trial.until_failed_with("the instance metadata service is off (403)").await;
    trial.stop().await;
}

#[tokio::test]
async fn the_kernel_command_line_gives_seeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cmdline");
    fs::write(&path, "root=/dev/sda metacluster.seed=10.0.0.4,10.0.0.5 quiet\n").expect("written");
    let mut strategy = read("launch-data:from=kernel,basename=shop").expect("valid");
    strategy.places = vec![Place::Kernel { path }];
    let mut trial = Trial::start(Box::new(strategy));
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    trial.stop().await;
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (spec, wanted) in [
        ("launch-data:from=file", "path: is missing"),
        ("launch-data:from=environment,path=/a", "path: is given, and `from` does not name `file`"),
        ("launch-data:from=userdata", "from: `userdata` is no place"),
        ("launch-data:variable=A\\=B", "variable: is no name of a variable"),
    ] {
        let faults = read(spec).expect_err(spec);
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "{spec}: {lines:?}");
    }
}
