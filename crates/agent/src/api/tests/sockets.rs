//! Whose socket it is.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

async fn bind(socket: &Path) -> Result<Listeners, BindError> {
    Listeners::bind(&config(socket, None, false)).await
}

#[tokio::test]
async fn the_socket_and_its_folder_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("new/state/agent.sock");
    let listeners = bind(&socket).await.expect("bound");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&folder.path().join("new/state")), 0o700);
    drop(listeners);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_live_agent_keeps_its_socket() {
    let api = Api::start().await;
    let error = bind(&api.socket()).await.expect_err("taken");
    assert!(error.to_string().starts_with("another agent runs here: it listens on "), "{error}");
    assert_eq!(api.unix("GET", "/healthz").await.status, 200, "it was not disturbed");
}

#[tokio::test]
async fn the_socket_of_a_dead_agent_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    // A listener that was dropped leaves its file, as kill -9 does.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    assert!(socket.exists());
    let listeners = bind(&socket).await.expect("bound");
    UnixStream::connect(&socket).await.expect("a new listener");
    drop(listeners);
    bind(&socket).await.expect("bound once more, though the lock's file is still there");
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let foreign = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    assert!(matches!(bind(&socket).await, Err(BindError::AnotherAgent(_))));
    drop(foreign);
    fs::remove_file(&socket).expect("removed");
    fs::write(&socket, "precious").expect("written");
    let error = bind(&socket).await.expect_err("no socket");
    assert!(error.to_string().ends_with("is there and is no socket: remove it, or set `api.socket`"), "{error}");
    assert_eq!(fs::read_to_string(&socket).expect("there"), "precious");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("written");
    let error = bind(&folder.path().join("file/agent.sock")).await.expect_err("no folder").to_string();
    assert!(error.starts_with("cannot make the socket ") && error.contains("/file/agent.sock: "), "{error}");
}

#[tokio::test]
async fn a_taken_address_is_an_error_only_when_somebody_asked_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let error = Listeners::bind(&config(&socket, Some(&address), true)).await.expect_err("taken").to_string();
    assert!(error.starts_with(&format!("cannot listen on {address} for HTTP: ")), "{error}");
    assert!(!socket.exists(), "nothing half done");
    let listeners = Listeners::bind(&config(&socket, Some(&address), false)).await.expect("bound");
    assert_eq!(listeners.http_address(), None);
    assert!(listeners.warnings()[0].starts_with(&format!("no HTTP: cannot listen on {address}: ")));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_are_served() {
    let api = Api::start().await;
    let mut held = Vec::new();
    for _ in 0..bound::CONNECTIONS_MAX {
        held.push(TcpStream::connect(api.address()).await.expect("connected"));
    }
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n", api.address());
    let waiting = api.tcp(&head);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err(), "all places are taken");
    assert_eq!(api.unix("GET", "/healthz").await.status, 200, "the Unix socket has places of its own");
    held.clear();
    assert_eq!(timeout(LONG, waiting).await.expect("served").status, 200);
}
