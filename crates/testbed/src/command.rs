//! Runs a tool to its end and turns its failure into an error that carries what it said.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs `program` to its end and gives its standard output; a failure carries its standard error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    capture(Command::new(program).args(arguments))
}

/// As [`run`], with `input` as its standard input.
pub(crate) fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("cannot write to {program}"))?;
    }
    check(&command, child.wait_with_output()?)
}

/// Runs a prepared command to its end and gives its standard output.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    check(command, output)
}

/// Whether a tool can be started and ends well.
#[must_use]
pub fn succeed(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn check(command: &Command, output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_tool_said() {
        let error = run("sh", &["-c", "echo no such thing >&2; exit 3"]).expect_err("it exits with 3");
        assert!(error.to_string().contains("no such thing"), "{error}");
        assert_eq!(run_with_input("cat", &[], "through").expect("cat"), "through");
        assert!(!succeed("sh", &["-c", "exit 1"]));
    }
}
