//! Machines with one fault each, run in a whole world, which must notice.

use std::collections::VecDeque;

use metacluster_formation::{Counters, DropHow, Formation, Input, Output};
use metacluster_types::{NodeName, SourceUpdate};

use super::*;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Each new local node dials itself.
    DialsItself,
    /// Every dial is asked for twice.
    DialsTwice,
    /// Never dials.
    Mute,
    /// Never hears that a link went.
    DeafToLinkDown,
    /// Never hears that a link came up.
    DeafToLinkUp,
    /// Takes a failed look-up for an empty answer, thrice.
    BelievesFailures,
    /// Disconnects what left its source.
    PrunesAtOnce,
    /// Takes membership's word and checks nothing.
    DropsUnchecked,
    /// Takes every check for silence.
    DropsTheLiving,
    /// Takes its own word when nobody confirms it, though others answer.
    TrustsItself,
    /// Never hears that a host failed.
    DeafToDeaths,
    /// Is always due.
    NeverDone,
    /// Its tables grow.
    Hoards,
}

struct Broken {
    inner: Formation,
    fault: Fault,
    extra: VecDeque<Output>,
    inputs: usize,
}

impl Broken {
    fn links_to(&self, nodes: &[NodeName]) -> Vec<(NodeName, NodeName)> {
        let links = self.inner.links().filter(|link| nodes.contains(link.peer));
        links.map(|link| (link.local.clone(), link.peer.clone())).collect()
    }
}

impl Machine for Broken {
    fn handle_input(&mut self, now: Instant, input: Input) {
        self.inputs += 1;
        match (self.fault, &input) {
            (Fault::DialsItself, Input::LocalReady { node }) => {
                self.extra.push_back(Output::Dial { local: node.clone(), peer: node.clone() });
            }
            (Fault::DeafToLinkDown, Input::LinkDown { .. }) | (Fault::DeafToLinkUp, Input::LinkUp { .. }) => return,
            (Fault::BelievesFailures, Input::Source { topology, update: SourceUpdate::Failed(_) }) => {
                for _ in 0..3 {
                    let (topology, update) = (topology.clone(), SourceUpdate::Snapshot(Vec::new()));
                    self.inner.handle_input(now, Input::Source { topology, update });
                }
                return;
            }
            (Fault::DropsUnchecked, Input::HostFailed { nodes, .. }) => {
                for (local, peer) in self.links_to(nodes) {
                    self.extra.push_back(Output::Drop { local, peer, how: DropHow::Disconnect });
                }
            }
            (Fault::DropsTheLiving, Input::PeerChecked { peer, .. }) => {
                let input = Input::PeerChecked { peer: peer.clone(), alive: false };
                return self.inner.handle_input(now, input);
            }
            (Fault::TrustsItself, Input::HostFailed { agent, nodes, .. }) => {
                let input = Input::HostFailed { agent: *agent, nodes: nodes.clone(), witnesses: 1 };
                return self.inner.handle_input(now, input);
            }
            (Fault::DeafToDeaths, Input::HostFailed { .. }) => return,
            _ => {}
        }
        self.inner.handle_input(now, input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.extra.pop_front() {
            return Some(output);
        }
        let output = self.inner.poll_output(now)?;
        match (self.fault, &output) {
            (Fault::DialsTwice, Output::Dial { .. }) => self.extra.push_back(output.clone()),
            (Fault::Mute, Output::Dial { .. }) => return self.poll_output(now),
            (Fault::PrunesAtOnce, Output::CandidateLost { node, .. }) => {
                let local = NodeName::new("core0@h0.x").expect("a name");
                self.extra.push_back(Output::Drop { local, peer: node.clone(), how: DropHow::Disconnect });
            }
            _ => {}
        }
        Some(output)
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.fault == Fault::NeverDone { Some(Instant::ZERO) } else { self.inner.next_deadline() }
    }

    fn counters(&self) -> Counters {
        let mut counters = self.inner.counters();
        if self.fault == Fault::Hoards {
            counters.nodes += self.inputs;
        }
        counters
    }

    fn is_linked(&self, local: &NodeName, peer: &NodeName) -> bool {
        self.inner.is_linked(local, peer)
    }

    fn links(&self) -> usize {
        self.inner.links().count()
    }
}

/// What the world says of machines with a fault; of several seeds, since not every one meets it.
fn caught(fault: Fault, scenario: &Scenario) -> Violation {
    let broken = |settings: Settings, seed| Broken {
        inner: Formation::new(settings, seed),
        fault,
        extra: VecDeque::new(),
        inputs: 0,
    };
    let failure = (0..60).find_map(|seed| run_with(seed, scenario, broken).err());
    *failure.unwrap_or_else(|| panic!("{fault:?} was not noticed")).violation
}

macro_rules! is_caught {
    ($fault:ident, $scenario:ident, $violation:pat) => {
        let violation = caught(Fault::$fault, &Scenario::$scenario());
        assert!(matches!(violation, $violation), "{violation}");
    };
}

#[test]
fn a_machine_that_dials_itself() {
    is_caught!(DialsItself, small, Violation::SelfDial(_));
}

#[test]
fn a_machine_that_dials_twice() {
    is_caught!(DialsTwice, small, Violation::SecondDial { .. });
}

#[test]
fn a_machine_that_never_dials() {
    is_caught!(Mute, small, Violation::NotConverged { .. });
}

#[test]
fn a_machine_that_is_deaf_to_links_that_drop() {
    let violation = caught(Fault::DeafToLinkDown, &Scenario::small());
    assert!(
        matches!(
            violation,
            Violation::NotConverged { .. } | Violation::LinksDiverged { .. } | Violation::Memory { .. }
        ),
        "{violation}"
    );
}

#[test]
fn a_machine_that_is_deaf_to_links_that_come_up() {
    is_caught!(DeafToLinkUp, mesh, Violation::LinksDiverged { .. } | Violation::UnwantedDial { .. });
}

#[test]
fn a_machine_that_believes_failed_look_ups() {
    is_caught!(BelievesFailures, small, Violation::FalseLost { .. });
}

#[test]
fn a_machine_that_prunes_at_once() {
    is_caught!(PrunesAtOnce, pruning, Violation::UnwarrantedDrop { .. });
}

#[test]
fn a_machine_that_takes_the_word_of_membership_alone() {
    is_caught!(DropsUnchecked, hosts, Violation::UnwarrantedDrop { why: "no check found it dead", .. });
}

#[test]
fn a_machine_that_takes_every_check_for_silence() {
    // Its own checker knows what the check said; the world knows that the link lived.
    is_caught!(DropsTheLiving, hosts, Violation::UnwarrantedDrop { .. } | Violation::LiveLinkDropped { .. });
}

#[test]
fn a_machine_that_trusts_itself_when_nobody_confirms() {
    is_caught!(
        TrustsItself,
        hosts,
        Violation::UnwarrantedDrop { why: "nobody confirms it, and another host answers", .. }
    );
}

#[test]
fn a_machine_that_is_deaf_to_deaths() {
    is_caught!(DeafToDeaths, deaths, Violation::NotTold { .. });
}

#[test]
fn a_machine_that_is_never_done() {
    is_caught!(NeverDone, small, Violation::Livelock(_));
}

#[test]
fn a_machine_that_hoards() {
    is_caught!(Hoards, small, Violation::Memory { .. });
}
