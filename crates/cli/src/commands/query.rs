//! `metacluster query`: asks the agents of the cluster, one line an answer.

use std::time::Duration;

use clap::Args;
use metacluster_agent::talk::view::{QueryAnswer, QueryEnd, QueryLine};
use metacluster_types::time::format_duration;
use serde_json::{Map, Value};

use super::{event::put_payload, tags::pair};
use crate::{
    args::{Asking, duration},
    failure::{Failure, Outcome},
    output::{self, Paint, clean},
};

/// The arguments of `query`. Exit status 0 with at least one answer, 1 with none.
#[derive(Args, Debug)]
pub(crate) struct Query {
    #[command(flatten)]
    asking: Asking,
    /// What it is called, at most 64 bytes
    name: String,
    /// What it carries, at most 512 bytes; `-` reads standard input
    payload: Option<String>,
    /// How long answers are taken; it ends sooner when all have answered
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    timeout: Duration,
    /// Only ask this member, by name or id; may stand several times
    #[arg(long, value_name = "NAME")]
    member: Vec<String>,
    /// Only ask members with this role; may stand several times
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Only ask members with this tag; may stand several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// Print JSON for programs, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Query) -> Outcome {
    let Query { asking, name, payload, timeout, member, role, tag, json } = arguments;
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let tags = tag.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    let mut body = Map::from_iter([
        ("name".to_owned(), Value::String(name)),
        ("timeout".to_owned(), Value::String(format_duration(timeout))),
        ("members".to_owned(), texts(member)),
        ("roles".to_owned(), texts(role)),
        ("tags".to_owned(), Value::Object(tags)),
    ]);
    put_payload(&mut body, payload.as_deref())?;
    let client = asking.client();
    let mut lines = client.lines("/v1/queries", &Value::Object(body)).await?;
    while let Some(line) = lines.next().await? {
        match serde_json::from_str(&line) {
            Ok(QueryLine::Answer(answer)) if !answer.declined => {
                let text = if json { line } else { shown(&answer) };
                output::print(&format!("{text}\n"))?;
            }
            Ok(QueryLine::Answer(_)) => {}
            Ok(QueryLine::End(end)) => return ended(&end, json),
            Err(error) => return Err(Failure::NotSo(format!("an answer of another version of the agent: {error}"))),
        }
    }
    Err(Failure::NotSo("the agent ended before the query did".to_owned()))
}

fn shown(answer: &QueryAnswer) -> String {
    let payload = answer.bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&payload);
    format!("{}\t{}", clean(&answer.member), clean(text.trim_end_matches('\n')))
}

fn ended(end: &QueryEnd, json: bool) -> Outcome {
    if !json {
        let mut note = if end.answers + end.declined == 0 && end.silent.is_empty() {
            "nobody was asked: no member is as it was asked for".to_owned()
        } else {
            format!("{} answered, {} had nothing to say", end.answers, end.declined)
        };
        if !end.silent.is_empty() {
            note.push_str(&format!(", {} said nothing: {}", end.silent.len(), clean(&end.silent.join(", "))));
        }
        if end.dropped > 0 {
            note.push_str(&format!("; {} answers were dropped", end.dropped));
        }
        output::say(&format!("{}\n", Paint::of_stderr().dim(&note)));
    }
    // What there is to say stands in that line.
    if end.answers > 0 { Ok(()) } else { Err(Failure::Said) }
}
