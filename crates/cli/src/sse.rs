//! Server-sent events, as <https://html.spec.whatwg.org/multipage/server-sent-events.html> has them: bytes in, frames
//! out. Pure and bounded: a line or a frame that grows past [`FRAME_BYTES_MAX`] is refused.

/// The most bytes that a frame may have before its end is seen.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;

/// One event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The last `id` that the stream named, if any.
    pub(crate) id: Option<String>,
    /// The event's type; empty stands for `message`.
    pub(crate) event: String,
    /// The data lines, joined by line feeds.
    pub(crate) data: String,
}

/// The stream is no event stream: it sent a frame without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to the same line end.
    after_return: bool,
    id: Option<String>,
    event: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes and gives the frames that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLong> {
        let mut frames = Vec::new();
        for &byte in bytes {
            let ends_line = byte == b'\n' || byte == b'\r';
            let same_end = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            if same_end {
                continue;
            }
            if ends_line {
                let line = std::mem::take(&mut self.line);
                frames.extend(self.end_line(&String::from_utf8_lossy(&line)));
            } else {
                self.line.push(byte);
            }
            if self.line.len() + self.data.len() > FRAME_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(frames)
    }

    fn end_line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            let has_data = std::mem::take(&mut self.has_data);
            return has_data.then(|| Frame { id: self.id.clone(), event, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // A comment has an empty field name; `retry` and all others do not concern us.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whatever_the_cuts() {
        let stream = b": hello\n\nid: 7\nevent: nodeup\ndata: {\"a\":1}\n\nid:8\ndata:x\ndata: y\n\n";
        let mut whole = Parser::default();
        let at_once = whole.feed(stream).expect("short");
        let mut byte_wise = Parser::default();
        let one_by_one: Vec<Frame> = stream.iter().flat_map(|byte| byte_wise.feed(&[*byte]).expect("short")).collect();
        assert_eq!(at_once, one_by_one);
        let frame = |id: &str, event: &str, data: &str| Frame {
            id: Some(id.to_owned()),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(at_once, [frame("7", "nodeup", "{\"a\":1}"), frame("8", "", "x\ny")]);
    }

    #[test]
    fn all_line_ends_count_once() {
        let mut parser = Parser::default();
        let frames = parser.feed(b"data: a\r\n\r\ndata: b\r\rdata: c\n\n").expect("short");
        let data: Vec<&str> = frames.iter().map(|frame| frame.data.as_str()).collect();
        assert_eq!(data, ["a", "b", "c"]);
    }

    #[test]
    fn a_frame_without_an_end_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(&vec![b'x'; FRAME_BYTES_MAX + 1]), Err(TooLong));
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &[b'x'; 60_000], b"\n"].concat();
        assert!((0..40).any(|_| parser.feed(&line).is_err()));
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(b"data: \xff\xfe\n\n").expect("short").len(), 1);
    }
}
