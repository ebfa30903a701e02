//! `metacluster events`: what happened, one line an event.
//!
//! A follower that loses its agent asks again from the last event that it saw, so an interruption costs nothing that is
//! still kept; what is not kept any more is told.

use std::time::Duration;

use clap::Args;
use metacluster_agent::events::Position;
use metacluster_types::{Event, EventKind};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{
    args::Asking,
    client::Client,
    failure::{Failure, Outcome},
    output::{self, Paint, clean},
    sse::Frame,
};

/// How long a follower waits for its agent to come back.
const RETURN_WAIT: Duration = Duration::from_secs(30);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// The arguments of `events`.
#[derive(Args, Debug)]
pub(crate) struct Events {
    #[command(flatten)]
    asking: Asking,
    /// Stay and tell what happens from now on
    #[arg(long, short)]
    follow: bool,
    /// Begin after the event of this number, or of the id that the stream gave it [default: the oldest kept; with
    /// --follow the newest]
    #[arg(long, value_name = "SEQ")]
    since: Option<Position>,
    /// Print JSON for programs, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Events) -> Outcome {
    let client = arguments.asking.client();
    let paint = Paint::of_stdout();
    let mut last = arguments.since;
    let path = if arguments.follow {
        "/v1/events"
    } else {
        last = last.or(Some(Position { epoch: None, seq: 0 }));
        "/v1/events?follow=false"
    };
    let mut events = client.events(path, last).await?;
    loop {
        while let Some(frame) = events.next().await {
            last = seen(&frame).or(last);
            output::print(&shown(&frame, arguments.json, paint))?;
        }
        if !arguments.follow {
            return Ok(());
        }
        events = again(&client, path, last).await?;
    }
}

/// Waits for the agent to come back.
async fn again(client: &Client, path: &str, last: Option<Position>) -> Outcome<crate::client::Events> {
    let until = Instant::now() + RETURN_WAIT;
    loop {
        match client.events(path, last).await {
            Err(Failure::NoAgent(_)) if Instant::now() < until => sleep(LOOK).await,
            events => return events,
        }
    }
}

/// Events that are not kept any more.
#[derive(Debug, Deserialize)]
struct Gap {
    from: u64,
    to: u64,
    /// The agent has restarted, and counts from 1 again.
    restarted: bool,
}

/// The gap that a frame tells of, if it is no event.
fn gap(frame: &Frame) -> Option<Gap> {
    if frame.event == "gap" { serde_json::from_str(&frame.data).ok() } else { None }
}

/// The place after which the stream goes on.
fn seen(frame: &Frame) -> Option<Position> {
    match gap(frame) {
        // A gap has no id of its own; the stream goes on behind it.
        Some(gap) => Some(Position { epoch: None, seq: gap.to }),
        None => frame.id.as_deref().and_then(|id| id.parse().ok()),
    }
}

/// A frame as a line.
fn shown(frame: &Frame, json: bool, paint: Paint) -> String {
    let gap = gap(frame);
    if json {
        let line = gap.and_then(|gap| {
            let Gap { from, to, restarted } = gap;
            serde_json::to_string(&serde_json::json!({"event": "gap", "from": from, "to": to, "restarted": restarted}))
                .ok()
        });
        return line.unwrap_or_else(|| frame.data.replace('\n', " ")) + "\n";
    }
    let note = match (gap, serde_json::from_str::<Event>(&frame.data)) {
        (None, Ok(event)) => return line(&event, paint),
        (None, Err(_)) => clean(&format!("{}: {}", frame.event, frame.data)),
        (Some(gap), _) if gap.restarted => "the agent has restarted and counts from 1 again".to_owned(),
        (Some(gap), _) => format!("the events {} to {} are not kept any more", gap.from, gap.to),
    };
    format!("{}\n", paint.yellow(&note))
}

/// An event as a line.
pub(crate) fn line(event: &Event, paint: Paint) -> String {
    let kind = format!("{:18}", event.event.as_str());
    let kind = match event.event {
        EventKind::NodeUp | EventKind::MemberJoin | EventKind::TopologyRecovered | EventKind::ClusterLinked => {
            paint.green(&kind)
        }
        EventKind::NodeDown | EventKind::MemberFailed | EventKind::TopologyError | EventKind::ClusterUnlinked => {
            paint.red(&kind)
        }
        EventKind::MemberSuspect | EventKind::CandidateLost => paint.yellow(&kind),
        EventKind::MemberLeave
        | EventKind::MemberUpdate
        | EventKind::CandidateFound
        | EventKind::GroupJoin
        | EventKind::GroupLeave
        | EventKind::User
        | EventKind::Query => kind,
    };
    let mut text = format!("{} {:>6} {kind}", paint.dim(&event.at.to_string()), event.seq);
    let mut add = |word: &str| {
        text.push(' ');
        text.push_str(&clean(word));
    };
    if let Some(node) = &event.subject.node {
        add(node.as_str());
    }
    if let Some(member) = &event.subject.member {
        add(member);
    }
    if let Some(said) = &event.subject.said {
        add(&said.name);
        if !said.payload.is_empty() {
            add(&String::from_utf8_lossy(&said.payload));
        }
    }
    if let Some(topology) = &event.subject.topology {
        add(&format!("topology={topology}"));
    }
    if let Some(zone) = &event.zone {
        add(&format!("zone={zone}"));
    }
    if let Some(reason) = &event.reason {
        add(&format!("({reason})"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODEDOWN: &str = r#"{"seq":7,"at":"1970-01-01T00:00:00.000Z","event":"nodedown","node":"a@b","cluster":"main","zone":"east","reason":"connection_closed"}"#;

    fn frame(event: &str, data: &str) -> Frame {
        Frame { id: None, event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn an_event_is_a_line() {
        assert_eq!(
            shown(&frame("nodedown", NODEDOWN), false, Paint::PLAIN),
            "1970-01-01T00:00:00.000Z      7 nodedown           a@b zone=east (connection_closed)\n"
        );
        assert_eq!(shown(&frame("nodedown", NODEDOWN), true, Paint::PLAIN), format!("{NODEDOWN}\n"));
    }

    #[test]
    fn what_is_gone_is_told_and_the_follower_goes_on_behind_it() {
        let lost = frame("gap", r#"{"from":3,"to":9,"restarted":false}"#);
        assert_eq!(shown(&lost, false, Paint::PLAIN), "the events 3 to 9 are not kept any more\n");
        assert_eq!(seen(&lost), Some(Position { epoch: None, seq: 9 }));
        let restarted = frame("gap", r#"{"from":70,"to":0,"restarted":true}"#);
        assert_eq!(shown(&restarted, false, Paint::PLAIN), "the agent has restarted and counts from 1 again\n");
        assert_eq!(seen(&restarted), Some(Position { epoch: None, seq: 0 }));
        let id = Some("ab-7".to_owned());
        let event = Frame { id, ..frame("nodedown", NODEDOWN) };
        assert_eq!(seen(&event), Some(Position { epoch: Some(0xab), seq: 7 }));
        let json = shown(&restarted, true, Paint::PLAIN);
        assert_eq!(json, "{\"event\":\"gap\",\"from\":70,\"restarted\":true,\"to\":0}\n");
    }

    #[test]
    fn what_is_no_event_is_told_as_it_is() {
        assert_eq!(shown(&frame("news", "{}"), false, Paint::PLAIN), "news: {}\n");
    }
}
