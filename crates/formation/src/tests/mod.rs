//! Scenarios on virtual time, each a few lines over the harness here.

mod bounds;
mod cells;
mod dialling;
mod failing;
mod guard;
mod hosts;
mod pruning;
mod queries;
mod sources;

use std::time::Duration;

use metacluster_types::{AgentId, Candidate, Instant, NodeName, Pattern, SourceUpdate, TopologyName};

use crate::{DialError, Formation, Input, Note, Output, Settings, TopologyRules};

/// A machine with a clock beside it, and all that it put out.
pub(super) struct World {
    pub(super) machine: Formation,
    pub(super) now: Instant,
    /// What came out, and when.
    pub(super) log: Vec<(Instant, Output)>,
    /// Dials without an answer yet.
    open: Vec<(NodeName, NodeName)>,
}

pub(super) fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a valid name")
}

pub(super) fn topology(name: &str) -> TopologyName {
    TopologyName::new(name).expect("a valid name")
}

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) fn dial(local: &str, peer: &str) -> Output {
    Output::Dial { local: node(local), peer: node(peer) }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self { machine: Formation::new(settings, 7), now: Instant::ZERO, log: Vec::new(), open: Vec::new() }
    }

    /// A machine with the topology `lan`, for all local nodes.
    pub(super) fn lan() -> Self {
        let mut world = Self::new();
        world.add("lan", false, &[]);
        world
    }

    pub(super) fn add(&mut self, name: &str, prune: bool, nodes: &[&str]) {
        let nodes = nodes.iter().map(|text| Pattern::new(text)).collect();
        let rules = TopologyRules { prune, nodes, ..TopologyRules::default() };
        self.tell(Input::TopologyAdded { name: topology(name), rules });
    }

    pub(super) fn tell(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle_input(self.now, input);
        self.drain()
    }

    pub(super) fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.machine.poll_output(self.now) {
            self.log.push((self.now, output.clone()));
            if let Output::Dial { local, peer } = &output {
                self.open.push((local.clone(), peer.clone()));
            }
            outputs.push(output);
        }
        outputs
    }

    /// Lets time pass, waking the machine at its deadlines only.
    pub(super) fn pass(&mut self, wait: Duration) -> Vec<Output> {
        let end = self.now + wait;
        let mut outputs = Vec::new();
        while let Some(at) = self.machine.next_deadline().filter(|&at| at <= end) {
            assert!(at >= self.now || self.machine.next_deadline() == Some(at), "a deadline in the past");
            self.now = self.now.max(at);
            let drained = self.drain();
            outputs.extend(drained);
            let next = self.machine.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "drained at {:?}, yet due at {next:?}", self.now);
        }
        self.now = end;
        outputs
    }

    /// Lets time pass with every dial answered at once.
    pub(super) fn pass_with(
        &mut self,
        wait: Duration,
        mut answer: impl FnMut(&NodeName, &NodeName) -> Result<(), DialError>,
    ) -> Vec<(Instant, Output)> {
        let (end, from) = (self.now + wait, self.log.len());
        loop {
            loop {
                for (local, peer) in std::mem::take(&mut self.open) {
                    let outcome = answer(&local, &peer);
                    self.machine.handle_input(self.now, Input::Dialled { local, peer, outcome });
                }
                if self.drain().is_empty() {
                    break;
                }
            }
            match self.machine.next_deadline().filter(|&at| at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = end;
        self.log[from..].to_vec()
    }

    pub(super) fn ready(&mut self, name: &str) -> Vec<Output> {
        self.tell(Input::LocalReady { node: node(name) })
    }

    pub(super) fn gone(&mut self, name: &str) -> Vec<Output> {
        self.tell(Input::LocalGone { node: node(name) })
    }

    pub(super) fn source(&mut self, name: &str, update: SourceUpdate) -> Vec<Output> {
        self.tell(Input::Source { topology: topology(name), update })
    }

    pub(super) fn found(&mut self, name: &str, peer: &str) -> Vec<Output> {
        self.source(name, SourceUpdate::Found(Candidate::new(node(peer))))
    }

    /// Found with an agent that dials too.
    pub(super) fn found_with_agent(&mut self, name: &str, peer: &str) -> Vec<Output> {
        let candidate = Candidate { agent: Some(AgentId(9)), ..Candidate::new(node(peer)) };
        self.source(name, SourceUpdate::Found(candidate))
    }

    pub(super) fn lost(&mut self, name: &str, peer: &str) -> Vec<Output> {
        self.source(name, SourceUpdate::Lost(node(peer)))
    }

    pub(super) fn snapshot(&mut self, name: &str, peers: &[&str]) -> Vec<Output> {
        let candidates = peers.iter().map(|peer| Candidate::new(node(peer))).collect();
        self.source(name, SourceUpdate::Snapshot(candidates))
    }

    pub(super) fn up(&mut self, local: &str, peer: &str) -> Vec<Output> {
        self.tell(Input::LinkUp { local: node(local), peer: node(peer) })
    }

    pub(super) fn down(&mut self, local: &str, peer: &str) -> Vec<Output> {
        self.tell(Input::LinkDown { local: node(local), peer: node(peer) })
    }

    pub(super) fn dialled(&mut self, local: &str, peer: &str, outcome: Result<(), DialError>) -> Vec<Output> {
        self.open.retain(|(from, to)| (from.as_str(), to.as_str()) != (local, peer));
        self.tell(Input::Dialled { local: node(local), peer: node(peer), outcome })
    }

    pub(super) fn alive(&mut self, peer: &str) -> Vec<Output> {
        self.tell(Input::PeerAlive { peer: node(peer) })
    }

    pub(super) fn failed(&mut self, agent: u128, nodes: &[&str], witnesses: usize) -> Vec<Output> {
        let nodes = nodes.iter().map(|name| node(name)).collect();
        self.tell(Input::HostFailed { agent: AgentId(agent), nodes, witnesses })
    }

    pub(super) fn host_alive(&mut self, agent: u128, nodes: &[&str]) -> Vec<Output> {
        self.tell(Input::HostAlive { agent: AgentId(agent), nodes: nodes.iter().map(|name| node(name)).collect() })
    }

    pub(super) fn checked(&mut self, peer: &str, alive: bool) -> Vec<Output> {
        self.tell(Input::PeerChecked { peer: node(peer), alive })
    }

    pub(super) fn linked(&self, local: &str, peer: &str) -> bool {
        self.machine.is_linked(&node(local), &node(peer))
    }

    /// The instants of all dials of a peer so far.
    pub(super) fn dials_of(&self, name: &str) -> Vec<Instant> {
        let of = |output: &Output| matches!(output, Output::Dial { peer, .. } if peer.as_str() == name);
        self.log.iter().filter(|(_, output)| of(output)).map(|&(at, _)| at).collect()
    }
}

pub(super) fn dials(outputs: &[Output]) -> Vec<Output> {
    outputs.iter().filter(|output| matches!(output, Output::Dial { .. })).cloned().collect()
}

pub(super) fn notes(outputs: &[Output]) -> Vec<Note> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Note(note) = output { Some(note.clone()) } else { None })
        .collect()
}
