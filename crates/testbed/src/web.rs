//! A small HTTP/1.1 server for fixtures: a function answers each request, and can also answer half, or never.
//!
//! Invariant: dropping the server ends its threads and connections.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::Host;

/// How often a connection that waits looks whether the server ends.
const LOOK: Duration = Duration::from_millis(50);
/// Longer heads and bodies are not read.
const BYTES_MAX: u64 = 4 << 20;

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Such as `GET`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// What it carries.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Said {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Whole,
    Half,
    Never,
}

impl Said {
    /// An answer of 200.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200, body)
    }

    /// An answer of any status.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), how: How::Whole }
    }

    /// No answer, for as long as the client waits.
    #[must_use]
    pub fn never() -> Self {
        Self { how: How::Never, ..Self::ok("") }
    }

    /// The answer up to the half of its body, then the end of the connection.
    #[must_use]
    pub fn half(self) -> Self {
        Self { how: How::Half, ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A server on a free port of the loopback interface, or of a host.
pub struct Web {
    address: SocketAddr,
    namespace: Option<File>,
    ends: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Web {
    /// Serves what the function says, to each connection on a thread of its own.
    pub fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Result<Self> {
        Self::begin((Ipv4Addr::LOCALHOST, 0).into(), None, answer)
    }

    /// The same on a host's own address, for every host of its network.
    pub fn start_on(host: &Host, answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Result<Self> {
        Self::begin((host.address(), 0).into(), Some(host.namespace()?), answer)
    }

    fn begin(
        at: SocketAddr,
        namespace: Option<File>,
        answer: impl Fn(&Asked) -> Said + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = within(namespace.as_ref(), || TcpListener::bind(at))?.context("no free port")?;
        let address = listener.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let answer: Arc<Answer> = Arc::new(answer);
        let listening = {
            let ends = Arc::clone(&ends);
            thread::spawn(move || listen(&listener, &answer, &ends))
        };
        Ok(Self { address, namespace, ends, listener: Some(listening) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(within(self.namespace.as_ref(), || TcpStream::connect(self.address)));
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

/// Does something in a network namespace, on a thread of its own: a socket stays in the one that it was made in.
fn within<T: Send>(namespace: Option<&File>, act: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(namespace) = namespace else { return Ok(act()) };
    thread::scope(|scope| {
        let thread = scope.spawn(|| setns(namespace, CloneFlags::CLONE_NEWNET).map(|()| act()));
        let done = thread.join().map_err(|_| anyhow!("the thread in the namespace panicked"))?;
        done.context("cannot enter the namespace of the host")
    })
}

type Answer = dyn Fn(&Asked) -> Said + Send + Sync;

fn listen(listener: &TcpListener, answer: &Arc<Answer>, ends: &Arc<AtomicBool>) {
    let mut talks = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let (answer, ends) = (Arc::clone(answer), Arc::clone(ends));
        talks.push(thread::spawn(move || drop(talk(&stream, &*answer, &ends))));
        talks.retain(|talk: &JoinHandle<()>| !talk.is_finished());
    }
    for talk in talks {
        talk.join().ok();
    }
}

fn talk(stream: &TcpStream, answer: &Answer, ends: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(LOOK))?;
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader, ends)? {
        let said = answer(&asked);
        if said.how == How::Never {
            let mut rest = [0; 64];
            while !ends.load(Ordering::Relaxed) && !matches!(reader.read(&mut rest), Ok(0)) {}
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} Fixture\r\ncontent-length: {}\r\n", said.status, said.body.len());
        for (name, value) in &said.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut writer = stream;
        writer.write_all(head.as_bytes())?;
        if said.how == How::Half {
            return writer.write_all(&said.body[..said.body.len() / 2]);
        }
        writer.write_all(&said.body)?;
    }
    Ok(())
}

/// The next request, or `None` when the client or the server ends.
fn read(reader: &mut BufReader<&TcpStream>, ends: &AtomicBool) -> io::Result<Option<Asked>> {
    let mut asked = Asked::default();
    let Some(line) = read_line(reader, ends)? else { return Ok(None) };
    let mut words = line.split(' ');
    asked.method = words.next().unwrap_or_default().to_owned();
    asked.path = words.next().unwrap_or_default().to_owned();
    loop {
        let Some(line) = read_line(reader, ends)? else { return Ok(None) };
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = asked.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let mut left = usize::try_from(length.min(BYTES_MAX)).unwrap_or_default();
    let mut part = [0; 4096];
    while left > 0 && !ends.load(Ordering::Relaxed) {
        let most = left.min(part.len());
        match reader.read(&mut part[..most]) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                asked.body.extend_from_slice(&part[..count]);
                left -= count;
            }
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(asked))
}

fn read_line(reader: &mut BufReader<&TcpStream>, ends: &AtomicBool) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        // What was read before a wait stays in the line.
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned())),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(web: &Web, request: &str) -> String {
        let mut stream = TcpStream::connect(web.address()).expect("connected");
        stream.write_all(request.as_bytes()).expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    #[test]
    fn it_says_what_the_function_says_and_ends_with_its_value() {
        let web = Web::start(|asked| {
            let body = String::from_utf8_lossy(&asked.body);
            Said::status(201, format!("{} {} {} {body}", asked.method, asked.path, asked.headers["x-a"])).half()
        });
        let web = web.expect("a server");
        let answer = ask(&web, "POST /a?b HTTP/1.1\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello");
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nPOST /a?"), "half of the body: {answer}");
        let address = web.address();
        drop(web);
        assert!(TcpStream::connect(address).is_err());
    }
}
