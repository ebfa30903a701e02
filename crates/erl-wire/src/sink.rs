//! Where bytes are written to: a buffer, or a chain of pieces that shares what is large instead of copying it.
//!
//! A [`Chain`] holds the bytes in their order. What was shared with it is not copied until the kernel takes it, so a large
//! binary of a term, or a large payload that is only passed on, crosses this crate without a copy.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// From this size on a piece is shared; a smaller one is cheaper to copy than to keep track of.
pub const SHARED_BYTES_MIN: usize = 4 << 10;

/// Takes bytes, in the order of the network.
pub trait Sink {
    /// Appends a copy.
    fn put_slice(&mut self, bytes: &[u8]);

    /// Appends bytes that may be shared.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put_slice(bytes);
    }

    /// Appends a byte.
    fn put_u8(&mut self, value: u8) {
        self.put_slice(&[value]);
    }

    /// Appends 16 bits.
    fn put_u16(&mut self, value: u16) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Appends 32 bits.
    fn put_u32(&mut self, value: u32) {
        self.put_slice(&value.to_be_bytes());
    }

    /// Appends 64 bits.
    fn put_u64(&mut self, value: u64) {
        self.put_slice(&value.to_be_bytes());
    }
}

impl Sink for BytesMut {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// See the module. As a [`Buf`] it is read from its start, and what is read is gone.
#[derive(Debug, Default)]
pub struct Chain {
    pieces: VecDeque<Bytes>,
    /// What stands behind the last piece.
    tail: BytesMut,
    /// Of the pieces.
    pieces_bytes: usize,
}

impl Chain {
    /// An empty one that takes so many copied bytes before it grows.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { tail: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces_bytes + self.tail.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many copied bytes its buffer takes as it is.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.tail.capacity()
    }

    /// All of it, if nothing was shared with it.
    ///
    /// # Errors
    /// Itself, when it has several pieces.
    pub fn into_one(self) -> Result<Bytes, Self> {
        if self.pieces.is_empty() { Ok(self.tail.freeze()) } else { Err(self) }
    }

    /// The pieces, in their order.
    #[must_use]
    pub fn into_pieces(mut self) -> VecDeque<Bytes> {
        self.end_piece();
        self.pieces
    }

    /// Appends all that a buffer holds; without a copy where nothing copied stands before it.
    pub fn append(&mut self, buffer: BytesMut) {
        self.tail.unsplit(buffer);
    }

    fn end_piece(&mut self) {
        if !self.tail.is_empty() {
            self.pieces_bytes += self.tail.len();
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

impl Sink for Chain {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put_slice(bytes);
        }
        self.end_piece();
        self.pieces_bytes += bytes.len();
        self.pieces.push_back(bytes.clone());
    }
}

impl Buf for Chain {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        slices.iter_mut().zip(chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front_mut().filter(|_| count > 0) {
            let taken = first.len().min(count);
            first.advance(taken);
            count -= taken;
            self.pieces_bytes -= taken;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small, large, small, large: two of them shared.
    fn chain_of_test() -> (Chain, Vec<u8>) {
        let (mut chain, mut all) = (Chain::default(), Vec::new());
        for (byte, length) in [(1, 10), (2, SHARED_BYTES_MIN), (3, SHARED_BYTES_MIN - 1), (4, 3 * SHARED_BYTES_MIN)] {
            let bytes = Bytes::from(vec![byte; length]);
            chain.put_shared(&bytes);
            all.extend_from_slice(&bytes);
        }
        chain.put_u32(5);
        all.extend_from_slice(&[0, 0, 0, 5]);
        (chain, all)
    }

    #[test]
    fn large_pieces_are_shared_and_all_keep_their_order() {
        let large = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let mut chain = Chain::default();
        chain.put_shared(&large);
        assert_eq!(chain.into_pieces()[0].as_ptr(), large.as_ptr());
        let (chain, all) = chain_of_test();
        assert_eq!(chain.len(), all.len());
        assert_eq!(chain.into_pieces().iter().flat_map(|piece| piece.to_vec()).collect::<Vec<_>>(), all);
    }

    #[test]
    fn it_can_be_read_in_any_steps() {
        for step in [1, 7, 4_096, 5_000, 100_000] {
            let (mut chain, all) = chain_of_test();
            let mut read = Vec::new();
            while chain.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 8];
                let count = chain.chunks_vectored(&mut slices);
                let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(offered, all[read.len()..]);
                let taken = step.min(chain.remaining());
                read.extend_from_slice(&offered[..taken]);
                chain.advance(taken);
            }
            assert_eq!(read, all);
            assert!(chain.is_empty());
        }
    }
}
