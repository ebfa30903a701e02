//! How a command fails: sorted by what the caller of the binary has to do about it, which is also the exit code.

use std::{fmt, io};

/// The exit code of a wrong usage; clap's own errors end with it too.
pub(crate) const USAGE: u8 = 2;

/// What a command gives back.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what was asked. Each text is one clear line, bar the faults of a configuration, which are
/// one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The thing asked for is not so: not formed, not reachable, not written. Exit code 1.
    NotSo(String),
    /// The command was used wrongly in a way that the parser of the command line cannot see. Exit code 2.
    Usage(String),
    /// The configuration has faults. Exit code 64.
    Configuration(String),
    /// No agent answers. Exit code 69.
    NoAgent(String),
    /// What there was to say has been said, in the words of stock epmd. Exit code 1.
    Said,
    /// The reader of our output went away, as `head` does: success.
    ClosedPipe,
}

impl Failure {
    /// The exit status, as docs/contracts.md has it.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::NotSo(_) | Self::Said => 1,
            Self::Usage(_) => USAGE,
            Self::Configuration(_) => 64,
            Self::NoAgent(_) => 69,
        }
    }

    /// The failure of a write to standard output.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::NotSo(format!("cannot write the answer: {error}"))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSo(text) | Self::Usage(text) | Self::Configuration(text) | Self::NoAgent(text) => {
                f.write_str(text)
            }
            Self::Said => f.write_str("see above"),
            Self::ClosedPipe => f.write_str("the reader went away"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_are_the_documented_ones() {
        let text = String::new;
        let codes = [
            Failure::ClosedPipe,
            Failure::NotSo(text()),
            Failure::Usage(text()),
            Failure::Configuration(text()),
            Failure::NoAgent(text()),
            Failure::Said,
        ]
        .map(|failure| failure.exit_code());
        assert_eq!(codes, [0, 1, 2, 64, 69, 1]);
    }

    #[test]
    fn a_closed_pipe_is_success() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::of_output(&error).exit_code(), 0);
        assert_eq!(Failure::of_output(&io::Error::from(io::ErrorKind::StorageFull)).exit_code(), 1);
    }
}
