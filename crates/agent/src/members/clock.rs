//! The clock of the membership machine: monotonic, and it goes on while the host sleeps.
//!
//! The clock that timers run on stands still while a laptop or a paused virtual machine sleeps, so members would seem to
//! have been silent for no time at all. This one shows the whole pause at the first wake-up, and the machine then judges
//! nobody for it.

use std::time::Duration;

use metacluster_types::Instant;
use nix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Time since the agent started, the time of sleep among it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootClock {
    origin: Duration,
}

impl BootClock {
    /// Starts at zero.
    pub(crate) fn start() -> Self {
        Self { origin: reading() }
    }

    /// The time now.
    pub(crate) fn now(self) -> Instant {
        Instant::from_origin(reading().saturating_sub(self.origin))
    }

    /// How long to wait until then; with no instant, long.
    pub(crate) fn until(self, at: Option<Instant>) -> Duration {
        const FAR: Duration = Duration::from_secs(3_600);
        at.map_or(FAR, |at| at.since(self.now()))
    }
}

/// A clock that cannot be read stands still, which the machine takes for a spurious wake-up.
fn reading() -> Duration {
    let reading = clock_gettime(CLOCK).map(Duration::from).unwrap_or_default();
    #[cfg(test)]
    let reading = reading + AHEAD.get();
    reading
}

#[cfg(test)]
thread_local! {
    /// By how much the clocks of this thread are ahead of the host's.
    static AHEAD: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// Every clock of this thread jumps ahead.
#[cfg(test)]
pub(super) fn jump(by: Duration) {
    AHEAD.set(AHEAD.get() + by);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_waits_are_never_negative() {
        let clock = BootClock::start();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert_eq!(clock.until(Some(Instant::ZERO)), Duration::ZERO);
        assert!(clock.until(Some(first + Duration::from_secs(60))) > Duration::from_secs(50));
        assert!(clock.until(None) > Duration::from_secs(60));
    }
}
