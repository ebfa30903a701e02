//! Real nodes and their tools with our epmd in the place of the stock one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use metacluster_testbed::{Child, Tool, eventually, require, run};

use crate::servers::{Epmd, PATIENCE, Whose, free_port};

/// Ends the epmd of a port when the test ends.
struct Stopped(u16);

impl Drop for Stopped {
    fn drop(&mut self) {
        ask(Whose::Ours, self.0, &["-kill"]);
    }
}

fn ask(whose: Whose, port: u16, flags: &[&str]) -> Output {
    whose.command().args(["-port", &port.to_string()]).args(flags).output().expect("it runs")
}

fn quiet(command: &mut Command, port: u16) -> &mut Command {
    command
        .env("ERL_EPMD_PORT", port.to_string())
        .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "yes")
        .env("ERL_CRASH_DUMP_SECONDS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// Waits until the node is listed by both programs.
fn listed(port: u16, node: &str) {
    for whose in Whose::BOTH {
        eventually(PATIENCE, &format!("{whose:?} lists {node}"), || {
            let output = ask(whose, port, &["-names"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains(&format!("name {node} at port ")) { Ok(()) } else { Err(text) }
        })
        .expect("listed");
    }
}

/// Whether the process that listens is our program.
fn is_ours(port: u16) -> bool {
    // By its number: a program that runs in a mount namespace has another path there.
    let file = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let own = file(Path::new(env!("CARGO_BIN_EXE_metacluster"))).expect("a program");
    let wanted = format!(":{port:04X} ");
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    let inodes: Vec<String> = sockets
        .lines()
        .filter(|line| line.contains(&wanted) && line.contains(" 0A "))
        .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?)))
        .collect();
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    processes.filter(|entry| file(&entry.path().join("exe")) == Some(own)).any(|entry| {
        let descriptors = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| inodes.iter().any(|inode| target == Path::new(inode)))
    })
}

#[test]
fn erl_starts_our_epmd_when_told_to() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let port = free_port();
    let _stopped = Stopped(port);
    let epmd = format!("\"{}\" epmd -daemon", env!("CARGO_BIN_EXE_metacluster"));
    let mut erl = Command::new("erl");
    let node = ["-noinput", "-name", "shop@127.0.0.1", "-epmd", &epmd];
    let _erl = Child::spawn(quiet(erl.args(node), port), "erl").expect("it starts");
    listed(port, "shop");
    assert!(is_ours(port));
}

/// A copy of the folder in which `erl` looks for its programs, with our epmd in it.
fn programs_with_our_epmd(into: &Path) -> (PathBuf, PathBuf) {
    let code = "io:format(\"~s\", [code:root_dir()]), halt().";
    let root = PathBuf::from(run("erl", &["-noshell", "-eval", code]).expect("erl"));
    let programs = fs::read_dir(&root)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("erts-")));
    let programs = programs.expect("a runtime").join("bin");
    for entry in fs::read_dir(&programs).expect("a folder").flatten() {
        if entry.file_name() != "epmd" {
            symlink(entry.path(), into.join(entry.file_name())).expect("a link");
        }
    }
    symlink(env!("CARGO_BIN_EXE_metacluster"), into.join("epmd")).expect("a link");
    (root, into.to_owned())
}

#[test]
fn erl_starts_our_epmd_where_it_finds_it_by_its_name() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (root, programs) = programs_with_our_epmd(folder.path());
    let port = free_port();
    let _stopped = Stopped(port);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
    let start = |node: &str| {
        let mut erl = Command::new(programs.join("erlexec"));
        erl.env("ROOTDIR", &root).env("BINDIR", &programs).env("EMU", "beam").env("PROGNAME", "erl").env("PATH", &path);
        Child::spawn(quiet(erl.args(["-noinput", "-sname", node]), port), "erl").expect("it starts")
    };
    let first = start("shop");
    listed(port, "shop");
    assert!(is_ours(port));
    // The second one starts it again, which is no error.
    let _second = start("store");
    listed(port, "store");
    listed(port, "shop");
    drop(first);
    eventually(PATIENCE, "the first is gone", || {
        let text = String::from_utf8_lossy(&ask(Whose::Stock, port, &["-names"]).stdout).into_owned();
        if text.contains("name shop ") { Err(text) } else { Ok(()) }
    })
    .expect("gone");
    let dump = ask(Whose::Stock, port, &["-dump"]).stdout;
    assert!(String::from_utf8_lossy(&dump).contains("old/unused name <shop>, port = "));
}

#[test]
fn nodes_find_one_another_through_our_epmd() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let epmd = Epmd::start(Whose::Ours, &[]);
    let mut erl = Command::new("erl");
    let arguments = ["-noinput", "-name", "shop@127.0.0.1", "-setcookie", "oats"];
    let _shop = Child::spawn(quiet(erl.args(arguments), epmd.port), "erl").expect("it starts");
    listed(epmd.port, "shop");
    let code = "{ok, Names} = erl_epmd:names(\"127.0.0.1\"), Two = [N || {N, _} <- lists:sort(Names)], \
                pong = net_adm:ping('shop@127.0.0.1'), io:format(\"~p\", [Two]), halt().";
    let mut client = Command::new("erl");
    let arguments = ["-noinput", "-name", "client@127.0.0.1", "-setcookie", "oats", "-eval", code];
    let output = quiet(client.args(arguments), epmd.port).stdout(Stdio::piped()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[\"client\",\"shop\"]");
}

#[test]
fn elixir_lives_with_our_epmd() {
    if !require(&[Tool::Erl, Tool::Elixir]) {
        return;
    }
    let epmd = Epmd::start(Whose::Ours, &[]);
    let mut elixir = Command::new("elixir");
    let arguments = ["--sname", "shop", "--no-halt", "-e", "IO.puts(\"up\")"];
    let _shop = Child::spawn(quiet(elixir.args(arguments), epmd.port), "elixir").expect("it starts");
    listed(epmd.port, "shop");
    let mut iex = Command::new("iex");
    let arguments = ["--name", "client@127.0.0.1", "-e", "IO.inspect(:erl_epmd.names({127,0,0,1})); System.halt(0)"];
    let output = quiet(iex.args(arguments), epmd.port).stdout(Stdio::piped()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("{~c\"shop\"") || text.contains("{'shop'"), "{output:?}");
}
