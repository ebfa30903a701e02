//! What people and programs read: plain writes to standard output, one complaint on standard error, and colour on a
//! terminal only.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Writes the text to standard output and flushes it, so that a follower sees each line at once.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::of_output(&error))
}

/// Writes a JSON value on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Outcome {
    let mut text = serde_json::to_string(value)
        .map_err(|error| Failure::NotSo(format!("cannot write the answer as JSON: {error}")))?;
    text.push('\n');
    print(&text)
}

/// Writes the reason of a failure to standard error. A standard error that is closed is nobody's loss.
pub(crate) fn complain(text: &str) {
    let head = Paint::of_stderr().red("error:");
    say(&format!("{head} {text}\n"));
}

/// Writes progress or a note to standard error.
pub(crate) fn say(text: &str) {
    match io::stderr().lock().write_all(text.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

/// Whether both the answer and the progress go to a person.
pub(crate) fn is_interactive() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// The columns of the terminal that standard output goes to; `None` when it goes elsewhere.
pub(crate) fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stdout()).map(|(terminal_size::Width(columns), _)| usize::from(columns))
}

/// Colours, or their absence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// No colour at all.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { on: false };

    /// For standard output.
    pub(crate) fn of_stdout() -> Self {
        Self { on: io::stdout().is_terminal() && wanted() }
    }

    /// For standard error.
    pub(crate) fn of_stderr() -> Self {
        Self { on: io::stderr().is_terminal() && wanted() }
    }

    /// Whether there is colour.
    pub(crate) const fn is_on(self) -> bool {
        self.on
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `NO_COLOR` with any text, or a terminal that says it is dumb, switches colour off.
fn wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text from elsewhere as it can stand on one line of a terminal: control characters are escaped.
pub(crate) fn clean(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(clean("plain ü"), "plain ü");
    }

    #[test]
    fn paint_that_is_off_leaves_the_text() {
        assert_eq!(Paint::PLAIN.green("x"), "x");
        assert_eq!(Paint { on: true }.green("x"), "\x1b[32mx\x1b[0m");
    }
}
