//! `metacluster members`: every agent of the cluster, as this one knows them.
//!
//! With `--watch` it stays: on a terminal the table is drawn anew whenever something changed, elsewhere each change is a
//! line, or with `--json` the member as it is now.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use metacluster_agent::view::{MemberState, MemberView, MembersAnswer, NodeState};
use metacluster_types::AgentId;
use tokio::time::timeout;

use crate::{
    args::Listing,
    failure::{Failure, Outcome},
    output::{self, Paint, clean},
    picture::count,
    table::{Cell, Table, Tone},
};

/// How often a watcher looks when nothing is told.
const LOOK: Duration = Duration::from_secs(1);
/// How long it waits for more once something was told: changes come in bursts.
const GATHER: Duration = Duration::from_millis(50);
/// Puts the cursor into the corner and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// The arguments of `members`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Members {
    #[command(flatten)]
    listing: Listing,
    /// Stay and show changes: on a terminal the whole table, else one line a change
    #[arg(long, short)]
    watch: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Members) -> Outcome {
    if arguments.watch {
        return watch(&arguments.listing).await;
    }
    let client = arguments.listing.asking.client();
    if arguments.listing.json {
        let text = client.get_text("/v1/members").await?;
        return output::print(&format!("{}\n", text.trim_end()));
    }
    let answer: MembersAnswer = client.get("/v1/members").await?;
    output::print(&render(&answer.members, Paint::of_stdout(), output::columns()))
}

/// Stays until the agent ends.
async fn watch(listing: &Listing) -> Outcome {
    let client = listing.asking.client();
    let redraws = output::is_interactive() && !listing.json;
    let paint = Paint::of_stdout();
    let mut events = client.events("/v1/events", None).await?;
    let mut drawn = String::new();
    let mut known: BTreeMap<AgentId, MemberView> = BTreeMap::new();
    loop {
        let answer: MembersAnswer = client.get("/v1/members").await?;
        if redraws {
            let text = render(&answer.members, paint, output::columns());
            if text != drawn {
                output::print(&format!("{CLEAR}{text}"))?;
                drawn = text;
            }
        } else {
            for member in &answer.members {
                if known.get(&member.id).is_none_or(|before| differ(before, member)) {
                    let line = if listing.json { json(member)? } else { line(member, paint) };
                    output::print(&line)?;
                }
            }
            for gone in known.values().filter(|before| answer.members.iter().all(|member| member.id != before.id)) {
                if !listing.json {
                    output::print(&format!("{} {}\n", clean(&gone.name), paint.dim("forgotten")))?;
                }
            }
            known = answer.members.into_iter().map(|member| (member.id, member)).collect();
        }
        if let Ok(next) = timeout(LOOK, events.next()).await {
            if next.is_none() {
                return Err(Failure::NotSo("the agent has ended".to_owned()));
            }
            // What belongs together is shown together; the rest of the burst is read away.
            while let Ok(Some(_)) = timeout(GATHER, events.next()).await {}
        }
    }
}

/// Whether a person would want to hear of it: times and counts alone are no change.
fn differ(before: &MemberView, now: &MemberView) -> bool {
    let shown = |member: &MemberView| {
        let nodes: Vec<_> = member.nodes.iter().map(|node| (node.name.clone(), node.state)).collect();
        (member.state, member.address, member.name.clone(), member.tags.clone(), member.roles.clone(), nodes)
    };
    before.zone != now.zone || before.epoch != now.epoch || shown(before) != shown(now)
}

fn json(member: &MemberView) -> Outcome<String> {
    let text = serde_json::to_string(member);
    text.map(|text| text + "\n").map_err(|error| Failure::NotSo(format!("cannot write JSON: {error}")))
}

fn line(member: &MemberView, paint: Paint) -> String {
    let state = tone(member.state).apply(paint, member.state.as_str());
    let reason = why(member).map_or_else(String::new, |why| format!(" ({why})"));
    format!("{} {} {state}{reason} nodes {}\n", member.since, clean(&member.name), nodes(member))
}

fn tone(state: MemberState) -> Tone {
    match state {
        MemberState::Alive => Tone::Good,
        MemberState::Suspect => Tone::Doubtful,
        MemberState::Failed => Tone::Bad,
        MemberState::Left => Tone::Faint,
    }
}

/// `2/3`: so many of its nodes are up, as they are seen from here.
fn nodes(member: &MemberView) -> String {
    let up = member.nodes.iter().filter(|node| node.state == NodeState::Up).count();
    format!("{up}/{}", member.nodes_total)
}

/// What the state alone does not say.
fn why(member: &MemberView) -> Option<&str> {
    member.reason.as_deref().filter(|reason| *reason != member.state.as_str())
}

/// The table, and a line that sums it up.
fn render(members: &[MemberView], paint: Paint, columns: Option<usize>) -> String {
    let with_reasons = members.iter().any(|member| why(member).is_some());
    let mut head = vec!["MEMBER", "STATE", "ADDRESS", "ZONE", "NODES UP", "RTT", "SINCE"];
    if with_reasons {
        head.push("WHY");
    }
    let mut table = Table::new(&head);
    for member in members {
        let round_trip = match member.round_trip_ms {
            _ if member.own => "here".to_owned(),
            Some(milliseconds) if member.state <= MemberState::Suspect => format!("{milliseconds:.1} ms"),
            Some(_) | None => "-".to_owned(),
        };
        table.row(vec![
            member.name.as_str().into(),
            Cell::toned(member.state.as_str(), tone(member.state)),
            member.address.to_string().into(),
            member.zone.as_ref().map_or("-", |zone| zone.as_str()).into(),
            nodes(member).into(),
            Cell::toned(&round_trip, Tone::Faint),
            Cell::toned(&member.since.to_string(), Tone::Faint),
            Cell::toned(why(member).unwrap_or(""), Tone::Doubtful),
        ]);
    }
    let mut text = table.render(paint, columns);
    let alive = members.iter().filter(|member| member.state == MemberState::Alive).count();
    text.push_str(&paint.dim(&format!("{alive} of {} alive", count(members.len(), "member"))));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use metacluster_agent::view::MemberNode;
    use metacluster_types::{ClusterName, NodeName, WallClock};

    use super::*;

    fn member(id: u128, state: MemberState) -> MemberView {
        let node = NodeName::new(&format!("shop@10.0.0.{id}")).expect("valid");
        MemberView {
            id: AgentId(id),
            name: format!("metacluster@10.0.0.{id}"),
            address: format!("10.0.0.{id}:45893").parse().expect("an address"),
            cluster: ClusterName::new("main").expect("valid"),
            zone: None,
            region: None,
            roles: std::collections::BTreeSet::new(),
            tags: BTreeMap::new(),
            state,
            since: WallClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(5)),
            reason: None,
            own: id == 1,
            epoch: 7,
            instance: None,
            round_trip_ms: Some(0.26),
            nodes: vec![MemberNode { name: node, state: NodeState::Up }],
            nodes_total: 2,
            links: 1,
            key: None,
            cell: None,
            gateway: None,
        }
    }

    #[test]
    fn a_member_is_a_line() {
        let mut left = member(3, MemberState::Left);
        left.reason = Some("provider".to_owned());
        let text = render(&[member(1, MemberState::Alive), member(2, MemberState::Suspect), left], Paint::PLAIN, None);
        assert_eq!(
            text,
            "MEMBER                STATE    ADDRESS         ZONE  NODES UP  RTT     SINCE                     WHY\n\
             metacluster@10.0.0.1  alive    10.0.0.1:45893  -     1/2       here    1970-01-01T00:00:05.000Z\n\
             metacluster@10.0.0.2  suspect  10.0.0.2:45893  -     1/2       0.3 ms  1970-01-01T00:00:05.000Z\n\
             metacluster@10.0.0.3  left     10.0.0.3:45893  -     1/2       -       1970-01-01T00:00:05.000Z  provider\n\
             1 of 3 members alive\n"
        );
    }

    #[test]
    fn times_and_counts_alone_are_no_change() {
        let before = member(1, MemberState::Alive);
        let mut now = before.clone();
        (now.round_trip_ms, now.links) = (Some(9.0), 8);
        assert!(!differ(&before, &now));
        now.nodes[0].state = NodeState::Down;
        assert!(differ(&before, &now));
        assert!(differ(&before, &member(1, MemberState::Failed)));
        let mut failed = member(1, MemberState::Failed);
        failed.reason = Some("failed".to_owned());
        assert!(line(&failed, Paint::PLAIN).ends_with(" metacluster@10.0.0.1 failed nodes 1/2\n"));
    }
}
