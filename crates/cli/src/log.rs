//! Log lines of an agent: short, on standard error, at the level of its configuration.

use std::io::{self, IsTerminal};

use metacluster_agent::config::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt::time::FormatTime, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    failure::{Failure, Outcome},
    output::Paint,
};

/// Sends the log to standard error from now on. What other people's crates say counts from a warning upwards.
///
/// Under systemd, whose journal stamps each line itself, lines carry no time.
pub(crate) fn start(level: LogLevel) -> Outcome {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let ours = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("metacluster", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(Paint::of_stderr().is_on())
        .with_target(false);
    let in_journal = std::env::var_os("JOURNAL_STREAM").is_some() && !io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(ours);
    let started = if in_journal {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines.with_timer(Clock)).try_init()
    };
    started.map_err(|error| Failure::NotSo(format!("cannot start the log: {error}")))
}

/// The time of day in UTC, as in the events.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let now = metacluster_types::WallClock::new(std::time::SystemTime::now());
        write!(writer, "{now}")
    }
}
