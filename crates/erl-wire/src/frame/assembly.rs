//! Messages that come in fragments. Those of several senders come in turns; each sender's own come in order.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{FRAGMENT_BYTES, FrameError};

/// How much is reserved for a message at its start, at most; a longer one grows as it comes.
const RESERVED_BYTES_MAX: usize = 2 << 20;

/// The unfinished messages of a connection.
#[derive(Debug)]
pub(super) struct Assembly {
    sequences_max: usize,
    held_bytes_max: usize,
    held_bytes: usize,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// The number of the fragment that must come next.
    next: u64,
    bytes: BytesMut,
}

impl Assembly {
    pub(super) fn new(sequences_max: usize, held_bytes_max: usize) -> Self {
        Self { sequences_max, held_bytes_max, held_bytes: 0, open: BTreeMap::new() }
    }

    /// A first fragment; gives the message when it is the only one.
    pub(super) fn first(&mut self, sequence: u64, fragment: u64, bytes: Bytes) -> Result<Option<Bytes>, FrameError> {
        if fragment == 0 || self.open.contains_key(&sequence) {
            return Err(FrameError::FragmentOrder { sequence, fragment });
        }
        if fragment == 1 {
            return Ok(Some(bytes));
        }
        if self.open.len() >= self.sequences_max {
            return Err(FrameError::TooManySequences(self.sequences_max));
        }
        self.hold(bytes.len())?;
        // The number of the first fragment says how many there are; no more than a few are believed.
        let claimed = usize::try_from(fragment).unwrap_or(usize::MAX).saturating_mul(FRAGMENT_BYTES);
        let mut whole = BytesMut::with_capacity(bytes.len().max(claimed.min(RESERVED_BYTES_MAX)));
        whole.extend_from_slice(&bytes);
        self.open.insert(sequence, Open { next: fragment - 1, bytes: whole });
        Ok(None)
    }

    /// A further fragment; gives the message when it is the last one.
    pub(super) fn next(&mut self, sequence: u64, fragment: u64, bytes: Bytes) -> Result<Option<Bytes>, FrameError> {
        self.hold(bytes.len())?;
        let wrong = FrameError::FragmentOrder { sequence, fragment };
        let open = self.open.get_mut(&sequence).filter(|open| open.next == fragment).ok_or(wrong)?;
        open.bytes.extend_from_slice(&bytes);
        open.next -= 1;
        if open.next > 0 {
            return Ok(None);
        }
        let whole = self.open.remove(&sequence).map(|open| open.bytes.freeze()).unwrap_or_default();
        self.held_bytes -= whole.len();
        Ok(Some(whole))
    }

    fn hold(&mut self, bytes: usize) -> Result<(), FrameError> {
        if bytes > self.held_bytes_max - self.held_bytes {
            return Err(FrameError::TooMuchHeld(self.held_bytes_max));
        }
        self.held_bytes += bytes;
        Ok(())
    }
}
