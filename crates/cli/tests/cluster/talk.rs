//! User events, queries, tags and keys, between agents on three hosts.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use metacluster_testbed::{Agent, Host, Network, Tool, capture, eventually, eventually_value, require};
use serde_json::Value;

use crate::support::{NEEDED, SOON, binary};

const HOSTS: [Tool; 2] = [Tool::Namespaces, Tool::Nftables];

/// What `--json` of a command prints, one object a line.
fn lines(agent: &Agent, arguments: &[&str]) -> Result<(Option<i32>, Vec<Value>)> {
    let output = agent.ask(arguments)?;
    let text = String::from_utf8(output.stdout)?;
    let values: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    Ok((output.status.code(), values.with_context(|| text.clone())?))
}

fn states(agent: &Agent) -> Result<Vec<String>, String> {
    let answer = agent.get("/v1/members").map_err(|error| error.to_string())?;
    let members = answer["members"].as_array().cloned().unwrap_or_default();
    Ok(members.iter().filter_map(|member| member["state"].as_str()).map(str::to_owned).collect())
}

/// Waits until each of them sees so many that live.
fn all_see(agents: &[&Agent], many: usize) -> Result<()> {
    for agent in agents {
        eventually(SOON, "all see all", || {
            let states = states(agent)?;
            let alive = states.iter().filter(|state| *state == "alive").count();
            if alive == many { Ok(()) } else { Err(format!("{states:?}: {}", agent.log())) }
        })?;
    }
    Ok(())
}

fn seeds(hosts: &[Host]) -> String {
    let nodes: Vec<String> = hosts.iter().map(|host| format!("\"shop@{}\"", host.address())).collect();
    format!("[[topology]]\nname = \"all\"\nstrategy = \"static\"\nnodes = [{}]\n", nodes.join(", "))
}

/// What an agent was told of a kind, in order.
fn told(agent: &Agent, kind: &str) -> Result<Vec<Value>> {
    let (_, events) = lines(agent, &["events", "--json"])?;
    Ok(events.into_iter().filter(|event| event["event"] == kind).collect())
}

fn succeeds(agent: &Agent, arguments: &[&str]) -> Result<()> {
    let output = agent.ask(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn agents_tell_and_ask_one_another() -> Result<()> {
    if !require(&HOSTS) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let mut agents = Vec::new();
    for host in &hosts {
        let handled = host.home().join("handled");
        let role = if host.address() == hosts[0].address() { "web" } else { "db" };
        let config = format!(
            "roles = [\"{role}\"]\n\n{}\n[[handler]]\non = [\"user:deploy\"]\ncommand = [\"sh\", \"-c\", \"echo \
             $METACLUSTER_NAME $METACLUSTER_MEMBER $(cat) >> {}\"]\n\n[[handler]]\non = [\"query:load\"]\ncommand = \
             [\"sh\", \"-c\", \"echo load $(cat)\"]\n\n[[handler]]\non = [\"query:fails\"]\ncommand = [\"false\"]\n",
            seeds(&hosts),
            handled.display(),
        );
        agents.push(host.agent(binary()).config(&config)?.start()?);
    }
    let [one, two, three] = &agents[..] else { unreachable!("three hosts") };
    all_see(&[one, two, three], 3)?;

    // Events of one sender come to all, in their order; handlers get the payload.
    for version in ["v1", "v2", "v3"] {
        succeeds(one, &["event", "send", "deploy", version])?;
    }
    for (agent, host) in agents.iter().zip(&hosts) {
        let payloads = eventually_value(SOON, "all events came", || {
            let told = told(agent, "user").map_err(|error| error.to_string())?;
            if told.len() < 3 { Err(format!("{told:?}")) } else { Ok(told) }
        })?;
        let versions: Vec<_> = payloads.iter().filter_map(|event| event["payload"].as_str()).collect();
        assert_eq!(versions, ["v1", "v2", "v3"]);
        assert!(payloads.iter().all(|event| event["name"] == "deploy" && event["member_id"].is_string()));
        eventually(SOON, "the handler ran for each", || {
            let text = fs::read_to_string(host.home().join("handled")).unwrap_or_default();
            let all = ["v1", "v2", "v3"].iter().all(|version| text.contains(version)) && text.contains("deploy");
            if all { Ok(()) } else { Err(text) }
        })?;
    }

    // All answer, a filter chooses, and none is an exit code.
    let (code, answers) = lines(two, &["query", "load", "now", "--timeout", "20s", "--json"])?;
    assert_eq!((code, answers.len()), (Some(0), 3), "{answers:?}");
    assert!(answers.iter().all(|answer| answer["payload"] == "load now\n"), "{answers:?}");
    let (code, answers) = lines(two, &["query", "load", "--role", "web", "--timeout", "20s", "--json"])?;
    assert_eq!((code, answers.len()), (Some(0), 1));
    for nobody in ["fails", "unheard-of"] {
        let (code, answers) = lines(three, &["query", nobody, "--timeout", "20s", "--json"])?;
        assert_eq!((code, answers.len()), (Some(1), 0), "{nobody}");
    }

    // Tags change at once and everywhere, and choose too.
    succeeds(three, &["tags", "set", "app=shop", "rack=7"])?;
    succeeds(three, &["tags", "unset", "rack"])?;
    eventually(SOON, "the others see the tag", || {
        let members = one.get("/v1/members").map_err(|error| error.to_string())?;
        let tagged = members["members"].as_array().cloned().unwrap_or_default();
        let tagged: Vec<_> = tagged.iter().map(|member| member["tags"].clone()).collect();
        if tagged.contains(&serde_json::json!({"app": "shop"})) { Ok(()) } else { Err(format!("{tagged:?}")) }
    })?;
    let (_, answers) = lines(one, &["query", "load", "--tag", "app=shop", "--timeout", "20s", "--json"])?;
    assert_eq!(answers.len(), 1);

    // What is wrong is refused in one line.
    let long = "x".repeat(600);
    for (arguments, says) in [
        (&["event", "send", "a", &long][..], "512"),
        (&["event", "send", "metacluster:keys"], "the program's own"),
        (&["query", "a", "--timeout", "1h"], "10 minutes"),
        (&["keys", "use", "zz"], "8 hexadecimal digits"),
        (&["keys", "install", "abc"], "64 hexadecimal digits"),
    ] {
        let output = one.ask(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(says), "{arguments:?}: {said}");
    }
    Ok(())
}

#[test]
fn keys_are_changed_while_all_run_and_who_has_the_old_one_is_refused() -> Result<()> {
    if !require(&HOSTS) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary()).config(&seeds(&hosts))?.start()?);
    }
    all_see(&agents.iter().collect::<Vec<_>>(), 3)?;
    let mut away = agents.pop().context("the third")?;
    let [one, two] = &agents[..] else { unreachable!("two are left") };
    let (_, listed) = lines(one, &["keys", "list", "--json"])?;
    let old = listed[0]["keys"][0]["id"].as_str().context("an id")?.to_owned();

    // One that is away misses the change.
    away.terminate()?;
    all_see(&[one, two], 2)?;
    // It asks no agent.
    let key = Command::new(binary()).args(["keys", "generate"]).output()?;
    let key = String::from_utf8(key.stdout).unwrap_or_default();
    let installed = install(one, &key)?;
    let id = installed["keys"]
        .as_array()
        .and_then(|keys| keys.iter().find(|key| key["id"] != old.as_str()))
        .and_then(|key| key["id"].as_str())
        .context("the new key's id")?
        .to_owned();
    let refused = one.ask(&["keys", "remove", &old])?;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("use another one first"));
    succeeds(two, &["keys", "use", &id])?;
    succeeds(one, &["keys", "remove", &old])?;
    let (_, listed) = lines(two, &["keys", "list", "--json"])?;
    assert_eq!(listed[0]["keys"], serde_json::json!([{"id": id, "installed": 2, "used": 2}]));
    succeeds(one, &["event", "send", "after"])?;
    eventually(SOON, "events go on", || match told(two, "user") {
        Ok(told) if told.len() == 1 => Ok(()),
        told => Err(format!("{told:?}")),
    })?;
    for agent in [one, two] {
        let ill = [told(agent, "member_suspect")?, told(agent, "member_failed")?].concat();
        assert!(ill.is_empty(), "{ill:?}");
        assert!(!agent.log().contains(key.trim()), "no log shows a key");
    }

    // With the old key it is a stranger, and each says so in one line; a restart of the others keeps their keys.
    let away = hosts[2].agent(binary()).config(&seeds(&hosts))?.start()?;
    let line = "seals with a key that this agent does not have";
    one.complaints().wait_for(SOON, "a line", |text| text.contains(line))?;
    all_see(&[one, two], 2)?;
    assert_eq!(one.log().matches(line).count(), 1);
    // It says the same of them, and is one of them again once it has the key, by its own command and without a restart.
    away.complaints().wait_for(SOON, "a line", |text| text.contains(line))?;
    assert!(states(&away).is_ok_and(|states| states.iter().filter(|state| *state == "alive").count() == 1));
    install(&away, &key)?;
    // By now it may have heard of the others, who do not hear it yet, or cannot read what it orders: it names them, and
    // does it itself.
    let used = away.ask(&["keys", "use", &id, "--force"])?;
    let complaint = String::from_utf8_lossy(&used.stderr).into_owned();
    let names_them = complaint.contains("did not answer") || complaint.contains("it cannot read the order");
    ensure!(used.status.success() || names_them, "{complaint}");
    all_see(&[one, two, &away], 3)?;
    succeeds(&away, &["keys", "remove", &old]).context("a key that only it has is removed as well")?;
    drop(away);
    let again = {
        let mut agents = agents;
        let mut second = agents.pop().context("the second")?;
        second.terminate()?;
        let again = hosts[1].agent(binary()).config(&seeds(&hosts))?.start()?;
        all_see(&[&agents[0], &again], 2)?;
        agents.push(again);
        agents
    };
    let keyring = hosts[1].home().join("state/keyring");
    assert!(fs::metadata(keyring).is_ok() && again.len() == 2);
    Ok(())
}

/// Counts the packets of membership that a host sends, those in the clear and those that are sealed, by the second byte
/// of each.
struct Tap<'h>(&'h Host);

impl<'h> Tap<'h> {
    fn new(host: &'h Host) -> Result<Self> {
        let tap = Self(host);
        tap.nft(
            "add table inet tap; add counter inet tap clear; add counter inet tap sealed; \
             add chain inet tap out { type filter hook output priority 0; }; \
             add rule inet tap out udp dport 45893 @th,72,8 0 counter name clear; \
             add rule inet tap out udp dport 45893 @th,72,8 1 counter name sealed",
        )?;
        Ok(tap)
    }

    fn nft(&self, what: &str) -> Result<String> {
        capture(self.0.command("nft").args(["--json", what]))
    }

    /// How many in the clear and how many sealed went out since this was asked last.
    fn take(&self) -> Result<(u64, u64)> {
        let read: Value = serde_json::from_str(&self.nft("reset counters")?)?;
        let of = |name: &str| {
            let mut all = read["nftables"].as_array().into_iter().flatten().map(|entry| &entry["counter"]);
            all.find(|counter| counter["name"] == name)
                .and_then(|counter| counter["packets"].as_u64())
                .context("no counter")
        };
        Ok((of("clear")?, of("sealed")?))
    }

    /// Waits for packets, all of this kind.
    fn sends_only(&self, sealed: bool) -> Result<()> {
        eventually(SOON, "packets of one kind only", || {
            match (self.take().map_err(|error| format!("{error:#}"))?, sealed) {
                ((0, 1..), true) | ((1.., 0), false) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .map(drop)
    }
}

#[test]
fn encryption_is_turned_on_in_a_cluster_that_lives() -> Result<()> {
    if !require(&HOSTS) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 3] = network.hosts()?;
    let stranger = network.host()?;
    let config = format!("{}\n[membership]\nencryption = \"off\"\n", seeds(&hosts));
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary()).config(&config)?.start()?);
    }
    all_see(&agents.iter().collect::<Vec<_>>(), 3)?;
    let taps = hosts.iter().map(Tap::new).collect::<Result<Vec<_>>>()?;
    taps.iter().try_for_each(|tap| tap.sends_only(false))?;

    // At one stroke it could part them; in two steps it does not.
    let refused = agents[0].ask(&["keys", "policy", "required"])?;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && complaint.contains("preferred"), "{complaint}");
    taps.iter().try_for_each(|tap| tap.sends_only(false))?;
    succeeds(&agents[0], &["keys", "policy", "preferred"])?;
    taps.iter().try_for_each(|tap| tap.sends_only(true))?;
    succeeds(&agents[1], &["keys", "policy", "required"])?;
    succeeds(&agents[2], &["event", "send", "after"])?;
    for agent in &agents {
        eventually(SOON, "events go on", || match told(agent, "user") {
            Ok(told) if told.len() == 1 => Ok(()),
            told => Err(format!("{told:?}")),
        })?;
        let (_, listed) = lines(agent, &["keys", "list", "--json"])?;
        assert_eq!(listed[0]["policies"], serde_json::json!({"required": 3}));
        let ill = [told(agent, "member_suspect")?, told(agent, "member_failed")?].concat();
        assert!(ill.is_empty(), "{ill:?}");
    }

    // Who speaks in the clear is refused, counted and named from now on.
    let plain = stranger.agent(binary()).config(&config)?.start()?;
    let line =
        agents[0].complaints().wait_for(SOON, "a line", |text| text.contains("sends packets that are not sealed"))?;
    assert!(line.text.contains(&stranger.address().to_string()), "{}", line.text);
    eventually(SOON, "it is counted", || {
        let counters = agents[0].get("/v1/members").map_err(|error| format!("{error:#}"))?["counters"].clone();
        if counters["plain"].as_u64() > Some(0) { Ok(()) } else { Err(counters.to_string()) }
    })?;
    all_see(&agents.iter().collect::<Vec<_>>(), 3)?;
    drop(plain);

    // A restart keeps the policy, whatever the file of the agent still says.
    agents.pop().context("the third")?.terminate()?;
    agents.push(hosts[2].agent(binary()).config(&config)?.start()?);
    all_see(&agents.iter().collect::<Vec<_>>(), 3)?;
    taps.iter().try_for_each(|tap| tap.sends_only(true))?;
    Ok(())
}

#[test]
fn a_process_in_a_node_gets_events_and_answers_queries() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [Host; 2] = network.hosts()?;
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.agent(binary()).config(&seeds(&hosts))?.start()?);
    }
    let [one, two] = &agents[..] else { unreachable!("two hosts") };
    all_see(&[one, two], 2)?;
    let beam = hosts[0].beam("shop").start()?;
    let agent = hosts[0].node_name("metacluster");
    let subscribed = beam.eval(&format!(
        "Loop = fun Loop(Seen) -> receive
             {{metacluster_event, Name, Payload, From}} -> Loop([{{Name, Payload, is_binary(From)}} | Seen]);
             {{metacluster_query, Name, Payload, _From, Ref}} ->
                 {{metacluster, '{agent}'}} ! {{metacluster_answer, Ref, <<Name/binary, \" is \", Payload/binary>>}},
                 Loop(Seen);
             {{seen, Asker}} -> Asker ! {{seen, lists:reverse(Seen)}}, Loop(Seen)
         end end,
         Taker = spawn(fun() -> Loop([]) end),
         register(taker, Taker),
         gen_server:call({{metacluster, '{agent}'}}, {{subscribe, Taker, [user_events, queries]}})"
    ))?;
    assert_eq!(subscribed, "ok");

    for version in ["v1", "v2"] {
        succeeds(two, &["event", "send", "deploy", version])?;
    }
    eventually(SOON, "the process got both, in order", || {
        let seen = beam.eval(
            "taker ! {seen, self()},
             receive {seen, [{<<\"deploy\">>, <<\"v1\">>, true}, {<<\"deploy\">>, <<\"v2\">>, true}]} -> both;
                     {seen, Other} -> length(Other) after 5000 -> silent end",
        );
        match seen {
            Ok(seen) if seen == "both" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;

    let (code, answers) = lines(two, &["query", "load", "high", "--timeout", "20s", "--json"])?;
    assert_eq!((code, answers.len()), (Some(0), 1), "{answers:?}");
    assert_eq!(answers[0]["payload"], "load is high");
    // Once it is gone nobody answers, and that is known at once and not only at the deadline.
    assert_eq!(beam.eval("exit(whereis(taker), kill)")?, "true");
    eventually(SOON, "nobody answers", || {
        let asked = Instant::now();
        let (code, answers) = lines(two, &["query", "load", "high", "--timeout", "10s", "--json"])
            .map_err(|error| format!("{error:#}"))?;
        let at_once = asked.elapsed() < Duration::from_secs(5);
        if (code, answers.len(), at_once) == (Some(1), 0, true) { Ok(()) } else { Err(format!("{answers:?}")) }
    })?;
    Ok(())
}

/// Installs a key that is read from standard input.
fn install(agent: &Agent, key: &str) -> Result<Value> {
    let mut command = agent.command(&["keys", "install", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("an input")?.write_all(key.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
