//! Waits for a thing to become so, with the last state in the failure message.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::Contention;

/// How often the state is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Polls `look` until it gives `Ok`, for at most `within` and what was lost to others meanwhile. The failure names `what` and the last thing that `look` said.
pub fn eventually_value<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T> {
    let (started, contention) = (Instant::now(), Contention::start());
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(state) if started.elapsed() >= within && started.elapsed() >= within + contention.lost() => {
                bail!("not so after {:.1} s: {what}; at last: {state}", started.elapsed().as_secs_f64())
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// As [`eventually_value`]; gives how long it took.
pub fn eventually(within: Duration, what: &str, mut look: impl FnMut() -> Result<(), String>) -> Result<Duration> {
    let started = Instant::now();
    eventually_value(within, what, &mut look)?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_names_the_last_state() {
        let error = eventually(Duration::from_millis(30), "it rains", || Err("it is dry".to_owned())).expect_err("dry");
        assert!(error.to_string().contains("it rains; at last: it is dry"), "{error}");
    }

    #[test]
    fn it_ends_as_soon_as_the_thing_is_so() {
        let mut looks = 0;
        let value = eventually_value(Duration::from_secs(10), "three looks", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("{looks} looks")) }
        });
        assert_eq!(value.expect("three looks"), 3);
    }
}
