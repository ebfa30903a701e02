//! What happens to the world from outside, and whether what its machines hold is so.

use std::{collections::BTreeMap, time::Duration};

use metacluster_membership::{Input, Stamp, Standing, craft};
use metacluster_types::AgentId;
use rand::RngExt;

use super::{
    faults::Fault,
    world::{Broken, CLUSTER, World, address},
};

/// Who holds what of whom, wrongly.
pub(crate) type WrongRecord = (AgentId, AgentId, Option<(Stamp, Standing)>);

impl World<'_> {
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Broken> {
        match fault {
            Fault::Kill(host) => self.kill(host),
            Fault::Boot(host) => return self.boot(host),
            Fault::Replace(host) => {
                if self.host(host).machine.is_none() {
                    let at = self.host(host).address;
                    self.host(host).over = true;
                    let new = self.add_host(at);
                    return self.boot(new);
                }
            }
            Fault::Leave(host) => {
                let clock = self.queue.now() + self.host(host).ahead;
                if !self.host(host).paused
                    && let Some((machine, _)) = &mut self.host(host).machine
                {
                    machine.leave(clock);
                    return self.drain(host);
                }
            }
            Fault::Terminate(host) => {
                if self.host(host).machine.is_none() {
                    let id = self.host(host).id;
                    self.host(host).over = true;
                    let teller = self.running().find(|(_, teller, _)| !teller.paused).map(|(teller, _, _)| teller);
                    if let Some(teller) = teller {
                        return self.input(teller, Input::Terminated(id));
                    }
                }
            }
            Fault::Pause(host, time) => self.pause(host, time),
            Fault::Slow(host, lag) => self.host(host).lag = lag,
            Fault::Jump(host) => {
                self.host(host).ahead += Duration::from_secs(3600);
                self.talk.jumped(self.queue.now());
                self.host(host).wake_at = None;
                if !self.host(host).paused {
                    return self.drain(host);
                }
            }
            Fault::Cut(pairs) => pairs.iter().for_each(|&(one, other)| self.network.cut(one, other)),
            Fault::Heal(pairs) => {
                for (one, other) in pairs {
                    self.network.heal(one, other);
                }
            }
            Fault::Lie => self.lie(),
            Fault::Say(host) => return self.say(host).map(drop),
            Fault::Ask(host) => return self.ask(host).map(drop),
            Fault::Flood => self.flood(),
            Fault::Update(host) => {
                let revision = self.rng.random_range(1..1000);
                let description = self.description(host, revision);
                let clock = self.queue.now() + self.host(host).ahead;
                if !self.host(host).paused
                    && let Some((machine, _)) = &mut self.host(host).machine
                {
                    // It fits: it is as long as the one before.
                    if machine.describe(clock, description).is_ok() {
                        return self.drain(host);
                    }
                }
            }
        }
        Ok(())
    }

    /// One member says something untrue of another to a third, or sends what is no packet.
    fn lie(&mut self) {
        let running: Vec<_> =
            self.running().map(|(host, state, machine)| (host, state.id, state.address, machine.stamp())).collect();
        if running.len() < 3 {
            return;
        }
        let mut one = || running[self.rng.random_range(0..running.len())];
        let ((liar, liar_id, from, stamp), (_, subject, there, known), (_, _, to, _)) = (one(), one(), one());
        let raise = self.rng.random_range(0..4);
        let claimed = craft::stamp(known.epoch.0, known.incarnation.0 + raise);
        let sender = (liar_id, stamp.epoch);
        let bytes = match self.rng.random_range(0..8) {
            0 => craft::gossip(CLUSTER, sender, subject, claimed, craft::Lie::Alive(from)),
            1 => craft::gossip(CLUSTER, sender, subject, claimed, craft::Lie::Suspect),
            2 => craft::gossip(CLUSTER, sender, subject, claimed, craft::Lie::Failed),
            3 => craft::gossip(CLUSTER, sender, subject, claimed, craft::Lie::Left),
            4 => {
                let unheard = craft::stamp(known.epoch.0, u32::MAX / 5);
                craft::gossip(CLUSTER, sender, subject, unheard, craft::Lie::Alive(there))
            }
            5 => {
                let ghost = AgentId(self.rng.random());
                self.ids.insert(ghost);
                craft::gossip(CLUSTER, sender, ghost, claimed, craft::Lie::Alive(address(4_000_000)))
            }
            6 => craft::gossip("another", sender, subject, claimed, craft::Lie::Failed),
            _ => {
                let mut bytes = craft::gossip(CLUSTER, sender, subject, claimed, craft::Lie::Suspect);
                let place = self.rng.random_range(0..bytes.len());
                bytes[place] ^= self.rng.random_range(1..=255_u8);
                bytes.truncate(self.rng.random_range(0..=bytes.len()));
                bytes
            }
        };
        self.transmit(liar, from, to, bytes);
    }

    /// Records that are not as they should be: how many, and one of them. Those that run know each other alive, and
    /// nobody else is held alive.
    pub(crate) fn wrong(&self) -> (usize, Option<WrongRecord>) {
        let truth: BTreeMap<AgentId, _> =
            self.running().map(|(_, host, machine)| (host.id, machine.stamp().epoch)).collect();
        let (mut wrong, mut example) = (0, None);
        for (_, host, machine) in self.running() {
            let mut right = 0;
            for (id, stamp, standing) in machine.standings() {
                let lives = standing == Standing::Alive || standing == Standing::Suspect;
                let runs = truth.get(&id).is_some_and(|&epoch| epoch == stamp.epoch);
                if lives && runs && standing == Standing::Alive {
                    right += 1;
                } else if lives || runs {
                    wrong += 1;
                    example = example.or(Some((host.id, id, Some((stamp, standing)))));
                }
            }
            let missing = truth.len().saturating_sub(1 + right);
            if missing > 0 && example.is_none() {
                let lost = truth.keys().find(|&&id| id != host.id && machine.standing(id).is_none());
                example = lost.map(|&id| (host.id, id, None));
            }
            wrong += missing;
        }
        (wrong, example)
    }
}
