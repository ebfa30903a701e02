//! `metacluster demo`: a cluster of real nodes on this machine that forms, loses one node and heals.
//!
//! One agent and some nodes for each zone, all on loopback addresses, with an epmd, a cookie, ports and a folder of
//! their own: nothing else on the machine is touched, and nothing stays when the demo ends, however it ends.

mod plan;
mod process;
mod sandbox;
mod show;
mod watch;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use clap::Args;
use metacluster_agent::erl::epmd::client as epmd;
use metacluster_types::EventKind;
use tokio::time::{Instant, sleep, timeout};

use self::{
    plan::{NODES_MAX, Plan, Zone},
    process::{NodeProgram, Program},
    sandbox::Sandbox,
    show::{Step, milliseconds},
    watch::{EventWatch, Moment},
};
use super::{events, nodes};
use crate::{
    client::shown_path,
    failure::{Failure, Outcome},
    output::{self, Paint},
    picture::{Picture, count},
    signals::Signals,
};

/// How long each step may take before the demo gives up.
const STEP_WAIT: Duration = Duration::from_secs(30);
/// What each node adds to that: its virtual machine has to start.
const NODE_WAIT: Duration = Duration::from_millis(500);
/// How often the agents are asked while a step runs.
const LOOK: Duration = Duration::from_millis(10);

/// The arguments of `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// How many zones, each with an agent of its own
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(plan::ZONES_MAX)))]
    zones: u8,
    /// How many nodes in all, spread over the zones
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(2..=i64::from(NODES_MAX)))]
    nodes: u16,
    /// End after the heal instead of staying up
    #[arg(long)]
    exit: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Demo) -> Outcome {
    if u16::from(arguments.zones) > arguments.nodes {
        return Err(Failure::Usage(format!(
            "{} cannot fill {}: give at least as many nodes as zones",
            count(usize::from(arguments.nodes), "node"),
            count(usize::from(arguments.zones), "zone"),
        )));
    }
    let mut signals = Signals::catch()?;
    let sandbox = Sandbox::new()?;
    let plan = Plan::new(&sandbox.ground, arguments.zones, arguments.nodes);
    let mut stage = Stage { program: NodeProgram::find(), agents: Vec::new(), nodes: BTreeMap::new() };
    let played = tokio::select! {
        played = play(&mut stage, &plan, &sandbox) => match played {
            Ok(()) if !arguments.exit => stay(&mut stage, &plan, &mut signals).await,
            played => played,
        },
        () = signals.next() => Err(Failure::NotSo("interrupted; nothing was left running".to_owned())),
    };
    drop(stage);
    let closed = sandbox.close();
    played.and(closed)
}

/// What runs. Everything ends with this value: nodes first, then agents.
struct Stage {
    program: NodeProgram,
    nodes: BTreeMap<String, Program>,
    agents: Vec<Program>,
}

impl Stage {
    fn start_node(&mut self, zone: &Zone, name: &str, sandbox: &Sandbox) -> Outcome {
        let node = Program::node(&self.program, zone, name, &sandbox.ground)?;
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    /// Fails when a program has ended that should run.
    fn check(&mut self) -> Outcome {
        self.agents.iter_mut().chain(self.nodes.values_mut()).try_for_each(Program::check)
    }

    /// Waits until nothing is lacking.
    async fn until<F, R>(&mut self, step: &Step, wait: Duration, what: &str, mut lacking: F) -> Outcome
    where
        F: FnMut() -> R,
        R: Future<Output = Option<String>>,
    {
        let until = Instant::now() + wait;
        loop {
            let Some(missing) = lacking().await else { return Ok(()) };
            self.check()?;
            if Instant::now() > until {
                return Err(Failure::NotSo(format!("{what} took longer than {} seconds: {missing}", wait.as_secs())));
            }
            step.update(&format!("{what}: {missing}"));
            sleep(LOOK).await;
        }
    }
}

/// The whole piece: form, lose one, heal.
async fn play(stage: &mut Stage, plan: &Plan, sandbox: &Sandbox) -> Outcome {
    let paint = Paint::of_stdout();
    let all = plan.nodes().count();
    let wait = STEP_WAIT + NODE_WAIT * u32::try_from(all).unwrap_or(u32::MAX);
    let kind = match &stage.program {
        NodeProgram::Erl(erl) => format!("Erlang nodes ({})", erl.display()),
        NodeProgram::Own => "nodes of our own, since there is no `erl` on the PATH".to_owned(),
    };
    output::print(&format!(
        "{} {} in {}: {kind}\n\n",
        paint.bold("A cluster on this machine:"),
        count(all, "node"),
        count(plan.zones.len(), "zone"),
    ))?;
    sandbox.furnish(plan)?;

    start_agents(stage, plan).await?;
    start_nodes(stage, plan, sandbox, wait).await?;

    let step = Step::begin("linking");
    stage.until(&step, wait, "the full mesh", || mesh(plan)).await?;
    let links = all * (all - 1) / 2;
    step.done(&format!("full mesh: {}", count(links, "link")))?;
    table(plan).await?;

    // A node of the zone whose agent is the epmd, as every agent is on a host of its own.
    let Some((zone, lost)) = plan.zones.first().and_then(|zone| Some((zone, zone.nodes.last()?))) else {
        return Ok(());
    };
    lose(stage, plan, wait, lost).await?;
    heal(stage, plan, sandbox, wait, zone, lost).await?;
    table(plan).await
}

async fn start_agents(stage: &mut Stage, plan: &Plan) -> Outcome {
    let step = Step::begin("starting the agents");
    let (first, others) = plan.zones.split_first().ok_or_else(|| Failure::Usage("no zones".to_owned()))?;
    stage.agents.push(Program::agent(first)?);
    stage.until(&step, STEP_WAIT, "the first agent", || watch::lacks_agent(first, true)).await?;
    for zone in others {
        stage.agents.push(Program::agent(zone)?);
    }
    for zone in others {
        stage.until(&step, STEP_WAIT, "the agents", || watch::lacks_agent(zone, false)).await?;
    }
    let epmd = if others.is_empty() { "which is the epmd" } else { "one of them the epmd" };
    step.done(&format!("{} up, {epmd}", count(plan.zones.len(), "agent")))
}

async fn start_nodes(stage: &mut Stage, plan: &Plan, sandbox: &Sandbox, wait: Duration) -> Outcome {
    let step = Step::begin("starting the nodes");
    for (zone, name) in plan.nodes() {
        stage.start_node(zone, name, sandbox)?;
    }
    let names: Vec<&str> = plan.nodes().map(|(_, name)| name).collect();
    stage.until(&step, wait, "the nodes", || unregistered(&names, sandbox.ground.epmd_port)).await?;
    step.done(&format!("{} started and registered", count(names.len(), "node")))
}

async fn lose(stage: &mut Stage, plan: &Plan, wait: Duration, lost: &str) -> Outcome {
    output::print(&format!("\nkill -9 {lost}\n"))?;
    let step = Step::begin("waiting for the loss to show");
    let mut events = EventWatch::open(plan).await?;
    let killed = Moment::now();
    if let Some(mut node) = stage.nodes.remove(lost) {
        node.kill();
    }
    let told = timeout(wait, events.all(plan, EventKind::NodeDown, lost, killed)).await;
    let (first, last) = told.map_err(|_| {
        Failure::NotSo(format!("not every agent told `nodedown` of {lost} within {} seconds", wait.as_secs()))
    })??;
    stage
        .until(&step, wait, "the loss", || async {
            match watch::nodes(plan).await {
                Ok(nodes) => watch::lacks_loss(lost, &nodes),
                Err(failure) => Some(failure.to_string()),
            }
        })
        .await?;
    let noticed = if plan.zones.len() == 1 {
        "nodedown told".to_owned()
    } else {
        format!("nodedown told by all zones (the first after {})", milliseconds(first).trim_start())
    };
    step.done_in(&noticed, last)
}

async fn heal(stage: &mut Stage, plan: &Plan, sandbox: &Sandbox, wait: Duration, zone: &Zone, lost: &str) -> Outcome {
    output::print(&format!("\nstart {lost} again\n"))?;
    let step = Step::begin("starting the node again");
    stage.start_node(zone, lost, sandbox)?;
    let names = [lost];
    stage.until(&step, wait, "the node", || unregistered(&names, sandbox.ground.epmd_port)).await?;
    step.done("started and registered")?;
    let step = Step::begin("healing");
    stage.until(&step, wait, "the heal", || mesh(plan)).await?;
    step.done("healed: linked to every other node again")
}

async fn mesh(plan: &Plan) -> Option<String> {
    match watch::nodes(plan).await {
        Ok(nodes) => watch::lacks_mesh(plan, &nodes),
        Err(failure) => Some(failure.to_string()),
    }
}

/// Which of the nodes the epmd does not know yet.
async fn unregistered(names: &[&str], port: u16) -> Option<String> {
    match epmd::names(SocketAddr::from(([127, 0, 0, 1], port))).await {
        Ok(registered) => {
            let missing: Vec<&str> = names
                .iter()
                .copied()
                .filter(|name| !registered.iter().any(|(known, _)| name.split('@').next() == Some(known)))
                .collect();
            let there = names.len() - missing.len();
            missing.first().map(|first| format!("{there} of {} registered, {first} is not", names.len()))
        }
        Err(error) => Some(format!("the epmd does not answer: {error}")),
    }
}

async fn table(plan: &Plan) -> Outcome {
    let paint = Paint::of_stdout();
    let views = watch::nodes(plan).await?;
    output::print(&format!("\n{}", nodes::render(&views, paint, output::columns())))
}

/// Tells how to look at the cluster, and what happens in it, until a signal comes.
async fn stay(stage: &mut Stage, plan: &Plan, signals: &mut Signals) -> Outcome {
    let paint = Paint::of_stdout();
    let Some(first) = plan.zones.first() else { return Ok(()) };
    let socket = shown_path(&first.socket);
    let picture = Picture::of(&watch::nodes(plan).await?);
    output::print(&format!(
        "\n{}\n{}\n  metacluster nodes --socket {socket}\n  metacluster topology --socket {socket}\n  \
         metacluster events --follow --socket {socket}\n\nPress Ctrl-C to end it.\n\n",
        picture.render(paint),
        paint.bold("The cluster stays up. Look at it from another terminal:"),
    ))?;
    let mut happenings = watch::client(first).events("/v1/events", None).await?;
    let since = Moment::now();
    let mut look = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            () = signals.next() => return output::print("\nended; nothing was left running\n"),
            _ = look.tick() => stage.agents.iter_mut().try_for_each(Program::check)?,
            frame = happenings.next() => match frame {
                Some(frame) => {
                    if let Some(event) = watch::event(&frame).filter(|event| since.is_before(event.at)) {
                        output::print(&events::line(&event, paint))?;
                    }
                }
                None => return Err(Failure::NotSo(format!("the agent of zone {} ended its events", first.name))),
            },
        }
    }
}
