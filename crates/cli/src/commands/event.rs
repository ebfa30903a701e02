//! `metacluster event send`: tells every agent something; handlers, BEAM processes and readers of events get it.

use std::io::Read;

use clap::{Args, Subcommand};
use hyper::Method;
use metacluster_agent::talk::view::EventSent;
use metacluster_types::said;
use serde_json::{Map, Value};

use crate::{
    args::Asking,
    failure::{Failure, Outcome},
    output,
};

/// The most that is read of a payload; the agent says what is too long.
const PAYLOAD_READ_MAX: u64 = 64 * 1024;

/// The arguments of `event`.
#[derive(Args, Debug)]
pub(crate) struct Event {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Send a user event to every agent of the cluster, this one included
    Send(Send),
}

#[derive(Args, Debug)]
struct Send {
    #[command(flatten)]
    asking: Asking,
    /// What it is called, at most 64 bytes
    name: String,
    /// What it carries, at most 512 bytes; `-` reads standard input
    payload: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(arguments: Event) -> Outcome {
    let What::Send(Send { asking, name, payload, json }) = arguments.what;
    let mut body = Map::from_iter([("name".to_owned(), Value::String(name))]);
    put_payload(&mut body, payload.as_deref())?;
    let sent: EventSent = asking.client().change(Method::POST, "/v1/events", &Value::Object(body)).await?;
    if json { output::print_json(&sent) } else { Ok(()) }
}

/// Adds a payload, as text if it is one.
pub(super) fn put_payload(body: &mut Map<String, Value>, payload: Option<&str>) -> Outcome {
    let bytes = match payload {
        None => return Ok(()),
        Some("-") => read_input()?,
        Some(text) => text.as_bytes().to_vec(),
    };
    let (text, base64) = said::texts(&bytes);
    body.extend(text.map(|text| ("payload".to_owned(), Value::String(text))));
    body.extend(base64.map(|base64| ("payload_base64".to_owned(), Value::String(base64))));
    Ok(())
}

/// What stands on standard input, up to a bound.
pub(super) fn read_input() -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    match std::io::stdin().lock().take(PAYLOAD_READ_MAX).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::NotSo(format!("cannot read standard input: {error}"))),
    }
}
