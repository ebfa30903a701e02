//! A gateway that was killed and comes back: both ways go by the same two gateways again while traffic runs, and a pid that
//! travels there and back is the original, as before.

use std::time::Duration;

use anyhow::{Result, ensure};
use metacluster_testbed::{Contention, eventually, require};

use crate::{
    federation_pairs::{AGAIN, Gateway, calls, load, publisher, serve, start, wait_all_linked, wait_calls},
    support::{NEEDED, SOON},
};

/// How long a call waits for its answer.
const CALL_WITHIN: Duration = Duration::from_secs(1);

/// Who publishes what the other side exports, and which gateway it asks for that: by its node.
fn way(pair: &[Gateway; 2]) -> Result<(String, String), String> {
    let mut ways = Vec::new();
    for gateway in pair {
        // One that was killed asks nobody.
        let Ok(answer) = gateway.agent.get("/v1/federation") else { continue };
        let all = answer["gateways"].as_array().cloned().unwrap_or_default();
        let asked = all.iter().filter(|gateway| gateway["publishing"] == true);
        let own = format!("metacluster@{}", gateway.host.address());
        ways.extend(asked.map(|asked| (own.clone(), asked["node"].as_str().unwrap_or_default().to_owned())));
    }
    <[_; 1]>::try_from(ways).map(|[way]| way).map_err(|ways| format!("{ways:?}"))
}

/// Waits until both ways go by the same two gateways.
fn wait_same_way(pairs: &[[Gateway; 2]; 2]) -> Result<()> {
    eventually(SOON, "both ways go by the same two gateways", || {
        let ((east, asked), (west, asks)) = (way(&pairs[0])?, way(&pairs[1])?);
        if (&east, &asked) == (&asks, &west) { Ok(()) } else { Err(format!("{east} asks {asked}, {west} asks {asks}")) }
    })?;
    Ok(())
}

/// What a process of `west` is sent it sends on to a process of `east`, which says whether that is the original.
fn meet(pairs: &[[Gateway; 2]; 2]) -> Result<()> {
    pairs[1][1].beam.eval(
        "register(there, spawn(fun() -> ok = pg:join({orders, there}, self()),
            (fun Loop() -> receive {carry, Pid} ->
                [Home | _] = pg:get_members({orders, home}), Home ! {back, Pid}, Loop() end end)() end))",
    )?;
    pairs[0][0].beam.eval(
        "register(home, spawn(fun() -> ok = pg:join({orders, home}, self()),
            (fun Loop(Came) -> receive {back, Pid} -> Loop([Pid | Came]);
                                       {came, To} -> To ! {came, Came}, Loop([]) end end)([]) end))",
    )?;
    Ok(())
}

/// A process of `east` is named to `west`, and what comes home is the process itself.
fn assert_identity(pairs: &[[Gateway; 2]; 2]) -> Result<()> {
    let east = &pairs[0][0].beam;
    eventually(SOON, "both processes are members on the other side", || {
        let here = east.eval("length(pg:get_members({orders, there}))").map_err(|error| format!("{error:#}"))?;
        let there = pairs[1][1].beam.eval("length(pg:get_members({orders, home}))");
        let there = there.map_err(|error| format!("{error:#}"))?;
        if (here.as_str(), there.as_str()) == ("1", "1") { Ok(()) } else { Err(format!("{here}, {there}")) }
    })?;
    let came = east.eval(
        "[There] = pg:get_members({orders, there}), Pid = spawn(fun() -> receive stop -> ok end end),
         There ! {carry, Pid},
         (fun Wait(0) -> late;
              Wait(N) -> home ! {came, self()}, receive {came, []} -> receive after 10 -> Wait(N - 1) end;
                                                        {came, [Pid]} -> original;
                                                        {came, Other} -> {another, Other, Pid} end end)(1000)",
    )?;
    ensure!(came == "original", "{came}");
    Ok(())
}

#[test]
fn both_ways_go_by_the_same_gateways_again_when_one_that_was_killed_has_returned() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut pairs = start()?;
    serve(&pairs[0])?;
    meet(&pairs)?;
    wait_same_way(&pairs)?;
    assert_identity(&pairs)?;
    let client = 0;
    load(&pairs[1][client].beam)?;
    wait_calls(&pairs[1][client].beam, 100)?;
    // That which `west` asks, and then that which `east` asks.
    for side in [0, 1] {
        let before = (way(&pairs[0]), way(&pairs[1]));
        let place = publisher(&pairs[side])?;
        pairs[side][place].agent.kill9()?;
        wait_calls(&pairs[1][client].beam, 200)?;
        wait_same_way(&pairs)?;
        assert_identity(&pairs)?;

        let contention = Contention::start();
        let forgot = pairs[1][client].beam.eval("caller ! {forget, self()}, receive forgot -> ok end")?;
        assert_eq!(forgot, "ok");
        pairs[side][place].restart()?;
        wait_all_linked(&pairs)?;
        eventually(SOON, "both ways are as they were", || {
            let now = (way(&pairs[0]), way(&pairs[1]));
            if now == before { Ok(()) } else { Err(format!("{now:?}, not {before:?}")) }
        })?;
        assert_identity(&pairs)?;
        wait_calls(&pairs[1][client].beam, 100)?;
        let (_, bad, worst) = calls(&pairs[1][client].beam)?;
        let lost = contention.lost();
        println!(
            "side {side}: {worst} ms without an answer as it returned, {bad} calls failed, {lost:?} lost to others"
        );
        // No link is lost: what was asked is answered, and for some time there is nobody to ask. A gateway that stood still
        // for as long as a call waits, or a link lives without a word, is another matter.
        ensure!(bad == 0 || lost > CALL_WITHIN, "a call fails as a gateway returns: {bad}");
        ensure!(Duration::from_millis(worst) < AGAIN + lost, "{worst} ms without an answer");
    }
    Ok(())
}
