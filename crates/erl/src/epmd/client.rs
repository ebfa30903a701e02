//! Asking an epmd, and registering with one.
//!
//! One connection a question, each with a time limit. What an epmd answers is bounded before it is stored.

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use metacluster_erl_wire::epmd::{NamesReply, PortReply, RegisterReply, Registration, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::error::EpmdError;

/// The time for one question, from the dial to the whole answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read: some 250,000 names.
const REPLY_BYTES_MAX: usize = 8 << 20;

/// Who is registered: names without their host, and their ports.
///
/// # Errors
/// When there is no epmd, or none that answers so.
pub async fn names(address: SocketAddr) -> Result<Vec<(String, u16)>, EpmdError> {
    let answer = async {
        let (stream, input) = ask(address, &Request::Names).await?;
        let input = read_to_end(address, stream, input).await?;
        let reply = NamesReply::decode(&input).map_err(|error| malformed(address, &error))?;
        Ok(reply.nodes.into_iter().map(|node| (node.name, node.port)).collect())
    };
    within(address, TIMEOUT, answer).await
}

/// How a node is registered, or `None` if there is none of that name (the part before the `@`).
///
/// # Errors
/// When there is no epmd, or none that answers so.
pub async fn port_please(address: SocketAddr, name: &str) -> Result<Option<Registration>, EpmdError> {
    let request = Request::PortPlease(name.to_owned());
    let answer = async {
        let (mut stream, mut input) = ask(address, &request).await?;
        loop {
            match PortReply::decode(&input) {
                Ok(Some(PortReply::Found(registration))) => return Ok(Some(registration)),
                Ok(Some(PortReply::NotFound)) => return Ok(None),
                Ok(None) => read_some(address, &mut stream, &mut input).await?,
                Err(error) => return Err(malformed(address, &error)),
            }
        }
    };
    within(address, TIMEOUT, answer).await
}

/// Registers a node. It stays so until the result is dropped or the epmd ends.
///
/// # Errors
/// When the name is taken, there is no epmd, or it does not answer so. An epmd lets only its own host register: to
/// others it closes the connection.
pub async fn register(address: SocketAddr, registration: Registration) -> Result<Registered, EpmdError> {
    let name = registration.name.clone();
    let request = Request::Register(registration);
    let answer = async {
        let (mut stream, mut input) = ask(address, &request).await?;
        loop {
            match RegisterReply::decode(&input) {
                Ok(Some(RegisterReply::Registered { creation })) => return Ok(Registered { stream, creation }),
                Ok(Some(RegisterReply::Refused { .. })) => return Err(EpmdError::NameTaken { address, name }),
                Ok(None) => read_some(address, &mut stream, &mut input).await?,
                Err(error) => return Err(malformed(address, &error)),
            }
        }
    };
    within(address, TIMEOUT, answer).await
}

/// A registration. Dropping it unregisters.
#[derive(Debug)]
pub struct Registered {
    stream: TcpStream,
    creation: u32,
}

impl Registered {
    /// The creation that epmd chose for the node.
    #[must_use]
    pub fn creation(&self) -> u32 {
        self.creation
    }

    /// Waits until the registration is lost, because the epmd ended. Safe to cancel. Register again then.
    pub async fn closed(&mut self) {
        let mut byte = [0; 64];
        // An epmd has nothing more to say; whatever it says is skipped.
        while matches!(self.stream.read(&mut byte).await, Ok(1..)) {}
    }
}

async fn within<T>(
    address: SocketAddr,
    after: Duration,
    answer: impl Future<Output = Result<T, EpmdError>>,
) -> Result<T, EpmdError> {
    tokio::time::timeout(after, answer).await.unwrap_or(Err(EpmdError::Timeout { address, after }))
}

async fn ask(address: SocketAddr, request: &Request) -> Result<(TcpStream, BytesMut), EpmdError> {
    let failed = |error: io::Error| EpmdError::from_io(address, &error);
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let mut out = BytesMut::new();
    request.encode(&mut out);
    stream.write_all(&out).await.map_err(failed)?;
    Ok((stream, BytesMut::new()))
}

async fn read_some(address: SocketAddr, stream: &mut TcpStream, input: &mut BytesMut) -> Result<(), EpmdError> {
    if input.len() > REPLY_BYTES_MAX {
        let what = format!("its answer is longer than {REPLY_BYTES_MAX} bytes");
        return Err(EpmdError::Malformed { address, what });
    }
    match stream.read_buf(input).await {
        Ok(0) => Err(EpmdError::Closed(address)),
        Ok(_) => Ok(()),
        // A reset after the request was read.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(EpmdError::Closed(address)),
        Err(error) => Err(EpmdError::from_io(address, &error)),
    }
}

async fn read_to_end(address: SocketAddr, mut stream: TcpStream, mut input: BytesMut) -> Result<BytesMut, EpmdError> {
    loop {
        match read_some(address, &mut stream, &mut input).await {
            Ok(()) => {}
            Err(EpmdError::Closed(_)) if !input.is_empty() => return Ok(input),
            Err(error) => return Err(error),
        }
    }
}

fn malformed(address: SocketAddr, what: &dyn std::error::Error) -> EpmdError {
    EpmdError::Malformed { address, what: what.to_string() }
}
