//! The strategy `file`, on files that change in every way in which files do.

use std::{fmt::Write as _, fs, os::unix::fs::symlink, path::Path, time::Duration};

use metacluster_discovery::trial::Trial;
use metacluster_testbed::Contention;
use metacluster_types::HostState;

/// Longer than any test: what is seen sooner was told by the watch.
const NEVER: &str = "interval=1h";

fn start(path: &Path, more: &str) -> Trial {
    Trial::of(&format!("file:path={},{NEVER}{more}", path.display()))
}

/// The time from now until exactly these are candidates.
async fn known_after(trial: &mut Trial, nodes: &[&str]) -> Duration {
    let begun = Contention::start();
    trial.until(nodes).await;
    begun.given()
}

#[tokio::test]
async fn a_line_is_a_node_a_host_or_an_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers");
    let text = "# ours\nshop@10.0.0.4\nother@10.0.0.4\n10.0.0.5\n10.0.0.6:4000\n\n\
                {\"addresses\":[\"10.0.0.7\"],\"instance\":\"i-7\",\"state\":\"terminated\"}\n\
                {\"node\":\"shop@web8\",\"zone\":\"z1\"}\n";
    fs::write(&path, text).expect("written");
    let mut trial = start(&path, ",basename=shop");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5", "shop@10.0.0.6", "shop@web8"]).await;
    let terminated: Vec<_> = trial.hosts().iter().filter(|host| host.state == HostState::Terminated).collect();
    assert_eq!((trial.hosts().len(), terminated.len()), (3, 1));
    assert_eq!(trial.hosts().iter().filter_map(|host| host.port).collect::<Vec<_>>(), [4000]);
}

#[tokio::test]
async fn a_file_that_is_written_appended_to_or_replaced_is_read_within_200_ms() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers");
    fs::write(&path, "a@h\n").expect("written");
    let mut trial = start(&path, "");
    trial.until(&["a@h"]).await;
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let node = format!("n{round}@h");
        fs::write(&path, format!("{node}\n")).expect("written");
        slowest = slowest.max(known_after(&mut trial, &[&node]).await);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"b@h\n"))
            .expect("appended");
        slowest = slowest.max(known_after(&mut trial, &[&node, "b@h"]).await);
        fs::write(folder.path().join(".new"), "c@h\n").expect("written");
        fs::rename(folder.path().join(".new"), &path).expect("replaced");
        slowest = slowest.max(known_after(&mut trial, &["c@h"]).await);
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
}

#[tokio::test]
async fn a_config_map_is_followed_when_kubernetes_turns_its_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = folder.path();
    let version = |name: &str, text: &str| {
        fs::create_dir(volume.join(name)).expect("a folder");
        fs::write(volume.join(name).join("peers"), text).expect("written");
    };
    version("..1", "a@h");
    symlink("..1", volume.join("..data")).expect("a link");
    symlink("..data/peers", volume.join("peers")).expect("a link");
    let mut trial = start(&volume.join("peers"), "");
    trial.until(&["a@h"]).await;
    for turn in 2..6 {
        let (next, node) = (format!("..{turn}"), format!("n{turn}@h"));
        version(&next, &node);
        symlink(&next, volume.join("..data_tmp")).expect("a link");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("turned");
        fs::remove_dir_all(volume.join(format!("..{}", turn - 1))).expect("the old one goes");
        let known = known_after(&mut trial, &[&node]).await;
        assert!(known < Duration::from_millis(200), "{known:?}");
    }
}

#[tokio::test]
async fn a_link_to_elsewhere_is_followed_at_both_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let target = elsewhere.path().join("list");
    fs::write(&target, "a@h").expect("written");
    let path = folder.path().join("peers");
    symlink(&target, &path).expect("a link");
    let mut trial = start(&path, "");
    trial.until(&["a@h"]).await;
    fs::write(&target, "b@h").expect("written");
    trial.until(&["b@h"]).await;
    fs::write(elsewhere.path().join("new"), "c@h").expect("written");
    fs::rename(elsewhere.path().join("new"), &target).expect("replaced");
    trial.until(&["c@h"]).await;
}

#[tokio::test]
async fn a_slip_a_missing_file_and_a_file_without_end_cost_no_candidate() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers");
    let mut trial = start(&path, "");
    let line = trial.until_failed_with("cannot read").await;
    assert!(line.contains("peers"), "it may come later: {line}");
    fs::write(&path, "a@h\nb@h\n").expect("written");
    trial.until(&["a@h", "b@h"]).await;

    fs::write(&path, "a@h\ntwo words\n").expect("written");
    let line = trial.until_failed_with("peers:2:").await;
    assert!(line.contains("`two words`"), "{line}");
    fs::remove_file(&path).expect("gone");
    trial.until_failed_with("cannot read").await;
    fs::write(&path, [0xff, 0xfe, 0]).expect("written");
    trial.until_failed_with("no text").await;
    let huge = fs::File::create(&path).expect("created");
    huge.set_len(1 << 40).expect("a hole of a tebibyte");
    trial.until_failed_with("longer than 8 MiB").await;
    fs::remove_file(&path).expect("gone");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut line = trial.until_failed().await;
    while line.contains("cannot read") {
        line = trial.until_failed().await;
    }
    assert!(line.contains("is no file"), "who would wait for a writer: {line}");
    assert_eq!(trial.names(), ["a@h", "b@h"], "all that time");

    fs::remove_file(&path).expect("gone");
    fs::write(&path, "c@h\n").expect("written");
    trial.until(&["c@h"]).await;
}

#[tokio::test]
async fn ten_thousand_peers_are_read_and_more_are_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers");
    let mut text = String::new();
    for at in 0..12_000 {
        writeln!(text, "shop@10.1.{}.{}", at / 250, at % 250).expect("a text");
    }
    fs::write(&path, text).expect("written");
    let mut trial = start(&path, "");
    trial.until_candidates("10,000 nodes", |found| found.len() == 10_000).await;
}

#[tokio::test]
async fn without_a_change_the_file_is_read_at_intervals_and_names_are_resolved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers");
    fs::write(&path, "localhost\n").expect("written");
    let mut trial = Trial::of(&format!("file:path={},interval=100ms,name_template=shop@{{name}}", path.display()));
    trial.until(&["shop@localhost"]).await;
    assert!(trial.addresses().iter().all(|address| address.is_loopback()) && !trial.addresses().is_empty());
    trial.until(&["shop@localhost"]).await;
}
