//! The loop, on paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use metacluster_types::Host;
use tokio::time::{Duration, sleep};

use super::*;
use crate::heard::Heard;

fn start<S, F>(script: S) -> Heard
where
    S: Fn(usize, Stream) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    Heard::start(|feed| async move {
        let begins = AtomicUsize::new(0);
        watch(&feed, |stream| script(begins.fetch_add(1, Ordering::Relaxed), stream)).await;
    })
}

fn hosts(count: usize) -> Answer {
    Answer { hosts: vec![Host::default(); count], ..Answer::default() }
}

#[tokio::test(start_paused = true)]
async fn what_stands_is_repeated_while_the_stream_is_open() {
    let mut heard = start(|_, stream| async move {
        stream.tell(hosts(2));
        sleep(Duration::from_secs(12)).await;
        stream.tell(hosts(1));
        std::future::pending().await
    });
    assert_eq!(heard.answer().await, (2, 0.0));
    assert_eq!(heard.answer().await, (2, 5.0));
    assert_eq!(heard.answer().await, (2, 10.0));
    assert_eq!(heard.answer().await, (1, 12.0));
    assert_eq!(heard.answer().await, (1, 17.0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_within_the_stream_ends_the_repeating_until_an_answer_comes() {
    let mut heard = start(|_, stream| async move {
        stream.tell(hosts(2));
        sleep(Duration::from_secs(1)).await;
        stream.fail("no more");
        sleep(Duration::from_secs(100)).await;
        stream.tell(hosts(2));
        std::future::pending().await
    });
    assert_eq!(heard.answer().await, (2, 0.0));
    assert_eq!(heard.failure().await, ("no more".to_owned(), 1.0));
    assert_eq!(heard.answer().await, (2, 101.0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_begun_again_later_and_later() {
    let mut heard = start(|begin, stream| async move {
        match begin {
            0 => panic!("a bug"),
            6 => {
                stream.tell(hosts(1));
                Err(Failure::new("reset by peer"))
            }
            _ => Err(Failure::new("refused")),
        }
    });
    let (line, _) = heard.failure().await;
    assert!(line.contains("which is a bug: a bug"), "{line}");
    let mut last = 0.0;
    for wait in [1.0, 2.0, 4.0, 8.0, 16.0] {
        let (_, at) = heard.failure().await;
        assert!((wait * 0.89..=wait * 1.11).contains(&(at - last)), "{at} after {last}");
        last = at;
    }
    assert_eq!(heard.answer().await.0, 1, "what was told before the end is heard");
    let (line, broken) = heard.failure().await;
    assert_eq!(line, "reset by peer");
    let (_, again) = heard.failure().await;
    assert!((0.89..1.11).contains(&(again - broken)), "an answer begins the count afresh");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_in_good_order_is_no_failure() {
    let mut heard = start(|begin, stream| async move {
        stream.tell(hosts(begin));
        sleep(Duration::from_secs(3)).await;
        Ok(())
    });
    assert_eq!(heard.answer().await, (0, 0.0));
    assert_eq!(heard.answer().await, (1, 3.0));
    assert_eq!(heard.answer().await, (2, 6.0));
}
