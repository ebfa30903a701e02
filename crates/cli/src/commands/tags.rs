//! `metacluster tags`: the labels of this agent while it runs. They are not kept: a start begins with those of the
//! configuration.

use clap::{Args, Subcommand};
use hyper::Method;
use metacluster_agent::talk::view::TagsAnswer;
use serde_json::{Map, Value};

use crate::{
    args::{Asking, Listing},
    failure::Outcome,
    output::{self, clean},
};

/// The arguments of `tags`.
#[derive(Args, Debug)]
pub(crate) struct Tags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set tags of this agent, until it ends; every member sees them at once
    Set(Set),
    /// Take tags of this agent away, until it ends
    Unset(Unset),
    /// List the tags of this agent
    List(Listing),
}

#[derive(Args, Debug)]
struct Set {
    #[command(flatten)]
    asking: Asking,
    /// The tags
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
}

#[derive(Args, Debug)]
struct Unset {
    #[command(flatten)]
    asking: Asking,
    /// Their keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(arguments: Tags) -> Outcome {
    let (asking, wanted) = match arguments.what {
        What::List(Listing { asking, json }) => {
            let answer: TagsAnswer = asking.client().get("/v1/tags").await?;
            return if json { output::print_json(&answer) } else { output::print(&shown(&answer)) };
        }
        What::Set(Set { asking, tags }) => {
            (asking, tags.into_iter().map(|(key, value)| (key, Value::String(value))).collect::<Map<_, _>>())
        }
        What::Unset(Unset { asking, keys }) => (asking, keys.into_iter().map(|key| (key, Value::Null)).collect()),
    };
    let _: TagsAnswer = asking.client().change(Method::PUT, "/v1/tags", &Value::Object(wanted)).await?;
    Ok(())
}

fn shown(answer: &TagsAnswer) -> String {
    answer.tags.iter().map(|(key, value)| format!("{}={}\n", clean(key), clean(value))).collect()
}

/// `key=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected key=value".to_owned()),
    }
}
