//! The check of a host: does anything there answer?
//!
//! It is asked before a peer is dropped, so a wrong "no" costs a live link, and a wrong "yes" only time. Whatever is
//! evidence of life counts, and all of it is looked for at once:
//!
//! - bytes of the peer on the connection that a local node holds to it, or on one of our own;
//! - a TCP connection to an epmd there, to the peer's distribution port as it was last known, and to the far end of the
//!   local node's connection. Being refused is an answer too: only a host that lives can refuse.
//!
//! A lost packet must not decide, and a host that comes back must be seen at once, so each address is tried [`TRIES`] times
//! until the [`window`] is over. Silence is an outcome only if some address was tried: a name that does not
//! resolve, or a descriptor that we do not have, tells nothing of the host.
//!
//! What this cannot tell: a host whose kernel runs while its processes are frozen (`SIGSTOP`, a full disk, a machine
//! that swaps) still takes connections. It counts as alive, and the BEAM's own ticks decide about its nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metacluster_erl::{Node, wire::Term};
use metacluster_types::NodeName;
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, interval, sleep_until, timeout_at},
};

use super::dial::atom;
use crate::config::MembershipProfile;

/// How many times each address is tried while a check lasts.
const TRIES: u32 = 6;
/// How many addresses of one peer are tried.
const ADDRESSES_MAX: usize = 8;
/// How many peers' addresses are remembered; another one takes the place of the first by name.
const REMEMBERED_MAX: usize = 10_000;

/// Where peers were last seen to listen, so that neither a dead epmd nor a dead name service matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<BTreeMap<NodeName, SocketAddr>>>);

impl Memory {
    /// The peer's distribution port is there.
    pub(crate) fn remember(&self, peer: &NodeName, address: SocketAddr) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX && !known.contains_key(peer) {
            known.pop_first();
        }
        known.insert(peer.clone(), address);
    }

    fn of(&self, peer: &NodeName) -> Option<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(peer).copied()
    }
}

/// When a check ends, and how often each address is tried anew till then.
#[derive(Clone, Copy, Debug)]
struct Until {
    at: Instant,
    every: Duration,
}

/// A local node that is linked to the peer, and our connection to it.
pub(crate) struct Witness {
    pub(crate) ours: Node,
    pub(crate) local: NodeName,
}

/// What one line of inquiry found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Alive,
    Silent,
    /// Nothing was learned.
    Unknown,
}

/// How long a check takes when nothing answers: many round trips between members that are as far apart as that.
pub(crate) const fn window(profile: MembershipProfile) -> Duration {
    match profile {
        MembershipProfile::Local | MembershipProfile::Lan => Duration::from_millis(300),
        MembershipProfile::Wan => Duration::from_millis(1_200),
    }
}

/// Whether anything on a peer's host answers within the window; none if that could not be found out.
pub(crate) async fn alive(
    peer: &NodeName,
    epmd_port: u16,
    memory: &Memory,
    witness: Option<Witness>,
    window: Duration,
) -> Option<bool> {
    let until = Until { at: Instant::now() + window, every: window / TRIES };
    let mut inquiries = JoinSet::new();
    let mut known: BTreeSet<SocketAddr> = memory.of(peer).into_iter().collect();
    known.extend(memory.of(peer).map(|address| SocketAddr::new(address.ip(), epmd_port)));
    if let Ok(address) = peer.host().trim_matches(['[', ']']).parse::<IpAddr>() {
        known.insert(SocketAddr::new(address, epmd_port));
    } else {
        let host = peer.host().to_owned();
        inquiries.spawn(async move { knock_by_name(&host, epmd_port, until).await });
    }
    inquiries.spawn(knock_at(known, until));
    if let Some(witness) = witness {
        let peer = peer.clone();
        inquiries.spawn(async move { listen(&witness, &peer, until).await });
    }
    let mut silent = false;
    while let Some(found) = inquiries.join_next().await {
        match found {
            Ok(Finding::Alive) => return Some(true),
            Ok(Finding::Silent) => silent = true,
            Ok(Finding::Unknown) | Err(_) => {}
        }
    }
    silent.then_some(false)
}

async fn knock_by_name(host: &str, port: u16, until: Until) -> Finding {
    match timeout_at(until.at, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => knock_at(addresses.take(ADDRESSES_MAX).collect(), until).await,
        Ok(Err(_)) | Err(_) => Finding::Unknown,
    }
}

async fn knock_at(addresses: BTreeSet<SocketAddr>, until: Until) -> Finding {
    let mut all = JoinSet::new();
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        all.spawn(knock(address, until));
    }
    let mut outcome = Finding::Unknown;
    while let Some(found) = all.join_next().await {
        match found {
            Ok(Finding::Alive) => return Finding::Alive,
            Ok(Finding::Silent) => outcome = Finding::Silent,
            Ok(Finding::Unknown) | Err(_) => {}
        }
    }
    outcome
}

/// Tries one address again and again.
async fn knock(address: SocketAddr, until: Until) -> Finding {
    let mut tries = JoinSet::new();
    let mut again = interval(until.every);
    let mut outcome = Finding::Silent;
    loop {
        tokio::select! {
            _ = again.tick() => drop(tries.spawn(TcpStream::connect(address))),
            Some(done) = tries.join_next() => match done.map(|done| done.map_or_else(|error| told_by(&error), |_| Finding::Alive)) {
                Ok(Finding::Alive) => return Finding::Alive,
                Ok(Finding::Silent) => {}
                Ok(Finding::Unknown) | Err(_) => outcome = Finding::Unknown,
            },
            () = sleep_until(until.at) => return outcome,
        }
    }
}

/// What a connection that did not come about tells of the host.
fn told_by(error: &io::Error) -> Finding {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
    };
    let kind = error.kind();
    if matches!(kind, ConnectionRefused | ConnectionReset) {
        Finding::Alive
    } else if matches!(kind, HostUnreachable | NetworkUnreachable | NetworkDown | TimedOut) {
        // Told by a router on the way, or by our own kernel that asked for the neighbour in vain.
        Finding::Silent
    } else {
        // No descriptor left, no port left, not allowed: ours.
        Finding::Unknown
    }
}

/// Asks the local node whether bytes of the peer come in on its connection, and knocks at the far end of it.
async fn listen(witness: &Witness, peer: &NodeName, until: Until) -> Finding {
    let Some(before) = connection(witness, peer, until.at).await else { return Finding::Unknown };
    let knocking = async {
        match before.far_end {
            Some(address) => knock(address, until).await,
            None => {
                sleep_until(until.at).await;
                Finding::Unknown
            }
        }
    };
    match knocking.await {
        Finding::Alive => return Finding::Alive,
        Finding::Silent | Finding::Unknown => {}
    }
    let after = connection(witness, peer, until.at + until.every).await;
    match after {
        Some(after) if after.came_in > before.came_in => Finding::Alive,
        // What was found by knocking is for others to say: this end of the connection may be a port of a proxy.
        Some(_) | None => Finding::Unknown,
    }
}

/// What a local node knows of its connection to a peer.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    /// Packets that came in so far.
    came_in: u64,
    far_end: Option<SocketAddr>,
}

async fn connection(witness: &Witness, peer: &NodeName, until: Instant) -> Option<Connection> {
    let arguments = vec![atom(peer.as_str())];
    let asked = witness.ours.rpc(&witness.local, "net_kernel", "node_info", arguments, until - Instant::now());
    read_node_info(&timeout_at(until, asked).await.ok()?.ok()?)
}

/// Reads `{ok, [{address, {net_address, {Ip, Port}, …}}, {in, N}, …]}` of `net_kernel:node_info/1`.
fn read_node_info(answer: &Term) -> Option<Connection> {
    let [ok, items] = answer.as_tuple()? else { return None };
    let items = items.as_list().filter(|_| ok.is_atom("ok"))?;
    let value = |key: &str| {
        items.iter().find_map(|item| match item.as_tuple()? {
            [name, value] if name.is_atom(key) => Some(value),
            _ => None,
        })
    };
    let far_end = value("address").and_then(Term::as_tuple).and_then(|address| read_address(address.get(1)?));
    Some(Connection { came_in: value("in")?.as_u64()?, far_end })
}

/// Reads `{{10, 0, 0, 4}, 45123}`, or the same with the eight groups of an IPv6 address.
fn read_address(term: &Term) -> Option<SocketAddr> {
    let [ip, port] = term.as_tuple()? else { return None };
    let port = u16::try_from(port.as_u64()?).ok()?;
    let parts: Vec<u16> = ip
        .as_tuple()?
        .iter()
        .map(|part| part.as_u64().and_then(|part| u16::try_from(part).ok()))
        .collect::<Option<_>>()?;
    let ip = match parts.len() {
        4 => {
            let octets: Vec<u8> = parts.iter().map(|&part| u8::try_from(part).ok()).collect::<Option<_>>()?;
            IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)
        }
        _ => IpAddr::from(<[u16; 8]>::try_from(parts).ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

/// The checks under way: of several of one peer only the last one counts, since what asked for it may be newer than what
/// an earlier one saw.
#[derive(Debug, Default)]
pub(super) struct Checks {
    last: u64,
    of: BTreeMap<NodeName, u64>,
}

impl Checks {
    /// Begins one, and gives its number.
    pub(super) fn begin(&mut self, peer: &NodeName) -> u64 {
        self.last += 1;
        self.of.insert(peer.clone(), self.last);
        self.last
    }

    /// Ends one. Whether its outcome counts.
    pub(super) fn end(&mut self, peer: &NodeName, number: u64) -> bool {
        let counts = self.of.get(peer) == Some(&number);
        if counts {
            self.of.remove(peer);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpSocket;

    use super::*;

    const WINDOW: Duration = window(MembershipProfile::Lan);
    const EVERY: Duration = Duration::from_millis(50);

    #[test]
    fn of_several_checks_of_a_peer_the_last_one_counts() {
        let (peer, other) = (NodeName::new("a@h1").expect("a name"), NodeName::new("b@h1").expect("a name"));
        let mut checks = Checks::default();
        let (first, of_other) = (checks.begin(&peer), checks.begin(&other));
        let second = checks.begin(&peer);
        assert!(!checks.end(&peer, first), "another one was begun");
        assert!(checks.end(&peer, second) && checks.end(&other, of_other));
        assert!(!checks.end(&peer, second) && checks.of.is_empty(), "nothing is kept of what has ended");
    }

    fn soon() -> Until {
        Until { at: Instant::now() + WINDOW, every: EVERY }
    }

    /// A port that takes no connection and refuses none: its queue is full. The sockets keep it so.
    async fn silent_port() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let listener = socket.listen(1).expect("it listens");
        let address = listener.local_addr().expect("bound");
        let mut fill = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(EVERY, TcpStream::connect(address)).await {
            fill.push(stream);
        }
        (address, fill, listener)
    }

    #[tokio::test]
    async fn a_port_that_takes_a_connection_or_refuses_one_is_of_a_host_that_lives() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        assert_eq!(knock(address, soon()).await, Finding::Alive);
        drop(listener);
        assert_eq!(knock(address, soon()).await, Finding::Alive, "refused");
    }

    #[tokio::test]
    async fn a_port_that_says_nothing_is_silent_and_one_answer_elsewhere_outweighs_it() {
        let (silent, _fill, _listener) = silent_port().await;
        let begin = Instant::now();
        assert_eq!(knock_at([silent].into(), soon()).await, Finding::Silent);
        assert!(begin.elapsed() >= WINDOW - EVERY, "it waited");
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let live = listener.local_addr().expect("bound");
        assert_eq!(knock_at([silent, live].into(), soon()).await, Finding::Alive);
    }

    #[tokio::test]
    async fn a_host_that_comes_back_within_the_window_is_seen() {
        let (silent, fill, listener) = silent_port().await;
        let knocking = tokio::spawn(knock(silent, soon()));
        tokio::time::sleep(EVERY * 2).await;
        drop(fill);
        // The queue drains, as of a host that takes connections again.
        let draining = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert_eq!(knocking.await.expect("no panic"), Finding::Alive);
        draining.abort();
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_known() {
        let peer = NodeName::new("shop@no-such-host.invalid").expect("valid");
        assert_eq!(alive(&peer, 4369, &Memory::default(), None, WINDOW).await, None);
        assert_eq!(knock_at(BTreeSet::new(), soon()).await, Finding::Unknown);
    }

    #[tokio::test]
    async fn what_is_remembered_is_tried_when_the_name_does_not_resolve() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (memory, peer) = (Memory::default(), NodeName::new("shop@no-such-host.invalid").expect("valid"));
        memory.remember(&peer, address);
        assert_eq!(alive(&peer, address.port(), &memory, None, WINDOW).await, Some(true));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::default();
        let peer = |count: usize| NodeName::new(&format!("n{count:05}@h")).expect("valid");
        for count in 0..=REMEMBERED_MAX {
            memory.remember(&peer(count), SocketAddr::from(([127, 0, 0, 1], 1)));
        }
        assert!(memory.of(&peer(0)).is_none() && memory.of(&peer(REMEMBERED_MAX)).is_some());
    }

    #[test]
    fn an_error_of_ours_tells_nothing_of_the_host() {
        let told = |kind| told_by(&io::Error::from(kind));
        assert_eq!(told(io::ErrorKind::ConnectionRefused), Finding::Alive);
        assert_eq!(told(io::ErrorKind::HostUnreachable), Finding::Silent);
        assert_eq!(told_by(&io::Error::from_raw_os_error(nix::libc::EMFILE)), Finding::Unknown);
        assert_eq!(told(io::ErrorKind::PermissionDenied), Finding::Unknown);
    }

    #[test]
    fn node_info_is_read_or_left_alone() {
        let address = |ip: Term| {
            let end = Term::tuple([ip, Term::Integer(45_123)]);
            Term::tuple([Term::atom("net_address"), end, Term::atom("h"), Term::atom("tcp"), Term::atom("inet")])
        };
        let info = |ip: Term| {
            let items = [("state", Term::atom("up")), ("address", address(ip)), ("in", Term::Integer(7))];
            let items = items.map(|(key, value)| Term::tuple([Term::atom(key), value]));
            Term::tuple([Term::atom("ok"), Term::list(items)])
        };
        let v4 = Term::tuple([10, 0, 0, 4].map(Term::Integer));
        let read = read_node_info(&info(v4)).expect("readable");
        assert_eq!(read, Connection { came_in: 7, far_end: Some(SocketAddr::from(([10, 0, 0, 4], 45_123))) });
        let v6 = Term::tuple([0xfd00, 0, 0, 0, 0, 0, 0, 4].map(Term::Integer));
        let end = read_node_info(&info(v6)).and_then(|read| read.far_end).expect("an address");
        assert_eq!(end.to_string(), "[fd00::4]:45123");
        let odd = Term::tuple([1, 2, 3].map(Term::Integer));
        assert_eq!(read_node_info(&info(odd)).and_then(|read| read.far_end), None);
        assert_eq!(read_node_info(&Term::tuple([Term::atom("error"), Term::atom("bad_node")])), None);
    }
}
