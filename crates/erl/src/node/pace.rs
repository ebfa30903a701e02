//! When a connection is read: at once, or, while a stream of small messages comes, a little later and more at a time.
//!
//! A reader that keeps up is woken for a few messages at a time, and each time it empties the socket the kernel
//! acknowledges, which lets the sender's kernel send the next few by themselves. For both ends the cost of a message is
//! then that of a segment. A reader that leaves the socket alone for [`NAP`] saves most of that: beside a BEAM that sends
//! 100 bytes at a time, a third of the processor time of both, and the stream is a quarter faster for it.
//!
//! What comes within a nap waits for its end, so who naps must be a stream that nobody answers. That is tried, never
//! assumed: messages whose senders wait for answers become fewer as soon as they are held up, and then nothing is held
//! up for a time that doubles with each such try ([`REST_MIN`] to [`REST_MAX`]).
//!
//! The machine is pure: it is told the time and what came. [`Timer`] is what sleeps.

use std::time::Duration;

use tokio::time::Instant;

/// How long a stream is left alone. Less saves less; with more a BEAM that sends is held up, since the window of a new
/// socket, 64 KiB, is full by then.
pub(super) const NAP: Duration = Duration::from_micros(500);
/// How many reads within the time of a nap make a reader that is woken too often.
const READS_MIN: usize = 8;
/// How many messages in the time of a nap are a stream.
const MESSAGES_MIN: usize = 64;
/// How many bytes in the time of a nap fill the window of a new socket. One that is read a while takes more.
const BYTES_MAX: usize = 64 << 10;
/// After so many naps what came in them is judged.
const NAPS_JUDGED: u32 = 8;
/// After so many naps that were found good in a row, a try that fails later is as the first.
const NAPS_TRUSTED: u32 = 2 * NAPS_JUDGED;
/// How long everything is read at once after a try that failed, at first and at most.
const REST_MIN: Duration = Duration::from_millis(5);
const REST_MAX: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Pace {
    mode: Mode,
    /// What came since when.
    since: Instant,
    came: Amount,
    /// When something came last.
    last: Instant,
    rest: Duration,
}

#[derive(Clone, Copy)]
enum Mode {
    /// Reads at once, and tries nothing else before this time.
    AtOnce { until: Instant },
    /// Naps before each read. So many messages came in the time of a nap when it did not.
    Napping { messages: usize, naps: u32 },
}

#[derive(Clone, Copy, Default)]
struct Amount {
    reads: usize,
    messages: usize,
    bytes: usize,
}

impl Amount {
    /// As much of it as fits the time of a nap, having taken `took`.
    fn in_a_nap(self, took: Duration) -> Self {
        let part = NAP.as_secs_f64() / took.max(Duration::from_micros(1)).as_secs_f64();
        let scaled = |count: usize| (count as f64 * part) as usize;
        Self { reads: scaled(self.reads), messages: scaled(self.messages), bytes: scaled(self.bytes) }
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { mode: Mode::AtOnce { until: now }, since: now, came: Amount::default(), last: now, rest: REST_MIN }
    }

    /// A read gave this. Whether to nap before the next one, if this one emptied the socket.
    pub(super) fn came(&mut self, now: Instant, messages: usize, bytes: usize) -> bool {
        let quiet = now - std::mem::replace(&mut self.last, now);
        let Amount { reads, messages: before, bytes: bytes_before } = self.came;
        self.came = Amount { reads: reads + 1, messages: before + messages, bytes: bytes_before + bytes };
        self.mode = match self.mode {
            Mode::AtOnce { until } => self.look(now, until),
            // The stream was over before the nap was.
            Mode::Napping { .. } if quiet >= 2 * NAP => Mode::AtOnce { until: now },
            Mode::Napping { messages, naps } => self.judge(now, messages, naps + 1),
        };
        matches!(self.mode, Mode::Napping { .. })
    }

    fn look(&mut self, now: Instant, until: Instant) -> Mode {
        if now - self.since < NAP {
            return Mode::AtOnce { until };
        }
        let Amount { reads, messages, bytes } = self.take(now);
        let stream = reads >= READS_MIN && messages >= MESSAGES_MIN && bytes <= BYTES_MAX;
        if stream && now >= until { Mode::Napping { messages, naps: 0 } } else { Mode::AtOnce { until } }
    }

    /// The first nap does not count: only what was sent before the sender had to wait for it came in it.
    fn judge(&mut self, now: Instant, messages: usize, naps: u32) -> Mode {
        if naps % NAPS_JUDGED != 1 {
            return Mode::Napping { messages, naps };
        }
        let came = self.take(now);
        if naps == 1 {
            return Mode::Napping { messages, naps };
        }
        if came.bytes > 2 * BYTES_MAX {
            return Mode::AtOnce { until: now };
        }
        if came.messages * 4 < messages * 3 {
            let until = now + self.rest;
            self.rest = (self.rest * 2).min(REST_MAX);
            return Mode::AtOnce { until };
        }
        if naps > NAPS_TRUSTED {
            self.rest = REST_MIN;
        }
        Mode::Napping { messages, naps }
    }

    fn take(&mut self, now: Instant) -> Amount {
        let took = now - std::mem::replace(&mut self.since, now);
        std::mem::take(&mut self.came).in_a_nap(took)
    }
}

#[cfg(target_os = "linux")]
pub(super) use precise::Timer;

/// The timers of the runtime count in milliseconds.
#[cfg(target_os = "linux")]
mod precise {
    use std::{
        io,
        os::fd::{AsFd, AsRawFd, RawFd},
    };

    use nix::sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    };
    use tokio::io::{Interest, unix::AsyncFd};

    use super::NAP;

    /// Sleeps for [`NAP`]. It takes a descriptor once it is used.
    #[derive(Default)]
    pub(in crate::node) struct Timer {
        timer: Option<AsyncFd<Descriptor>>,
    }

    struct Descriptor(TimerFd);

    impl AsRawFd for Descriptor {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Timer {
        /// Sleeps, or not at all without a descriptor to be had.
        pub(in crate::node) async fn nap(&mut self) {
            if self.timer.is_none() {
                self.timer = made().ok();
            }
            let Some(timer) = &self.timer else { return };
            let once = Expiration::OneShot(TimeSpec::from_duration(NAP));
            if timer.get_ref().0.set(once, TimerSetTimeFlags::empty()).is_ok()
                && let Ok(mut expired) = timer.readable().await
            {
                // To set it again takes the expiration back, so it need not be read.
                expired.clear_ready();
            }
        }
    }

    #[expect(deprecated, reason = "the descriptor of a timer never changes, which is what its successor asks")]
    fn made() -> io::Result<AsyncFd<Descriptor>> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        AsyncFd::with_interest(Descriptor(timer), Interest::READABLE)
    }
}

/// Where there is no precise timer, everything is read at once.
#[cfg(not(target_os = "linux"))]
#[derive(Default)]
pub(super) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(super) async fn nap(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAKE: Duration = Duration::from_micros(20);

    /// Reads what a sender sends until `until`, and gives how many naps there were of how many reads, and the messages.
    /// `send` says how many messages are there to be read, by the time of this read and of the one before.
    struct Reader {
        pace: Pace,
        now: Instant,
    }

    impl Reader {
        fn new() -> Self {
            let now = Instant::now();
            Self { pace: Pace::new(now), now }
        }

        /// Messages of a sender that waits for nobody, so many a millisecond.
        fn stream(&mut self, messages_ms: usize, bytes_each: usize, lasts: Duration) -> Read {
            let (mut read, mut left, end) = (Read::default(), 0.0, self.now + lasts);
            let mut waited = WAKE;
            while self.now < end {
                self.now += waited;
                left += waited.as_secs_f64() * 1e3 * messages_ms as f64;
                let messages = left as usize;
                left -= messages as f64;
                waited = self.read(&mut read, messages, bytes_each);
            }
            read
        }

        /// Messages of so many callers, each of which sends the next one so long after the one before was read.
        fn calls(&mut self, callers: usize, round_trip: Duration, lasts: Duration) -> Read {
            let (mut read, end) = (Read::default(), self.now + lasts);
            let mut due: Vec<Instant> =
                (0..callers).map(|at| self.now + round_trip * at as u32 / callers as u32).collect();
            let mut waited = WAKE;
            while self.now < end {
                self.now = (self.now + waited).max(*due.iter().min().expect("a caller"));
                let now = self.now;
                let came: Vec<&mut Instant> = due.iter_mut().filter(|at| **at <= now).collect();
                let messages = came.len();
                came.into_iter().for_each(|at| *at = now + round_trip);
                waited = self.read(&mut read, messages, 100);
            }
            read
        }

        fn read(&mut self, read: &mut Read, messages: usize, bytes_each: usize) -> Duration {
            read.reads += 1;
            read.messages += messages;
            let naps = self.pace.came(self.now, messages, messages * bytes_each);
            read.naps += usize::from(naps);
            if naps { NAP } else { WAKE }
        }
    }

    #[derive(Default)]
    struct Read {
        reads: usize,
        naps: usize,
        messages: usize,
    }

    #[test]
    fn a_stream_of_small_messages_is_read_a_nap_at_a_time() {
        let read = Reader::new().stream(250, 136, Duration::from_secs(1));
        assert!(read.reads < 2_200, "{} reads", read.reads);
        assert!(read.naps > 1_900, "{} naps", read.naps);
    }

    #[test]
    fn few_messages_are_read_at_once() {
        let read = Reader::new().stream(100, 136, Duration::from_secs(1));
        assert_eq!(read.naps, 0);
    }

    #[test]
    fn what_would_fill_the_window_is_read_at_once() {
        let read = Reader::new().stream(250, 1100, Duration::from_secs(1));
        assert_eq!(read.naps, 0);
    }

    #[test]
    fn callers_are_hardly_held_up() {
        for callers in [1, 4, 16, 64] {
            let round_trip = Duration::from_micros(80);
            let read = Reader::new().calls(callers, round_trip, Duration::from_secs(10));
            let alone = 10_000_000 / 80 * callers;
            // A call is read up to a wake-up later than it could be.
            assert!(read.messages * 100 > alone * 80 * 99 / 100, "{callers}: {} of {alone}", read.messages);
            assert!(read.naps < 100, "{callers}: {} naps", read.naps);
        }
    }

    #[test]
    fn the_end_of_a_stream_ends_the_naps() {
        let mut reader = Reader::new();
        let before = reader.stream(250, 136, Duration::from_millis(100));
        assert!(before.naps > 150);
        let one_by_one = reader.calls(1, Duration::from_micros(80), Duration::from_secs(1));
        assert!(one_by_one.naps <= 10, "{} naps", one_by_one.naps);
        reader.now += Duration::from_secs(1);
        assert!(!reader.pace.came(reader.now, 1, 100));
        let again = reader.stream(250, 136, Duration::from_millis(100));
        assert!(again.naps > 150, "{} naps", again.naps);
    }

    #[test]
    fn a_stream_that_ends_in_a_nap_holds_up_nobody_after_it() {
        let mut reader = Reader::new();
        assert!(reader.stream(250, 136, Duration::from_millis(100)).naps > 150);
        reader.now += 2 * NAP;
        assert!(!reader.pace.came(reader.now, 1, 100));
    }

    #[tokio::test]
    async fn a_nap_takes_its_time_and_ends() {
        let mut timer = Timer::default();
        for _ in 0..3 {
            let before = std::time::Instant::now();
            timer.nap().await;
            if cfg!(target_os = "linux") {
                assert!(before.elapsed() >= NAP);
            }
        }
    }
}
