//! An agent in this process: starts it, tells what runs where, and ends it in order.
//!
//! The first signal makes it leave with a goodbye, the second ends it at once; `metacluster leave` does what the first
//! signal does. An agent with a file takes SIGHUP for the wish that it be read again: topologies that are new, changed or
//! gone take effect; a file with faults changes nothing, and what needs a restart is named.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use metacluster_agent::{
    config::{Config, Environment},
    core::Agent,
    view::{AgentView, EpmdState},
};
use tokio::sync::oneshot;

use crate::{
    failure::{Failure, Outcome},
    log, notify,
    output::{self, Paint, clean},
    signals::Signals,
};

/// How many threads an agent uses at most.
const THREADS_MAX: usize = 4;
/// How long tasks that block may hold up the end.
const END_WAIT: Duration = Duration::from_millis(500);

/// What the start-up block tells of the configuration.
struct Told {
    topologies: String,
    socket: String,
}

/// Runs the agent until it is told to end.
pub(crate) fn run(config: Config, file: Option<PathBuf>, until_input_ends: bool) -> Outcome {
    log::start(config.log_level)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::NotSo(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(live(config, file, until_input_ends));
    runtime.shutdown_timeout(END_WAIT);
    outcome
}

async fn live(mut config: Config, file: Option<PathBuf>, until_input_ends: bool) -> Outcome {
    let mut signals = Signals::catch()?;
    let told = Told {
        topologies: config
            .topologies
            .iter()
            .map(|topology| named(topology.name.as_str(), &topology.strategy))
            .collect::<Vec<_>>()
            .join(", "),
        socket: config.api.socket.display().to_string(),
    };
    let mut agent = Agent::start(config.clone())
        .await
        .map_err(|error| Failure::NotSo(format!("cannot start the agent: {error}")))?;
    output::say(&block(&agent.view().agent, &told, Paint::of_stderr()));
    notify::ready();
    let input_ended = input_ended();
    tokio::pin!(input_ended);
    loop {
        tokio::select! {
            again = signals.next_or_reload() => match &file {
                Some(file) if again => reload(&mut config, file, &agent).await,
                Some(_) | None => break,
            },
            () = &mut input_ended, if until_input_ends => break,
            () = agent.left() => break,
        }
    }
    notify::stopping();
    tokio::select! {
        () = agent.leave(false) => Ok(()),
        () = signals.next() => Err(Failure::NotSo("ended at once, without a goodbye".to_owned())),
    }
}

/// Reads the file again. Faults leave everything as it is.
async fn reload(config: &mut Config, file: &Path, agent: &Agent) {
    let read = match Config::load(file, &Environment::capture()) {
        Ok(read) => read,
        Err(faults) => {
            for fault in faults.as_slice() {
                tracing::error!("{fault}");
            }
            return tracing::error!("{} has faults, and nothing was changed", file.display());
        }
    };
    for changed in agent.reload(read.topologies.clone()).await {
        if let Err(error) = changed {
            tracing::error!("{error}");
        }
    }
    let restart = config.differences(&read);
    if !restart.is_empty() {
        tracing::warn!("these take effect with a restart: {}", restart.join(", "));
    }
    tracing::info!("{} was read again", file.display());
    // What needs a restart is still as it was, and is named again the next time.
    config.topologies = read.topologies;
}

/// `lan (gossip)`, or only the name when it says the same.
fn named(name: &str, strategy: &str) -> String {
    if name == strategy { name.to_owned() } else { format!("{name} ({strategy})") }
}

/// What runs where.
fn block(agent: &AgentView, told: &Told, paint: Paint) -> String {
    let names: Vec<String> = agent.names.iter().map(ToString::to_string).collect();
    let zone = agent.zone.as_ref().map_or("none", |zone| zone.as_str());
    let epmd = match agent.epmd.state {
        EpmdState::Own => format!("this agent, port {}", agent.epmd.port),
        EpmdState::External => format!("another, port {}", agent.epmd.port),
        EpmdState::None => format!("none answers on port {}", agent.epmd.port),
    };
    let topologies = if told.topologies.is_empty() { "none" } else { &told.topologies };
    let mut lines = vec![
        ("node", format!("{} (cluster {}, zone {zone})", names.join(", "), agent.cluster)),
        ("epmd", epmd),
        ("topologies", topologies.to_owned()),
        ("socket", told.socket.clone()),
    ];
    lines.push(("http", agent.http.map_or("off".to_owned(), |address| format!("http://{address}/"))));
    let mut text = format!("{}\n", paint.bold(&format!("metacluster {} is up", agent.version)));
    for (what, where_) in lines {
        text.push_str(&format!("  {} {}\n", paint.dim(&format!("{what:10}")), clean(&where_)));
    }
    text
}

/// Resolves when nobody holds the other end of standard input any more.
pub(crate) async fn input_ended() {
    let (ended, end) = oneshot::channel::<()>();
    // A read of standard input cannot be called off, so a thread does it that ends with the process.
    let reader = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let mut ignored = [0; 256];
        let mut input = io::stdin().lock();
        loop {
            match input.read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        drop(ended);
    });
    match reader {
        // The thread drops its end of the channel when the input has ended.
        Ok(_) => drop(end.await),
        Err(error) => {
            tracing::warn!("cannot watch standard input: {error}");
            std::future::pending().await
        }
    }
}
