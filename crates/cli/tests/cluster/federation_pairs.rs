//! Two gateways a cluster, and one of them killed while traffic runs: calls fail as to a dead node and work again through
//! the other one, and nothing is delivered wrongly, twice or out of order.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Beam, Contention, Host, Network, eventually, eventually_value, require};

use crate::{
    federation::{command, folder, prove},
    support::{NEEDED, SOON, binary},
};

/// Calls work again within this time.
pub(crate) const AGAIN: Duration = Duration::from_secs(2);

/// A gateway, its host, and a node there.
pub(crate) struct Gateway {
    pub(crate) beam: Beam,
    pub(crate) agent: Agent,
    pub(crate) host: Host,
}

impl Gateway {
    /// Whether the groups of the other cluster are published by it.
    fn publishes(&self) -> Result<bool, String> {
        let answer = self.agent.get("/v1/federation").map_err(|error| format!("{error:#}"))?;
        let gateways = answer["gateways"].as_array().cloned().unwrap_or_default();
        Ok(gateways.iter().any(|gateway| gateway["publishing"] == true))
    }

    fn links(&self) -> Result<usize, String> {
        let answer = self.agent.get("/v1/federation").map_err(|error| format!("{error:#}"))?;
        let gateways = answer["gateways"].as_array().cloned().unwrap_or_default();
        Ok(gateways.iter().filter(|gateway| gateway["linked"] == true).count())
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.agent = self.host.agent(binary()).arguments(&["agent", "--config", "metacluster.toml"]).start()?;
        Ok(())
    }
}

/// Both gateways of both clusters, each linked to each, and the two nodes of each cluster meshed.
pub(crate) fn start() -> Result<[[Gateway; 2]; 2]> {
    let network = Network::new()?;
    let hosts: [Host; 4] = network.hosts()?;
    let clusters = [("east", [0, 1], [2, 3]), ("west", [2, 3], [0, 1])];
    for (name, own, _) in clusters {
        prove(&hosts[own[0]], name)?;
        // The other gateway's identity is of the same authority.
        let authority = folder(&hosts[own[0]]).display().to_string();
        let identity = hosts[own[1]].home().join("federation.pem").display().to_string();
        command(&hosts[own[0]], &["federation", "issue", "--dir", &authority, "--out", &identity])?;
        hosts[own[1]].write_cookie(&format!("COOKIE{name}"))?;
    }
    let mut configs = Vec::new();
    for (name, own, far) in clusters {
        for (place, &host) in own.iter().enumerate() {
            let host = &hosts[host];
            let identity: PathBuf =
                if place == 0 { folder(host).join("federation.pem") } else { host.home().join("federation.pem") };
            let authority = folder(&hosts[far[0]]).join("federation-ca.pem");
            configs.push(format!(
                "cluster = \"{name}\"\nlisten = \"0.0.0.0:0\"\n\n[[topology]]\nname = \"all\"\nstrategy = \"static\"\n\
                 nodes = [\"{}\", \"{}\"]\n\n[federation]\nidentity = {identity:?}\ntrust = [{authority:?}]\n\
                 listen = \"0.0.0.0:4391\"\npeers = [\"{}:4391\", \"{}:4391\"]\n\n\
                 [[federation.export]]\nto = [\"*\"]\ngroups = [\"orders\"]\n",
                hosts[own[0]].node_name("shop"),
                hosts[own[1]].node_name("shop"),
                hosts[far[0]].address(),
                hosts[far[1]].address(),
            ));
        }
    }
    let mut gateways = Vec::new();
    for (host, config) in hosts.into_iter().zip(&configs) {
        let agent = host.agent(binary()).config(config)?.start()?;
        let beam = host.beam("shop").flags("-kernel start_pg true").spawn()?;
        gateways.push(Gateway { beam, agent, host });
    }
    for gateway in &gateways {
        gateway.beam.wait_ready()?;
    }
    let pairs: Vec<[Gateway; 2]> = {
        let mut gateways = gateways.into_iter();
        std::iter::from_fn(|| Some([gateways.next()?, gateways.next()?])).collect()
    };
    let pairs: [[Gateway; 2]; 2] = pairs.try_into().map_err(|_| anyhow::anyhow!("two of two"))?;
    for [one, other] in &pairs {
        one.beam.wait_nodes(SOON, &[other.beam.name()])?;
        for gateway in [one, other] {
            // Those of its own host and of the other one.
            eventually(SOON, "the gateway's node is connected to both", || {
                let seen = format!("lists:member('metacluster@{}', nodes(hidden))", gateway.host.address());
                let both = [one, other].map(|gateway| gateway.beam.eval(&seen));
                if both.iter().all(|seen| matches!(seen.as_deref(), Ok("true"))) {
                    Ok(())
                } else {
                    Err(gateway.agent.log())
                }
            })?;
        }
    }
    wait_all_linked(&pairs)?;
    Ok(pairs)
}

pub(crate) fn wait_all_linked(pairs: &[[Gateway; 2]; 2]) -> Result<()> {
    for gateway in pairs.iter().flatten() {
        eventually(SOON, "each gateway is linked to both of the other side", || match gateway.links()? {
            2 => Ok(()),
            links => Err(format!("{links} links; {}", gateway.agent.log())),
        })?;
    }
    Ok(())
}

/// Who publishes, once it is one.
pub(crate) fn publisher(pair: &[Gateway; 2]) -> Result<usize> {
    eventually_value(SOON, "one of two publishes", || match [pair[0].publishes()?, pair[1].publishes()?] {
        [true, false] => Ok(0),
        [false, true] => Ok(1),
        both => Err(format!("{both:?}")),
    })
}

/// Two servers, `a` and `b`, on the two nodes: each knows whether a message was for it, and in order.
pub(crate) fn serve(east: &[Gateway; 2]) -> Result<()> {
    for (gateway, name) in east.iter().zip(["a", "b"]) {
        gateway.beam.eval(&format!(
            "register(server, spawn(fun() -> ok = pg:join({{orders, {name}}}, self()),
                (fun Loop(Last, Wrong) -> receive
                    {{'$gen_call', From, {{echo, Term}}}} -> gen_server:reply(From, Term), Loop(Last, Wrong);
                    {{number, {name}, N}} when N > Last -> Loop(N, Wrong);
                    {{number, Name, N}} -> Loop(Last, [{{Name, N, Last}} | Wrong]);
                    {{report, To}} -> To ! {{report, Last, Wrong}}, Loop(Last, Wrong)
                 end end)(0, []) end))"
        ))?;
    }
    Ok(())
}

/// One process that numbers what it sends to `a`, and one that calls `b` and keeps the longest time without an answer.
pub(crate) fn load(client: &Beam) -> Result<()> {
    client.eval(
        "Members = fun(Name) -> pg:get_members({orders, Name}) end,
         register(sender, spawn(fun() -> (fun Loop(N, Most) ->
             receive {report, To} -> To ! {report, N, Most}, Loop(N, Most) after 1 ->
                 case Members(a) of
                     [] -> Loop(N, Most);
                     [P | _] = All -> P ! {number, a, N + 1}, Loop(N + 1, max(Most, length(All)))
                 end end end)(0, 0) end)),
         register(caller, spawn(fun() -> Now = fun() -> erlang:monotonic_time(millisecond) end,
             (fun Loop(Good, Bad, Since, Worst) ->
                 receive {report, To} -> To ! {report, Good, Bad, max(Worst, Now() - Since)}, Loop(Good, Bad, Since, Worst);
                         {forget, To} -> To ! forgot, Loop(Good, 0, Now(), 0)
                 after 1 -> ok end,
                 Called = case Members(b) of
                     [] -> none;
                     [P | _] -> Term = make_ref(), try gen_server:call(P, {echo, Term}, 1000) of Term -> good; _ -> wrong
                                catch exit:_ -> bad end end,
                 case Called of
                     good -> Loop(Good + 1, Bad, Now(), max(Worst, Now() - Since));
                     none -> Loop(Good, Bad, Since, Worst);
                     bad -> Loop(Good, Bad + 1, Since, Worst);
                     wrong -> exit(wrong_answer)
                 end end)(0, 0, Now(), 0) end)), ok",
    )?;
    Ok(())
}

/// Good calls so far, bad ones, and the longest time without a good one in milliseconds.
pub(crate) fn calls(client: &Beam) -> Result<(u64, u64, u64)> {
    let text =
        client.eval("caller ! {report, self()}, receive {report, G, B, W} -> {G, B, W} after 10000 -> late end")?;
    let numbers: Vec<u64> = text
        .trim_matches(['{', '}'])
        .split(',')
        .map(|number| number.trim().parse().with_context(|| text.clone()))
        .collect::<Result<_>>()?;
    let [good, bad, worst] = numbers[..] else { anyhow::bail!("{text}") };
    Ok((good, bad, worst))
}

/// Waits for so many more good calls.
pub(crate) fn wait_calls(client: &Beam, more: u64) -> Result<()> {
    let (before, ..) = calls(client)?;
    eventually(SOON, "calls work", || {
        let (good, bad, worst) = calls(client).map_err(|error| format!("{error:#}"))?;
        if good >= before + more { Ok(()) } else { Err(format!("{good} good, {bad} bad, {worst} ms")) }
    })?;
    Ok(())
}

#[test]
fn a_gateway_that_is_killed_is_replaced_within_two_seconds_and_nothing_is_wrong() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let mut pairs = start()?;
    serve(&pairs[0])?;
    publisher(&pairs[1])?;
    // The client's own host is not that of the gateway which is killed, nor need it be: both are connected to it.
    load(&pairs[1][0].beam)?;
    wait_calls(&pairs[1][0].beam, 100)?;
    // That of the caller's side first, then that of the server's, each back before the next.
    for (round, side) in [1, 0, 1, 0].into_iter().enumerate() {
        let contention = Contention::start();
        let forgot = pairs[1][0].beam.eval("caller ! {forget, self()}, receive forgot -> ok end")?;
        assert_eq!(forgot, "ok");
        wait_calls(&pairs[1][0].beam, 100)?;
        let place = publisher(&pairs[side])?;
        pairs[side][place].agent.kill9()?;
        wait_calls(&pairs[1][0].beam, 200)?;
        let (_, bad, worst) = calls(&pairs[1][0].beam)?;
        let lost = contention.lost();
        println!(
            "round {round}, side {side}: {worst} ms without an answer, {bad} calls failed, {lost:?} lost to others"
        );
        ensure!(Duration::from_millis(worst) < AGAIN + lost, "round {round}: {worst} ms without an answer");
        pairs[side][place].restart()?;
        wait_all_linked(&pairs)?;
        publisher(&pairs[1])?;
    }
    wait_calls(&pairs[1][0].beam, 100)?;
    let sent = pairs[1][0]
        .beam
        .eval("sender ! {report, self()}, receive {report, N, Most} -> {N, Most} after 10000 -> late end")?;
    let (count, most) = sent.trim_matches(['{', '}']).split_once(',').context("two numbers")?;
    assert_eq!(most.trim(), "1", "a member was never published twice");
    let count: u64 = count.parse()?;
    let report = "server ! {report, self()}, receive {report, Last, Wrong} -> {Last, Wrong} after 10000 -> late end";
    let got = eventually_value(SOON, "the last message has come", || {
        let got = pairs[0][0].beam.eval(report).map_err(|error| format!("{error:#}"))?;
        let last: u64 = got.trim_matches('{').split(',').next().and_then(|n| n.parse().ok()).unwrap_or_default();
        if last >= count { Ok(got) } else { Err(got) }
    })?;
    assert!(got.ends_with(",[]}"), "wrong, twice or out of order: {got}");
    Ok(())
}
