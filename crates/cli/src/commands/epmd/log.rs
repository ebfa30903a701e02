//! What an epmd says on its standard error: lines of stock epmd's form, with the time in UTC.

use std::{
    fmt,
    io::stderr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer, layer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::output::say;

/// Logs as much as so many `-d` ask for.
pub(super) fn start(debug: u32) {
    let level = match debug {
        0 => Level::WARN,
        1 => Level::DEBUG,
        2.. => Level::TRACE,
    };
    let lines = layer().event_format(Line).with_writer(stderr).with_ansi(false);
    let filter = Targets::new().with_target("epmd", LevelFilter::from_level(level));
    // There is one already only in tests, and that one is as good.
    drop(tracing_subscriber::registry().with(lines).with(filter).try_init());
}

/// Says why it does not start.
pub(super) fn complain(text: &str) {
    say(&format!("epmd: {}: {text}\r\n", time(SystemTime::now())));
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(out, "epmd: {}: ", time(SystemTime::now()))?;
        context.field_format().format_fields(out.by_ref(), event)?;
        write!(out, "\r\n")
    }
}

/// The time in the form of C's `ctime`, such as `Sun Nov 22 04:33:40 2026`.
fn time(now: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[(days % 7) as usize];
    let (mut year, mut day) = (1970, days);
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{weekday} {} {:2} {hour:02}:{minute:02}:{second:02} {year}", MONTHS[month], day + 1)
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_ctime() {
        for (seconds, text) in [
            (0, "Thu Jan  1 00:00:00 1970"),
            (951_782_399, "Mon Feb 28 23:59:59 2000"),
            (951_782_400, "Tue Feb 29 00:00:00 2000"),
            (1_735_689_599, "Tue Dec 31 23:59:59 2024"),
            (1_795_321_991, "Sun Nov 22 04:33:11 2026"),
        ] {
            assert_eq!(time(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
