//! `metacluster discover`: asks a strategy once, without an agent, and tells what it found, one candidate a line.

use std::time::Duration;

use clap::Args;
use metacluster_agent::{
    discovery::{self, spec::Spec},
    view::VERSION,
};
use metacluster_types::Candidate;
use serde::Serialize;

use crate::{
    args::duration,
    failure::{Failure, Outcome},
    output,
};

/// The arguments of `discover`.
#[derive(Args, Debug)]
#[command(after_help = after_help())]
pub(crate) struct Discover {
    /// The strategy, with settings as in `up --topology` if you like
    strategy: String,
    /// Its settings, each `key=value`
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// How long to look at most
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// The answer as JSON.
#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    strategy: &'a str,
    candidates: &'a [Candidate],
}

fn after_help() -> String {
    let strategies = discovery::strategies();
    let widest = strategies.iter().map(|strategy| strategy.name.len()).max().unwrap_or(0);
    let lines = strategies.iter().map(|strategy| format!("  {:widest$}  {}\n", strategy.name, strategy.summary));
    format!(
        "Strategies:\n{}\nExample: metacluster discover static nodes=shop@10.0.0.4,shop@10.0.0.5",
        lines.collect::<String>()
    )
}

/// Runs the command.
pub(crate) async fn run(arguments: Discover) -> Outcome {
    let spec = read(&arguments).map_err(Failure::Usage)?;
    let strategy = discovery::build(&spec.strategy, &spec.settings).map_err(|faults| {
        Failure::Usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: "))
    })?;
    let found = discovery::look_up(strategy, arguments.timeout)
        .await
        .map_err(|line| Failure::NotSo(format!("{}: {line}", spec.strategy)))?;
    if arguments.json {
        return output::print_json(&Answer { version: VERSION, strategy: &spec.strategy, candidates: &found });
    }
    output::print(&found.iter().map(line).collect::<String>())
}

/// `gossip`, `gossip:port=1` and `gossip port=1` are one grammar.
fn read(arguments: &Discover) -> Result<Spec, String> {
    match arguments.strategy.split_once(':') {
        None => Spec::from_arguments(&arguments.strategy, &arguments.settings),
        Some((strategy, first)) => {
            let first = (!first.is_empty()).then(|| first.to_owned());
            let all: Vec<String> = first.into_iter().chain(arguments.settings.iter().cloned()).collect();
            Spec::from_arguments(strategy, &all)
        }
    }
}

/// The name, then what else the source knows.
fn line(candidate: &Candidate) -> String {
    let mut text = output::clean(candidate.node.as_str());
    let mut add = |key: &str, value: &str| {
        text.push_str(&format!(" {key}={}", output::clean(value)));
    };
    if let Some(zone) = &candidate.host.place.zone {
        add("zone", zone.as_str());
    }
    if let Some(region) = &candidate.host.place.region {
        add("region", region.as_str());
    }
    for role in &candidate.host.roles {
        add("role", role.as_str());
    }
    for (key, value) in &candidate.host.tags {
        add(&format!("tag.{}", output::clean(key)), value);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use metacluster_types::{NodeName, Zone};

    use super::*;

    #[test]
    fn a_candidate_is_a_line_with_what_is_known() {
        let mut candidate = Candidate::new(NodeName::new("a@h").expect("valid"));
        assert_eq!(line(&candidate), "a@h\n");
        candidate.host.place.zone = Some(Zone::new("east").expect("valid"));
        candidate.host.tags.insert("app".to_owned(), "shop".to_owned());
        assert_eq!(line(&candidate), "a@h zone=east tag.app=shop\n");
    }
}
