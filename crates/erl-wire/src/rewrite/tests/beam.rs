//! A real node reads what was rewritten as what it should be.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use metacluster_testbed::{Tool, require};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

use super::*;

/// Makes identifiers that OTP takes: the first word of a reference has 18 bits.
struct Plausible;

impl Translate for Plausible {
    fn pid(&mut self, _: &PidView<'_>) -> Option<PidView<'_>> {
        None
    }

    fn port(&mut self, _: &PortView<'_>) -> Option<PortView<'_>> {
        None
    }

    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        let mut ids = reference.ids.as_slice().to_vec();
        ids[0] &= (1 << 18) - 1;
        let ids = ReferenceIds::new(&ids).expect("as many");
        Some(ReferenceView { node: AtomView::utf8(b"r@host"), creation: reference.creation, ids })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[test]
fn a_real_node_reads_what_is_rewritten_as_it_should_be() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let mut runner = TestRunner::deterministic();
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |before: Vec<u8>| {
        let cuts = [before.len() / 3, before.len() / 2];
        let after = rewrite(&before, &cuts, &mut Prefix::add()).expect("valid");
        lines.push((before, after));
    };
    for (_, bytes) in golden() {
        add(bytes);
    }
    for _ in 0..400 {
        let term = rewriting::message().new_tree(&mut runner).expect("any").current();
        add(encoded(&translate_term(&term, &mut Plausible)));
    }

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rewrite/tests/beam.escript");
    let mut command = Command::new("escript");
    command.arg(script).env("ERL_CRASH_DUMP_SECONDS", "0").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = command.spawn().expect("escript comes with erl");
    let mut input = node.stdin.take().expect("a pipe");
    for (before, after) in &lines {
        if writeln!(input, "{} {}", hex(before), hex(after)).is_err() {
            break; // It has found a difference, and will say so.
        }
    }
    drop(input);
    let output = node.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let mut words = said.split_whitespace();
    let same: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    // What it does not read, such as a reference of more words than it has, it must read neither before nor after.
    assert!(same * 10 > lines.len() * 8, "{said} of {}", lines.len());
}
