//! A supervised Elixir application in two clusters: `GenServer.call`, `Task` and `Process.monitor` across, a server that
//! its supervisor starts again, and messages of the shapes that `Phoenix.PubSub` has.

use anyhow::{Context as _, Result};
use metacluster_testbed::{Network, eventually, require};

use crate::{
    federation::{Cluster, Nodes, clusters_of},
    support::{NEEDED, SOON},
};

const APPLICATION: &str = include_str!("shop.ex");
const EXPORTS: &str = "[[federation.export]]\nto = [\"*\"]\nscope = \"Elixir.Shop.Scope\"\ngroups = [\"Elixir.Shop.Orders\"]\n\n\
                       [[federation.export]]\nto = [\"*\"]\nscope = \"Elixir.Phoenix.PubSub\"\ngroups = [\"Elixir.Shop.PubSub*\"]\n";

/// Evaluates Elixir; what it gives, as Elixir prints it.
fn elixir(cluster: &Cluster, code: &str) -> Result<String> {
    let file = cluster.host.home().join("asked.exs");
    std::fs::write(&file, format!("inspect(({code}))")).context("it is written")?;
    cluster.beam.eval(&format!(
        "{{Value, _}} = 'Elixir.Code':eval_file(<<\"{}\">>), list_to_atom(binary_to_list(Value))",
        file.display()
    ))
}

fn start(cluster: &Cluster) -> Result<()> {
    let file = cluster.host.home().join("shop.ex");
    std::fs::write(&file, APPLICATION).context("it is written")?;
    cluster.beam.eval(&format!(
        "'Elixir.Code':compile_file(<<\"{}\">>), Test = self(),
         spawn(fun() -> {{ok, _}} = 'Elixir.Shop.Application':start_link([]), Test ! up, receive stop -> ok end end),
         receive up -> ok end",
        file.display()
    ))?;
    Ok(())
}

/// Waits until each cluster has one far member of the group in the scope.
fn wait_far(cluster: &Cluster, scope: &str, group: &str) -> Result<()> {
    eventually(SOON, "the far member is there", || {
        let far = format!("length(:pg.get_members({scope}, {group}) -- :pg.get_local_members({scope}, {group}))");
        match elixir(cluster, &far).map_err(|error| format!("{error:#}"))?.as_str() {
            "'1'" => Ok(()),
            count => Err(format!("{count}; {}", cluster.agent.log())),
        }
    })?;
    Ok(())
}

#[test]
fn a_supervised_application_works_across_clusters() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let [east, west] = network.hosts()?;
    let [east, west] = clusters_of(east, west, Nodes { elixir: true, exports: EXPORTS, ..Nodes::default() })?;
    for cluster in [&east, &west] {
        start(cluster)?;
    }
    for cluster in [&east, &west] {
        wait_far(cluster, "Shop.Scope", "Shop.Orders")?;
        wait_far(cluster, "Phoenix.PubSub", "Shop.PubSub.Adapter")?;
    }
    let far = "[far] = :pg.get_members(Shop.Scope, Shop.Orders) -- :pg.get_local_members(Shop.Scope, Shop.Orders)";
    let called = elixir(&west, &format!("{far}; GenServer.call(far, {{:reserve, \"book\"}})"))?;
    assert_eq!(called, "'{:reserved, \"book\", 1}'");
    let task =
        elixir(&west, &format!("{far}; Task.await(Task.async(fn -> GenServer.call(far, {{:reserve, 2}}) end))"))?;
    assert_eq!(task, "'{:reserved, 2, 2}'");
    let cast = elixir(
        &west,
        &format!("{far}; GenServer.cast(far, {{:tell, self(), \"hello\"}}); receive do m -> m after 5000 -> :late end"),
    )?;
    assert_eq!(cast, "'{:told, \"hello\", 2}'");

    // Its supervisor starts it again; the old pid is dead, and the new one is found.
    let down = elixir(
        &west,
        &format!(
            "{far}; ref = Process.monitor(far); catch_exit = try do GenServer.call(far, :crash) catch :exit, {{reason, _}} -> \
             reason end; receive do {{:DOWN, ^ref, :process, ^far, reason}} -> {{catch_exit, reason}} after 5000 -> :late end"
        ),
    )?;
    assert_eq!(down, "'{:crashed, :crashed}'");
    // The old pid may be in the group for a moment still.
    eventually(SOON, "the new one answers", || {
        let again = String::from(
            "case :pg.get_members(Shop.Scope, Shop.Orders) -- :pg.get_local_members(Shop.Scope, Shop.Orders) do \
             [far] -> try do GenServer.call(far, {:reserve, 1}) catch :exit, {reason, _} -> reason end; none -> none end",
        );
        match elixir(&west, &again).map_err(|error| format!("{error:#}"))?.as_str() {
            "'{:reserved, 1, 1}'" => Ok(()),
            other => Err(other.to_owned()),
        }
    })?;

    // A subscriber of one cluster, a broadcast in the other.
    east.beam.eval(
        "register(subscriber, spawn(fun() -> {ok, _} = 'Elixir.Shop.PubSub':subscribe(<<\"news\">>),
             receive {asks, To} -> To ! ready end,
             receive {news, _} = Message -> receive {asks, Who} -> Who ! Message end end end))",
    )?;
    assert_eq!(east.beam.eval("subscriber ! {asks, self()}, receive ready -> ready after 5000 -> late end")?, "ready");
    elixir(&west, "Shop.PubSub.broadcast(\"news\", {:news, 7})")?;
    let heard = east.beam.eval("subscriber ! {asks, self()}, receive M -> M after 5000 -> late end")?;
    assert_eq!(heard, "{news,7}");
    Ok(())
}
