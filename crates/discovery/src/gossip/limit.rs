//! A token bucket: so much at once, so much a second.

use metacluster_types::Instant;

/// Starts full.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    burst: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(now: Instant, burst: u32) -> Self {
        Self { tokens: f64::from(burst), burst: f64::from(burst), filled: now }
    }

    /// Takes one token, if there is one, after filling up at `rate` tokens a second.
    pub(crate) fn take(&mut self, now: Instant, rate: f64) -> bool {
        self.tokens = self.burst.min(self.tokens + rate * now.since(self.filled).as_secs_f64());
        self.filled = self.filled.max(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut now = Instant::ZERO;
        let mut bucket = Bucket::new(now, 10);
        assert_eq!((0..100).filter(|_| bucket.take(now, 5.0)).count(), 10);
        now = now + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| bucket.take(now, 5.0)).count(), 5);
        now = now + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| bucket.take(now, 5.0)).count(), 10, "never more than the burst");
        assert!(!bucket.take(Instant::ZERO, 5.0), "time that runs back gives nothing");
    }
}
