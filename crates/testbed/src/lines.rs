//! Lines of a stream as they arrive, each with its time: of a process, or of a server-sent event stream.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use anyhow::Result;

use crate::{eventually, eventually_value};

/// A line and when it arrived.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it arrived.
    pub at: SystemTime,
    /// The line without its end.
    pub text: String,
}

/// The lines that a stream gave so far.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    lines: Arc<Mutex<Vec<Line>>>,
    ended: Arc<AtomicBool>,
}

impl Lines {
    /// Reads `stream` to its end on a thread of its own.
    #[must_use]
    pub fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let into = lines.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                into.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
                bytes.clear();
            }
            into.ended.store(true, Ordering::Release);
        });
        lines
    }

    /// Waits until the stream has ended and all of it is here. A process that has exited may have lines on their way.
    pub fn wait_end(&self, within: Duration) -> Result<()> {
        eventually(within, "the end of the output", || {
            if self.ended.load(Ordering::Acquire) { Ok(()) } else { Err(format!("{} lines so far", self.all().len())) }
        })
        .map(drop)
    }

    pub(crate) fn push(&self, text: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(Line { at: SystemTime::now(), text });
    }

    /// All lines so far.
    #[must_use]
    pub fn all(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All lines so far as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.all().into_iter().map(|line| line.text + "\n").collect()
    }

    /// Waits for a line that fits, be it old or new. The failure shows the last lines.
    pub fn wait_for(&self, within: Duration, what: &str, fits: impl Fn(&str) -> bool) -> Result<Line> {
        self.wait_for_line(within, what, |line| fits(&line.text))
    }

    /// Waits for a line that fits and that arrived after `since`.
    pub fn wait_for_later(
        &self,
        since: SystemTime,
        within: Duration,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Line> {
        self.wait_for_line(within, what, |line| line.at > since && fits(&line.text))
    }

    fn wait_for_line(&self, within: Duration, what: &str, fits: impl Fn(&Line) -> bool) -> Result<Line> {
        eventually_value(within, what, || {
            let lines = self.all();
            lines.iter().find(|line| fits(line)).cloned().ok_or_else(|| {
                let last = lines.iter().rev().take(12).rev().map(|line| line.text.as_str()).collect::<Vec<_>>();
                format!("{} lines, the last: {last:#?}", lines.len())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_be_it_old_or_new() {
        let lines = Lines::read(&b"one\ntwo\nthree"[..]);
        for text in ["three", "one"] {
            let line = lines.wait_for(Duration::from_secs(10), text, |line| line == text).expect("it is there");
            assert_eq!(line.text, text);
        }
        lines.wait_end(Duration::from_secs(10)).expect("it has ended");
        assert_eq!(lines.text(), "one\ntwo\nthree\n");
    }
}
