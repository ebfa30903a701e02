//! `etcd` against etcd from Debian, started by each test.

use std::time::Duration;

use metacluster_discovery::trial::Trial;
use metacluster_testbed::{Etcd, Proxy, Tool, Wire, eventually, require};
use metacluster_types::SourceUpdate;

use crate::support::{Mortal, agent, announce, certificate, know_changes_at_once};

/// A server, unless the machine has none.
fn server() -> Option<Etcd> {
    require(&[Tool::Etcd]).then(|| Etcd::start().expect("etcd"))
}

fn spec(server: &Etcd, more: &str) -> String {
    format!("etcd:endpoints={}{more}", server.url())
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

fn put(server: &Etcd, key: &str, value: &str) {
    let body = format!(r#"{{"key":"{}","value":"{}"}}"#, base64(key), base64(value));
    let answer = server.post("/v3/kv/put", &body).expect("curl");
    assert!(answer.contains("revision"), "{answer}");
}

/// Forgets all that was before now.
fn compact(server: &Etcd) {
    let header = server.post("/v3/kv/range", r#"{"key":"AA=="}"#).expect("curl");
    let revision = header.split("\"revision\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a revision");
    server.post("/v3/kv/compaction", &format!(r#"{{"revision":"{revision}","physical":true}}"#)).expect("curl");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn agents_find_one_another_and_know_changes_at_once() {
    let Some(server) = server() else { return };
    drop(know_changes_at_once(&spec(&server, ",interval=1h")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_key_of_an_agent_that_died_goes_with_its_lease() {
    let Some(server) = server() else { return };
    let mut lives = agent(&spec(&server, ",interval=1h,lease=2s"), 1, &["a@h1"]);
    let dies = Mortal::start(&spec(&server, ",lease=2s"), 2, &["b@h2"]);
    lives.until(&["b@h2"]).await;
    dies.die();
    lives.until(&[]).await;
    let mut other = agent(&spec(&server, ""), 3, &[]);
    other.until(&["a@h1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_killed_loses_nobody_and_one_that_forgot_is_told_again() {
    let Some(mut server) = server() else { return };
    let mut one = agent(&spec(&server, ",lease=3s"), 1, &["a@h1"]);
    let two = agent(&spec(&server, ",lease=3s"), 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
    server.kill9().expect("killed");
    one.until_failed_with("is the server up?").await;
    assert_eq!(one.names(), ["b@h2"], "a source that fails changes nothing");
    server.restart().expect("up again");
    announce(&two, &["c@h2"]);
    one.until(&["c@h2"]).await;
    server.kill9().expect("killed");
    server.restart_empty().expect("up again");
    one.until_candidates("the other one, again", |found| found.len() == 1).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_hangs_is_said_so_and_another_endpoint_is_asked() {
    let Some(first) = server() else { return };
    let mut one = agent(&spec(&first, ",interval=200ms,timeout=300ms"), 1, &[]);
    put(&first, "/metacluster/main/x", "x@h9");
    one.until(&["x@h9"]).await;
    first.pause().expect("stopped");
    one.until_failed_with("did not answer within 300ms").await;
    let second = Etcd::start().expect("etcd");
    put(&second, "/metacluster/main/y", "y@h9");
    let endpoints = format!("etcd:endpoints={},{},timeout=300ms", first.url(), second.url());
    Trial::of(&endpoints).until(&["y@h9"]).await;
    assert_eq!(one.names(), ["x@h9"]);
    first.resume().expect("goes on");
    one.until_candidates("an answer", |found| found.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_of_others_are_read_and_a_bad_one_hides_none() {
    let Some(server) = server() else { return };
    put(&server, "/nodes/1", "a@h1");
    put(&server, "/nodes/2", r#"{"address":"10.0.0.5","zone":"z9","tags":{"app":"shop"}}"#);
    put(&server, "/nodes/3", "{");
    put(&server, "/nodesX", "b@h1");
    let mut trial = Trial::of(&spec(&server, ",prefix=/nodes/,basename=a,interval=1h"));
    trial.until(&["a@10.0.0.5", "a@h1"]).await;
    put(&server, "/nodes/3", "a@h3");
    trial.until(&["a@10.0.0.5", "a@h1", "a@h3"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_keys_are_one_answer_and_a_compaction_is_survived() {
    let Some(server) = server() else { return };
    for part in 0..100 {
        let puts: Vec<String> = (0..100)
            .map(|at| {
                let (key, value) = (format!("/nodes/{part}-{at}"), format!("shop@10.1.{part}.{at}"));
                format!(r#"{{"requestPut":{{"key":"{}","value":"{}"}}}}"#, base64(&key), base64(&value))
            })
            .collect();
        server.post("/v3/kv/txn", &format!(r#"{{"success":[{}]}}"#, puts.join(","))).expect("curl");
    }
    let mut trial = Trial::of(&spec(&server, ",prefix=/nodes/,interval=1h"));
    trial.until_candidates("10,000 candidates", |found| found.len() == 10_000).await;
    // A watcher that could not read for a while finds its revision gone.
    compact(&server);
    let delete = format!(r#"{{"key":"{}","range_end":"{}"}}"#, base64("/nodes/0-"), base64("/nodes/99"));
    server.post("/v3/kv/deleterange", &delete).expect("curl");
    trial.until_candidates("fewer", |found| found.len() < 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_whose_beginning_was_compacted_away_reads_all_anew_and_nothing_fails() {
    let Some(server) = server() else { return };
    put(&server, "/nodes/1", "a@h1");
    let mut proxy =
        Proxy::start(server.url().trim_start_matches("http://").parse().expect("an address")).expect("a proxy");
    // The keys as they are now are on their way for so long that the change after them is compacted away meanwhile.
    proxy.set(Wire::Slow(Duration::from_secs(60))).expect("set");
    let mut trial = Trial::of(&format!(
        "etcd:endpoints=http://{},prefix=/nodes/,register=false,interval=1h,timeout=60s",
        proxy.address()
    ));
    eventually(Duration::from_secs(60), "the keys are on their way", || {
        if proxy.answers() > 0 { Ok(()) } else { Err("nothing was asked".to_owned()) }
    })
    .expect("asked");
    put(&server, "/nodes/2", "b@h2");
    put(&server, "/nodes/3", "c@h3");
    compact(&server);
    proxy.set(Wire::Good).expect("set");
    loop {
        match trial.next().await {
            SourceUpdate::Failed(line) => panic!("{line}"),
            SourceUpdate::Snapshot(_) if trial.names() == ["a@h1", "b@h2", "c@h3"] => break,
            SourceUpdate::Snapshot(_)
            | SourceUpdate::Hosts(_)
            | SourceUpdate::Found(_)
            | SourceUpdate::Lost(_)
            | SourceUpdate::Notes(_) => {}
        }
    }
    // And it is watched again.
    put(&server, "/nodes/4", "d@h4");
    trial.until(&["a@h1", "b@h2", "c@h3", "d@h4"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn users_and_their_rights_are_asked_for_in_words() {
    let Some(server) = server() else { return };
    let post = |path: &str, body: &str| server.post(path, body).expect("curl");
    post("/v3/auth/user/add", r#"{"name":"root","password":"r00t"}"#);
    post("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#);
    post("/v3/auth/role/add", r#"{"name":"shop"}"#);
    post("/v3/auth/user/add", r#"{"name":"shop","password":"s3cret"}"#);
    post("/v3/auth/user/grant", r#"{"user":"shop","role":"shop"}"#);
    let with_user = spec(&server, ",username=shop,password=s3cret");
    let mut early = agent(&with_user, 9, &["z@h9"]);
    early.until(&[]).await;
    post("/v3/auth/enable", "{}");
    let failed = async |more: &str| agent(&spec(&server, more), 1, &["a@h1"]).until_failed().await;
    let line = failed("").await;
    assert!(line.contains("wants a user"), "{line}");
    let line = failed(",username=shop,password=wrong").await;
    assert!(line.contains("refuses `shop`") && !line.contains("wrong`"), "{line}");
    let line = failed(",username=shop,password=s3cret").await;
    assert!(line.contains("grant-permission ROLE --prefix=true readwrite /metacluster/main/"), "{line}");
    let body = r#"{"name":"root","password":"r00t"}"#;
    let token = post("/v3/auth/authenticate", body);
    let token = token.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let grant = format!(
        r#"{{"name":"shop","perm":{{"permType":"READWRITE","key":"{}","range_end":"{}"}}}}"#,
        base64("/metacluster/main/"),
        base64("/metacluster/main0")
    );
    let granted = server.post_as(token, "/v3/auth/role/grant", &grant).expect("curl");
    assert!(granted.contains("revision"), "{granted}");
    let mut one = agent(&with_user, 1, &["a@h1"]);
    let mut two = agent(&with_user, 2, &["b@h2"]);
    one.until(&["b@h2", "z@h9"]).await;
    two.until(&["a@h1", "z@h9"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_password_that_was_changed_is_read_anew() {
    let Some(server) = server() else { return };
    let post = |path: &str, body: &str| server.post(path, body).expect("curl");
    for (user, password) in [("root", "r00t"), ("shop", "old")] {
        post("/v3/auth/user/add", &format!(r#"{{"name":"{user}","password":"{password}"}}"#));
        post("/v3/auth/user/grant", &format!(r#"{{"user":"{user}","role":"root"}}"#));
    }
    put(&server, "/nodes/1", "a@h1");
    post("/v3/auth/enable", "{}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").expect("written");
    let more = format!(",username=shop,password_file={},prefix=/nodes/,interval=300ms", file.display());
    let mut trial = Trial::of(&spec(&server, &format!("{more},register=false")));
    trial.until(&["a@h1"]).await;

    let token = post("/v3/auth/authenticate", r#"{"name":"root","password":"r00t"}"#);
    let token = token.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let changed = server.post_as(token, "/v3/auth/user/changepw", r#"{"name":"shop","password":"new"}"#);
    assert!(changed.expect("curl").contains("revision"));
    trial.until_failed_with("refuses `shop`").await;
    assert_eq!(trial.names(), ["a@h1"]);
    std::fs::write(&file, "new\n").expect("written");
    let body = format!(r#"{{"key":"{}","value":"{}"}}"#, base64("/nodes/2"), base64("b@h2"));
    assert!(server.post_as(token, "/v3/kv/put", &body).expect("curl").contains("revision"));
    trial.until(&["a@h1", "b@h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_tls_only_a_trusted_certificate_is_taken() {
    if !require(&[Tool::Etcd]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (pem, key) = certificate(folder.path(), "127.0.0.1");
    let server = Etcd::start_with_tls(&pem, &key).expect("etcd");
    let line = Trial::of(&spec(&server, "")).until_failed().await;
    assert!(line.contains("is not trusted") || line.contains("no certificate is trusted"), "{line}");
    let trusting = spec(&server, &format!(",ca_file={}", pem.display()));
    let mut one = agent(&trusting, 1, &["a@h1"]);
    let _two = agent(&trusting, 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_was_rotated_is_followed_once_it_is_trusted() {
    if !require(&[Tool::Etcd]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (pem, key) = certificate(folder.path(), "127.0.0.1");
    let trusted = folder.path().join("ca.pem");
    std::fs::copy(&pem, &trusted).expect("copied");
    let mut server = Etcd::start_with_tls(&pem, &key).expect("etcd");
    let more = format!(",ca_file={},prefix=/nodes/,register=false,interval=500ms", trusted.display());
    put(&server, "/nodes/1", "a@h1");
    let mut trial = Trial::of(&spec(&server, &more));
    trial.until(&["a@h1"]).await;
    server.kill9().expect("killed");
    let _rotated = certificate(folder.path(), "127.0.0.1");
    server.restart().expect("up again");
    trial.until_failed_with("is not trusted").await;
    assert_eq!(trial.names(), ["a@h1"]);
    std::fs::copy(&pem, &trusted).expect("copied");
    put(&server, "/nodes/2", "b@h2");
    trial.until(&["a@h1", "b@h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_etcd_is_said_so() {
    use metacluster_testbed::{Said, Web};
    for (says, expected) in [
        (Said::ok("<html>hello</html>"), "cannot be read"),
        (Said::status(404, "404 page not found"), "answers 404"),
        (Said::ok(r#"{"header":{"revision":"1"},"kvs":[{"key":"!"}]}"#).half(), "is broken"),
        (Said::ok(r#"{"header":{"revision":"1"},"kvs":[{"key":"!"}]}"#), "no base64"),
    ] {
        let web = Web::start(move |_| says.clone()).expect("a server");
        Trial::of(&format!("etcd:endpoints={},register=false", web.url())).until_failed_with(expected).await;
    }
}
