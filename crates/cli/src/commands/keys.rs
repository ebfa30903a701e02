//! `metacluster keys`: what seals the packets between agents, changed on all of them while they run.
//!
//! To change the key: `generate`, `install` it on all, `use` it on all, `remove` the old one from all. A key is read from
//! standard input, so that it stands in no list of processes and in no history of a shell.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use metacluster_agent::talk::view::KeysAnswer;
use rand::Rng as _;
use serde_json::json;

use super::event::read_input;
use crate::{
    args::{Asking, Listing},
    failure::{Failure, Outcome},
    output::{self, Paint, clean},
    table::Table,
};

/// The arguments of `keys`.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a new key; no agent is asked
    Generate,
    /// Have every agent take packets that are sealed with this key
    Install(Install),
    /// Have every agent seal with this key from now on
    Use(OfKey),
    /// Have every agent take no packets of this key any more
    Remove(OfKey),
    /// Have every agent seal, and take, packets so
    Policy(OfPolicy),
    /// List the keys by their ids, and how many agents have and use each
    List(Listing),
}

#[derive(Args, Debug)]
struct Install {
    #[command(flatten)]
    asking: Asking,
    /// The key; `-` reads it from standard input, where nobody else sees it
    key: String,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct OfKey {
    #[command(flatten)]
    asking: Asking,
    /// The id of the key, as `keys list` shows it
    id: String,
    /// Do it though some agents lack the key, still use it, or do not answer: they may lose the others
    #[arg(long)]
    force: bool,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct OfPolicy {
    #[command(flatten)]
    asking: Asking,
    /// To turn encryption on: first `preferred`, then `required`; to turn it off: `preferred`, then `off`
    policy: Policy,
    /// Do it though some agents have another policy than the one beside it, or do not answer
    #[arg(long)]
    force: bool,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Policy {
    /// Seal everything, and take nothing else
    Required,
    /// Seal everything, and take plain packets too
    Preferred,
    /// Seal nothing
    Off,
}

/// Runs the command.
pub(crate) async fn run(arguments: Keys) -> Outcome {
    let (asking, body, json) = match arguments.what {
        What::Generate => {
            let mut bytes = [0_u8; 32];
            rand::rng().fill_bytes(&mut bytes);
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            return output::print(&format!("{digits}\n"));
        }
        What::List(Listing { asking, json }) => {
            let answer: KeysAnswer = asking.client().get("/v1/keys").await?;
            return told(&answer, json);
        }
        What::Install(Install { asking, key, json }) => (asking, json!({"install": read_key(key)?}), json),
        What::Use(OfKey { asking, id, force, json }) => (asking, json!({"use": id, "force": force}), json),
        What::Remove(OfKey { asking, id, force, json }) => (asking, json!({"remove": id, "force": force}), json),
        What::Policy(OfPolicy { asking, policy, force, json }) => {
            let word = match policy {
                Policy::Required => "required",
                Policy::Preferred => "preferred",
                Policy::Off => "off",
            };
            (asking, json!({"policy": word, "force": force}), json)
        }
    };
    let answer: KeysAnswer = asking.client().change(Method::POST, "/v1/keys", &body).await?;
    told(&answer, json)
}

fn read_key(key: String) -> Outcome<String> {
    if key != "-" {
        let note = "note: a key on the command line stands in the list of processes and in the shell's history; `-` reads \
                    it from standard input";
        output::say(&format!("{}\n", Paint::of_stderr().yellow(note)));
        return Ok(key);
    }
    let text = String::from_utf8(read_input()?).map_err(|_| Failure::Usage("the key is no text".to_owned()))?;
    Ok(text.trim().to_owned())
}

fn told(answer: &KeysAnswer, json: bool) -> Outcome {
    if json {
        output::print_json(answer)?;
    } else {
        output::print(&shown(answer, Paint::of_stdout(), output::columns()))?;
        for failure in &answer.failed {
            output::complain(&format!("{}: {}", clean(&failure.member), clean(&failure.error)));
        }
    }
    // Who did not do it was said, each on a line.
    if answer.failed.is_empty() { Ok(()) } else { Err(Failure::Said) }
}

fn shown(answer: &KeysAnswer, paint: Paint, columns: Option<usize>) -> String {
    let mut table = Table::new(&["KEY", "INSTALLED", "USED"]);
    let of = |count: usize| format!("{count}/{}", answer.members);
    for key in &answer.keys {
        table.row(vec![key.id.as_str().into(), of(key.installed).into(), of(key.used).into()]);
    }
    let mut text = table.render(paint, columns);
    let policies: Vec<String> = answer.policies.iter().map(|(word, count)| format!("{word} {}", of(*count))).collect();
    text.push_str(&paint.dim(&format!("encryption: {}", policies.join(", "))));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use metacluster_agent::talk::view::KeyCount;

    use super::*;

    #[test]
    fn a_key_is_a_line() {
        let keys = vec![KeyCount { id: "00c0ffee".to_owned(), installed: 3, used: 2 }];
        let policies = BTreeMap::from([("required".to_owned(), 3)]);
        let answer = KeysAnswer { version: 1, members: 3, keys, policies, ..KeysAnswer::default() };
        assert_eq!(
            shown(&answer, Paint::PLAIN, None),
            "KEY       INSTALLED  USED\n00c0ffee  3/3        2/3\nencryption: required 3/3\n"
        );
    }
}
