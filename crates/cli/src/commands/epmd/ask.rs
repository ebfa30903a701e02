//! Asks the epmd of this host, on `::1` first and then on 127.0.0.1, and prints what stock epmd prints.
//!
//! Listings are passed on as they come, so their length has no bound. A server that says nothing is given up.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use super::arguments::{Question, What};
use crate::output::say;

/// The longest silence of the server. It may have been told to play a busy one.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A longer name is not asked for.
const STOP_BYTES_MAX: usize = 1_000;

/// Asks and prints; says whether that was done.
pub(super) fn run(question: &Question) -> bool {
    let outcome = match &question.what {
        What::Names => listing(question.port, b'n', true),
        What::Started => listing(question.port, b'n', false),
        What::Dump => listing(question.port, b'd', true),
        What::Kill => kill(question.port),
        What::Stop(name) => stop(question.port, name),
    };
    match outcome {
        Ok(done) => done,
        // Nobody reads any more: as good as read.
        Err(error) => error.kind() == io::ErrorKind::BrokenPipe,
    }
}

/// Prints a listing. The error is that of the standard output.
fn listing(port: u16, opcode: u8, show: bool) -> io::Result<bool> {
    let Some(mut epmd) = connect(port, show) else { return Ok(false) };
    let mut out = io::stdout().lock();
    let mut own_port = [0; 4];
    if epmd.write_all(&[0, 1, opcode]).and_then(|()| epmd.read_exact(&mut own_port)).is_err() {
        if show {
            out.write_all(b"epmd: no response from local epmd\n")?;
        }
        return Ok(false);
    }
    let own_port = u32::from_be_bytes(own_port);
    if show {
        writeln!(out, "epmd: up and running on port {own_port} with data:")?;
    }
    let mut page = [0; 16 * 1_024];
    while let Ok(count @ 1..) = epmd.read(&mut page) {
        if show {
            out.write_all(&page[..count])?;
        }
    }
    out.flush()?;
    Ok(true)
}

fn kill(port: u16) -> io::Result<bool> {
    let Some(epmd) = connect(port, true) else { return Ok(false) };
    match command(epmd, b"k", 2) {
        Ok(answer) if answer == b"OK" => print(b"Killed\n").map(|()| true),
        Ok(answer) if answer.len() == 2 => print(b"Killing not allowed - living nodes in database.\n").map(|()| false),
        Ok(_) => cut(),
        Err(_) => unanswered(),
    }
}

fn stop(port: u16, name: &OsStr) -> io::Result<bool> {
    let name = name.as_bytes();
    if name.len() > STOP_BYTES_MAX {
        return print(b"epmd: Name too long!").map(|()| false);
    }
    let Some(epmd) = connect(port, true) else { return Ok(false) };
    // What follows the first seven letters is not for people: an unknown name is answered with `NOEXISTSTOPPED`.
    match command(epmd, &[b"s", name].concat(), 7) {
        Ok(answer) if answer.len() == 7 => {
            let text = answer.split(|byte| *byte == 0).next().unwrap_or_default();
            print(&[text, b"\n"].concat()).map(|()| true)
        }
        Ok(_) => cut(),
        Err(_) => unanswered(),
    }
}

/// The answer is too short. Stock epmd forgets what it has of it, and so prints nothing.
fn cut() -> io::Result<bool> {
    print(b"epmd: local epmd responded with <>\n").map(|()| false)
}

fn unanswered() -> io::Result<bool> {
    print(b"epmd: failed to read answer from local epmd\n").map(|()| false)
}

/// Sends a request and reads so many bytes, or fewer if the answer ends before.
fn command(mut epmd: TcpStream, body: &[u8], wanted: u64) -> io::Result<Vec<u8>> {
    let length = u16::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    epmd.write_all(&[&length.to_be_bytes(), body].concat())?;
    let mut answer = Vec::new();
    epmd.take(wanted).read_to_end(&mut answer)?;
    Ok(answer)
}

fn connect(port: u16, show: bool) -> Option<TcpStream> {
    let loopback = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let connected = loopback.into_iter().find_map(|address| {
        let stream = TcpStream::connect(SocketAddr::new(address, port)).ok()?;
        stream.set_read_timeout(Some(SILENCE_MAX)).ok()?;
        Some(stream)
    });
    if connected.is_none() && show {
        say("epmd: Cannot connect to local epmd\n");
    }
    connected
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}
