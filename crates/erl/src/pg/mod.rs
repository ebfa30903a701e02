//! Process groups: a scope of OTP's `pg` on a node of ours.
//!
//! A [`Scope`] is the peer of the scope of the same name on every connected node, BEAM or ours: processes of this node
//! that [join](Scope::join) a group are in `pg:get_members/2` there, and those that joined there are in
//! [`Scope::members`] here. As in OTP, membership is not passed on (only nodes that are connected see one another), a
//! process may be in a group several times, and one that ends leaves.
//!
//! A hidden node is not discovered by the scopes of BEAM nodes, so a scope of ours asks: when a node comes up, and every
//! [`DISCOVER_INTERVAL`] those that have not answered, since a scope may start later than its node.
//!
//! ```
//! use metacluster_erl::{Node, NodeOptions, pg::{Change, Scope}, wire::term};
//! use metacluster_types::{Cookie, NodeName};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let start = |name| Ok::<_, Box<dyn std::error::Error>>(Node::start(NodeOptions::new(NodeName::new(name)?, Cookie::new("s"))));
//! let (shop, till) = (start("shop@127.0.0.1")?, start("till@127.0.0.1")?);
//! let address = shop.listen("127.0.0.1:0".parse()?).await?;
//! till.connect(address, metacluster_erl::node::Expect::Exactly(shop.name().clone())).await?;
//!
//! let orders = term!(orders);
//! let here = Scope::start(&shop, "pg")?;
//! let there = Scope::start(&till, "pg")?;
//! let (members, mut changes) = there.monitor_group(&orders);
//! assert!(members.is_empty());
//!
//! let worker = shop.spawn();
//! here.join(&orders, worker.pid())?;
//! let joined = Change::Joined { group: orders.clone(), pids: vec![worker.pid().clone()] };
//! assert_eq!(changes.next().await, Some(joined));
//! assert_eq!(there.members(&orders), [worker.pid().clone()]);
//!
//! drop(worker);
//! assert!(matches!(changes.next().await, Some(Change::Left { .. })));
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```

mod changes;
mod driver;
mod message;
mod overlay;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metacluster_erl_wire::{Pid, Reference, Term};
use tokio::sync::{broadcast, watch};

pub use self::changes::{Change, Changes};
use self::overlay::{Effect, Overlay};
use crate::node::{Node, error::RegisterError, error::SendError, registry::Target};

/// How often the nodes that have not answered are asked for their scope.
pub const DISCOVER_INTERVAL: Duration = Duration::from_secs(1);

/// Changes that a reader may be behind before it is told that it missed some.
const CHANGES_MAX: usize = 4_096;

/// A scope of process groups on a node. Cheap to clone; when the last clone is dropped, the node leaves the scope and its
/// processes leave their groups.
#[derive(Clone)]
pub struct Scope {
    shared: Arc<Shared>,
    /// Its end tells the driver.
    _alive: Arc<watch::Sender<()>>,
}

/// What the handles share with the driver.
struct Shared {
    node: Node,
    name: String,
    /// The scope process.
    own: Pid,
    /// Held while an operation changes it and what follows is sent, so that peers see the same order.
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
}

struct State {
    overlay: Overlay,
    /// What the scope process monitors.
    monitors: BTreeMap<Pid, Reference>,
    monitored: BTreeMap<Reference, Pid>,
    ended: bool,
}

/// Why a process did not join a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Only processes of this node can join here; join it where it runs.
    #[error("{0:?} is no process of this node")]
    NotLocal(Pid),
    /// The node has shut down.
    #[error("the scope has ended with its node")]
    Ended,
}

impl Scope {
    /// Starts a scope: the process with its name on this node, and the exchange with every connected node. `pg` is the
    /// scope that OTP's kernel has when it is started with `-kernel start_pg true`.
    ///
    /// # Errors
    /// When the name is taken on this node: a node has each scope once.
    ///
    /// # Panics
    /// When it is called outside of a tokio runtime.
    pub fn start(node: &Node, name: &str) -> Result<Self, RegisterError> {
        let process = node.spawn();
        // Before anybody can know of the scope: no peer that comes up is missed.
        let events = node.events();
        process.register(name)?;
        let own = process.pid().clone();
        let state = State {
            overlay: Overlay::new(own.clone()),
            monitors: BTreeMap::new(),
            monitored: BTreeMap::new(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            node: node.clone(),
            name: name.to_owned(),
            own,
            state: Mutex::new(state),
            changes: broadcast::Sender::new(CHANGES_MAX),
        });
        let (alive, gone) = watch::channel(());
        node.run(driver::run(Arc::clone(&shared), process, events, gone));
        Ok(Self { shared, _alive: Arc::new(alive) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// `pg:join/3`: a process of this node joins a group, once more if it is in it. One that has ended leaves at once.
    ///
    /// # Errors
    /// When the process is of another node, or the node has shut down; then nothing changes.
    pub fn join(&self, group: &Term, pid: &Pid) -> Result<(), JoinError> {
        if pid.node != self.shared.own.node || pid.creation != self.shared.own.creation {
            return Err(JoinError::NotLocal(pid.clone()));
        }
        let mut state = self.shared.lock();
        if state.ended {
            return Err(JoinError::Ended);
        }
        state.overlay.join(group, pid);
        self.shared.carry_out(&mut state);
        Ok(())
    }

    /// `pg:leave/3`: takes one join back; false if the process is not in the group.
    #[must_use = "it says whether the process was in the group"]
    pub fn leave(&self, group: &Term, pid: &Pid) -> bool {
        let mut state = self.shared.lock();
        let was = state.overlay.leave(group, pid);
        self.shared.carry_out(&mut state);
        was
    }

    /// Pids of this node that are none of its processes but stand for some elsewhere join a group, each once more. Who
    /// announces them says when they leave: [`Scope::retract`].
    ///
    /// # Errors
    /// As [`Scope::join`].
    pub fn announce(&self, group: &Term, pids: &[Pid]) -> Result<(), JoinError> {
        let own = &self.shared.own;
        if let Some(other) = pids.iter().find(|pid| pid.node != own.node || pid.creation != own.creation) {
            return Err(JoinError::NotLocal(other.clone()));
        }
        let mut state = self.shared.lock();
        if state.ended {
            return Err(JoinError::Ended);
        }
        state.overlay.announce(group, pids);
        self.shared.carry_out(&mut state);
        Ok(())
    }

    /// Takes one announcement of each of these back.
    pub fn retract(&self, group: &Term, pids: &[Pid]) {
        let mut state = self.shared.lock();
        state.overlay.retract(group, pids);
        self.shared.carry_out(&mut state);
    }

    /// `pg:get_members/2`: those of this node first.
    #[must_use]
    pub fn members(&self, group: &Term) -> Vec<Pid> {
        self.shared.lock().overlay.members(group)
    }

    /// `pg:get_local_members/2`.
    #[must_use]
    pub fn local_members(&self, group: &Term) -> Vec<Pid> {
        self.shared.lock().overlay.local_members(group)
    }

    /// `pg:which_groups/1`: the groups that have members.
    #[must_use]
    pub fn groups(&self) -> Vec<Term> {
        self.shared.lock().overlay.groups(false)
    }

    /// `pg:which_local_groups/1`: the groups that have members of this node.
    #[must_use]
    pub fn local_groups(&self) -> Vec<Term> {
        self.shared.lock().overlay.groups(true)
    }

    /// The scope processes of other nodes that this one knows.
    #[must_use]
    pub fn peers(&self) -> Vec<Pid> {
        self.shared.lock().overlay.peers().cloned().collect()
    }

    /// `pg:monitor_scope/1`: who is in which group, and what changes from then on.
    #[must_use]
    pub fn monitor(&self) -> (BTreeMap<Term, Vec<Pid>>, Changes) {
        let state = self.shared.lock();
        let groups = state.overlay.groups(false).into_iter();
        let members = groups.map(|group| (group.clone(), state.overlay.members(&group))).collect();
        (members, Changes::new(self.shared.changes.subscribe(), None))
    }

    /// `pg:monitor/2`: who is in the group, and what changes from then on.
    #[must_use]
    pub fn monitor_group(&self, group: &Term) -> (Vec<Pid>, Changes) {
        let state = self.shared.lock();
        let changes = Changes::new(self.shared.changes.subscribe(), Some(group.clone()));
        (state.overlay.members(group), changes)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a change of the overlay asks for. Nothing here waits.
    fn carry_out(&self, state: &mut State) {
        while let Some(effect) = state.overlay.poll_effect() {
            match effect {
                Effect::Send { to, message } => {
                    // Without a connection the scope process is told so by its monitor.
                    if let Err(SendError::Busy) = self.node.send_from(&self.own, &to, message) {
                        state.overlay.unsent(&to);
                    }
                }
                Effect::Monitor(pid) => {
                    let reference = self.node.monitor(&self.own, pid.node.as_str(), Target::Pid(pid.clone()));
                    state.monitored.insert(reference.clone(), pid.clone());
                    state.monitors.insert(pid, reference);
                }
                Effect::Demonitor(pid) => {
                    if let Some(reference) = state.monitors.remove(&pid) {
                        state.monitored.remove(&reference);
                        self.node.demonitor(&self.own, &reference);
                    }
                }
                // Nobody may be watching.
                Effect::Tell(change) => drop(self.changes.send(change)),
            }
        }
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope")
            .field("name", &self.shared.name)
            .field("node", self.shared.node.name())
            .finish_non_exhaustive()
    }
}
