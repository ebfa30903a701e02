//! The strategy `exec`, with programs that behave, and with such as do not.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use metacluster_discovery::{Settings, Value, build, trial::Trial};
use metacluster_testbed::{Contention, eventually};

/// A shell script as the program.
fn start(script: &str, more: &[(&str, &str)]) -> Trial {
    let command = ["/bin/sh", "-c", script].map(Value::from).to_vec();
    let mut settings = Settings::from([("command".to_owned(), Value::List(command))]);
    settings.extend(more.iter().map(|&(key, value)| (key.to_owned(), value.into())));
    Trial::start(build("exec", &settings).expect("valid settings"))
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    (folder, path)
}

#[tokio::test]
async fn a_program_that_is_kept_running_tells_each_change() {
    let (_folder, path) = folder();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut trial = start(&format!("exec cat {}", path.display()), &[("basename", "shop")]);
    // Opened for both, so that it does not end between two lines, and opening does not wait for the program.
    let mut pipe = fs::OpenOptions::new().read(true).write(true).open(&path).expect("the pipe");
    let mut say = |text: &str| std::io::Write::write_all(&mut pipe, text.as_bytes()).expect("written");
    say("{\"snapshot\":[\"shop@a\",{\"addresses\":[\"10.0.0.4\"],\"instance\":\"i-1\"}]}\n");
    trial.until(&["shop@10.0.0.4", "shop@a"]).await;
    let begun = Contention::start();
    say("{\"add\":\"shop@b\"}\n{\"remove\":\"i-1\"}\n");
    trial.until(&["shop@a", "shop@b"]).await;
    assert!(begun.given() < Duration::from_millis(200), "{:?}", begun.given());
    say("{\"error\":\"the API is gone\"}\n");
    assert_eq!(trial.until_failed().await, "sh says: the API is gone");
    say("no JSON at all\n");
    let line = trial.until_failed_with("line 5 of sh").await;
    assert!(line.contains("expected one of"), "{line}");
    assert_eq!(trial.names(), ["shop@a", "shop@b"]);
    say("{\"snapshot\":[]}\n");
    trial.until(&[]).await;
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_and_costs_no_candidate() {
    let (_folder, path) = folder();
    let script = format!(
        "echo run >> {0}; if [ $(wc -l < {0}) = 1 ]; then echo '{{\"snapshot\":[\"a@h\"]}}'; echo one >&2; echo two >&2; exit 3; fi; \
         echo '{{\"add\":\"b@h\"}}'; exec sleep 600",
        path.display()
    );
    let mut trial = start(&script, &[]);
    trial.until(&["a@h"]).await;
    let line = trial.until_failed_with("exit status: 3").await;
    assert!(line.ends_with("it said: two"), "{line}");
    assert_eq!(trial.names(), ["a@h"]);
    trial.until(&["a@h", "b@h"]).await;
    assert_eq!(lines(&path).len(), 2);
}

#[tokio::test]
async fn a_program_is_killed_with_all_that_it_started() {
    let (_folder, path) = folder();
    let script = format!(
        "trap '' TERM HUP INT; sleep 600 & echo $! >> {0}; echo $$ >> {0}; echo '{{\"snapshot\":[\"a@h\"]}}'; wait; sleep 600",
        path.display()
    );
    let mut trial = start(&script, &[]);
    trial.until(&["a@h"]).await;
    let pids = lines(&path);
    assert!(pids.len() == 2 && pids.iter().all(|pid| alive(pid)), "{pids:?}");
    trial.stop().await;
    eventually(Duration::from_secs(60), "both are gone", || {
        let left: Vec<_> = pids.iter().filter(|pid| alive(pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} live")) }
    })
    .expect("killed");
}

#[tokio::test]
async fn a_program_may_be_asked_again_and_again() {
    let (_folder, path) = folder();
    fs::write(&path, "a@h\n10.0.0.4\n").expect("written");
    let script = format!("cat {}; echo $METACLUSTER_TOPOLOGY@$METACLUSTER_CLUSTER", path.display());
    let mut trial = start(&script, &[("interval", "100ms")]);
    trial.until(&["a@h", "trial@main"]).await;
    assert_eq!(trial.hosts().len(), 1);
    fs::write(&path, "b@h\n").expect("written");
    trial.until(&["b@h", "trial@main"]).await;
}

#[tokio::test]
async fn an_answer_that_hangs_fails_is_half_or_garbage_costs_no_candidate() {
    for (does, timeout, says) in [
        ("echo b@h; sleep 600", "500ms", "sh did not end within 500ms"),
        ("echo b@h; echo no rights >&2; exit 1", "30s", "it said: no rights"),
        ("echo b@h; kill -9 $$", "30s", "signal: 9"),
        ("echo b@h; echo two words", "30s", "line 2 of sh"),
        ("printf '\\377\\376'", "30s", "no UTF-8"),
        ("cat /dev/zero", "30s", "a line of more than 8 MiB"),
        ("yes '# a comment that has no end'", "30s", "printed more than 8 MiB"),
        ("echo b@h; exec >&-; sleep 600", "30s", "closed its output"),
    ] {
        let (_folder, path) = folder();
        let script =
            format!("[ -f {0} ] || {{ echo $$ > {0}; echo a@h; exit; }}; echo $$ >> {0}; {does}", path.display());
        let mut trial = start(&script, &[("interval", "100ms"), ("timeout", timeout)]);
        trial.until(&["a@h"]).await;
        let line = trial.until_failed_with(says).await;
        assert!(!line.contains('\n') && line.len() < 500, "{line}");
        assert_eq!(trial.names(), ["a@h"], "{does}");
        trial.stop().await;
        let pids = lines(&path);
        eventually(Duration::from_secs(60), "all are gone", || {
            if pids.iter().any(|pid| alive(pid)) { Err(format!("{pids:?}")) } else { Ok(()) }
        })
        .expect("killed");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said() {
    let settings = Settings::from([("command".to_owned(), "/nonexistent/program".into())]);
    let mut trial = Trial::start(build("exec", &settings).expect("valid settings"));
    trial.until_failed_with("cannot run /nonexistent/program").await;
}

#[tokio::test]
async fn ten_thousand_additions_one_by_one_are_taken() {
    let script = "seq 10000 | sed 's/.*/{\"add\":\"n&@h\"}/'; exec sleep 600";
    let mut trial = start(script, &[]);
    trial.until_candidates("10,000 nodes", |found| found.len() == 10_000).await;
}
