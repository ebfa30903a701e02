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
        if fragment == 1 && !self.open.contains_key(&sequence) {
            return Ok(Some(bytes));
        }
        self.begin_first(sequence, fragment, bytes.len())?.extend_from_slice(&bytes);
        Ok(self.end(sequence))
    }

    /// A first fragment of so many bytes, which are to be appended to what this gives; then comes [`Assembly::end`].
    pub(super) fn begin_first(
        &mut self,
        sequence: u64,
        fragment: u64,
        bytes: usize,
    ) -> Result<&mut BytesMut, FrameError> {
        if fragment < 2 || self.open.contains_key(&sequence) {
            return Err(FrameError::FragmentOrder { sequence, fragment });
        }
        if self.open.len() >= self.sequences_max {
            return Err(FrameError::TooManySequences(self.sequences_max));
        }
        self.hold(bytes)?;
        // The number of the first fragment says how many there are; no more than a few are believed.
        let claimed = usize::try_from(fragment).unwrap_or(usize::MAX).saturating_mul(FRAGMENT_BYTES);
        let whole = BytesMut::with_capacity(bytes.max(claimed).min(RESERVED_BYTES_MAX));
        Ok(&mut self.open.entry(sequence).or_insert(Open { next: fragment - 1, bytes: whole }).bytes)
    }

    /// A further fragment; gives the message when it is the last one.
    pub(super) fn next(&mut self, sequence: u64, fragment: u64, bytes: Bytes) -> Result<Option<Bytes>, FrameError> {
        self.begin_next(sequence, fragment, bytes.len())?.extend_from_slice(&bytes);
        Ok(self.end(sequence))
    }

    /// A further fragment of so many bytes, which are to be appended to what this gives; then comes [`Assembly::end`].
    pub(super) fn begin_next(
        &mut self,
        sequence: u64,
        fragment: u64,
        bytes: usize,
    ) -> Result<&mut BytesMut, FrameError> {
        self.hold(bytes)?;
        let wrong = FrameError::FragmentOrder { sequence, fragment };
        let open = self.open.get_mut(&sequence).filter(|open| open.next == fragment).ok_or(wrong)?;
        open.next -= 1;
        Ok(&mut open.bytes)
    }

    /// Where the bytes of a fragment that has begun go.
    pub(super) fn buffer(&mut self, sequence: u64) -> Option<&mut BytesMut> {
        self.open.get_mut(&sequence).map(|open| &mut open.bytes)
    }

    /// A fragment is complete; gives the message when it was the last one.
    pub(super) fn end(&mut self, sequence: u64) -> Option<Bytes> {
        self.open.get(&sequence).filter(|open| open.next == 0)?;
        let whole = self.open.remove(&sequence)?.bytes.freeze();
        self.held_bytes -= whole.len();
        Some(whole)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), FrameError> {
        if bytes > self.held_bytes_max - self.held_bytes {
            return Err(FrameError::TooMuchHeld(self.held_bytes_max));
        }
        self.held_bytes += bytes;
        Ok(())
    }
}
