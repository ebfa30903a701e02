//! The agent's monotonic clock: what a machine calls `now`.

use std::time::Duration;

use metacluster_types::Instant;

/// Time since the agent started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// Starts at zero.
    pub(crate) fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// The time now.
    pub(crate) fn now(self) -> Instant {
        Instant::from_origin(self.origin.elapsed())
    }

    /// The runtime's form of an instant; with none, one that is far away.
    pub(crate) fn when(self, at: Option<Instant>) -> tokio::time::Instant {
        const FAR: Duration = Duration::from_secs(3_600);
        self.origin + at.map_or_else(|| self.origin.elapsed() + FAR, Instant::since_origin)
    }
}
