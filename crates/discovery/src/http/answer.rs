//! An answer: whole, or one that goes on.

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
};

use super::{HttpError, Lines};

/// How much of a body an error shows.
const EXCERPT_CHARS_MAX: usize = 200;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    at: String,
}

impl Answer {
    pub(super) async fn read(response: Response<Incoming>, at: String, bytes_max: usize) -> Result<Self, HttpError> {
        let (head, mut body) = response.into_parts();
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(HttpError::TooLong { at, bytes_max });
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| HttpError::broken(&at, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > bytes_max {
                return Err(HttpError::TooLong { at, bytes_max });
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Self { status: head.status, headers: head.headers, body: bytes.into(), at })
    }

    /// A header's value, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The answer itself, if its status is 2xx.
    ///
    /// # Errors
    /// [`HttpError::Status`] with the beginning of the body.
    pub fn success(self) -> Result<Self, HttpError> {
        if self.status.is_success() { Ok(self) } else { Err(self.failure()) }
    }

    pub(super) fn failure(&self) -> HttpError {
        HttpError::Status { at: self.at.clone(), status: self.status.as_u16(), excerpt: excerpt(&self.body) }
    }
}

/// The beginning of a body on one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS_MAX)]);
    let line: Vec<&str> = text.split(|letter: char| letter.is_whitespace() || letter.is_control()).collect();
    let line = line.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// An answer that goes on. Dropping it closes the connection.
#[derive(Debug)]
pub struct Streamed {
    /// Its headers.
    pub headers: HeaderMap,
    at: String,
    bytes_max: usize,
    body: Incoming,
    lines: Lines,
    ended: bool,
}

impl Streamed {
    pub(super) fn new(response: Response<Incoming>, at: String, bytes_max: usize) -> Self {
        let (head, body) = response.into_parts();
        Self { headers: head.headers, at, bytes_max, body, lines: Lines::new(bytes_max), ended: false }
    }

    /// The next line without its end, or `None` at the end of the answer; what stands after the last line end is a line
    /// too. It waits as long as the server does: whoever calls bounds that. When it is cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`HttpError::TooLong`] for a line that is longer than the request allows, [`HttpError::Broken`] when the
    /// connection goes.
    pub async fn line(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            if let Some(line) = self.lines.pop() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(self.lines.rest());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        let too_long = |_| HttpError::TooLong { at: self.at.clone(), bytes_max: self.bytes_max };
                        self.lines.push(&data).map_err(too_long)?;
                    }
                }
                Some(Err(error)) => return Err(HttpError::broken(&self.at, &error)),
                None => self.ended = true,
            }
        }
    }
}
