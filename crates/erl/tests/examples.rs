//! The examples do with a real BEAM node what their first lines say.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use common::{Beam, PATIENCE, epmd, eval, has_erl, name, port_of, within};
use metacluster_erl::{Node, NodeOptions, epmd::Server, wire::term};
use metacluster_types::Cookie;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::mpsc;

/// What the examples say of themselves.
const THEIR_COOKIE: &str = "secret";

/// The program that cargo has built of an example. `cargo test` builds them; a call that picks one test does not.
fn program(example: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().expect("a path");
    let program = own.ancestors().nth(2).expect("target/debug/deps").join("examples").join(example);
    if !program.is_file() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no {}: build it", program.display());
        eprintln!("skipped: no {}; build it: cargo build -p metacluster-erl --examples", program.display());
        return None;
    }
    Some(program)
}

/// An example that runs; ends with the test.
struct Example {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Example {
    fn start(program: PathBuf, epmd: &Server, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env("ERL_EPMD_PORT", port_of(epmd).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (told, lines) = mpsc::unbounded_channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { child, lines }
    }

    /// Waits until it prints a line with this in it.
    async fn says(&mut self, what: &str) -> String {
        within(what, async {
            loop {
                let line = self.lines.recv().await.unwrap_or_else(|| panic!("it ended without `{what}`"));
                if line.contains(what) {
                    return line;
                }
            }
        })
        .await
    }

    /// Waits for its end.
    async fn ends(&mut self) -> ExitStatus {
        within("the end of its output", async { while self.lines.recv().await.is_some() {} }).await;
        self.child.wait().expect("it was started")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The shell of which the examples speak, and a node of the test that is connected to it.
async fn shell(epmd: &Server, arguments: &[&str]) -> (Beam, Node) {
    let beam = Beam::start_with(epmd, "shell@127.0.0.1", THEIR_COOKIE, arguments).await;
    let options = NodeOptions::new(name("control@127.0.0.1"), Cookie::new(THEIR_COOKIE));
    let control = Node::start(NodeOptions { connect_timeout: PATIENCE, ..options });
    beam.join(&control).await;
    (beam, control)
}

#[tokio::test]
async fn the_echo_server_answers_a_shell() {
    let Some(program) = program("echo_server").filter(|_| has_erl()) else { return };
    let epmd = epmd().await;
    let (beam, control) = shell(&epmd, &[]).await;
    let mut echo = Example::start(program, &epmd, &[]);
    echo.says("waits for calls").await;
    let ask = async |text: &str| eval(&control, &beam.name, text).await;
    let echoed = ask("gen_server:call({echo, 'rust@127.0.0.1'}, {hello, \"world\"}, 30000).").await;
    assert_eq!(echoed.to_string(), r#"{echo,{hello,"world"}}"#);
    echo.says("asks {hello,\"world\"}").await;
    ask("gen_server:cast({echo, 'rust@127.0.0.1'}, anything).").await;
    echo.says("somebody says anything").await;
    assert_eq!(ask("gen_server:call({echo, 'rust@127.0.0.1'}, stop, 30000).").await, term!({calls, 1}));
    echo.says("ended: normal").await;
    assert!(echo.ends().await.success());
}

#[tokio::test]
async fn the_member_of_a_group_gets_what_a_shell_sends_to_the_group() {
    let Some(program) = program("pg_member").filter(|_| has_erl()) else { return };
    let epmd = epmd().await;
    let (beam, control) = shell(&epmd, &["-kernel", "start_pg", "true"]).await;
    let mut member = Example::start(program, &epmd, &["shell@127.0.0.1"]);
    let ask = async |text: &str| eval(&control, &beam.name, text).await;
    within("the member in the group", async {
        while ask("pg:get_members(orders).").await == term!([]) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ask("pg:join(orders, spawn(fun() -> receive leave -> ok end end)).").await;
    member.says("now 2 members").await;
    ask("[Pid ! {order, tea} || Pid <- pg:get_members(orders)].").await;
    member.says("got {order,tea}").await;
    ask("[Pid ! leave || Pid <- pg:get_local_members(orders)].").await;
    member.says("now 1 members").await;
    let id = i32::try_from(member.child.id()).expect("small");
    kill(Pid::from_raw(id), Signal::SIGINT).expect("it runs");
    assert!(member.ends().await.success());
}

#[tokio::test]
async fn the_caller_gets_answers_and_reads_errors() {
    let Some(program) = program("caller").filter(|_| has_erl()) else { return };
    let epmd = epmd().await;
    let (_beam, _control) = shell(&epmd, &[]).await;
    let mut caller = Example::start(program, &epmd, &["shell@127.0.0.1"]);
    for line in [
        "connected to shell@127.0.0.1 at 127.0.0.1:",
        "lists:seq(1, 9, 2) is [1, 3, 5, 7, 9]",
        "OTP ",
        "its kernel supervises ",
        "erlang:exit(oops): ",
        "no_module:at_all(oops): ",
        "a call to nobody: ",
        "numbers as texts: ",
    ] {
        caller.says(line).await;
    }
    assert!(caller.ends().await.success());
}
