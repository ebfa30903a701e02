//! What becomes of a peer that left every source, when all that had it say `prune`.
//!
//! A live node is never cut by others: on OTP 25 and later, one `disconnect_node` of a live node makes `global` cut
//! healthy links on the rest. So a local node leaves by itself (`global:disconnect/0`), and a remote one is dropped
//! only when a check finds it dead: then every survivor's agent drops it on its own nodes. A remote peer that lives
//! keeps its links, is noted once and checked again now and then; its own agent, which sees the same sources, has it
//! leave.

use metacluster_types::{Instant, NodeName};
use rand::RngExt;

use crate::{
    DropHow, Formation, Note, Output,
    state::{NodeId, PairKey, PairState, PruneStep, Pruning},
    timers::Timer,
};

/// Names of pruned local nodes that are remembered over their restart. What is beyond joins again when it restarts.
const LEFT_MESH_MAX: usize = 1024;

impl Formation {
    /// Called when the last topology that had the node has it no more.
    pub(crate) fn begin_prune(&mut self, now: Instant, id: NodeId) {
        let node = &mut self.nodes[id];
        if std::mem::take(&mut node.kept) {
            return;
        }
        if let Some(local) = node.local.as_mut().filter(|local| local.ready && !local.left_mesh) {
            local.left_mesh = true;
            let name = node.name.clone();
            if self.left_mesh.len() < LEFT_MESH_MAX {
                self.left_mesh.insert(name.clone());
            }
            self.outputs.push_back(Output::Drop { local: name.clone(), peer: name, how: DropHow::LeaveMesh });
            self.refresh_local(now, id);
        } else if node.local.is_none() && node.links > 0 && node.pruning.is_none() {
            node.pruning = Some(Pruning { step: PruneStep::Due(now), noted: false });
            self.timers.set(now, Timer::Check(id));
        }
    }

    /// A topology has the node again.
    pub(crate) fn end_prune(&mut self, now: Instant, id: NodeId) {
        self.stop_checks(id);
        let name = self.nodes[id].name.clone();
        self.left_mesh.remove(&name);
        if let Some(local) = self.nodes[id].local.as_mut().filter(|local| local.left_mesh) {
            local.left_mesh = false;
            self.refresh_local(now, id);
        }
    }

    /// Nothing is left to drop of a peer without links.
    pub(crate) fn settle_pruning(&mut self, id: NodeId) {
        if self.nodes[id].links == 0 {
            self.stop_checks(id);
        }
    }

    fn stop_checks(&mut self, id: NodeId) {
        match self.nodes[id].pruning.take().map(|pruning| pruning.step) {
            None => {}
            Some(PruneStep::Due(at)) => self.timers.take_back(at, Timer::Check(id)),
            Some(PruneStep::Asked(until)) => {
                self.timers.take_back(until, Timer::CheckGivesUp(id));
                self.checks_in_flight -= 1;
            }
        }
    }

    fn set_check(&mut self, id: NodeId, at: Instant) {
        if let Some(pruning) = &mut self.nodes[id].pruning {
            pruning.step = PruneStep::Due(at);
            self.timers.set(at, Timer::Check(id));
        }
    }

    fn check_wait(&mut self) -> std::time::Duration {
        let wait = self.settings.check_interval;
        wait - self.rng.random_range(std::time::Duration::ZERO..=wait / 4)
    }

    pub(crate) fn check(&mut self, now: Instant, id: NodeId) {
        if self.checks_in_flight >= self.settings.checks_in_flight_max {
            let wait = self.rng.random_range(self.settings.dial_timeout / 20..=self.settings.dial_timeout / 10);
            self.set_check(id, now + wait.max(std::time::Duration::from_millis(10)));
            return;
        }
        let until = now + self.settings.dial_timeout;
        if let Some(pruning) = &mut self.nodes[id].pruning {
            pruning.step = PruneStep::Asked(until);
            self.checks_in_flight += 1;
            self.timers.set(until, Timer::CheckGivesUp(id));
            self.outputs.push_back(Output::Check { peer: self.nodes[id].name.clone() });
        }
    }

    /// A check had no outcome: nothing is known, so nothing is dropped.
    pub(crate) fn check_gives_up(&mut self, now: Instant, id: NodeId) {
        self.checks_in_flight -= 1;
        let wait = self.check_wait();
        self.set_check(id, now + wait);
    }

    pub(crate) fn on_checked(&mut self, now: Instant, peer: &NodeName, alive: bool) {
        self.on_host_checked(now, peer, alive);
        let Some(id) = self.nodes.find(peer) else { return };
        if alive {
            self.on_alive(now, id);
        }
        let Some(Pruning { step: PruneStep::Asked(until), noted }) = self.nodes[id].pruning else { return };
        self.timers.take_back(until, Timer::CheckGivesUp(id));
        self.checks_in_flight -= 1;
        let wait = self.check_wait();
        self.set_check(id, now + wait);
        if alive {
            if !noted {
                self.say(Note::PruneHeld { peer: peer.clone() });
            }
            if let Some(pruning) = &mut self.nodes[id].pruning {
                pruning.noted = true;
            }
            return;
        }
        for local in self.locals.clone() {
            let linked = self.pairs.get(&PairKey::new(local, id));
            if linked.is_some_and(|pair| matches!(pair.state, PairState::Linked { .. })) {
                let local = self.nodes[local].name.clone();
                self.outputs.push_back(Output::Drop { local, peer: peer.clone(), how: DropHow::Disconnect });
            }
        }
    }

    /// A drop was carried out. For a local node that left its mesh the links' own `LinkDown` follow.
    pub(crate) fn on_dropped(&mut self, now: Instant, local: &NodeName, peer: &NodeName) {
        if local != peer {
            self.on_link_down(now, local, peer);
        }
    }
}
