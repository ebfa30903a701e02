//! Scenarios of gateways on virtual time, each a few lines over the harness here: gateways, links that carry at once, and
//! the nodes' side of each.

mod bounds;
mod fuzz;
mod groups;
mod hostile;
mod links;
mod messages;
mod returns;
mod roles;
mod services;
mod squeezed;
mod through;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use metacluster_erl_wire::{
    Atom, Control, Pid, Reference, Term,
    control::Process,
    rewrite::{PidView, ReferenceView, Route},
    term::{self, Limits as TermLimits},
};
use metacluster_types::{AgentId, ClusterName, Instant, NodeName, Pattern, Place};

use crate::{
    CloseReason, ExportRule, Federation, GroupKey, Limits, LinkId, Notice, Output, Refusal, Settings, Squeezer, Times,
    codec::frame::{HEAD_BYTES, Kind},
};

/// What a node of a cluster was sent.
pub(super) type Delivered = (String, Control, Option<Term>);

/// A gateway, and what it did to its cluster.
pub(super) struct Gateway {
    pub(super) machine: Federation,
    pub(super) delivered: VecDeque<Delivered>,
    /// Who is published, by printed group.
    pub(super) published: BTreeMap<String, Vec<Pid>>,
    pub(super) notices: Vec<Notice>,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) gateways: Vec<Gateway>,
    /// The other end of each end.
    pub(super) wires: BTreeMap<LinkId, (usize, LinkId)>,
    links: u64,
    /// How much later what a gateway says arrives, by the clock of who hears it.
    pub(super) delays: BTreeMap<usize, Duration>,
    /// What a gateway says to another one while that is held.
    held: BTreeMap<(usize, usize), Vec<(LinkId, Bytes)>>,
    /// Bytes that crossed.
    pub(super) carried: usize,
    /// Gateways of a version that knows none of the features: no hello of theirs or to them names one.
    pub(super) old: BTreeSet<usize>,
}

pub(super) fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).expect("a name")
}

pub(super) fn pid(node: &'static str, id: u32) -> Pid {
    Pid { node: Atom::from_static(node), id, serial: 0, creation: 7 }
}

pub(super) fn reference(node: &'static str, word: u32) -> Reference {
    Reference { node: Atom::from_static(node), creation: 7, ids: vec![word, 2, 3, 4, 5] }
}

pub(super) fn group(name: &Term) -> GroupKey {
    GroupKey { scope: "pg".to_owned(), group: bytes(name) }
}

pub(super) fn bytes(term: &Term) -> Bytes {
    let mut out = BytesMut::new();
    term::encode(term, &mut out);
    out.freeze()
}

/// Takes the features out of a hello, if these bytes begin with one.
fn without_features(bytes: &mut [u8]) {
    if bytes.first() == Some(&(Kind::Hello as u8)) {
        // Behind the magic and two versions.
        bytes[HEAD_BYTES + 6..HEAD_BYTES + 10].fill(0);
    }
}

/// A message to this pid.
pub(super) fn send(from: &Pid, to: &Pid) -> Control {
    Control::SendSender { from: from.clone(), to: to.clone(), trace: None }
}

pub(super) fn settings(name: &str, number: u128) -> Settings {
    Settings {
        cluster: cluster(name),
        gateway: AgentId(number),
        epoch: 1,
        node: NodeName::new(&format!("metacluster@{name}")).expect("a name"),
        place: Place::default(),
        creation: 9,
        reference_mark: 0xabc4,
        exports: vec![ExportRule {
            to: vec![Pattern::new("*")],
            scope: "pg".to_owned(),
            groups: vec![Pattern::new("orders*")],
        }],
        times: Times::default(),
        compress: false,
        limits: Limits::default(),
    }
}

impl World {
    /// Gateways of clusters with these names, each with the nodes `shop@NAME` and `till@NAME`, and no link.
    pub(super) fn new(names: &[&str]) -> Self {
        Self::with(names.iter().zip(1..).map(|(name, number)| settings(name, number)).collect())
    }

    pub(super) fn with(all: Vec<Settings>) -> Self {
        let now = Instant::from_origin(Duration::from_secs(100));
        let gateways = all.into_iter().map(|settings| {
            let name = settings.cluster.clone();
            let mut machine = Federation::new(settings, now);
            for node in ["shop", "till"] {
                machine.node_up(&NodeName::from_parts(node, name.as_str()).expect("a name"));
            }
            let (delivered, published, notices) = (VecDeque::new(), BTreeMap::new(), Vec::new());
            Gateway { machine, delivered, published, notices }
        });
        let (wires, delays, old) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { now, gateways: gateways.collect(), wires, links: 0, delays, held: BTreeMap::new(), carried: 0, old }
    }

    /// Two clusters, `east` and `west`, that are linked.
    pub(super) fn linked() -> Self {
        let mut world = Self::new(&["east", "west"]);
        world.link(0, 1);
        world
    }

    /// Links two gateways; the end of each.
    pub(super) fn link(&mut self, one: usize, other: usize) -> (LinkId, LinkId) {
        self.links += 2;
        let (here, there) = (LinkId(self.links), LinkId(self.links + 1));
        self.wires.insert(here, (other, there));
        self.wires.insert(there, (one, here));
        self.gateways[one].machine.link_opened(self.now, here, None, true);
        self.gateways[other].machine.link_opened(self.now, there, None, false);
        self.run();
        (here, there)
    }

    /// The connection of this end is lost, at both ends.
    pub(super) fn cut(&mut self, here: LinkId) {
        let (other, there) = self.wires.remove(&here).expect("a link");
        let (one, _) = self.wires.remove(&there).expect("its other end");
        self.gateways[one].machine.link_closed(self.now, here);
        self.gateways[other].machine.link_closed(self.now, there);
        self.run();
    }

    /// What the one says to the other does not arrive, for now.
    pub(super) fn hold(&mut self, one: usize, other: usize) -> (usize, usize) {
        self.held.insert((one, other), Vec::new());
        (one, other)
    }

    /// It arrives, and all that comes after it.
    pub(super) fn release(&mut self, held: (usize, usize)) {
        for (there, bytes) in self.held.remove(&held).into_iter().flatten() {
            self.gateways[held.1].machine.handle_link(self.now, there, &bytes);
        }
        self.run();
    }

    /// Lets everything arrive.
    pub(super) fn run(&mut self) {
        while (0..self.gateways.len()).any(|place| self.step(place)) {}
    }

    fn step(&mut self, place: usize) -> bool {
        let now = self.now;
        let gateway = &mut self.gateways[place];
        let Some(output) = gateway.machine.poll_output() else { return false };
        match output {
            Output::Transmit(link) => {
                let (mut out, mut squeezer) = (BytesMut::new(), Squeezer::default());
                while let Some(piece) = gateway.machine.poll_transmit(now, link) {
                    if gateway.machine.squeezes(link)
                        && let Some(frame) = squeezer.squeeze(&piece)
                    {
                        out.extend_from_slice(&frame);
                        continue;
                    }
                    out.extend_from_slice(piece.head.as_ref().map_or(&[][..], |head| head));
                    out.extend_from_slice(&piece.body);
                }
                gateway.machine.squeezed_out(link, squeezer.done());
                self.carried += out.len();
                if let Some((other, there)) = self.wires.get(&link).copied() {
                    if self.old.contains(&place) || self.old.contains(&other) {
                        without_features(&mut out);
                    }
                    if let Some(held) = self.held.get_mut(&(place, other)) {
                        held.push((there, out.freeze()));
                        return true;
                    }
                    let late = self.delays.get(&place).copied().unwrap_or_default();
                    self.gateways[other].machine.handle_link(now + late, there, &out);
                }
            }
            Output::Close { link, farewell, .. } => {
                if let Some((other, there)) = self.wires.remove(&link) {
                    self.gateways[other].machine.handle_link(now, there, &farewell);
                    self.wires.remove(&there);
                    self.gateways[other].machine.link_closed(now, there);
                }
            }
            Output::Deliver { node, control, payload, .. } => {
                let (control, rest) = term::decode(&control, &TermLimits::default()).expect("a term");
                assert!(rest > 0);
                let control = Control::try_from(control).expect("a control message");
                let payload = payload.map(|payload| payload.decode(&TermLimits::default()).expect("a term"));
                assert_eq!(control.has_payload(), payload.is_some());
                gateway.delivered.push_back((node.to_string(), control, payload));
            }
            Output::Signal { node, control, payload, .. } => {
                assert_eq!(control.has_payload(), payload.is_some());
                gateway.delivered.push_back((node.to_string(), control, payload));
            }
            Output::Publish { group, members } => {
                gateway.published.entry(group.printed()).or_default().extend(members);
            }
            Output::Withdraw { group, members } => {
                let published = gateway.published.get_mut(&group.printed()).expect("it was published");
                for member in members {
                    let place = published.iter().position(|known| *known == member).expect("it was published");
                    published.remove(place);
                }
            }
            Output::Notice(notice) => gateway.notices.push(notice),
        }
        true
    }

    /// A node of this gateway's cluster says something to a far process.
    pub(super) fn say(&mut self, place: usize, control: Control, payload: Option<&Term>) {
        self.put(place, control, payload);
        self.run();
    }

    pub(super) fn put(&mut self, place: usize, control: Control, payload: Option<&Term>) {
        let mut body = BytesMut::new();
        term::encode(&Term::from(control), &mut body);
        if let Some(payload) = payload {
            term::encode(payload, &mut body);
        }
        let machine = &mut self.gateways[place].machine;
        assert!(machine.is_for_far(&Route::read(&body).expect("a route")), "for a far process");
        machine.handle_local(self.now, &body.freeze());
    }

    /// A process joins the group `orders` here; the pid that stands for it at the other gateway.
    pub(super) fn export(&mut self, place: usize, process: &Pid, at: usize) -> Pid {
        self.join(place, "orders", process);
        self.gateways[at].published["orders"].last().expect("it is published").clone()
    }

    pub(super) fn join(&mut self, place: usize, name: &'static str, process: &Pid) {
        let key = group(&Term::atom(name));
        self.gateways[place].machine.local_joined(self.now, &key, std::slice::from_ref(process));
        self.run();
    }

    pub(super) fn leave(&mut self, place: usize, name: &'static str, process: &Pid) {
        let key = group(&Term::atom(name));
        self.gateways[place].machine.local_left(self.now, &key, std::slice::from_ref(process));
        self.run();
    }

    /// What was sent to nodes of this cluster, the oldest first.
    pub(super) fn next(&mut self, place: usize) -> Option<Delivered> {
        self.gateways[place].delivered.pop_front()
    }

    /// The one thing that was sent.
    #[track_caller]
    pub(super) fn only(&mut self, place: usize) -> Delivered {
        let delivered = self.next(place).expect("something was sent");
        assert_eq!(self.next(place), None, "nothing else was sent");
        delivered
    }

    /// Lets time pass, and wakes the gateways when they want to be.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due = self.gateways.iter().filter_map(|gateway| gateway.machine.next_deadline()).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            for gateway in &mut self.gateways {
                gateway.machine.handle_timeout(self.now);
            }
            self.run();
        }
        self.now = until;
    }

    /// How often this was refused at this gateway, by all others.
    pub(super) fn refused(&self, place: usize, refusal: Refusal) -> u64 {
        let status = self.gateways[place].machine.status(self.now);
        status.gateways.iter().map(|gateway| gateway.refusals.of(refusal)).sum()
    }
}
