//! Time that a test did not get: what the hypervisor gave to others, and what was spent waiting for a processor.
//!
//! A bound on time is a promise for a machine that runs what is ready to run. On one that is shared, a test may take longer
//! by as much as it was kept waiting; on one that is free, that is next to nothing.

use std::{
    fs,
    time::{Duration, Instant},
};

/// How much a tick of `/proc/stat` is.
const TICK: Duration = Duration::from_millis(10);
/// Where a line of a processor in `/proc/stat` has its stolen time, behind the name.
const STEAL: usize = 8;

/// Counts from when it was made.
#[derive(Clone, Debug)]
pub struct Contention {
    at: Instant,
    stolen: Vec<u64>,
    waited: Duration,
}

impl Contention {
    /// Counts from now on.
    #[must_use]
    pub fn start() -> Self {
        Self { at: Instant::now(), stolen: stolen(&read("/proc/stat")), waited: waited(&read("/proc/pressure/cpu")) }
    }

    /// The time since then that the machine gave.
    #[must_use]
    pub fn given(&self) -> Duration {
        self.at.elapsed().saturating_sub(self.lost())
    }

    /// What was lost so far: the most that was stolen of one processor, and the time in which something waited for one.
    /// Nothing where the system does not tell.
    #[must_use]
    pub fn lost(&self) -> Duration {
        let now = Self::start();
        let stolen =
            now.stolen.iter().zip(&self.stolen).map(|(now, then)| now.saturating_sub(*then)).max().unwrap_or(0);
        TICK.saturating_mul(u32::try_from(stolen).unwrap_or(u32::MAX)) + now.waited.saturating_sub(self.waited)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The stolen ticks of each processor.
fn stolen(stat: &str) -> Vec<u64> {
    let of = |line: &str| line.split_whitespace().nth(STEAL).and_then(|ticks| ticks.parse().ok()).unwrap_or(0);
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).map(of).collect()
}

/// The time in which something waited for a processor.
fn waited(pressure: &str) -> Duration {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some ")).unwrap_or_default();
    let total = some.split_whitespace().find_map(|part| part.strip_prefix("total="));
    Duration::from_micros(total.and_then(|total| total.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_read() {
        let stat = "cpu  1 2 3 4 5 6 7 30 9 10\ncpu0 1 2 3 4 5 6 7 11 9 10\ncpu1 1 2 3 4 5 6 7 19 9 10\nintr 5\n";
        assert_eq!(stolen(stat), [11, 19]);
        let pressure = "some avg10=0.00 avg60=0.05 avg300=1.20 total=1500\nfull avg10=0.00 total=7\n";
        assert_eq!(waited(pressure), Duration::from_micros(1_500));
        assert_eq!((stolen(""), waited("")), (Vec::new(), Duration::ZERO));
    }

    #[test]
    fn who_waits_for_a_processor_loses_time() {
        // A kernel without pressure stall information tells what is stolen alone.
        if read("/proc/pressure/cpu").is_empty() {
            return;
        }
        let began = Contention::start();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let busy = || while begin.elapsed() < Duration::from_millis(300) {};
            (0..std::thread::available_parallelism().map_or(1, usize::from) * 3).for_each(|_| drop(scope.spawn(busy)));
        });
        assert!(began.lost() >= Duration::from_millis(50), "{:?}", began.lost());
        assert!(began.given() < begin.elapsed(), "{:?}", began.given());
    }
}
