//! Network coordinates from the times of probes: Vivaldi (Dabek and others, SIGCOMM 2004), three dimensions and a height.
//!
//! The distance of two coordinates estimates the round trip between two members that never probed one another. What a
//! peer claims is bounded, and a probe moves the own coordinate by a bounded step.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const DIMENSIONS: usize = 3;
/// Round trips longer than this, in seconds, are no measurement.
const SECONDS_MAX: f32 = 10.0;
const HEIGHT_MIN: f32 = 1e-5;
const ERROR_MAX: f32 = 1.5;
/// How fast the error and the position follow a measurement.
const ADAPT: f32 = 0.25;

/// A point of the network's map; distances are seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    position: [f32; DIMENSIONS],
    height: f32,
    error: f32,
}

impl Default for Coordinate {
    fn default() -> Self {
        Self { position: [0.0; DIMENSIONS], height: HEIGHT_MIN, error: ERROR_MAX }
    }
}

impl Coordinate {
    /// The estimate of the round trip between the two.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Duration {
        Duration::from_secs_f32(self.seconds(other).clamp(0.0, 2.0 * SECONDS_MAX))
    }

    /// How little the own estimate is worth: 1.5 when nothing is known, near zero when it is good.
    #[must_use]
    pub const fn error(&self) -> f32 {
        self.error
    }

    fn seconds(&self, other: &Self) -> f32 {
        self.apart(other) + self.height + other.height
    }

    fn apart(&self, other: &Self) -> f32 {
        self.position.iter().zip(other.position).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
    }

    /// Takes a measurement to `other` in.
    pub(crate) fn observe(&mut self, other: &Self, round_trip: Duration, rng: &mut ChaCha8Rng) {
        let measured = round_trip.as_secs_f32().max(1e-6);
        if measured > SECONDS_MAX {
            return;
        }
        let estimated = self.seconds(other);
        let weight = self.error / (self.error + other.error).max(1e-6);
        let wrong = (estimated - measured).abs() / measured;
        self.error = (wrong * ADAPT * weight + self.error * (1.0 - ADAPT * weight)).clamp(0.01, ERROR_MAX);
        let force = ADAPT * weight * (measured - estimated);
        let apart = self.apart(other);
        let mut direction = [0.0; DIMENSIONS];
        for (axis, (own, theirs)) in direction.iter_mut().zip(self.position.iter().zip(other.position)) {
            *axis = if apart > 1e-6 { (own - theirs) / apart } else { rng.random_range(-1.0..1.0_f32) };
        }
        for (own, axis) in self.position.iter_mut().zip(direction) {
            *own = (*own + axis * force).clamp(-SECONDS_MAX, SECONDS_MAX);
        }
        let share = (self.height + other.height) / estimated.max(1e-6);
        self.height = (self.height + share * force).clamp(HEIGHT_MIN, SECONDS_MAX);
    }

    pub(crate) const fn to_wire(self) -> [f32; 5] {
        let [x, y, z] = self.position;
        [x, y, z, self.height, self.error]
    }

    /// `None` when a part is beyond what a member can be.
    pub(crate) fn from_wire([x, y, z, height, error]: [f32; 5]) -> Option<Self> {
        let near = [x, y, z].iter().all(|axis| axis.abs() <= SECONDS_MAX);
        let sound = (0.0..=SECONDS_MAX).contains(&height) && (0.0..=ERROR_MAX).contains(&error);
        (near && sound).then_some(Self { position: [x, y, z], height, error: error.max(0.01) })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn members_on_a_line_find_their_distances() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut members = [Coordinate::default(); 10];
        let truth = |a: usize, b: usize| Duration::from_millis(10 * a.abs_diff(b) as u64);
        for _ in 0..4000 {
            let (a, b) = (rng.random_range(0..10), rng.random_range(0..10));
            if a != b {
                let other = members[b];
                members[a].observe(&other, truth(a, b), &mut rng);
            }
        }
        let mut wrong = 0.0;
        for (a, b) in (0..10).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let (estimate, truth) = (members[a].distance(&members[b]).as_secs_f64(), truth(a, b).as_secs_f64());
            wrong += (estimate - truth).abs() / truth / 45.0;
        }
        assert!(wrong < 0.15, "{wrong}");
    }

    #[test]
    fn a_lie_moves_a_member_by_a_bounded_step() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut own = Coordinate::default();
        let liar = Coordinate::from_wire([10.0, 10.0, 10.0, 10.0, 0.0]).expect("within bounds");
        for _ in 0..1000 {
            own.observe(&liar, Duration::from_millis(1), &mut rng);
            assert!(own.to_wire().iter().all(|part| part.is_finite() && part.abs() <= SECONDS_MAX));
        }
        assert_eq!(Coordinate::from_wire([11.0, 0.0, 0.0, 0.0, 0.0]), None);
        assert_eq!(Coordinate::from_wire([0.0, 0.0, 0.0, -1.0, 0.0]), None);
    }
}
