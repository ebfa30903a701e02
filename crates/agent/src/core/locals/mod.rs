//! The nodes of this host: found through epmd, held by a hidden connection each, watched through `global_group`.
//!
//! One task holds one name. It connects, asks `global_group` to tell of nodes that come and go (a plain process there
//! does so without any code of ours), reads what is linked already, and reports. What epmd says only starts a
//! connection: while the connection lives, the node lives, whatever becomes of epmd. Follows the facts on driving a
//! BEAM from outside: `monitor_nodes` speaks of visible nodes only, and servers of a node that has just registered may
//! not run yet, so `noproc` is asked again.

mod ask;
mod holder;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use metacluster_erl::Node;
use metacluster_types::{NodeName, Pattern};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::holder::Holder;
use super::{epmd::Registered, ours::Ours};

/// How many names are held at most.
const NAMES_MAX: usize = 4_096;
/// How long nodes that an epmd does not know any more may take to register again: above the 2 s of `erl_epmd`.
pub(crate) const REGISTERS_AGAIN: Duration = Duration::from_secs(4);

/// What became of a local node.
#[derive(Debug)]
pub(crate) enum LocalEvent {
    /// It holds our connection and can be asked to dial.
    Ready {
        /// Its name.
        node: NodeName,
        /// Its OTP release; none when it is no BEAM.
        otp: Option<String>,
        /// The visible nodes that it is linked to.
        links: BTreeSet<NodeName>,
        /// Our node that holds the connection.
        ours: Node,
    },
    /// It told of a peer that came or went.
    Link {
        /// The local node.
        node: NodeName,
        /// The peer.
        peer: NodeName,
        /// Came or went.
        up: bool,
    },
    /// All that it is linked to now.
    Links {
        /// The local node.
        node: NodeName,
        /// The visible nodes that it is linked to.
        links: BTreeSet<NodeName>,
    },
    /// Our connection to it ended.
    Gone {
        /// The local node.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// A name that was refused is registered no more.
    Forgotten {
        /// The part before `@`.
        basename: String,
    },
    /// It is registered and cannot be held. Said once for each reason.
    Refused {
        /// The part of its name before `@`.
        basename: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Which names are ours to hold.
#[derive(Clone)]
pub(crate) struct Selection {
    /// The patterns of `[nodes] names`; all when empty.
    pub(crate) patterns: Vec<Pattern>,
    /// The agent's own basename.
    pub(crate) own: String,
}

impl Selection {
    fn admits_basename(&self, basename: &str) -> bool {
        let admits = |pattern: &Pattern| {
            // Of a pattern with a host part, the part before `@` can be held against what epmd knows.
            let text = pattern.as_str().split('@').next().unwrap_or_default();
            Pattern::new(text).matches(basename)
        };
        basename != self.own && (self.patterns.is_empty() || self.patterns.iter().any(admits))
    }

    fn admits(&self, node: &NodeName) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches_node(node))
    }
}

/// Holds what is registered until it is aborted. Takes up nobody while `free` says that another program has the name of
/// the agent's own node, and nobody new while a node that lives is missing from an epmd that has just been started: a
/// new node would be linked to its peers, would not find the missing one, and its `global` would have everybody drop it.
pub(crate) async fn watch_registered(
    mut registered: watch::Receiver<Registered>,
    mut free: watch::Receiver<bool>,
    selection: Selection,
    ours: Arc<Ours>,
    events: mpsc::Sender<LocalEvent>,
) {
    // Each name that is held, with the way to tell its holder of the port.
    let mut ports: BTreeMap<String, watch::Sender<Option<u16>>> = BTreeMap::new();
    let mut holders: JoinSet<String> = JoinSet::new();
    let mut missing = Missing::default();
    loop {
        if free.wait_for(|&free| free).await.is_err() {
            return;
        }
        let now = Arc::clone(&registered.borrow_and_update());
        for (basename, port) in &ports {
            let port_now = now.get(basename).copied();
            port.send_if_modified(|port| std::mem::replace(port, port_now) != port_now);
        }
        let wait = missing.wait(Instant::now(), ports.keys().filter(|held| !now.contains_key(*held)));
        let new = now.iter().filter(|(basename, _)| wait.is_none() && selection.admits_basename(basename));
        for (basename, port) in new {
            if ports.contains_key(basename) || ports.len() >= NAMES_MAX {
                continue;
            }
            let (port_in, port) = watch::channel(Some(*port));
            let holder = Holder::new(basename, port, selection.clone(), Arc::clone(&ours), events.clone());
            holders.spawn(holder.hold());
            ports.insert(basename.clone(), port_in);
        }
        tokio::select! {
            changed = registered.changed() => if changed.is_err() {
                return;
            },
            // The name may have come back while its holder ended.
            Some(Ok(basename)) = holders.join_next() => drop(ports.remove(&basename)),
            () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
        }
    }
}

/// The held names that epmd does not know, each with the time until when it is waited for.
#[derive(Debug, Default)]
struct Missing(BTreeMap<String, Instant>);

impl Missing {
    /// These are missing now. Gives until when new names wait for one of them; each is waited for once.
    fn wait<'n>(&mut self, now: Instant, names: impl Iterator<Item = &'n String>) -> Option<Instant> {
        let names: BTreeSet<&String> = names.collect();
        self.0.retain(|name, _| names.contains(name));
        for name in names {
            self.0.entry(name.clone()).or_insert(now + REGISTERS_AGAIN);
        }
        self.0.values().copied().filter(|&until| until > now).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str]) -> Selection {
        Selection { patterns: patterns.iter().map(|text| Pattern::new(text)).collect(), own: "metacluster".to_owned() }
    }

    #[test]
    fn new_names_wait_once_for_a_node_that_epmd_has_lost() {
        let (mut missing, begin) = (Missing::default(), Instant::now());
        let lost = ["shop".to_owned()];
        assert_eq!(missing.wait(begin, [].iter()), None, "nobody is missing");
        let until = begin + REGISTERS_AGAIN;
        assert_eq!(missing.wait(begin, lost.iter()), Some(until));
        assert_eq!(missing.wait(begin + REGISTERS_AGAIN / 2, lost.iter()), Some(until), "not for longer");
        assert_eq!(missing.wait(until, lost.iter()), None, "it does not come back");
        assert_eq!(missing.wait(until, [].iter()), None);
        assert!(missing.wait(until, lost.iter()).is_some(), "it came back and was lost again");
    }

    #[test]
    fn our_own_name_is_never_held_and_patterns_choose_the_rest() {
        assert!(selection(&[]).admits_basename("shop"));
        assert!(!selection(&[]).admits_basename("metacluster"));
        let some = selection(&["worker-*", "db@10.0.0.4"]);
        assert!(some.admits_basename("worker-1") && some.admits_basename("db"));
        assert!(!some.admits_basename("shop"));
        assert!(!some.admits(&NodeName::new("db@10.0.0.5").expect("valid")), "the host part counts once it is known");
    }
}
