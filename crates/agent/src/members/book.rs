//! What was told of each member, and the view of all.
//!
//! The machine says what changed in ids; people and the core want names, places and nodes, also of a member whose record
//! is gone by then. Invariant: for each member `Joined` and `Failed` or `Left` alternate, beginning with `Joined`, also
//! when the machine begins anew under another id.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use metacluster_membership::{
    Change, ChangeKind, Counters, DownReason, KeyId, MemberView as Known, Membership, Standing,
};
use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Place, Role, Tags, WallClock};

use super::{
    Agent, MemberChange, MemberEvent,
    state::{MemberState, StateError},
};
use crate::view::{MemberCounters, MemberNode, MemberState as ShownState, MemberView, NodeState};

/// How long members that were up have to show themselves when the machine begins anew under another id.
const RENEWAL: Duration = Duration::from_secs(30);

/// What was last told of a member.
#[derive(Clone, Debug)]
struct Told {
    name: String,
    place: Place,
    address: SocketAddr,
    roles: BTreeSet<Role>,
    tags: Tags,
    nodes: BTreeSet<NodeName>,
    up: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    told: BTreeMap<AgentId, Told>,
    /// Since when each member stands as it does: the machine's time, and that of the wall then.
    since: BTreeMap<AgentId, (Instant, WallClock)>,
    /// Who was up when the machine began anew, and until when they have time.
    renewal: Option<(Instant, BTreeSet<AgentId>)>,
    /// States that a later version wrote were seen.
    pub(super) states_refused: u64,
}

impl Book {
    /// Turns what the machine says into what the core is told.
    pub(super) fn turn(&mut self, machine: &Membership, changes: &[Change]) -> Vec<MemberEvent> {
        let mut events = Vec::new();
        for change in changes {
            let known = machine.member(change.id);
            let fresh = known.as_ref().map(|known| self.read(known));
            let before = self.told.get(&change.id).cloned();
            let Some(mut now) = fresh.or_else(|| before.clone()) else { continue };
            let was_up = before.as_ref().is_some_and(|before| before.up);
            let (what, up) = match change.kind {
                ChangeKind::Joined if was_up => (self.difference(before.as_ref(), &now), true),
                ChangeKind::Joined => (Some(MemberChange::Joined), true),
                ChangeKind::Suspect => (Some(MemberChange::Suspect), was_up),
                ChangeKind::Recovered => (Some(MemberChange::Recovered), was_up),
                ChangeKind::Updated => (self.difference(before.as_ref(), &now), was_up),
                ChangeKind::Down(_) if !was_up => (None, false),
                ChangeKind::Down(DownReason::Failed) => (Some(MemberChange::Failed), false),
                ChangeKind::Down(reason) => (Some(MemberChange::Left(reason)), false),
                ChangeKind::Ended(reason) => (Some(MemberChange::Ended(reason)), false),
                ChangeKind::Reaped => (Some(MemberChange::Forgotten), false),
            };
            now.up = up;
            if let Some((_, missing)) = &mut self.renewal {
                missing.remove(&change.id);
            }
            if let Some(what) = what {
                // A boot that ended is told with what was known of it, not with what its successor says.
                let of = if up { &now } else { before.as_ref().unwrap_or(&now) };
                events.push(event(change.id, of, what));
            }
            if change.kind == ChangeKind::Reaped {
                self.told.remove(&change.id);
                self.since.remove(&change.id);
            } else {
                self.told.insert(change.id, now);
            }
        }
        events
    }

    /// The machine begins anew: whoever was up has a while to be seen by it.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        let up = self.told.iter().filter(|(_, told)| told.up).map(|(&id, _)| id).collect();
        self.renewal = Some((now + RENEWAL, up));
    }

    /// When that while ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.renewal.as_ref().map(|(at, _)| *at)
    }

    /// Tells of those that were not seen.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<MemberEvent> {
        if self.deadline().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let (_, missing) = self.renewal.take().unwrap_or_default();
        let mut events = Vec::new();
        for id in missing {
            let Some(told) = self.told.get_mut(&id) else { continue };
            told.up = false;
            events.push(event(id, told, MemberChange::Failed));
        }
        events
    }

    fn difference(&self, before: Option<&Told>, now: &Told) -> Option<MemberChange> {
        let before = before?;
        let for_people = before.name != now.name
            || before.place != now.place
            || before.address != now.address
            || before.roles != now.roles
            || before.tags != now.tags;
        let nodes = before.nodes != now.nodes;
        if for_people { Some(MemberChange::Updated) } else { nodes.then_some(MemberChange::NodesChanged) }
    }

    fn read(&mut self, known: &Known) -> Told {
        let description = &known.description;
        let nodes = match MemberState::decode(&description.state) {
            Ok(state) => state.nodes,
            Err(StateError::Incompatible(_) | StateError::Malformed) => {
                self.states_refused += u64::from(!description.state.is_empty());
                BTreeSet::new()
            }
        };
        Told {
            name: description.name.clone(),
            place: description.place.clone(),
            address: description.address,
            roles: description.roles.clone(),
            tags: description.tags.clone(),
            nodes,
            up: false,
        }
    }

    /// Every other member, by name and id.
    pub(super) fn members(&mut self, now: Instant, machine: &Membership, cluster: &ClusterName) -> Vec<MemberView> {
        let known: Vec<Known> = machine.members().collect();
        let mut members: Vec<MemberView> = known
            .iter()
            .map(|known| shown(known, cluster, self.since(now, known), machine.round_trip(known.id)))
            .collect();
        members.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        members
    }

    /// Since when it stands so. It is worked out once, so that a wall clock that is set changes no old moment.
    fn since(&mut self, now: Instant, known: &Known) -> WallClock {
        match self.since.get(&known.id) {
            Some((at, wall)) if *at == known.since => *wall,
            Some(_) | None => {
                let wall = SystemTime::now();
                let wall = WallClock::new(wall.checked_sub(now.since(known.since)).unwrap_or(wall));
                self.since.insert(known.id, (known.since, wall));
                wall
            }
        }
    }
}

fn event(id: AgentId, told: &Told, change: MemberChange) -> MemberEvent {
    MemberEvent {
        id,
        name: told.name.clone(),
        place: told.place.clone(),
        address: told.address,
        change,
        nodes: told.nodes.clone(),
    }
}

fn shown(known: &Known, cluster: &ClusterName, since: WallClock, round_trip: Option<Duration>) -> MemberView {
    let description = &known.description;
    let state = MemberState::decode(&description.state).unwrap_or_default();
    MemberView {
        id: known.id,
        name: description.name.clone(),
        address: description.address,
        cluster: cluster.clone(),
        zone: description.place.zone.clone(),
        region: description.place.region.clone(),
        roles: description.roles.clone(),
        tags: description.tags.clone(),
        state: match known.standing {
            Standing::Alive => ShownState::Alive,
            Standing::Suspect => ShownState::Suspect,
            Standing::Failed => ShownState::Failed,
            Standing::Left => ShownState::Left,
        },
        since,
        reason: known.reason.map(|reason| reason.as_str().to_owned()),
        own: false,
        epoch: known.stamp.epoch.0,
        instance: state.instance,
        round_trip_ms: round_trip.map(milliseconds),
        nodes: nodes(&state.nodes),
        nodes_total: state.nodes_total,
        links: state.links,
        key: (state.key != 0).then(|| KeyId(state.key).to_string()),
        cell: None,
        gateway: state.gateway,
    }
}

/// To a hundredth, since more is noise.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Whether they are up is for the core to say.
pub(super) fn nodes(names: &BTreeSet<NodeName>) -> Vec<MemberNode> {
    names.iter().map(|name| MemberNode { name: name.clone(), state: NodeState::Down }).collect()
}

/// This agent, before anything is known of its nodes.
pub(super) fn own(agent: &Agent, id: AgentId, name: &str, address: SocketAddr) -> MemberView {
    MemberView {
        id,
        name: name.to_owned(),
        address,
        cluster: agent.cluster.clone(),
        zone: agent.place.zone.clone(),
        region: agent.place.region.clone(),
        roles: agent.roles.clone(),
        tags: agent.tags.clone(),
        state: ShownState::Alive,
        since: agent.started_at,
        reason: None,
        own: true,
        epoch: 0,
        instance: None,
        round_trip_ms: None,
        nodes: Vec::new(),
        nodes_total: 0,
        links: 0,
        key: None,
        cell: None,
        gateway: None,
    }
}

/// The machine's counts, in the shape that is shown; those of the driver are added by it.
pub(super) fn counters(counted: Counters, health: u32) -> MemberCounters {
    MemberCounters {
        packets_sent: counted.packets_sent,
        bytes_sent: counted.bytes_sent,
        packets_received: counted.packets_received,
        stream_bytes_sent: counted.stream_bytes_sent,
        syncs: counted.syncs,
        foreign: counted.foreign,
        malformed: counted.malformed,
        incompatible: counted.incompatible,
        stale: counted.stale,
        own: counted.own,
        misdirected: counted.misdirected,
        lies: counted.lies,
        refused: counted.refused,
        probes: counted.probes,
        probes_failed: counted.probes_failed,
        stream_answers: counted.stream_answers,
        refuted: counted.refuted,
        failed: counted.failed,
        pauses: counted.pauses,
        health: u64::from(health),
        ..MemberCounters::default()
    }
}
