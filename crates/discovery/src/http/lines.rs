//! Cuts bytes into lines, each of a bounded length.

use std::collections::VecDeque;

use hyper::body::Bytes;

/// The lines of an answer that goes on, as its pieces come.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes_max: usize,
    whole: VecDeque<Bytes>,
    part: Vec<u8>,
}

/// A line is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTooLong;

impl Lines {
    /// Lines of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, whole: VecDeque::new(), part: Vec::new() }
    }

    /// The next whole line without its end.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.whole.pop_front()
    }

    /// What stands after the last line end, once no more comes.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        (!self.part.is_empty()).then(|| std::mem::take(&mut self.part).into())
    }

    /// Takes the next piece. A piece has a bounded size of its own, so the lines in it need no bound but their length.
    pub(crate) fn push(&mut self, mut data: &[u8]) -> Result<(), LineTooLong> {
        loop {
            let end = data.iter().position(|&byte| byte == b'\n');
            let piece = &data[..end.unwrap_or(data.len())];
            if self.part.len() + piece.len() > self.bytes_max {
                return Err(LineTooLong);
            }
            self.part.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            let mut line = std::mem::take(&mut self.part);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            self.whole.push_back(line.into());
            data = &data[end + 1..];
        }
    }
}
