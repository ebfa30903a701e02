//! The testbed holds what it promises: real hosts, real nodes, real faults, and nothing left behind.

use std::time::Duration;

use anyhow::Result;
use metacluster_testbed::{Libcluster, Network, Tool, capture, eventually, require, run};

const SOON: Duration = Duration::from_secs(60);

fn namespaces() -> String {
    let mine = format!("mc-{}-", std::process::id());
    let list = run("ip", &["netns", "list"]).expect("ip");
    list.lines().filter(|line| line.starts_with(&mine)).map(|line| line.to_owned() + "\n").collect()
}

fn pings(from: &metacluster_testbed::Host, to: &metacluster_testbed::Host) -> bool {
    // A TCP connection to a port that nobody has is refused by a host that is reachable.
    let address = to.address();
    let probe = format!("timeout 1 bash -c '</dev/tcp/{address}/9' 2>&1 | grep -q refused");
    from.command("bash").args(["-c", &probe]).status().expect("bash").success()
}

#[test]
fn cables_are_cut_and_healed_both_ways_and_one_way() -> Result<()> {
    if !require(&[Tool::Namespaces, Tool::Nftables]) {
        return Ok(());
    }
    let network = Network::new()?;
    let [a, b] = network.hosts()?;
    assert!(pings(&a, &b));
    b.cable().cut()?;
    assert!(!pings(&a, &b));
    b.cable().heal()?;
    assert!(pings(&a, &b));
    b.cable().cut_outbound()?;
    assert!(!pings(&a, &b));
    b.cable().heal()?;
    b.cable().lose(100)?;
    assert!(!pings(&a, &b));
    b.cable().heal()?;
    assert!(pings(&a, &b));
    Ok(())
}

#[test]
fn namespaces_go_with_a_panic() {
    if !require(&[Tool::Namespaces]) {
        return;
    }
    let made = std::thread::spawn(|| {
        let network = Network::new().expect("a network");
        let host = network.host().expect("a host");
        let name = capture(host.command("ip").args(["netns", "identify"])).expect("its name");
        let outlives = host.command("setsid").args(["sleep", "600"]).spawn().expect("a process that is not tied");
        std::panic::panic_any((name.trim().to_owned(), outlives));
    })
    .join()
    .expect_err("it panics");
    let (name, mut outlives) = *made.downcast::<(String, std::process::Child)>().expect("what it made");
    assert!(name.starts_with("mc-"));
    assert!(!namespaces().lines().any(|line| line.starts_with(&name)), "{}", namespaces());
    assert!(!outlives.wait().expect("it was killed").success());
}

#[test]
fn stock_nodes_start_evaluate_connect_and_see_one_another_die() -> Result<()> {
    if !require(&[Tool::Namespaces, Tool::Erl, Tool::Elixir]) {
        return Ok(());
    }
    let network = Network::new()?;
    let [a, b] = network.hosts()?;
    let _epmds = (a.epmd()?, b.epmd()?);
    let shop = a.beam("shop").spawn()?;
    let mut web = b.beam("web").elixir().spawn()?;
    shop.wait_ready()?;
    web.wait_ready()?;
    assert_eq!(shop.eval("1 + 1, [a, {b, \"c d\"}]")?, "[a,{b,\"c d\"}]");
    assert!(shop.eval("exit(because)").expect_err("it exits").root_cause().to_string().contains("because"));
    let sighting = shop.watch()?;
    assert_eq!(shop.eval(&format!("net_kernel:connect_node('{}')", web.name()))?, "true");
    shop.wait_nodes(SOON, &[web.name()])?;
    web.wait_nodes(SOON, &[shop.name()])?;
    web.kill9()?;
    sighting.wait_for(SOON, false, web.name())?;
    let web = b.beam("web").elixir().start()?;
    assert_eq!(shop.eval(&format!("net_adm:ping('{}')", web.name()))?, "pong");
    assert_eq!(sighting.changes()?.iter().map(|change| change.up).collect::<Vec<_>>(), [true, false, true]);
    Ok(())
}

#[test]
fn gossiping_nodes_find_one_another_by_short_names_too() -> Result<()> {
    if !require(&[Tool::Namespaces, Tool::Erl, Tool::ErlangCrypto]) {
        return Ok(());
    }
    let network = Network::new()?;
    let [a, b] = network.hosts()?;
    let nodes = [a.beam("one").short().spawn()?, b.beam("two").short().spawn()?, b.beam("odd").short().spawn()?];
    for node in &nodes {
        node.wait_ready()?;
    }
    let settings = Libcluster::default().secret("hush");
    for node in &nodes[..2] {
        node.gossip(&settings)?;
    }
    nodes[2].gossip(&Libcluster::default().secret("another"))?;
    nodes[0].wait_nodes(SOON, &["two@h2"])?;
    nodes[1].wait_nodes(SOON, &["one@h1"])?;
    assert!(nodes[2].nodes()?.is_empty());
    Ok(())
}

#[test]
fn a_paused_node_goes_on_where_it_was() -> Result<()> {
    if !require(&[Tool::Namespaces, Tool::Erl]) {
        return Ok(());
    }
    let network = Network::new()?;
    let host = network.host()?;
    let node = host.beam("slow").start()?;
    node.pause()?;
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap_or_default();
    eventually(SOON, "it is stopped", || if state().contains(") T ") { Ok(()) } else { Err(state()) })?;
    node.resume()?;
    assert_eq!(node.eval("node()")?, "'slow@10.91.0.1'");
    Ok(())
}
