//! What a program that is kept running may say, one JSON object on each line:
//!
//! ```text
//! {"snapshot": [peer, …]}     everybody; whoever is not listed is gone
//! {"add": peer}               one more, or the same one with something changed
//! {"remove": peer}            one less, by its node name, or by its instance, host or address
//! {"error": "line"}           a look-up failed; who was told of before stands
//! ```
//! A peer is a text or an object, as [`peers`](crate::peers) has them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::PEERS_MAX;
use crate::peers::{Peer, shorten};

const EXPECTED: &str = "expected one of {\"snapshot\":[…]}, {\"add\":…}, {\"remove\":…}, {\"error\":\"…\"}";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Snapshot(Vec<Peer>),
    Add(Peer),
    Remove(String),
    Error(String),
}

impl Word {
    /// Reads a line. `None` for an empty one.
    pub(super) fn of_line(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(None);
        }
        let no_word = || format!("`{}` is not what a program should say: {EXPECTED}", shorten(line));
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return Err(no_word()) };
        let mut fields = fields.into_iter();
        let (Some((word, value)), None) = (fields.next(), fields.next()) else { return Err(no_word()) };
        match (word.as_str(), value) {
            ("snapshot", Value::Array(peers)) => {
                if peers.len() > PEERS_MAX {
                    return Err(format!("holds {} peers: at most {PEERS_MAX}", peers.len()));
                }
                peers.iter().map(Peer::of_value).collect::<Result<_, _>>().map(|peers| Some(Self::Snapshot(peers)))
            }
            ("add", peer) => Peer::of_value(&peer).map(|peer| Some(Self::Add(peer))),
            ("remove", Value::String(key)) => Ok(Some(Self::Remove(key.trim().to_owned()))),
            ("remove", peer) => Peer::of_value(&peer).map(|peer| Some(Self::Remove(peer.key()))),
            ("error", Value::String(line)) => Ok(Some(Self::Error(shorten(&line)))),
            _ => Err(no_word()),
        }
    }

    /// Changes the set of peers.
    pub(super) fn apply(self, peers: &mut BTreeMap<String, Peer>) -> Result<(), String> {
        match self {
            Self::Snapshot(all) => *peers = all.into_iter().map(|peer| (peer.key(), peer)).collect(),
            Self::Add(peer) => {
                let key = peer.key();
                if peers.len() >= PEERS_MAX && !peers.contains_key(&key) {
                    return Err(format!("there are {PEERS_MAX} peers already: no more are taken"));
                }
                peers.insert(key, peer);
            }
            Self::Remove(key) => drop(peers.remove(&key)),
            Self::Error(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(peers: &mut BTreeMap<String, Peer>, line: &str) {
        let word = Word::of_line(line).expect("a word").expect("no empty line");
        word.apply(peers).expect("room");
    }

    fn keys(peers: &BTreeMap<String, Peer>) -> Vec<&str> {
        peers.keys().map(String::as_str).collect()
    }

    #[test]
    fn words_change_the_set() {
        let mut peers = BTreeMap::new();
        say(&mut peers, r#"{"snapshot":["shop@a",{"host":"web1","addresses":["10.0.0.4"]}]}"#);
        say(&mut peers, r#"{"add":{"instance":"i-1","addresses":["10.0.0.5"]}}"#);
        assert_eq!(keys(&peers), ["i-1", "shop@a", "web1"]);
        say(&mut peers, r#"{"remove":"web1"}"#);
        say(&mut peers, r#"{"remove":{"instance":"i-1"}}"#);
        say(&mut peers, r#"{"error":"the API is gone"}"#);
        assert_eq!(keys(&peers), ["shop@a"]);
        say(&mut peers, r#"{"snapshot":[]}"#);
        assert!(peers.is_empty());
    }

    #[test]
    fn what_is_no_word_is_refused() {
        for line in ["shop@a", "[]", "{}", r#"{"add":"a@b","remove":"c@d"}"#, r#"{"snapshot":{}}"#, r#"{"ad":"a@b"}"#] {
            assert!(Word::of_line(line).expect_err(line).contains("expected one of"), "{line}");
        }
        assert!(Word::of_line(r#"{"add":7}"#).is_err());
        assert_eq!(Word::of_line("  "), Ok(None));
    }

    #[test]
    fn there_is_a_bound() {
        let mut peers =
            (0..PEERS_MAX).map(|at| (at.to_string(), Peer::of_line("a@b").expect("ok").expect("one"))).collect();
        let add = Word::of_line(r#"{"add":"shop@a"}"#).expect("a word").expect("one");
        assert!(add.apply(&mut peers).is_err());
    }
}
