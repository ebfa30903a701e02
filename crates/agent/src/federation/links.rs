//! Links: listened for, dialled again and again, read and written.
//!
//! A gateway that is dialled and dials, too, ends up with one link: the machine says which. Who lost waits until that one
//! is down before it dials again. Names are looked up at each try, so a gateway whose address changed is found.

use std::{
    future::poll_fn,
    io::{Error, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use metacluster_erl::wire::sink::{Chain, Sink as _};
use metacluster_federation::{LinkId, Squeezer};
use metacluster_types::{AgentId, ClusterName};
use tokio::{
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, lookup_host},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    hub::{End, Hub, Outlet},
    tls::{Identity, Secured},
};

/// How long a dial with its TLS may take, either way.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes of others that may be under way at once; past that a connection is closed as it comes.
const HANDSHAKES_MAX: usize = 64;
/// The wait before a dial is tried again, and the most that it grows to.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// A link that lived so long starts anew with the short wait.
const LIVED: Duration = Duration::from_secs(10);
/// The time that a farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// A buffer larger than this is given back once it is written.
const BATCH_KEPT_BYTES: usize = 64 << 10;

/// Takes links until it is aborted.
pub(super) async fn listen(hub: Arc<Hub>, identity: Arc<Identity>, listener: Arc<TcpListener>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut links = tokio::task::JoinSet::new();
    loop {
        while links.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                    debug!("federation: {peer} is turned away: too many handshakes");
                    continue;
                };
                let (hub, identity) = (Arc::clone(&hub), Arc::clone(&identity));
                links.spawn(async move {
                    let handshake = timeout(HANDSHAKE, identity.accept(stream)).await;
                    drop(permit);
                    match handshake {
                        Ok(Ok((stream, cluster))) => drop(run(&hub, stream, cluster, false).await),
                        Ok(Err(error)) => warn!("federation: {peer} is turned away: {error}"),
                        Err(_) => debug!("federation: {peer} did not shake hands in time"),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: leave it to those that exist to end.
                debug!("federation: accept: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Keeps a link to the gateway at this address until it is not `wanted` any more; a link that is up then stays until it
/// ends.
pub(super) async fn dial(
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    address: String,
    jitter: f64,
    mut wanted: watch::Receiver<bool>,
) {
    let mut wait = AGAIN;
    let mut failing = false;
    while *wanted.borrow_and_update() {
        let began = tokio::time::Instant::now();
        let gateway = match timeout(HANDSHAKE, connect(&identity, &address)).await {
            Ok(Ok((stream, cluster))) => {
                failing = false;
                run(&hub, stream, cluster, true).await
            }
            failed => {
                let error = failed.map_or_else(
                    |_| "no answer in time".to_owned(),
                    |result| match result {
                        Err(error) => error,
                        Ok(_) => String::new(),
                    },
                );
                // One line when it starts to fail.
                if !std::mem::replace(&mut failing, true) {
                    warn!("federation: {address}: {error}; trying on");
                }
                None
            }
        };
        if let Some(gateway) = gateway {
            // Another link to it may have taken the place of this one.
            let mut changes = hub.changes();
            while hub.is_linked(&gateway) && *wanted.borrow() && changes.changed().await.is_ok() {}
        }
        wait = if began.elapsed() > LIVED { AGAIN } else { (wait * 2).min(AGAIN_MAX) };
        tokio::select! {
            () = sleep(wait.mul_f64(jitter)) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

async fn connect(identity: &Identity, address: &str) -> Result<(Secured, ClusterName), String> {
    let mut failed = "it has no address".to_owned();
    for address in lookup_host(address).await.map_err(|error| error.to_string())? {
        match TcpStream::connect(address).await {
            Ok(stream) => return identity.connect(stream, address.ip()).await.map_err(|error| error.to_string()),
            Err(error) => failed = error.to_string(),
        }
    }
    Err(failed)
}

/// Runs a link to its end; the gateway at its other end, if it said who it is and we ended it.
async fn run(hub: &Arc<Hub>, stream: Secured, cluster: ClusterName, dialled: bool) -> Option<(ClusterName, AgentId)> {
    // Signals are small and somebody waits for each.
    drop(stream.get_ref().0.get_ref().set_nodelay(true));
    let (link, outlet) = hub.open(cluster, dialled);
    let closing = Closing { hub, link };
    let ways = Ways(Mutex::new(stream));
    let end = tokio::select! {
        () = read(hub, link, &ways) => outlet.end(),
        end = write(hub, link, &outlet, &ways) => end,
        // The writer may wait for an end that does not read.
        end = outlet.given_up(FAREWELL) => Some(end),
    };
    if end.as_ref().is_none_or(|end| end.farewell.is_empty()) {
        // Reset: what waits in the system must not arrive when another link is in use.
        drop(ways.lock().get_ref().0.get_ref().set_zero_linger());
    }
    drop(closing);
    let end = end?;
    debug!("federation: a link ended: {}", end.reason);
    end.gateway
}

/// Tells the machine of the end, also when the task is aborted.
struct Closing<'h> {
    hub: &'h Hub,
    link: LinkId,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.hub.closed(self.link);
    }
}

/// A stream of which one task reads and writes: whoever has the lock does not wait.
struct Ways(Mutex<Secured>);

impl Ways {
    fn lock(&self) -> MutexGuard<'_, Secured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncWrite for &Ways {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut *self.lock()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}

async fn read(hub: &Hub, link: LinkId, ways: &Ways) {
    loop {
        // The machine is shown what came where TLS has it, and copies what it keeps.
        let read = poll_fn(|cx| {
            let mut stream = ways.lock();
            let came = ready!(Pin::new(&mut *stream).poll_fill_buf(cx))?;
            let bytes = came.len();
            if bytes > 0 {
                hub.received(link, came);
                Pin::new(&mut *stream).consume(bytes);
            }
            Poll::Ready(Ok::<_, Error>(bytes))
        });
        match read.await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return debug!("federation: a link ended: {error}"),
        }
    }
}

async fn write(hub: &Hub, link: LinkId, outlet: &Outlet, mut writer: &Ways) -> Option<End> {
    let (mut batch, mut pieces, mut squeezer) = (Chain::default(), Vec::new(), Squeezer::default());
    loop {
        // Others go on with the machine while this is compressed.
        let squeezes = hub.take(link, &mut pieces, squeezer.done());
        for piece in pieces.drain(..) {
            if let Some(frame) = squeezes.then(|| squeezer.squeeze(&piece)).flatten() {
                batch.put_shared(&frame);
                continue;
            }
            if let Some(head) = &piece.head {
                batch.put_slice(head);
            }
            batch.put_shared(&piece.body);
        }
        if batch.is_empty() {
            if let Some(end) = outlet.end() {
                let farewell = async {
                    writer.write_all(&end.farewell).await?;
                    writer.shutdown().await
                };
                drop(timeout(FAREWELL, farewell).await);
                return Some(end);
            }
            outlet.ready().await;
            continue;
        }
        // What is there at once is written at once, in as few records as it takes.
        if writer.write_all_buf(&mut batch).await.is_err() || writer.flush().await.is_err() {
            return outlet.end();
        }
        if batch.capacity() > BATCH_KEPT_BYTES {
            batch = Chain::default();
        }
    }
}
