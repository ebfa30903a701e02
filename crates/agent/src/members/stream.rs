//! Streams between members: one sealed message each way, each with its length before it.
//!
//! Whoever connects is nobody until his message is opened, so everything is bounded before that: connections in all and
//! by address, the time that one may take, the length of a message, and the memory that all messages on their way share.
//! What finds no room is closed, and the peer tries again.
//!
//! ```text
//! message = length:u32 (big-endian) bytes
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::socket::canonical;

/// So many streams of others are open at once; more wait in the kernel.
const STREAMS_MAX: usize = 64;
/// So many of them from one address; more are closed.
const STREAMS_OF_ONE_MAX: usize = 8;
/// All messages on their way take so many pieces of memory at most.
const PIECES_MAX: usize = 512;
/// A piece.
const PIECE_BYTES: usize = 64 * 1024;

/// What a stream may take.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// The longest message.
    pub(super) bytes_max: usize,
    /// From the first byte to the last, both ways.
    pub(super) within: Duration,
    memory: Arc<Semaphore>,
}

impl Bounds {
    pub(super) fn new(bytes_max: usize, within: Duration) -> Self {
        Self { bytes_max, within, memory: Arc::new(Semaphore::new(PIECES_MAX)) }
    }
}

/// A message of a peer that waits for one in return. Dropping `reply` closes the stream.
pub(super) struct Request {
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) reply: oneshot::Sender<Vec<u8>>,
    _memory: Vec<OwnedSemaphorePermit>,
}

/// Why a stream came to nothing. The machine gives the exchange up and tries another way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum StreamError {
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The message is longer than any may be.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// Too many messages are on their way.
    #[error("no memory is left for messages of members")]
    NoRoom,
    /// It took too long.
    #[error("no whole message came in time")]
    Late,
}

/// Takes streams until it is aborted, and hands their messages to `requests`.
pub(super) async fn serve(listener: TcpListener, requests: mpsc::Sender<Request>, bounds: Bounds) {
    let mut open: JoinSet<IpAddr> = JoinSet::new();
    let mut by_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
    loop {
        tokio::select! {
            Some(ended) = open.join_next() => {
                // A task that panicked does not say whose it was; then all that are left are counted anew.
                match ended {
                    Ok(ip) => {
                        if let Some(count) = by_address.get_mut(&ip) {
                            *count -= 1;
                            if *count == 0 {
                                by_address.remove(&ip);
                            }
                        }
                    }
                    Err(_) => by_address.clear(),
                }
            }
            accepted = listener.accept(), if open.len() < STREAMS_MAX => match accepted {
                Ok((stream, from)) => {
                    let from = canonical(from);
                    let count = by_address.entry(from.ip()).or_default();
                    if *count >= STREAMS_OF_ONE_MAX {
                        tracing::debug!("{from}: too many streams at once");
                        continue;
                    }
                    *count += 1;
                    let (requests, bounds) = (requests.clone(), bounds.clone());
                    open.spawn(async move {
                        match timeout(bounds.within, answer(stream, from, &requests, &bounds)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::debug!("a stream of {from}: {error}"),
                            Err(_) => tracing::debug!("a stream of {from}: {}", StreamError::Late),
                        }
                        from.ip()
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: leave it to those that exist to end.
                    tracing::debug!("accept: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    from: SocketAddr,
    requests: &mpsc::Sender<Request>,
    bounds: &Bounds,
) -> Result<(), StreamError> {
    let (bytes, memory) = read(&mut stream, bounds).await?;
    let (reply, replied) = oneshot::channel();
    if requests.send(Request { from, bytes, reply, _memory: memory }).await.is_err() {
        return Ok(());
    }
    match replied.await {
        Ok(bytes) => write(&mut stream, &bytes).await,
        Err(_) => Ok(()),
    }
}

/// Sends a message and takes the one in return.
pub(super) async fn ask(to: SocketAddr, bytes: Vec<u8>, bounds: Bounds) -> Result<Vec<u8>, StreamError> {
    let asked = async {
        let mut stream = TcpStream::connect(to).await?;
        write(&mut stream, &bytes).await?;
        read(&mut stream, &bounds).await.map(|(bytes, _)| bytes)
    };
    timeout(bounds.within, asked).await.unwrap_or(Err(StreamError::Late))
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), StreamError> {
    stream.set_nodelay(true)?;
    let length = u32::try_from(bytes.len()).map_err(|_| StreamError::TooLong(bytes.len()))?;
    let mut message = Vec::with_capacity(4 + bytes.len());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(bytes);
    Ok(stream.write_all(&message).await?)
}

/// Reads a message. Memory is taken as bytes come, not as they are announced.
async fn read(stream: &mut TcpStream, bounds: &Bounds) -> Result<(Vec<u8>, Vec<OwnedSemaphorePermit>), StreamError> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > bounds.bytes_max {
        return Err(StreamError::TooLong(length));
    }
    let (mut bytes, mut memory) = (Vec::new(), Vec::new());
    while bytes.len() < length {
        let begin = bytes.len();
        memory.push(Arc::clone(&bounds.memory).try_acquire_owned().map_err(|_| StreamError::NoRoom)?);
        bytes.resize(length.min(begin + PIECE_BYTES), 0);
        stream.read_exact(&mut bytes[begin..]).await?;
    }
    Ok((bytes, memory))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    struct Desk {
        at: SocketAddr,
        requests: mpsc::Receiver<Request>,
        _task: JoinSet<()>,
    }

    async fn desk(bounds: &Bounds) -> Desk {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (requests_in, requests) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(serve(listener, requests_in, bounds.clone()));
        Desk { at, requests, _task: task }
    }

    #[tokio::test]
    async fn a_message_is_answered_with_a_message() {
        let bounds = Bounds::new(1 << 20, SOON);
        let mut desk = desk(&bounds).await;
        let long = vec![7; 300_000];
        let asking = tokio::spawn(ask(desk.at, long.clone(), bounds));
        let request = desk.requests.recv().await.expect("a request");
        assert_eq!(request.bytes, long);
        request.reply.send(b"yes".to_vec()).expect("it waits");
        assert_eq!(asking.await.expect("no panic").expect("an answer"), b"yes");
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_closes_the_stream() {
        let bounds = Bounds::new(1 << 20, SOON);
        let mut desk = desk(&bounds).await;
        let asking = tokio::spawn(ask(desk.at, b"x".to_vec(), bounds));
        drop(desk.requests.recv().await.expect("a request"));
        assert!(matches!(asking.await.expect("no panic"), Err(StreamError::Io(_))));
    }

    #[tokio::test]
    async fn an_announced_length_takes_no_memory_and_too_long_a_one_no_time() {
        let bounds = Bounds::new(1 << 20, SOON);
        let desk = desk(&bounds).await;
        let mut liars = Vec::new();
        for _ in 0..STREAMS_OF_ONE_MAX - 1 {
            let mut liar = TcpStream::connect(desk.at).await.expect("connected");
            liar.write_all(&(1_u32 << 20).to_be_bytes()).await.expect("written");
            liars.push(liar);
        }
        let mut boaster = TcpStream::connect(desk.at).await.expect("connected");
        boaster.write_all(&u32::MAX.to_be_bytes()).await.expect("written");
        let closed = timeout(SOON / 2, boaster.read_u8()).await.expect("at once");
        assert!(closed.is_err());
        assert!(bounds.memory.available_permits() >= PIECES_MAX - STREAMS_OF_ONE_MAX);
    }

    #[tokio::test]
    async fn one_address_gets_so_many_streams_and_the_slow_are_closed() {
        let bounds = Bounds::new(1 << 20, Duration::from_millis(300));
        let desk = desk(&bounds).await;
        let mut idle = Vec::new();
        for _ in 0..STREAMS_OF_ONE_MAX {
            idle.push(TcpStream::connect(desk.at).await.expect("connected"));
        }
        let mut more = TcpStream::connect(desk.at).await.expect("connected");
        assert!(timeout(SOON, more.read_u8()).await.expect("at once").is_err());
        for slow in &mut idle {
            assert!(timeout(SOON, slow.read_u8()).await.expect("closed in time").is_err());
        }
        let refused = ask(desk.at, b"x".to_vec(), Bounds::new(10, SOON));
        drop(timeout(Duration::from_millis(50), refused).await);
    }

    #[tokio::test]
    async fn memory_that_is_used_up_closes_what_wants_more() {
        let bounds = Bounds::new(1 << 20, SOON);
        let mut desk = desk(&bounds).await;
        let all = Arc::clone(&bounds.memory);
        let held = all.acquire_many_owned(u32::try_from(PIECES_MAX).expect("few")).await.expect("open");
        let fresh = Bounds::new(1 << 20, SOON);
        assert!(ask(desk.at, b"x".to_vec(), fresh.clone()).await.is_err());
        drop(held);
        let asking = tokio::spawn(ask(desk.at, b"x".to_vec(), fresh));
        assert_eq!(desk.requests.recv().await.expect("a request").bytes, b"x");
        asking.abort();
    }
}
