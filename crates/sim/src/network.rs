//! The network between hosts: delay, loss, and cuts in either direction.
//!
//! It carries no payload: a world asks whether and when something arrives, and puts the arrival into its queue. So one
//! network serves every kind of machine.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// How the network behaves apart from its cuts.
#[derive(Clone, Debug)]
pub struct NetworkRules {
    /// The least time that a packet takes between two hosts.
    pub delay_min: Duration,
    /// The most.
    pub delay_max: Duration,
    /// How many packets of a thousand are lost.
    pub loss_per_mille: u32,
}

impl Default for NetworkRules {
    fn default() -> Self {
        Self { delay_min: Duration::from_micros(200), delay_max: Duration::from_millis(5), loss_per_mille: 0 }
    }
}

/// The network.
#[derive(Debug)]
pub struct Network {
    rules: NetworkRules,
    /// How many faults cut this direction.
    cuts: BTreeMap<(HostId, HostId), u32>,
}

impl Network {
    /// A network without cuts.
    #[must_use]
    pub fn new(rules: NetworkRules) -> Self {
        Self { rules, cuts: BTreeMap::new() }
    }

    /// Ends loss; delays and cuts stay.
    pub fn end_loss(&mut self) {
        self.rules.loss_per_mille = 0;
    }

    /// Cuts one direction. Cuts add up: each wants a [`Network::heal`].
    pub fn cut(&mut self, from: HostId, to: HostId) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut of a direction back; says whether the direction carries again.
    pub fn heal(&mut self, from: HostId, to: HostId) -> bool {
        match self.cuts.get_mut(&(from, to)) {
            Some(1) | None => {
                self.cuts.remove(&(from, to));
                true
            }
            Some(count) => {
                *count -= 1;
                false
            }
        }
    }

    /// Whether packets go both ways, as a TCP connection needs.
    #[must_use]
    pub fn connects(&self, one: HostId, other: HostId) -> bool {
        !self.cuts.contains_key(&(one, other)) && !self.cuts.contains_key(&(other, one))
    }

    /// How long one packet takes; `None` if it does not arrive. On one host it always does.
    pub fn send(&self, from: HostId, to: HostId, rng: &mut ChaCha8Rng) -> Option<Duration> {
        if from == to {
            return Some(Duration::from_micros(50));
        }
        let lost = self.rules.loss_per_mille > 0 && rng.random_range(0..1000) < self.rules.loss_per_mille;
        let arrives = !lost && !self.cuts.contains_key(&(from, to));
        arrives.then(|| rng.random_range(self.rules.delay_min..=self.rules.delay_max))
    }

    /// How long an exchange with so many round trips takes; `None` if it stalls.
    pub fn exchange(&self, from: HostId, to: HostId, round_trips: u32, rng: &mut ChaCha8Rng) -> Option<Duration> {
        let (there, back) = (self.send(from, to, rng)?, self.send(to, from, rng)?);
        Some((there + back) * round_trips)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_cut_is_one_way_and_cuts_add_up() {
        let (a, b) = (HostId(1), HostId(2));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut network = Network::new(NetworkRules::default());
        network.cut(a, b);
        network.cut(a, b);
        assert_eq!(network.send(a, b, &mut rng), None);
        assert!(network.send(b, a, &mut rng).is_some() && network.exchange(b, a, 1, &mut rng).is_none());
        assert!(!network.heal(a, b) && !network.connects(b, a));
        assert!(network.heal(a, b) && network.connects(b, a));
    }

    #[test]
    fn loss_loses_about_what_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut network = Network::new(NetworkRules { loss_per_mille: 200, ..NetworkRules::default() });
        let mut lost = || (0..10_000).filter(|_| network.send(HostId(1), HostId(2), &mut rng).is_none()).count();
        assert!((1_800..2_200).contains(&lost()));
        network.end_loss();
        assert!((0..1_000).all(|_| network.send(HostId(1), HostId(2), &mut rng).is_some()));
    }
}
