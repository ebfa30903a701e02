//! The strategy `dns`, against a real DNS server whose zone changes, and against hand-made answers where no server says
//! such things.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use metacluster_discovery::{build, look_up, spec::Spec, trial::Trial};
use metacluster_testbed::{Contention, Knot, Tool, require};
use metacluster_types::{Candidate, Host, SourceUpdate};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

fn knot(zone: &str) -> Option<Knot> {
    if !require(&[Tool::Knot]) {
        return None;
    }
    let knot = Knot::start().expect("a server");
    knot.set_zone(zone).expect("a zone");
    Some(knot)
}

fn spec(query: &str, server: SocketAddr, more: &str) -> String {
    format!("dns:query={query},servers={server},interval_min=100ms{more}")
}

fn nodes(found: &[Candidate]) -> Vec<&str> {
    found.iter().map(|candidate| candidate.node.as_str()).collect()
}

fn addresses(host: &Host) -> Vec<String> {
    host.addresses.iter().map(ToString::to_string).collect()
}

/// Waits for the failure of an attempt that has begun already, so that its line tells of the present.
async fn line(trial: &mut Trial, says: &str) -> String {
    for _ in 0..20 {
        let line = trial.until_failed().await;
        if line.contains(says) {
            return line;
        }
    }
    panic!("no failure says `{says}`");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_of_a_name_is_a_host_and_a_change_is_known_once_its_ttl_is_over() {
    let Some(knot) = knot("shop 1 A 10.0.0.4\nshop 1 A 10.0.0.5") else { return };
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop"));
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
    assert_eq!(trial.hosts().len(), 2);
    for last in 6..10 {
        knot.set_zone(&format!("shop 1 A 10.0.0.4\nshop 1 A 10.0.0.{last}")).expect("a zone");
        let changed = Contention::start();
        trial.until(&["shop@10.0.0.4", &format!("shop@10.0.0.{last}")]).await;
        // `cargo xtask bench discovery` holds it under two seconds.
        assert!(changed.given() < Duration::from_secs(10), "{:?}", changed.given());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_ttl_is_waited_for_but_no_longer_than_the_interval() {
    let Some(knot) = knot("shop 3600 A 10.0.0.4") else { return };
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop,interval=1s"));
    trial.until(&["shop@10.0.0.4"]).await;
    let (begun, contention) = (Instant::now(), Contention::start());
    trial.until(&["shop@10.0.0.4"]).await;
    assert!(begun.elapsed().as_millis() >= 900 && contention.given().as_millis() < 2_000, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_names_are_one_answer_and_one_that_fails_costs_the_others_nothing() {
    let Some(knot) = knot("a A 10.0.0.4\nb A 10.0.0.5\nc AAAA fd00::6") else { return };
    let mut trial = Trial::of(&spec("a.test,b.test,c.test", knot.address(), ",basename=shop"));
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5", "shop@fd00::6"]).await;
    knot.set_zone("a A 10.0.0.7\nc AAAA fd00::6").expect("a zone");
    trial.until(&["shop@10.0.0.7", "shop@10.0.0.5", "shop@fd00::6"]).await;
    assert_eq!(trial.hosts().len(), 3, "b.test is gone (NXDOMAIN), which is a failure: what it had stands");
    knot.set_zone("a A 10.0.0.7\nb TXT x\nc AAAA fd00::6").expect("a zone");
    trial.until(&["shop@10.0.0.7", "shop@fd00::6"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ways_in_which_nothing_comes_back_are_told_apart_and_cost_no_candidate() {
    let Some(knot) = knot("shop A 10.0.0.4\nempty TXT x") else { return };
    let one = |name: &'static str| {
        let spec: Spec = spec(name, knot.address(), ",timeout=10s").parse().expect("a spec");
        look_up(build(&spec.strategy, &spec.settings).expect("valid"), Duration::from_secs(60))
    };
    let failed = |outcome: Result<_, String>| outcome.map(|_| ()).expect_err("a failure");
    for (name, says) in [("nobody.test", "(NXDOMAIN"), ("shop.broken", "(SERVFAIL)"), ("shop.example", "(REFUSED)")] {
        let line = failed(one(name).await);
        assert!(line.contains(says) && line.contains(name) && !line.contains('\n'), "{line}");
        assert!(line.contains(&knot.address().to_string()), "whom was asked: {line}");
    }
    let nobody = one("empty.test").await.expect("a name without an address is an answer");
    assert_eq!((nobody.hosts.len(), nobody.candidates.len()), (0, 0));

    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop,timeout=1s"));
    trial.until(&["shop@10.0.0.4"]).await;
    knot.set_zone("").expect("a zone");
    let _gone = line(&mut trial, "NXDOMAIN").await;
    knot.pause().expect("stopped");
    let _silent = line(&mut trial, "no answer from").await;
    assert_eq!(trial.names(), ["shop@10.0.0.4"], "all that stands");
    knot.resume().expect("it goes on");
    knot.set_zone("shop A 10.0.0.9").expect("a zone");
    trial.until(&["shop@10.0.0.9"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_comes_back_costs_no_candidate() {
    let Some(mut knot) = knot("shop A 10.0.0.4") else { return };
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop,timeout=1s"));
    trial.until(&["shop@10.0.0.4"]).await;
    knot.kill9().expect("killed");
    let line = trial.until_failed_with(&knot.address().to_string()).await;
    assert!(line.contains("shop.test"), "{line}");
    assert_eq!(trial.names(), ["shop@10.0.0.4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_give_hosts_with_names_ports_and_both_kinds_of_address() {
    let zone = "_epmd._tcp SRV 10 60 4369 one\n_epmd._tcp SRV 20 40 4370 two\n_metacluster._udp SRV 0 0 4000 one\n\
                one A 10.0.0.4\none AAAA fd00::4\ntwo A 10.0.0.5";
    let Some(knot) = knot(zone) else { return };
    let mut trial = Trial::of(&spec("_epmd._tcp.test", knot.address(), ",name_template=shop@{name}"));
    trial.until(&["shop@one.test", "shop@two.test"]).await;
    let one = trial.hosts()[0].clone();
    assert_eq!((one.name.as_deref(), addresses(&one)), (Some("one.test"), vec!["10.0.0.4".into(), "fd00::4".into()]));
    let tag = |key: &str| one.tags[key].as_str();
    assert_eq!((tag("port"), tag("priority"), tag("weight")), ("4369", "10", "60"));
    assert_eq!(one.port, None, "the port of another service is not that of an agent");

    let mut trial = Trial::of(&spec("_metacluster._udp.test", knot.address(), ",basename=shop,type=srv"));
    trial.until(&["shop@10.0.0.4"]).await;
    assert_eq!(trial.hosts()[0].port, Some(4000));

    knot.set_zone("_metacluster._udp SRV 0 0 4000 gone").expect("a zone");
    let hosts =
        trial.until_hosts("a target without an address", |hosts| hosts.iter().all(|it| it.addresses.is_empty()));
    assert_eq!(hosts.await[0].name.as_deref(), Some("gone.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_aliases_is_followed_and_its_shortest_ttl_holds() {
    let zone = "shop 3600 CNAME one\none 1 CNAME two\ntwo 3600 A 10.0.0.4";
    let Some(knot) = knot(zone) else { return };
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop,interval=1h"));
    trial.until(&["shop@10.0.0.4"]).await;
    knot.set_zone("shop 3600 CNAME one\none 1 CNAME three\nthree 3600 A 10.0.0.5").expect("a zone");
    trial.until(&["shop@10.0.0.5"]).await;
    knot.set_zone("shop CNAME one\none CNAME shop").expect("a zone");
    // No answer that says nobody.
    let line = trial.until_failed_with("circle").await;
    assert!(line.contains("shop.test"), "{line}");
    assert_eq!(trial.names(), ["shop@10.0.0.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fits_no_datagram_comes_whole() {
    let mut zone = String::new();
    for at in 0..4000_u32 {
        writeln!(zone, "shop 1 A {}", Ipv4Addr::from(0x0a00_0000 + at)).expect("a text");
    }
    let Some(knot) = knot(&zone) else { return };
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop"));
    let found = trial.until_candidates("4000 nodes", |found| found.len() == 4000).await;
    assert_eq!(nodes(&found)[0], "shop@10.0.0.0");
    knot.set_zone("shop A 10.0.0.4").expect("a zone");
    trial.until(&["shop@10.0.0.4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_the_sixth_version_are_asked_for_where_they_are_wanted() {
    let Some(knot) = knot("shop A 10.0.0.4\nshop AAAA fd00::4\nfour A 10.0.0.4") else { return };
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop"));
    trial.until(&["shop@10.0.0.4"]).await;
    let mut trial = Trial::of(&spec("shop.test", knot.address(), ",basename=shop,addresses=ipv6"));
    trial.until(&["shop@fd00::4"]).await;
    let mut trial =
        Trial::of(&spec("shop.test", knot.address(), ",name_template=shop@{ip_dashes}.{tag.query},type=aaaa"));
    trial.until(&["shop@fd00--4.shop.test"]).await;
    let mut trial = Trial::of(&spec("four.test", knot.address(), ",basename=shop,addresses=ipv6"));
    trial.until(&[]).await;
}

/// The question of a query, and the header of an answer to it with these flags and counts.
fn answer(query: &[u8], flags: [u8; 2], answers: u16) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|&byte| byte == 0).expect("a name") + 1;
    let mut bytes = vec![query[0], query[1], flags[0], flags[1], 0, 1];
    bytes.extend(answers.to_be_bytes());
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(&query[12..name_end + 4]);
    bytes
}

/// One A record of the question's name, for a second.
fn record(address: [u8; 4]) -> Vec<u8> {
    [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4][..], &address].concat()
}

fn is_a(query: &[u8]) -> bool {
    let name_end = 12 + query[12..].iter().position(|&byte| byte == 0).expect("a name") + 1;
    query[name_end..name_end + 2] == [0, 1]
}

/// A server that says by UDP what `udp` makes of a query, and by TCP what `tcp` does.
async fn hand_made(
    udp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    tcp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let at = socket.local_addr().expect("an address");
    let listener = TcpListener::bind(at).await.expect("the same port for TCP");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&udp(&buffer[..length]), from).await.ok();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(length) = stream.read_u16().await else { continue };
            let mut query = vec![0; length.into()];
            if stream.read_exact(&mut query).await.is_ok() {
                stream.write_all(&tcp(&query)).await.ok();
            }
        }
    });
    at
}

async fn once(server: SocketAddr) -> Result<Vec<IpAddr>, String> {
    let spec: Spec = spec("shop.test.", server, ",timeout=1s,type=a").parse().expect("a spec");
    let found = look_up(build(&spec.strategy, &spec.settings).expect("valid"), Duration::from_secs(10)).await?;
    Ok(found.hosts.into_iter().flat_map(|host| host.addresses).collect())
}

#[tokio::test]
async fn half_an_answer_is_a_failure() {
    const TRUNCATED: [u8; 2] = [0x86, 0];
    let half = |query: &[u8]| [answer(query, TRUNCATED, 1), record([10, 0, 0, 4])].concat();
    // TCP is cut off, sends half of what it said, or is truncated too.
    let cut = hand_made(half, |_| Vec::new()).await;
    assert!(once(cut).await.is_err());
    let short = hand_made(half, |query| [&[0, 200][..], &answer(query, [0x84, 0], 1)].concat()).await;
    assert!(once(short).await.is_err());
    let whole = hand_made(half, |query| {
        let whole = [answer(query, [0x84, 0], 2), record([10, 0, 0, 4]), record([10, 0, 0, 5])].concat();
        [&u16::try_from(whole.len()).expect("short").to_be_bytes()[..], &whole].concat()
    });
    assert_eq!(once(whole.await).await.expect("both").len(), 2);
}

/// What a server makes of a query.
type Says = fn(&[u8]) -> Vec<u8>;

#[tokio::test]
async fn garbage_is_a_failure_in_one_line() {
    let garbage: [Says; 4] = [
        |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        |_| Vec::new(),
        // More records than there are bytes.
        |query| [answer(query, [0x84, 0], 60_000), record([10, 0, 0, 4])].concat(),
        // A name that points to itself.
        |query| [answer(query, [0x84, 0], 1), vec![0xc0, 30, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0, 4]].concat(),
    ];
    for udp in garbage {
        let server = hand_made(udp, |_| Vec::new()).await;
        let line = once(server).await.expect_err("garbage");
        assert!(line.contains("shop.test.") && !line.contains('\n'), "{line}");
    }
}

#[tokio::test]
async fn a_server_that_forgets_everyone_for_one_answer_is_heard_as_it_speaks() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let forgetful = move |query: &[u8]| {
        if !is_a(query) || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            return answer(query, [0x84, 0], 0);
        }
        [answer(query, [0x84, 0], 1), record([10, 0, 0, 4])].concat()
    };
    let server = hand_made(forgetful, |_| Vec::new()).await;
    let mut trial = Trial::of(&spec("shop.test.", server, ",basename=shop"));
    // The strategy tells what it hears; that such an answer is doubted is a rule for all sources.
    for expected in [1, 0, 1] {
        let found = trial.until_candidates("the next answer", |_| true).await;
        assert_eq!(found.len(), expected);
    }
    assert!(matches!(trial.next().await, SourceUpdate::Hosts(_)));
}
