//! Members: the task that drives the membership machine on real sockets, and the handle that the core has on it.
//!
//! In go the sources' hosts, the local nodes and commands; out come changes of members, each once and in order, and the
//! list of all. The task never waits for the core: what the core has not taken yet waits here, and while that is much,
//! no packet is read. Bytes of strangers are opened, bounded and counted before the machine sees them.
//!
//! | file | holds |
//! |---|---|
//! | `driver`, `intake`, `own` | the task: its loop, what comes in, what it says of itself |
//! | `book` | what was told of each member, and the view |
//! | `state` | the bytes that a member carries: its nodes, links and key |
//! | `socket`, `stream` | packets and streams |
//! | `cipher` | how both are sealed |
//! | `keeper` | the snapshot in the state folder, and which boot this is |
//! | `sources`, `resolver` | where others may be |
//! | `address` | where this agent is |
//! | `talk` | user events, queries, run-time tags and orders about keys |
//! | `truth` | whom a provider's word ends |
//! | `complaints` | one line about what is refused |
//! | `clock` | a clock that goes on while the host sleeps |

mod address;
mod book;
mod cipher;
mod clock;
mod complaints;
mod driver;
mod intake;
mod keeper;
mod own;
mod resolver;
#[cfg(test)]
mod sample;
mod socket;
mod sources;
mod state;
mod stream;
mod talk;
mod truth;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use metacluster_membership::{DescriptionError, DownReason};
use metacluster_types::{AgentId, ClusterName, Cookie, NodeName, Place, Role, Tags, WallClock};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    config::MembershipConfig,
    view::{MemberCounters, MemberView},
};

pub(crate) use sources::{Seed, Sources};
pub(crate) use talk::TalkEnds;

/// The port of members when nothing else is said.
pub(crate) const PORT: u16 = 45_893;
/// Changes that wait for the core in the channel.
const EVENTS: usize = 256;
/// How long a leave may take: above the time in which the machine tells it.
const LEAVE: Duration = Duration::from_secs(2);

/// Why members cannot start. Nothing runs after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// The address that was asked for cannot be had.
    #[error(
        "cannot listen on {address} (UDP and TCP) for other agents: {error}; stop what uses it, or set \
         membership.listen or membership.port (METACLUSTER_MEMBERSHIP_PORT)"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The keyring in the state folder. Nothing was changed in it.
    #[error("the keyring cannot be used: {0}; mend it, or remove it to begin with the keys of the configuration")]
    Keyring(String),
    /// What this agent says of itself does not fit into a packet.
    #[error("other agents cannot be told of this one: {0}; shorten `tags` or `roles`")]
    Description(#[from] DescriptionError),
}

/// What an agent is, for the others.
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) cluster: ClusterName,
    pub(crate) cookie: Cookie,
    pub(crate) place: Place,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) tags: Tags,
    /// The part before `@` of its own node.
    pub(crate) node_name: String,
    /// The part after it, if that is known.
    pub(crate) host: Option<String>,
    /// Where its own node listens, if that is one address.
    pub(crate) listen: Option<IpAddr>,
    pub(crate) state_dir: PathBuf,
    pub(crate) started_at: WallClock,
}

/// The local nodes, as others are told of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalNodes {
    pub(crate) nodes: BTreeSet<NodeName>,
    pub(crate) links: u32,
    /// The port of this agent's gateway, while it is one for other cells.
    pub(crate) gateway: Option<u16>,
}

/// Something happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberEvent {
    /// The member.
    pub(crate) id: AgentId,
    /// Its name for people.
    pub(crate) name: String,
    /// Its place.
    pub(crate) place: Place,
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// What happened.
    pub(crate) change: MemberChange,
    /// The nodes that it tells of, or told of last.
    pub(crate) nodes: BTreeSet<NodeName>,
}

/// What happened. For each member `Joined` and `Failed` or `Left` alternate, beginning with `Joined`; only `Ended` may
/// follow `Failed`, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberChange {
    /// It is up.
    Joined,
    /// It does not answer.
    Suspect,
    /// It answers again.
    Recovered,
    /// Its name, place, address, roles or tags changed.
    Updated,
    /// Its nodes changed, and nothing else that people are told of.
    NodesChanged,
    /// It is held dead.
    Failed,
    /// It left, its provider ended it, or it booted again.
    Left(DownReason),
    /// It had failed, and it is now known that it ended for good.
    Ended(DownReason),
    /// It is forgotten.
    Forgotten,
}

/// All members, as they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MembersView {
    /// This agent's id, which changes when another process was found to use the same.
    pub(crate) id: AgentId,
    /// Every member, this agent first, then by name and id. Whether their nodes are up is not known here.
    pub(crate) members: Vec<MemberView>,
    /// What was counted.
    pub(crate) counters: MemberCounters,
}

/// What the core asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Tell everyone that this agent leaves, and end.
    Leave(oneshot::Sender<()>),
}

/// The core's hold on the task, which ends with it.
pub(crate) struct Members {
    /// What happens.
    pub(crate) events: mpsc::Receiver<MemberEvent>,
    /// Who is there.
    pub(crate) view: watch::Receiver<Arc<MembersView>>,
    /// The ways in.
    pub(crate) inlets: Inlets,
    /// What is worth a line in the log.
    pub(crate) warnings: Vec<String>,
    /// The running tasks.
    pub(crate) tasks: JoinSet<()>,
}

/// The ways to the task. All of them may be used when it does not run; then nothing happens.
#[derive(Clone)]
pub(crate) struct Inlets {
    local: watch::Sender<LocalNodes>,
    sources: watch::Sender<Sources>,
    commands: mpsc::Sender<Command>,
}

impl Inlets {
    /// Ways to nowhere.
    #[cfg(test)]
    pub(crate) fn unconnected() -> Self {
        let (commands, _) = mpsc::channel(1);
        Self { local: watch::Sender::default(), sources: watch::Sender::default(), commands }
    }

    /// What the local nodes are now.
    pub(crate) fn local(&self, nodes: LocalNodes) {
        self.local.send_if_modified(|known| {
            let changed = *known != nodes;
            *known = nodes;
            changed
        });
    }

    /// What a topology says.
    pub(crate) fn source(&self, update: impl FnOnce(&mut Sources) -> bool) {
        self.sources.send_if_modified(update);
    }

    /// Tells everyone that this agent leaves, and waits until they were told, for a while.
    pub(crate) async fn leave(&self) {
        let (told_in, told) = oneshot::channel();
        if self.commands.send(Command::Leave(told_in)).await.is_err() {
            return;
        }
        if timeout(LEAVE, told).await.is_err() {
            tracing::warn!("not every member could be told that this agent leaves; they will find it gone");
        }
    }
}

impl Members {
    /// Binds and begins, or, where it is switched off, only shows this agent.
    pub(crate) fn start(agent: Agent, config: MembershipConfig, talk: TalkEnds) -> Result<Self, MembersError> {
        let (events_in, events) = mpsc::channel(EVENTS);
        let (commands_in, commands) = mpsc::channel(16);
        let (local_in, local) = watch::channel(LocalNodes::default());
        let (sources_in, sources) = watch::channel(Sources::default());
        let inlets = Inlets { local: local_in, sources: sources_in, commands: commands_in };
        let mut tasks = JoinSet::new();
        if !config.enabled {
            let address = config.advertise.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
            let own = book::own(&agent, agent.id, &format!("{}@{}", agent.node_name, own_host(&agent)), address);
            let shown = MembersView { id: agent.id, members: vec![own], counters: MemberCounters::default() };
            let (_, view) = watch::channel(Arc::new(shown));
            return Ok(Self { events, view, inlets, warnings: Vec::new(), tasks });
        }
        let mut warnings = Vec::new();
        let ip = config.listen.or(agent.listen).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = config.port.unwrap_or(PORT);
        let wanted = SocketAddr::new(ip, port);
        let bound = match socket::bind(ip, port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && config.port.is_none() => {
                let bound = socket::bind(ip, 0);
                if let Ok((_, _, at)) = &bound {
                    warnings.push(format!(
                        "port {port} of {ip} is taken, most likely by another agent: this one takes port {} for members, \
                         and others find it only once it has found one of them; give each agent of a machine an address \
                         of its own (membership.listen) or a port (membership.port)",
                        at.port()
                    ));
                }
                bound
            }
            bound => bound,
        };
        let (packets, listener, at) = bound.map_err(|error| MembersError::Bind { address: wanted, error })?;
        let (requests_in, requests) = mpsc::channel(16);
        let channels = driver::Channels { events: events_in, commands, local, sources, requests };
        let (driver, view, bounds) = driver::Driver::new(agent, config, (packets, at), (channels, talk))?;
        tasks.spawn(stream::serve(listener, requests_in, bounds));
        tasks.spawn(driver.run());
        Ok(Self { events, view, inlets, warnings, tasks })
    }
}

fn own_host(agent: &Agent) -> &str {
    agent.host.as_deref().unwrap_or("localhost")
}
