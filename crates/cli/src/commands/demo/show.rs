//! How the demo tells what it does: a spinner while a step runs on a terminal, and one line a step with its time.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    failure::Outcome,
    output::{self, Paint},
};

/// The column in which the times stand.
const TIME_COLUMN: usize = 58;
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(80);

/// A step that runs.
#[derive(Debug)]
pub(super) struct Step {
    begun: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Begins a step. Without a terminal nothing is said until it is done.
    pub(super) fn begin(doing: &str) -> Self {
        let spinner = output::is_interactive().then(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                spinner.set_style(style);
            }
            spinner.set_message(doing.to_owned());
            spinner.enable_steady_tick(TURN);
            spinner
        });
        Self { begun: Instant::now(), spinner }
    }

    /// What is missing still.
    pub(super) fn update(&self, missing: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(output::clean(missing));
        }
    }

    /// The step is done.
    pub(super) fn done(self, what: &str) -> Outcome {
        let taken = self.begun.elapsed();
        self.done_in(what, taken)
    }

    /// The step is done, and this time matters.
    pub(super) fn done_in(self, what: &str, taken: Duration) -> Outcome {
        drop(self);
        let paint = Paint::of_stdout();
        let gap = " ".repeat(TIME_COLUMN.saturating_sub(what.chars().count()).max(1));
        output::print(&format!("{} {what}{gap}{}\n", paint.green("✓"), paint.bold(&milliseconds(taken))))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// `12 ms`, and from ten seconds on `12.3 s`.
pub(super) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_millis();
    if milliseconds < 10_000 { format!("{milliseconds:>5} ms") } else { format!("{:>6.1} s", time.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_line_up() {
        assert_eq!(milliseconds(Duration::from_micros(12_700)), "   12 ms");
        assert_eq!(milliseconds(Duration::from_millis(12_345)), "  12.3 s");
    }
}
