//! What fires when a link, or a node of this cluster, is lost: each monitor and each link, once.

use metacluster_erl_wire::{Atom, Control, Term, control::Process};
use metacluster_types::{Instant, NodeName};

use crate::{
    Federation, Output,
    carry::lane_of,
    lanes::Lane,
    peer::PeerId,
    watches::{Target, take},
};

const GONE: &str = "noconnection";

impl Federation {
    /// The link to a gateway is lost.
    pub(crate) fn link_lost(&mut self, now: Instant, peer: PeerId) {
        for (reference, outward) in take(&mut self.watches.outward, |_, outward| outward.peer == peer) {
            let target = self.proxy(outward.target);
            self.tell_down(&outward.watcher, &reference, target, GONE);
            self.release_outward(now, &outward);
        }
        let through = |target: &Target| matches!(target, Target::Far(via, _) if *via == peer);
        for (slot, inward) in take(&mut self.watches.inward, |_, inward| inward.peer == peer || through(&inward.target))
        {
            let watcher = self.identifiers.far.pids.at(inward.watcher).map(|entry| entry.key);
            let reference = self.identifiers.far.references.at(slot).map(|entry| entry.key);
            let target = match inward.target {
                Target::Own(key, _) => Some(key),
                Target::Far(_, slot) => self.identifiers.far.pids.at(slot).map(|entry| entry.key),
            };
            if let (Some(watcher), Some(reference), Some(target_key)) = (watcher, reference, target) {
                match inward.target {
                    // Nobody is left who monitors.
                    Target::Own(key, _) => {
                        let (from, to) = (self.proxy(inward.watcher), self.identifiers.own_pid(&key));
                        let reference = self.identifiers.proxy_reference(slot).to_reference();
                        let (node, lane) = (to.node.clone(), lane_of(&from));
                        let control = Control::DemonitorP { from, to: Process::Pid(to), reference };
                        self.outputs.push_back(Output::Signal { node, lane, control, payload: None });
                    }
                    Target::Far(via, _) if inward.peer == peer => {
                        let from = self.identifiers.home_pid(&watcher);
                        let to = Process::Pid(self.identifiers.home_pid(&target_key));
                        let reference = self.identifiers.home_reference(&reference);
                        let lane = Lane::of(watcher.id, watcher.serial);
                        self.say(now, via, lane, Control::DemonitorP { from, to, reference }, None);
                    }
                    Target::Far(..) => {
                        let from = Process::Pid(self.identifiers.home_pid(&target_key));
                        let to = self.identifiers.home_pid(&watcher);
                        let reference = self.identifiers.home_reference(&reference);
                        let lane = Lane::of(target_key.id, target_key.serial);
                        let control = Control::PayloadMonitorPExit { from, to, reference };
                        self.say(now, inward.peer, lane, control, Some(&Term::atom(GONE)));
                    }
                }
            }
            self.release_inward(now, slot, &inward);
        }
        self.through_lost(now, peer);
        for ((own, slot), linked) in take(&mut self.watches.links, |_, linked| linked.peer == peer) {
            let far = self.proxy(slot);
            match linked.unlinking {
                Some(id) => self.tell_unlinked(&own, far, id),
                None => self.tell_exit(&own, far, GONE),
            }
            self.release_link(now, slot, &linked);
        }
    }

    /// A node of this cluster is no longer connected to the gateway's node.
    pub fn node_down(&mut self, now: Instant, node: &NodeName) {
        if !self.nodes.remove(&Atom::from(node)) {
            return;
        }
        let Ok(name) = self.identifiers.names.own_text(node.as_str()) else { return };
        for (reference, outward) in take(&mut self.watches.outward, |_, outward| outward.watcher.name == name) {
            let target = self.identifiers.far.pids.at(outward.target).map(|entry| entry.key);
            if let Some(target) = target {
                let from = self.identifiers.home_pid(&outward.watcher);
                let to = Process::Pid(self.identifiers.home_pid(&target));
                let reference = self.identifiers.home_reference(&reference);
                let lane = Lane::of(outward.watcher.id, outward.watcher.serial);
                self.say(now, outward.peer, lane, Control::DemonitorP { from, to, reference }, None);
            }
            self.release_outward(now, &outward);
        }
        let on_node = |target: &Target| matches!(target, Target::Own(key, _) if key.name == name);
        for (slot, inward) in take(&mut self.watches.inward, |_, inward| on_node(&inward.target)) {
            let watcher = self.identifiers.far.pids.at(inward.watcher).map(|entry| entry.key);
            let reference = self.identifiers.far.references.at(slot).map(|entry| entry.key);
            if let (Some(watcher), Some(reference), Target::Own(key, _)) = (watcher, reference, inward.target) {
                let from = Process::Pid(self.identifiers.home_pid(&key));
                let to = self.identifiers.home_pid(&watcher);
                let reference = self.identifiers.home_reference(&reference);
                let control = Control::PayloadMonitorPExit { from, to, reference };
                self.say(now, inward.peer, Lane::of(key.id, key.serial), control, Some(&Term::atom(GONE)));
            }
            self.release_inward(now, slot, &inward);
        }
        for ((own, slot), linked) in take(&mut self.watches.links, |(own, _), _| own.name == name) {
            let far = self.identifiers.far.pids.at(slot).map(|entry| entry.key);
            if let (Some(far), None) = (far, linked.unlinking) {
                let (from, to) = (self.identifiers.home_pid(&own), self.identifiers.home_pid(&far));
                let control = Control::PayloadExit { from, to, trace: None };
                self.say(now, linked.peer, Lane::of(own.id, own.serial), control, Some(&Term::atom(GONE)));
            }
            self.release_link(now, slot, &linked);
        }
    }
}
