//! `metacluster topologies`: every topology, how it does, and what it found; and topologies that are added and removed
//! while the agent runs. No link goes for either.

use clap::{Args, Subcommand};
use metacluster_agent::{
    discovery::{Value, spec::Spec},
    view::{CandidateState, CandidateView, ChangeView, TopologiesAnswer, TopologyChange, TopologyState, TopologyView},
};

use metacluster_types::{NodeName, WallClock};

use crate::{
    args::{Asking, Listing},
    failure::{Failure, Outcome},
    output::{self, Paint, clean},
    table::{Cell, Table, Tone},
};

/// What the command takes.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Topologies {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Subcommand, Clone, Debug)]
enum Change {
    /// Add a topology, or change the one of its name
    Add {
        /// Its strategy and settings, such as `gossip:secret=s3` or `static:name=core,nodes=a@h1,b@h2`
        #[arg(value_name = "SPEC")]
        spec: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Remove a topology; links to what it found stay
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        asking: Asking,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: Topologies) -> Outcome {
    match arguments.change {
        None => list(arguments.listing).await,
        Some(Change::Add { spec, asking }) => {
            let name = name_of(&spec)?;
            asking.client().put(&path(&name), &spec).await?;
            output::print(&format!("{} is there\n", clean(&name)))
        }
        Some(Change::Remove { name, asking }) => {
            asking.client().delete(&path(&name)).await?;
            output::print(&format!("{} is gone; links to what it found stay\n", clean(&name)))
        }
    }
}

/// The name that the topology will have: the one given, else that of its strategy.
fn name_of(spec: &str) -> Outcome<String> {
    let spec: Spec = spec.parse().map_err(Failure::Usage)?;
    match spec.settings.get("name") {
        Some(Value::Text(name)) => Ok(name.clone()),
        None => Ok(spec.strategy),
        Some(_) => Err(Failure::Usage("`name`: expected one name".to_owned())),
    }
}

/// The path of a topology. Bytes that a path cannot hold are escaped; whether it is a name is for the agent to say.
fn path(name: &str) -> String {
    let escaped = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    format!("/v1/topologies/{}", escaped.collect::<String>())
}

async fn list(arguments: Listing) -> Outcome {
    let client = arguments.asking.client();
    if arguments.json {
        let text = client.get_text("/v1/topologies").await?;
        return output::print(&format!("{}\n", text.trim_end()));
    }
    let answer: TopologiesAnswer = client.get("/v1/topologies").await?;
    if answer.topologies.is_empty() {
        return output::print("no topologies: this agent looks for nobody\n");
    }
    output::print(&render(&answer.topologies, Paint::of_stdout(), output::columns()))
}

fn render(topologies: &[TopologyView], paint: Paint, columns: Option<usize>) -> String {
    let mut table = Table::new(&["TOPOLOGY", "STRATEGY", "STATE", "FOUND", "LINKED", "LAST SUCCESS", "LAST ERROR"]);
    for topology in topologies {
        let state = match topology.state {
            TopologyState::Ok => Cell::toned("ok", Tone::Good),
            TopologyState::Failing => Cell::toned("failing", Tone::Bad),
            TopologyState::Waiting => Cell::toned("waiting", Tone::Doubtful),
        };
        let linked = topology.candidates.iter().filter(|found| found.state == CandidateState::Linked).count();
        table.row(vec![
            topology.name.as_str().into(),
            topology.strategy.as_str().into(),
            state,
            topology.candidates.len().to_string().into(),
            linked.to_string().into(),
            at(topology.last_success),
            topology.last_error.as_deref().unwrap_or("").into(),
        ]);
    }
    let mut text = table.render(paint, columns);
    for topology in topologies.iter().filter(|it| !it.changes.is_empty() || !it.notes.is_empty()) {
        text.push_str(&format!("\n{}\n", paint.bold(&clean(topology.name.as_str()))));
        for note in &topology.notes {
            text.push_str(&format!("note: {}\n", clean(note)));
        }
        for change in &topology.changes {
            text.push_str(&told(change, paint));
        }
        if !topology.candidates.is_empty() {
            text.push_str(&candidates(&topology.candidates, paint, columns));
        }
    }
    text
}

/// A time, or that there was none yet.
fn at(time: Option<WallClock>) -> Cell {
    time.map_or_else(|| Cell::toned("never", Tone::Faint), |time| Cell::toned(&time.to_string(), Tone::Faint))
}

/// A change, as `TIME found a@h, b@h and 3 more`.
fn told(change: &ChangeView, paint: Paint) -> String {
    let (word, tone) = match change.change {
        TopologyChange::Found => ("found", Tone::Good),
        TopologyChange::Lost => ("lost", Tone::Doubtful),
        TopologyChange::Failing => ("failed", Tone::Bad),
        TopologyChange::Recovered => ("answered again", Tone::Good),
    };
    let names: Vec<&str> = change.nodes.iter().map(NodeName::as_str).collect();
    let more = change.count.saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let space = if names.is_empty() { "" } else { " " };
    format!(
        "{} {}{space}{}{more}\n",
        paint.dim(&change.at.to_string()),
        tone.apply(paint, word),
        clean(&names.join(", "))
    )
}

fn candidates(found: &[CandidateView], paint: Paint, columns: Option<usize>) -> String {
    let mut table = Table::new(&["FOUND", "ZONE", "STATE", "WHY"]);
    for candidate in found {
        let (state, tone) = match candidate.state {
            CandidateState::Local => ("here", Tone::Plain),
            CandidateState::Linked => ("linked", Tone::Good),
            CandidateState::Dialling => ("dialling", Tone::Doubtful),
            CandidateState::Waiting => ("waiting", Tone::Doubtful),
            CandidateState::Failing => ("failing", Tone::Bad),
            CandidateState::Idle => ("idle", Tone::Faint),
        };
        table.row(vec![
            candidate.node.as_str().into(),
            candidate.place.zone.as_ref().map_or("-", |zone| zone.as_str()).into(),
            Cell::toned(state, tone),
            Cell::toned(candidate.error.as_deref().unwrap_or(""), Tone::Doubtful),
        ]);
    }
    table.render(paint, columns)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use metacluster_types::{Place, TopologyName};

    use super::*;

    fn change(change: TopologyChange, count: usize, nodes: &[&str]) -> ChangeView {
        let nodes = nodes.iter().map(|node| NodeName::new(node).expect("valid")).collect();
        ChangeView { at: WallClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(5)), change, count, nodes }
    }

    #[test]
    fn a_topology_is_a_line_and_its_candidates_follow() {
        let candidate = CandidateView {
            node: NodeName::new("b@h").expect("valid"),
            place: Place::default(),
            state: CandidateState::Failing,
            attempts: 3,
            error: Some("refused".to_owned()),
        };
        let topology = TopologyView {
            name: TopologyName::new("lan").expect("valid"),
            strategy: "gossip".to_owned(),
            state: TopologyState::Ok,
            prune: false,
            candidates: vec![candidate],
            last_success: Some(WallClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(7))),
            last_error: None,
            changed_at: None,
            changes: vec![change(TopologyChange::Found, 5, &["a@h", "b@h"]), change(TopologyChange::Failing, 0, &[])],
            held: None,
            notes: vec!["eu-west-2 is away".to_owned()],
        };
        assert_eq!(
            render(&[topology], Paint::PLAIN, None),
            "TOPOLOGY  STRATEGY  STATE  FOUND  LINKED  LAST SUCCESS              LAST ERROR\n\
             lan       gossip    ok     1      0       1970-01-01T00:00:07.000Z\n\
             \n\
             lan\n\
             note: eu-west-2 is away\n\
             1970-01-01T00:00:05.000Z found a@h, b@h and 3 more\n\
             1970-01-01T00:00:05.000Z failed\n\
             FOUND  ZONE  STATE    WHY\n\
             b@h    -     failing  refused\n"
        );
    }
}
