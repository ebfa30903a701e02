//! Formation's notes: lines of the log, and events where readers must know that a host is not as it seems.

use std::time::Duration;

use metacluster_formation::{DialError, Note};
use metacluster_types::{AgentId, EventKind, NodeName, Place, Subject, TopologyName, time::format_duration};
use tracing::{info, warn};

use super::driver::Driver;

fn list(names: &[NodeName]) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

impl Driver {
    /// Tells of a note.
    pub(super) fn tell(&self, note: &Note) {
        match note {
            Note::PeerFailing { peer, topologies, error } => {
                let topologies: Vec<&str> = topologies.iter().map(TopologyName::as_str).collect();
                warn!("{peer} (from {}): {error}; trying on", topologies.join(", "));
                self.tell_of_cut(peer, error);
            }
            Note::PeerRecovered { peer, after, attempts } => {
                let after = Duration::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                info!("{peer} is linked again after {} and {attempts} tries", format_duration(after));
            }
            Note::Summary { failing, names } if *failing > names.len() => {
                warn!("{failing} peers cannot be linked: {} and {} more", list(names), failing - names.len());
            }
            Note::Summary { failing, names } => warn!("{failing} peers cannot be linked: {}", list(names)),
            Note::NameFormsMixed { topology, local, peer } => warn!(
                "topology {topology}: {peer} and {local} can never be linked, since one name is short (-sname) and one is long (-name); \
                 start both with -name, or both with -sname"
            ),
            Note::CandidatesRefused { topology, candidates_max } => {
                warn!("topology {topology}: more than {candidates_max} peers; the rest is left out");
            }
            Note::PruneHeld { peer } => info!("{peer} has left its source but lives: its links stay"),
            Note::CellParted { local, cell, peer } => {
                info!("{local} is of the cell {cell}, and parts from {peer} and whoever else is of another one");
            }
            Note::AgentDown { agent, peers } => {
                let member = self.name_of(*agent);
                warn!("the agent {member} is down, its nodes live and keep their links: {}", list(peers));
                self.tell_of_member(member, "the agent is down, its nodes live");
            }
            Note::Unconfirmed { agent, peers } => {
                let member = self.name_of(*agent);
                warn!(
                    "the host of {member} does not answer here, and no other agent confirms that it is dead: its nodes \
                     keep their links until the BEAM decides: {}",
                    list(peers)
                );
                self.tell_of_member(
                    member,
                    "its host does not answer here, and no other agent confirms that it is dead",
                );
            }
            Note::HostDropped { agent, peers, links } => {
                let member = self.name_of(*agent);
                warn!("the host of {member} is dead: {links} links dropped, to {}", list(peers));
            }
        }
    }

    /// A peer that cannot be reached though the agent beside it is alive: others see its host, this one does not.
    fn tell_of_cut(&self, peer: &NodeName, error: &DialError) {
        if matches!(error, DialError::Unreachable(_) | DialError::NoAnswer)
            && let Some(member) = self.peers.living(peer)
        {
            self.tell_of_member(
                member.to_owned(),
                &format!("it lives, but {peer} cannot be reached from here: {error}"),
            );
        }
    }

    fn name_of(&self, agent: AgentId) -> String {
        self.peers.name(agent).map_or_else(|| agent.to_string(), str::to_owned)
    }

    fn tell_of_member(&self, member: String, reason: &str) {
        let subject = Subject { member: Some(member), ..Subject::default() };
        self.event(EventKind::MemberUpdate, subject, Place::default(), Some(reason.to_owned()));
    }
}
