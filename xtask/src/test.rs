//! `cargo xtask test`: every test of the workspace, on any machine, with nothing left behind.
//!
//! Tests that need a tool which is not there note their skip in the folder of the run
//! ([`metacluster_testbed::TestRun`]); every process and namespace of a test is found there or carries its mark.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use metacluster_testbed::{RUN_VARIABLE, TestRun, Tool, eventually_value, remove_namespace, run as tool};

use crate::{process::cargo, setup};

/// What the tests need.
const NEEDED: [Tool; 13] = [
    Tool::Erl,
    Tool::Elixir,
    Tool::ErlangCrypto,
    Tool::Namespaces,
    Tool::Nftables,
    Tool::Kmock,
    Tool::Moto,
    Tool::RabbitMq,
    Tool::Tshark,
    Tool::Knot,
    Tool::Avahi,
    Tool::Postgres,
    Tool::Etcd,
];

/// How long processes may take to end after the last test.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Sets up, runs all tests (or those that the arguments of `cargo test` pick), cleans up and sums up.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (count, outcome) = run_counted(arguments)?;
    println!("{count}");
    outcome
}

/// As [`run`], but leaves it to the caller to print the count. The outer error is that the tests could not be run.
pub(crate) fn run_counted(arguments: &[String]) -> Result<(Count, Result<()>)> {
    setup::provide(&NEEDED)?;
    let folder = tempfile::Builder::new().prefix("mc-test-").tempdir().context("no temporary folder")?;
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary)?;
    let run = TestRun::new(folder.path());

    let mut command = cargo(&["test", "--no-fail-fast"]);
    if !arguments.iter().any(|argument| argument == "-p" || argument.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(arguments).env(RUN_VARIABLE, folder.path()).env("TMPDIR", &temporary);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut tests = command.spawn().context("cannot start cargo test")?;
    let Some(output) = tests.stdout.take() else { bail!("cargo test has no output") };
    let counting = thread::spawn(move || show_and_count(output));
    let status = tests.wait().context("cargo test is gone")?;
    // A process that outlived its test may hold the output open, so it has to go before the output ends.
    let left = left_behind(&run)?;
    let Ok(count) = counting.join() else { bail!("what cargo test printed could not be read") };
    let mut count = count?;
    let skipped = run.skipped()?;
    // The test harness cannot know of these and counts them as passed.
    let noted = u64::try_from(skipped.len())?;
    count.passed = count.passed.saturating_sub(noted);
    count.skipped += noted;

    println!();
    for line in &skipped {
        println!("skipped {line}");
    }
    for line in &left {
        println!("left behind: {line}");
    }
    let outcome = if !status.success() || count.failed > 0 {
        Err(anyhow::anyhow!("tests failed"))
    } else if !left.is_empty() {
        Err(anyhow::anyhow!("the tests left something behind"))
    } else {
        Ok(())
    };
    Ok((count, outcome))
}

/// Shows what `cargo test` prints and adds up what it says.
fn show_and_count(output: impl Read) -> Result<Count> {
    let mut count = Count::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("what cargo test prints cannot be read")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        add(&mut count, &line);
    }
    Ok(count)
}

/// Adds a closing line of the test harness, such as
/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
fn add(count: &mut Count, line: &str) {
    let Some((_, figures)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else { return };
    for figure in figures.split("; ") {
        let Some((number, what)) = figure.split_once(' ') else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => count.passed += number,
            "failed" => count.failed += number,
            "ignored" => count.skipped += number,
            _ => {}
        }
    }
}

/// What the run left, named; it is removed all the same.
fn left_behind(run: &TestRun) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let gone = eventually_value(END_WITHIN, "no process is left", || {
        let processes = run.processes().map_err(|error| error.to_string())?;
        if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?}")) }
    });
    if gone.is_err() {
        for (pid, command) in run.processes()? {
            left.push(format!("process {pid}: {command}"));
            tool("kill", &["-KILL", &pid.to_string()]).ok();
        }
    }
    let made = run.namespaces()?;
    if !made.is_empty() {
        let existing = tool("ip", &["netns", "list"])?;
        for name in existing.lines().filter_map(|line| line.split_whitespace().next()) {
            if made.iter().any(|made| made == name) {
                left.push(format!("namespace {name}"));
                remove_namespace(name)?;
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_closing_lines_of_the_harness_are_added_up() {
        let mut count = Count::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out; finished in 9.99s",
            "the test result: ok. 9 passed",
        ] {
            add(&mut count, line);
        }
        assert_eq!(count, Count { passed: 5, failed: 1, skipped: 1 });
        assert_eq!(count.to_string(), "5 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_process_that_a_test_left_is_named_and_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = TestRun::new(folder.path());
        let mut command = Command::new("sleep");
        command.arg("600").env(RUN_VARIABLE, folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("sleep");
        eventually_value(END_WITHIN, "it carries its mark", || match run.processes() {
            Ok(processes) if processes.len() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .expect("marked");
        let left = left_behind(&run).expect("looked");
        assert_eq!(left, [format!("process {}: sleep 600", child.id())]);
        assert!(!child.wait().expect("it was killed").success());
        assert_eq!(left_behind(&run).expect("looked"), Vec::<String>::new());
    }
}
