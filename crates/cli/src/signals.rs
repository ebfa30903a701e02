//! The signals that ask a program to end: Ctrl-C, `kill`, and the terminal's going away. To an agent with a file, the
//! last one (SIGHUP) says that the file is to be read again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// Catches the signals from its making on.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Begins to catch. Must be called within a tokio runtime.
    pub(crate) fn catch() -> Outcome<Self> {
        let catch = |kind| signal(kind).map_err(|error| Failure::NotSo(format!("cannot catch signals: {error}")));
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal, and says whether it asks for the file to be read again rather than for the end. Safe to
    /// drop: a signal that came meanwhile is kept.
    pub(crate) async fn next_or_reload(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => false,
            _ = self.hang_up.recv() => true,
        }
    }

    /// Waits for the next signal. Safe to drop: a signal that came meanwhile is kept.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
