//! What waits to be written to a link: several lanes, each in order, that take turns.
//!
//! All signals of one sender go into one lane, so their order holds; a large message is written in parts, and the other
//! lanes have their turn between two of them. Small messages are written right behind one another into one buffer, which
//! is what is sent: a message is copied once. A lane that is full refuses messages and stops no other; signals, which must
//! not be lost, may go past the bound up to [`SIGNALS_FACTOR`] times, and then the link ends. So does it when more of the
//! link itself waits than that, but for one answer with all groups, which takes what it takes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::codec::frame::{CHUNK_BYTES, HEAD_BYTES, Kind, head};

/// How many lanes a link has. The first is for the link itself and for groups.
pub(crate) const LANES: usize = 16;
/// How far signals may go past the bound of messages.
const SIGNALS_FACTOR: usize = 4;
/// A buffer takes no further message when it has so many bytes: that is the most that a turn holds up others.
const RUN_BYTES: usize = 64 << 10;
/// What a buffer has room for at first, at least.
const RUN_BYTES_FIRST: usize = 2 << 10;

/// A lane of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane(u8);

impl Lane {
    /// That of the link itself.
    pub(crate) const CONTROL: Self = Self(0);

    /// That of a sender.
    #[inline]
    pub(crate) fn of(id: u32, serial: u32) -> Self {
        let mixed = (u64::from(id) << 32 | u64::from(serial)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self(1 + (mixed % (LANES as u64 - 1)) as u8)
    }

    pub(crate) fn number(self) -> u8 {
        self.0
    }
}

/// Bytes that are to be written as they are, one after the other.
#[derive(Debug, Default)]
pub struct Piece {
    /// The start of a part of a large message, if it is one.
    pub head: Option<[u8; HEAD_BYTES]>,
    /// The rest.
    pub body: Bytes,
    /// The lane that it is of.
    pub(crate) lane: u8,
}

/// Why something was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The lane has no room for a message.
    Lane,
    /// The lane has no room for a signal either.
    Link,
}

#[derive(Debug)]
enum Part {
    Run(BytesMut),
    /// In pieces, none of them empty.
    Large(VecDeque<Bytes>),
}

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lanes {
    queues: [Queue; LANES],
    next: usize,
    bytes: usize,
    lane_bytes_max: usize,
    /// What waited of the link itself when the last whole answer was queued; nothing once all of it is written.
    answer_bytes: usize,
}

impl Lanes {
    pub(crate) fn new(lane_bytes_max: usize) -> Self {
        Self { queues: Default::default(), next: 0, bytes: 0, lane_bytes_max, answer_bytes: 0 }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether about so many bytes find room.
    pub(crate) fn room(&self, lane: Lane, bytes: usize, signal: bool) -> Result<(), Full> {
        let waiting = self.queues[usize::from(lane.0)].bytes;
        let max = if signal { self.signal_bytes_max() } else { self.lane_bytes_max };
        if waiting == 0 || waiting.saturating_add(bytes) <= max {
            return Ok(());
        }
        Err(if signal { Full::Link } else { Full::Lane })
    }

    fn signal_bytes_max(&self) -> usize {
        self.lane_bytes_max.saturating_mul(SIGNALS_FACTOR)
    }

    fn control_bytes(&self) -> usize {
        self.queues[usize::from(Lane::CONTROL.0)].bytes
    }

    /// Whether more of the link itself waits than may: the other end has us say much, and does not read it.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.control_bytes() > self.answer_bytes.saturating_add(self.signal_bytes_max())
    }

    /// Whether a whole answer may be queued: not on top of another one.
    pub(crate) fn may_answer(&self) -> bool {
        self.control_bytes() <= self.signal_bytes_max()
    }

    /// A whole answer was queued.
    pub(crate) fn answered(&mut self) {
        self.answer_bytes = self.control_bytes();
    }

    /// Lets `write` append a message of about so many bytes to the lane's buffer; what it wrote is taken back when it fails.
    pub(crate) fn write<E>(
        &mut self,
        lane: Lane,
        kind: Kind,
        bytes: usize,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let queue = &mut self.queues[usize::from(lane.0)];
        // A large one gets a buffer of its own, which need not grow.
        let fits = |run: &BytesMut| run.len() < RUN_BYTES && bytes <= CHUNK_BYTES;
        if !matches!(queue.parts.back(), Some(Part::Run(run)) if fits(run)) {
            let room = HEAD_BYTES + bytes.max(RUN_BYTES_FIRST);
            queue.parts.push_back(Part::Run(BytesMut::with_capacity(room)));
        }
        let Some(Part::Run(run)) = queue.parts.back_mut() else { return Ok(()) };
        let start = run.len();
        run.extend_from_slice(&[0; HEAD_BYTES]);
        if let Err(error) = write(run) {
            run.truncate(start);
            if start == 0 {
                queue.parts.pop_back();
            }
            return Err(error);
        }
        let size = run.len() - start - HEAD_BYTES;
        let added = if size <= CHUNK_BYTES {
            run[start..start + HEAD_BYTES].copy_from_slice(&head(kind, lane.0, size));
            size + HEAD_BYTES
        } else {
            let body = run.split_off(start + HEAD_BYTES).freeze();
            run.truncate(start);
            if start == 0 {
                queue.parts.pop_back();
            }
            queue.parts.push_back(Part::Large(VecDeque::from([body])));
            size
        };
        queue.bytes += added;
        self.bytes += added;
        Ok(())
    }

    /// Queues a large message that is there in pieces, none of them empty. They are not copied.
    pub(crate) fn put_large(&mut self, lane: Lane, pieces: Vec<Bytes>) {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let queue = &mut self.queues[usize::from(lane.0)];
        queue.parts.push_back(Part::Large(pieces.into()));
        queue.bytes += bytes;
        self.bytes += bytes;
    }

    /// As [`Lanes::write`], of what cannot fail.
    pub(crate) fn put(&mut self, lane: Lane, kind: Kind, write: impl FnOnce(&mut BytesMut)) {
        let written: Result<(), std::convert::Infallible> = self.write(lane, kind, 0, |out| {
            write(out);
            Ok(())
        });
        match written {
            Ok(()) => {}
        }
    }

    /// What is to be written next.
    pub(crate) fn poll(&mut self) -> Option<Piece> {
        if self.bytes == 0 {
            return None;
        }
        for step in 0..LANES {
            let place = (self.next + step) % LANES;
            let queue = &mut self.queues[place];
            let Some(part) = queue.parts.pop_front() else { continue };
            self.next = place + 1;
            let piece = match part {
                Part::Run(run) => Piece { head: None, body: run.freeze(), lane: place as u8 },
                Part::Large(mut pieces) => {
                    let mut body = pieces.pop_front().unwrap_or_default();
                    let chunk = body.split_to(CHUNK_BYTES.min(body.len()));
                    if !body.is_empty() {
                        pieces.push_front(body);
                    }
                    let kind = if pieces.is_empty() { Kind::LastPart } else { Kind::Part };
                    let head = head(kind, place as u8, chunk.len());
                    if !pieces.is_empty() {
                        queue.parts.push_front(Part::Large(pieces));
                    }
                    Piece { head: Some(head), body: chunk, lane: place as u8 }
                }
            };
            queue.bytes -= piece.body.len();
            self.bytes -= piece.body.len();
            if self.control_bytes() == 0 {
                self.answer_bytes = 0;
            }
            return Some(piece);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(lanes: &mut Lanes, lane: u8, byte: u8, size: usize) {
        let write = |out: &mut BytesMut| {
            out.resize(out.len() + size, byte);
            Ok::<(), ()>(())
        };
        lanes.write(Lane(lane), Kind::Signal, size, write).expect("written");
    }

    #[test]
    fn a_large_message_lets_those_of_other_lanes_by() {
        let mut lanes = Lanes::new(1 << 20);
        put(&mut lanes, 1, 1, 3 * CHUNK_BYTES);
        put(&mut lanes, 1, 2, 10);
        put(&mut lanes, 2, 3, 10);
        put(&mut lanes, 2, 4, 10);
        let mut order = Vec::new();
        while let Some(piece) = lanes.poll() {
            order.push((piece.head.is_some(), piece.body.last().copied()));
        }
        assert_eq!(
            order,
            [(true, Some(1)), (false, Some(4)), (true, Some(1)), (true, Some(1)), (false, Some(2))],
            "parts in turns, small ones together, its own behind"
        );
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn a_full_lane_stops_only_itself_and_takes_signals() {
        let mut lanes = Lanes::new(1_000);
        assert_eq!(lanes.room(Lane(1), 5_000, false), Ok(()), "an empty lane takes any size");
        put(&mut lanes, 1, 0, 900);
        assert_eq!(lanes.room(Lane(1), 200, false), Err(Full::Lane));
        assert_eq!(lanes.room(Lane(2), 200, false), Ok(()));
        assert_eq!(lanes.room(Lane(1), 200, true), Ok(()));
        put(&mut lanes, 1, 0, 3_000);
        assert_eq!(lanes.room(Lane(1), 200, true), Err(Full::Link));
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let mut lanes = Lanes::new(1_000);
        let failing = |out: &mut BytesMut| {
            out.extend_from_slice(&[1; 50]);
            Err(())
        };
        assert_eq!(lanes.write(Lane(1), Kind::Signal, 50, failing), Err(()));
        assert!(lanes.poll().is_none());
        put(&mut lanes, 1, 7, 1);
        assert_eq!(lanes.write(Lane(1), Kind::Signal, 50, failing), Err(()));
        assert_eq!(lanes.poll().map(|piece| piece.body.len()), Some(HEAD_BYTES + 1));
    }
}
