//! The client against servers that misbehave in each way that it names. The well-behaved ones are in the tests of the
//! strategies.

use std::{net::SocketAddr, sync::Arc};

use metacluster_testbed::eventually;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::{self, TlsFilesError};

/// A server that says the same to each request and counts its connections. It ends with the value.
struct Server {
    at: SocketAddr,
    connections: Arc<std::sync::atomic::AtomicUsize>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Hang,
    Again,
}

impl Server {
    async fn saying(says: impl Into<Vec<u8>>, then: Then) -> Self {
        Self::with_tls(says, then, None).await
    }

    async fn with_tls(says: impl Into<Vec<u8>>, then: Then, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let says: Arc<[u8]> = says.into().into();
        let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut talks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let (says, tls) = (Arc::clone(&says), tls.clone());
                talks.spawn(async move {
                    match tls {
                        None => drop(talk(stream, &says, then).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(talk(stream, &says, then).await);
                            }
                        }
                    }
                });
            }
        });
        Self { at, connections, _tasks: tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: &[u8], then: Then) -> std::io::Result<()> {
    let mut request = [0; 4096];
    while stream.read(&mut request).await? > 0 {
        stream.write_all(says).await?;
        stream.flush().await?;
        match then {
            Then::Close => return stream.shutdown().await,
            Then::Hang => std::future::pending().await,
            Then::Again => {}
        }
    }
    Ok(())
}

fn client() -> Client {
    Client::new(TlsFiles::default())
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Index: 7\r\n\r\nhello";

#[tokio::test]
async fn an_answer_comes_whole_and_the_connection_is_used_again() {
    let server = Server::saying(HELLO, Then::Again).await;
    let client = client();
    for _ in 0..3 {
        let answer = client.send(Request::get(&server.url("/a?b=c")).header("x-token", "s3")).await.expect("an answer");
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-index"), &answer.body[..]),
            (200, Some("7"), &b"hello"[..])
        );
        assert!(answer.success().is_ok());
    }
    assert_eq!(server.connections.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let at = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("bound")
    };
    let error = client().send(Request::get(&format!("http://{at}/"))).await.expect_err("nobody");
    assert_eq!(error, HttpError::Refused { at: at.to_string() });
}

#[tokio::test]
async fn a_name_without_an_address_is_said_so() {
    let error = client().send(Request::get("http://no-such-host.invalid/")).await.expect_err("no host");
    assert!(matches!(&error, HttpError::Unresolved { at, .. } if at == "no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_takes_no_longer_than_it_may() {
    let within = Duration::from_millis(50);
    for says in ["", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"] {
        let server = Server::saying(says, Then::Hang).await;
        let error = client().send(Request::get(&server.url("/")).within(within)).await.expect_err("it hangs");
        assert_eq!(error, HttpError::Slow { at: server.at.to_string(), within }, "{says}");
        assert_eq!(error.to_string(), format!("{} did not answer within 50ms", server.at));
    }
}

#[tokio::test]
async fn garbage_and_half_an_answer_are_broken() {
    for says in [
        "SSH-2.0-OpenSSH\r\n",
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let server = Server::saying(says, Then::Close).await;
        let error = client().send(Request::get(&server.url("/"))).await.expect_err("garbage");
        assert!(matches!(error, HttpError::Broken { .. }), "{says:?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_is_no_longer_than_it_may_be() {
    let long = "x".repeat(1000);
    for says in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{long}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{long}\r\n"),
        format!("HTTP/1.1 200 OK\r\n\r\n{long}"),
    ] {
        let server = Server::saying(says, Then::Hang).await;
        let request = Request::get(&server.url("/")).bytes_max(999);
        let error = client().send(request).await.expect_err("too long");
        assert_eq!(error, HttpError::TooLong { at: server.at.to_string(), bytes_max: 999 });
    }
}

#[tokio::test]
async fn a_status_is_an_answer_and_a_redirect_is_not_followed() {
    let says = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 13\r\n\r\ngo\r\n  \u{1}away!!";
    let server = Server::saying(says, Then::Close).await;
    let answer = client().send(Request::get(&server.url("/"))).await.expect("an answer");
    assert_eq!(answer.header("location"), Some("http://127.0.0.1:1/"));
    let error = answer.success().expect_err("no success");
    assert_eq!(error.status(), Some(302));
    assert_eq!(error.to_string(), format!("{} answers 302: go away!!", server.at));
    assert_eq!(client().open(Request::get(&server.url("/"))).await.expect_err("no success"), error);
}

#[tokio::test]
async fn lines_come_one_by_one_and_each_is_bounded() {
    let says = "HTTP/1.1 200 OK\r\n\r\none\r\n\ntwo\nthree";
    let server = Server::saying(says, Then::Close).await;
    let mut stream = client().open(Request::get(&server.url("/")).bytes_max(5)).await.expect("a stream");
    let mut lines = Vec::new();
    while let Some(line) = stream.line().await.expect("a line") {
        lines.push(String::from_utf8_lossy(&line).into_owned());
    }
    assert_eq!(lines, ["one", "", "two", "three"]);
    let mut stream = client().open(Request::get(&server.url("/")).bytes_max(4)).await.expect("a stream");
    let error = loop {
        match stream.line().await {
            Ok(line) => assert!(line.is_some(), "the long line was let through"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, HttpError::TooLong { at: server.at.to_string(), bytes_max: 4 });
}

#[tokio::test]
async fn what_is_no_address_or_header_is_not_sent() {
    for (url, shown) in [("10.0.0.1:80", "10.0.0.1:80"), ("ftp://u:s3@h/x?t=s3", "ftp://h/x"), ("http://", "http://")] {
        let error = client().send(Request::get(url)).await.expect_err(url);
        assert_eq!(error, HttpError::Address { given: shown.to_owned() });
    }
    let error = client().send(Request::get("http://h/").header("x-token", "a\nb")).await.expect_err("no header");
    assert_eq!(error, HttpError::Header { name: "x-token".to_owned() });
    assert!(!format!("{:?}", Request::get("http://h/?t=s3").header("x", "s3")).contains("s3"));
}

/// A certificate for itself, as PEM, and a server that has it.
fn certified(name: &str) -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("one key and its certificate");
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn a_certificate_is_trusted_once_the_file_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    let client = Client::new(TlsFiles { ca: Some(ca.clone()), ..TlsFiles::default() });
    let (ours, acceptor) = certified("127.0.0.1");
    let (other, _) = certified("127.0.0.1");
    let server = Server::with_tls(HELLO, Then::Again, Some(acceptor)).await;
    let url = format!("https://{}/", server.at);
    let error = client.send(Request::get(&url)).await.expect_err("there is no file");
    assert!(matches!(&error, HttpError::Files(TlsFilesError::Unusable { path, .. }) if *path == ca), "{error}");

    std::fs::write(&ca, other).expect("written");
    let error = client.send(Request::get(&url)).await.expect_err("another's certificate");
    assert!(matches!(&error, HttpError::Untrusted { at, .. } if *at == server.at.to_string()), "{error}");

    // A file system whose clock is coarse may give both states the same time.
    let before = std::fs::metadata(&ca).and_then(|m| m.modified()).expect("a time");
    eventually(Duration::from_secs(60), "another time", || {
        std::fs::write(&ca, &ours).expect("written");
        let now = std::fs::metadata(&ca).and_then(|m| m.modified()).expect("a time");
        if now == before { Err(format!("{now:?}")) } else { Ok(()) }
    })
    .expect("the clock goes");
    let answer = client.send(Request::get(&url)).await.expect("it is trusted now");
    assert_eq!(&answer.body[..], b"hello");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    let (pem, acceptor) = certified("db.example");
    std::fs::write(&ca, pem).expect("written");
    let server = Server::with_tls(HELLO, Then::Again, Some(acceptor)).await;
    let client = Client::new(TlsFiles { ca: Some(ca), ..TlsFiles::default() });
    let error = client.send(Request::get(&format!("https://{}/", server.at))).await.expect_err("another name");
    assert!(matches!(error, HttpError::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn plain_http_where_tls_is_spoken_is_said_so() {
    let server = Server::saying("HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close).await;
    let error = client().send(Request::get(&format!("https://{}/", server.at))).await.expect_err("no TLS");
    assert!(matches!(error, HttpError::Tls { .. } | HttpError::Files(_)), "{error}");
}
