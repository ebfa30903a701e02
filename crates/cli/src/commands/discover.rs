//! `metacluster discover`: asks a strategy once, without an agent, and tells what it found: one candidate a line, or one
//! host a line where the source knows hosts and nothing names nodes on them.

use std::time::Duration;

use clap::Args;
use metacluster_agent::{
    discovery::{self, spec::Spec},
    view::VERSION,
};
use metacluster_types::{Candidate, Host, HostState};
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
    hosts: &'a [Host],
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
    let listens = strategy.listens().is_some();
    let found = discovery::look_up(strategy, arguments.timeout)
        .await
        .map_err(|line| Failure::NotSo(format!("{}: {line}", spec.strategy)))?;
    if arguments.json {
        return output::print_json(&Answer {
            version: VERSION,
            strategy: &spec.strategy,
            hosts: &found.hosts,
            candidates: &found.candidates,
        });
    }
    let lines: String = if found.candidates.is_empty() {
        found.hosts.iter().map(host_line).collect()
    } else {
        found.candidates.iter().map(line).collect()
    };
    if lines.is_empty() {
        // Silence would leave open whether anybody was asked.
        let heard = if listens { "nobody was heard" } else { "it answers, and knows nobody" };
        output::say(&format!("{}: {heard}\n", spec.strategy));
    }
    output::print(&lines)
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
    add_host(&mut text, &candidate.host);
    text.push('\n');
    text
}

/// The preferred address, or what else tells the host from others, then what else the source knows.
fn host_line(host: &Host) -> String {
    let address = host.addresses.first().map(ToString::to_string);
    let head = address.or_else(|| host.name.clone()).or_else(|| host.instance.clone());
    let mut text = output::clean(head.as_deref().unwrap_or("-"));
    for address in host.addresses.iter().skip(1) {
        add(&mut text, "address", &address.to_string());
    }
    add_host(&mut text, host);
    text.push('\n');
    text
}

fn add(text: &mut String, key: &str, value: &str) {
    text.push_str(&format!(" {key}={}", output::clean(value)));
}

fn add_host(text: &mut String, host: &Host) {
    if let Some(name) = &host.name {
        add(text, "host", name);
    }
    if let Some(port) = host.port {
        add(text, "port", &port.to_string());
    }
    if let Some(instance) = &host.instance {
        add(text, "instance", instance);
    }
    if let Some(zone) = &host.place.zone {
        add(text, "zone", zone.as_str());
    }
    if let Some(region) = &host.place.region {
        add(text, "region", region.as_str());
    }
    match host.state {
        HostState::Running => {}
        HostState::Pending => add(text, "state", "pending"),
        HostState::Terminating => add(text, "state", "terminating"),
        HostState::Terminated => add(text, "state", "terminated"),
    }
    for role in &host.roles {
        add(text, "role", role.as_str());
    }
    for (key, value) in &host.tags {
        add(text, &format!("tag.{}", output::clean(key)), value);
    }
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

    #[test]
    fn a_host_is_a_line_that_begins_with_its_preferred_address() {
        let addresses = vec!["10.0.0.4".parse().expect("valid"), "fd00::4".parse().expect("valid")];
        let mut host = Host { addresses, instance: Some("i-1".to_owned()), ..Host::default() };
        assert_eq!(host_line(&host), "10.0.0.4 address=fd00::4 instance=i-1\n");
        host.state = HostState::Terminated;
        host.addresses.clear();
        host.name = Some("web1".to_owned());
        assert_eq!(host_line(&host), "web1 host=web1 instance=i-1 state=terminated\n");
    }
}
