//! The loop, on paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use metacluster_types::Host;

use super::*;
use crate::{Strategy, feed::Work, heard::Heard};

const PACE: Pace = Pace { interval: Duration::from_secs(5), timeout: Duration::from_secs(2) };

/// Waits a minute for each turn, and then finds so many hosts.
struct Later(usize);

impl Strategy for Later {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let turn = || sleep(Duration::from_secs(60));
            Poll::new(PACE).run_by_turns(&feed, turn, || ready(Ok(hosts(self.0)))).await;
        })
    }
}

/// Answers the looks by their number.
struct Scripted<S>(S);

impl<S, F> Strategy for Scripted<S>
where
    S: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Found, Failure>> + Send + 'static,
{
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            let looks = AtomicUsize::new(0);
            let look = || (self.0)(looks.fetch_add(1, Ordering::Relaxed));
            Poll::new(PACE).asks("a script").run(&feed, look).await;
        })
    }
}

fn start<S, F>(script: S) -> Heard
where
    S: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Found, Failure>> + Send + 'static,
{
    run(Scripted(script))
}

fn run(strategy: impl Strategy) -> Heard {
    Heard::start(|feed| Arc::new(strategy).run(feed))
}

fn hosts(count: usize) -> Found {
    Answer { hosts: vec![Host::default(); count], ..Answer::default() }.into()
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_first_turn_says_so_until_it_has_looked() {
    let mut heard = run(Later(3));
    let (waits, at) = heard.next().await;
    assert!(at < 1.0 && matches!(&waits, SourceUpdate::Notes(lines) if lines == &[WAITS]), "{at}: {waits:?}");
    let (nothing, at) = heard.next().await;
    assert!(at >= 60.0 && matches!(&nothing, SourceUpdate::Notes(lines) if lines.is_empty()), "{at}: {nothing:?}");
    assert_eq!(heard.answer().await.0, 3);
    // A later turn is not waited for aloud.
    assert_eq!(heard.answer().await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn the_first_look_is_at_once_and_each_answer_is_told() {
    let mut heard = start(|look| async move { Ok(hosts(look.min(1))) });
    assert_eq!(heard.answer().await, (0, 0.0));
    let mut last = 0.0;
    for _ in 0..20 {
        let (count, at) = heard.answer().await;
        assert_eq!(count, 1, "an answer that did not change is told too");
        assert!((4.49..=5.51).contains(&(at - last)), "{at} after {last}");
        last = at;
    }
}

#[tokio::test(start_paused = true)]
async fn failures_make_it_slower_up_to_a_bound_and_success_makes_it_quick_again() {
    let mut heard =
        start(
            |look| async move { if look == 10 { Ok(hosts(1)) } else { Err(Failure::new(format!("refused {look}"))) } },
        );
    let mut last = 0.0;
    for (look, wait) in [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0].into_iter().enumerate() {
        let (line, at) = heard.failure().await;
        assert_eq!(line, format!("refused {look}"));
        assert!((wait * 0.89..=wait * 1.11).contains(&(at - last)), "{look}: {at} after {last}");
        last = at;
    }
    let (_, answered) = heard.answer().await;
    let (_, at) = heard.failure().await;
    assert!((4.4..5.6).contains(&(at - answered)));
    let (_, again) = heard.failure().await;
    assert!((0.89..1.11).contains(&(again - at)), "the count begins afresh");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_or_panics_is_a_failure_and_the_next_one_comes() {
    let mut heard = start(|look| async move {
        match look {
            0 => std::future::pending().await,
            1 => panic!("a bug"),
            _ => Ok(hosts(3)),
        }
    });
    let (line, at) = heard.failure().await;
    assert!(line.starts_with("no answer from a script within 2s: ") && at == 2.0, "{line} at {at}");
    let (line, _) = heard.failure().await;
    assert!(line.contains("which is a bug: a bug"), "{line}");
    assert_eq!(heard.answer().await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_source_says_when_to_come_again() {
    let mut heard = start(|look| async move {
        match look {
            0 => Ok(Found { again: Some(Duration::from_secs(60)), ..hosts(1) }),
            1 => Err(Failure::with_wait("throttled", Duration::from_secs(90))),
            _ => Ok(hosts(1)),
        }
    });
    assert_eq!(heard.answer().await.1, 0.0);
    assert_eq!(heard.failure().await.1, 60.0, "the TTL of the answer");
    assert_eq!(heard.answer().await.1, 150.0, "the wait that was asked for");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_news_wakes_it() {
    let poll = Poll::new(Pace { interval: Duration::from_secs(3600), ..PACE });
    let wake = poll.wake();
    let looks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looks);
    let mut heard = Heard::start(|feed| async move {
        let look = || {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Failure>(hosts(1)) }
        };
        poll.run(&feed, look).await;
    });
    for expected in 1..=3 {
        assert_eq!(heard.answer().await.0, 1);
        assert_eq!(looks.load(Ordering::Relaxed), expected);
        wake.notify_one();
    }
    heard.stop().await;
}
