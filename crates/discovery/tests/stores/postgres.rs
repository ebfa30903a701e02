//! `sql` against PostgreSQL from Debian, started by each test, and PgBouncer before it.

use std::time::Duration;

use metacluster_discovery::{sql::migrate::Migration, tls::TlsFiles, trial::Trial};
use metacluster_testbed::{PgBouncer, Postgres, Tool, require};
use metacluster_types::SourceUpdate;

use crate::support::{Mortal, agent, agent_of, announce, certificate, know_changes_at_once};

/// A server, unless the machine has none.
fn server(options: &[&str]) -> Option<Postgres> {
    require(&[Tool::Postgres]).then(|| Postgres::start(options).expect("PostgreSQL"))
}

/// A server with our table.
async fn migrated(options: &[&str]) -> Option<Postgres> {
    let server = server(options)?;
    migration(&server.url()).run().await.expect("the table");
    Some(server)
}

fn migration(url: &str) -> Migration {
    Migration::new(url, None, TlsFiles::default(), None).expect("a migration")
}

fn spec(server: &Postgres, more: &str) -> String {
    format!("sql:url={}{more}", server.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn agents_find_one_another_through_the_table_and_know_changes_at_once() {
    let Some(server) = migrated(&[]).await else { return };
    migration(&server.url()).run().await.expect("twice does no harm");
    let _left = know_changes_at_once(&spec(&server, ",interval=1h")).await;
    assert_eq!(server.psql("SELECT node FROM metacluster_nodes").expect("rows"), "a@10.0.0.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_agent_that_died_is_nobodys_peer_once_its_lease_ends_and_is_purged() {
    let Some(server) = migrated(&[]).await else { return };
    let mut lives = agent(&spec(&server, ",interval=500ms,lease=2s"), 1, &["a@h1"]);
    let dies = Mortal::start(&spec(&server, ",lease=2s"), 2, &["b@h2"]);
    lives.until(&["b@h2"]).await;
    dies.die();
    lives.until(&[]).await;
    metacluster_testbed::eventually(Duration::from_secs(60), "the row is purged", || {
        let rows = server.psql("SELECT node FROM metacluster_nodes").map_err(|error| error.to_string())?;
        if rows == "a@h1" { Ok(()) } else { Err(rows) }
    })
    .expect("purged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn another_cluster_in_the_same_table_is_not_ours() {
    let Some(server) = migrated(&[]).await else { return };
    let mut ours = agent(&spec(&server, ""), 1, &["a@h1"]);
    let _theirs = agent_of("o'hara", &spec(&server, ""), 2, &["x@h2"]);
    let _friend = agent(&spec(&server, ""), 3, &["b@h3"]);
    ours.until(&["b@h3"]).await;
    assert_eq!(server.psql("SELECT cluster FROM metacluster_nodes WHERE node = 'x@h2'").expect("a row"), "o'hara");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_killed_and_started_again_loses_nobody() {
    let Some(mut server) = migrated(&[]).await else { return };
    let mut one = agent(&spec(&server, ",interval=1h"), 1, &["a@h1"]);
    let two = agent(&spec(&server, ",interval=1h"), 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
    server.kill9().expect("killed");
    one.until_failed_with("PostgreSQL at 127.0.0.1").await;
    one.until_failed_with("is the server up?").await;
    assert_eq!(one.names(), ["b@h2"], "a source that fails changes nothing");
    server.restart().expect("up again");
    one.until_candidates("an answer", |found| found.len() == 1).await;
    announce(&two, &["c@h2"]);
    one.until(&["c@h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_hangs_is_said_so_and_its_peers_stay() {
    let Some(server) = migrated(&[]).await else { return };
    let mut one = agent(&spec(&server, ",interval=200ms,timeout=500ms"), 1, &["a@h1"]);
    let _two = agent(&spec(&server, ""), 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
    server.pause().expect("stopped");
    let line = one.until_failed().await;
    assert!(line.contains("did not answer within 500ms") || line.contains("no answer within"), "{line}");
    assert_eq!(one.names(), ["b@h2"]);
    server.resume().expect("goes on");
    one.until_candidates("an answer", |found| found.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_takes_no_writes_is_read_all_the_same() {
    let Some(server) = migrated(&[]).await else { return };
    server
        .psql("INSERT INTO metacluster_nodes VALUES ('main', 'by hand', 'x@h9', NULL, '10.0.0.9', NULL, NULL, 'z', 'db', NULL, 'infinity')")
        .expect("a row");
    server.set_read_only(true).expect("read-only");
    let mut one = agent(&spec(&server, ",interval=200ms,lease=2s"), 1, &["a@h1"]);
    one.until(&["x@h9"]).await;
    assert_eq!(one.hosts()[0].roles.len(), 1);
    server.set_read_only(false).expect("writable");
    metacluster_testbed::eventually(Duration::from_secs(60), "our row is there", || {
        let rows =
            server.psql("SELECT count(*) FROM metacluster_nodes WHERE node = 'a@h1'").map_err(|e| e.to_string())?;
        if rows == "1" { Ok(()) } else { Err(rows) }
    })
    .expect("announced, once the server takes writes");
    drop(one);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_query_gives_peers_and_its_channel_says_when_to_ask_again() {
    let Some(server) = server(&[]) else { return };
    server
        .psql(
            "CREATE TABLE servers (hostname text, ip inet, groups text[], labels jsonb);
             INSERT INTO servers VALUES ('db1.example', '10.0.0.4', '{web,db}', '{\"app\": \"shop\"}')",
        )
        .expect("a table");
    let query = r"SELECT hostname AS name\, ip\, groups AS roles\, labels AS tags FROM servers";
    let mut trial = Trial::of(&spec(&server, &format!(",query={query},channel=servers,interval=1h,basename=shop")));
    trial.until(&["shop@10.0.0.4"]).await;
    let host = &trial.hosts()[0];
    assert_eq!((host.name.as_deref(), host.roles.len(), host.tags["app"].as_str()), (Some("db1.example"), 2, "shop"));
    server.psql("INSERT INTO servers VALUES ('db2', '10.0.0.5'); NOTIFY servers").expect("a row");
    trial.until(&["shop@10.0.0.4", "shop@10.0.0.5"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_right_that_is_missing_is_named_with_the_statement_that_gives_it() {
    let Some(server) = server(&[]) else { return };
    server.psql("CREATE ROLE shop LOGIN PASSWORD 'x'; CREATE TABLE nodes (node text)").expect("a role");
    let url = server.url_of("shop", "x");
    let failed = async |more: &str| {
        let mut trial = agent(&format!("sql:url={url},interval=100ms{more}"), 1, &["a@h1"]);
        let line = trial.until_failed().await;
        trial.stop().await;
        line
    };
    let line = failed("").await;
    assert!(line.contains("metacluster_nodes") && line.contains("metacluster sql migrate"), "{line}");
    let line = failed(",query=SELECT * FROM nodes").await;
    assert!(line.contains("GRANT SELECT ON nodes TO shop"), "{line}");
    let error = migration(&url).run().await.expect_err("it may not");
    assert!(error.to_string().contains("GRANT USAGE, CREATE ON SCHEMA public TO shop"), "{error}");

    migration(&server.url()).run().await.expect("the table");
    let line = failed("").await;
    assert!(line.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON metacluster_nodes TO shop"), "{line}");
    server.psql("GRANT SELECT, INSERT, UPDATE, DELETE ON metacluster_nodes TO shop").expect("granted");
    let one = agent(&format!("sql:url={url}"), 1, &["a@h1"]);
    let mut two = agent(&format!("sql:url={url}"), 2, &["b@h2"]);
    two.until(&["a@h1"]).await;
    drop(one);

    for (url, says) in [
        (server.url_of("shop", "wrong"), "refuses `shop`"),
        (format!("{}nothing", server.url().trim_end_matches("postgres")), "\"nothing\" does not exist"),
        (server.url().replace(":s3cret", ""), "password"),
    ] {
        let line = Trial::of(&format!("sql:url={url}")).until_failed_with(says).await;
        assert!(!line.contains("s3cret"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_password_that_was_changed_is_read_anew() {
    let Some(mut server) = server(&[]) else { return };
    server
        .psql("CREATE ROLE shop LOGIN PASSWORD 'old'; CREATE TABLE nodes AS SELECT 'a@h' AS node; GRANT SELECT ON nodes TO shop")
        .expect("a role");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").expect("written");
    let url = server.url_of("shop", "").replace("shop:", "shop");
    let mut trial =
        Trial::of(&format!("sql:url={url},query=SELECT * FROM nodes,interval=200ms,password_file={}", file.display()));
    trial.until(&["a@h"]).await;
    server.psql("ALTER ROLE shop PASSWORD 'new'; CREATE TABLE more AS SELECT 1").expect("changed");
    server.stop().expect("stopped");
    server.restart().expect("up");
    trial.until_failed_with("refuses `shop`").await;
    assert_eq!(trial.names(), ["a@h"]);
    std::fs::write(&file, "new\n").expect("written");
    trial.until_candidates("an answer", |found| found.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn through_a_pool_by_the_transaction_changes_are_polled_for() {
    let Some(server) = migrated(&[]).await else { return };
    let direct = agent(&spec(&server, ""), 2, &["b@h2"]);
    let pool = PgBouncer::start(&server, "transaction").expect("PgBouncer");
    let mut one = agent(&format!("sql:url={},interval=500ms", pool.url()), 1, &["a@h1"]);
    one.until(&["b@h2"]).await;
    announce(&direct, &["c@h2"]);
    one.until(&["c@h2"]).await;
    let mut hears = agent(&format!("sql:url={},dialect=firezone", pool.url()), 3, &[]);
    let line = hears.until_failed_with("pooler").await;
    assert!(line.contains("pool_mode = session"), "{line}");
    drop(hears);

    let pool = PgBouncer::start(&server, "session").expect("PgBouncer");
    let mut one = agent(&format!("sql:url={},interval=1h", pool.url()), 4, &[]);
    one.until(&["a@h1", "c@h2"]).await;
    announce(&direct, &["d@h2"]);
    one.until(&["a@h1", "d@h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_of_each_library_are_found_by_their_heartbeats_and_find_ours() {
    let Some(server) = server(&[]) else { return };
    for (dialect, theirs, ours) in [
        ("supabase", "b@10.0.0.2", "a@10.0.0.1"),
        ("kevbuchanan", "heartbeat::b@10.0.0.2", "heartbeat::a@10.0.0.1"),
        ("firezone", "heartbeat:b@10.0.0.2", "heartbeat:a@10.0.0.1"),
    ] {
        let channel = format!("cookie_{dialect}");
        let mut trial =
            agent(&spec(&server, &format!(",dialect={dialect},channel={channel},heartbeat=500ms")), 1, &["a@10.0.0.1"]);
        // A node of theirs: psql shows what came while it was connected.
        let (listen, notify) = (format!("LISTEN {channel}"), format!("NOTIFY {channel}, '{theirs}'"));
        metacluster_testbed::eventually(Duration::from_secs(60), "our node is heard", || {
            let heard = server.psql_many(&[&listen, &notify, "SELECT pg_sleep(1)", "SELECT 1"]);
            let heard = heard.map_err(|error| error.to_string())?;
            if heard.contains(&format!("with payload \"{ours}\"")) { Ok(()) } else { Err(heard) }
        })
        .expect("heard");
        // As they do every five seconds.
        server.psql(&notify).expect("told");
        trial.until(&["b@10.0.0.2"]).await;
        if dialect == "firezone" {
            server.psql(&format!("NOTIFY {channel}, 'goodbye:b@10.0.0.2'")).expect("told");
            trial.until(&[]).await;
        }
        trial.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_agents_of_a_dialect_meet_and_a_flood_or_garbage_does_no_harm() {
    let Some(server) = server(&[]) else { return };
    let spec = spec(&server, ",dialect=firezone,heartbeat=500ms");
    let mut one = agent(&spec, 1, &["a@h1"]);
    let two = agent(&spec, 2, &["b@h2"]);
    one.until(&["b@h2"]).await;
    server
        .psql(
            "SELECT pg_notify('cluster', repeat('x', 7000)); SELECT pg_notify('cluster', '');
             SELECT pg_notify('cluster', 'heartbeat:shop-' || i || '@h') FROM generate_series(1, 20000) i",
        )
        .expect("told");
    let found = one.until_candidates("many", |found| found.len() > 500).await;
    assert!(found.len() <= 10_000);
    two.stop().await;
    loop {
        if matches!(one.next().await, SourceUpdate::Lost(node) if node.as_str() == "b@h2") {
            break;
        }
    }
}

/// A folder with a certificate, the certificate, and a server that shows it.
fn server_with_tls() -> Option<(tempfile::TempDir, std::path::PathBuf, Postgres)> {
    let folder = tempfile::Builder::new().prefix("mc-pg-tls-").tempdir_in("/tmp").expect("a folder");
    let (certificate, key) = certificate(folder.path(), "db.example");
    metacluster_testbed::open_to_servers(folder.path()).expect("given");
    let ssl = [
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
    ];
    let server = server(&ssl.each_ref().map(String::as_str))?;
    Some((folder, certificate, server))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_was_rotated_is_followed_once_it_is_trusted() {
    let Some((folder, shown, mut server)) = server_with_tls() else { return };
    let trusted = folder.path().join("ca.pem");
    std::fs::copy(&shown, &trusted).expect("copied");
    server.psql("CREATE TABLE nodes AS SELECT 'a@h' AS node").expect("a table");
    let url = format!("{}?sslmode=verify-ca&sslrootcert={}", server.url(), trusted.display()).replace('=', r"\=");
    let mut trial = Trial::of(&format!("sql:url={url},query=SELECT * FROM nodes,interval=200ms"));
    trial.until(&["a@h"]).await;
    server.psql("INSERT INTO nodes VALUES ('b@h')").expect("a row");
    server.stop().expect("stopped");
    let _rotated = certificate(folder.path(), "db.example");
    server.restart().expect("up");
    trial.until_failed_with("no TLS with PostgreSQL").await;
    assert!(trial.names().contains(&"a@h".to_owned()), "{:?}", trial.names());
    std::fs::copy(&shown, &trusted).expect("copied");
    server.psql("INSERT INTO nodes VALUES ('c@h')").expect("a row");
    trial.until(&["a@h", "b@h", "c@h"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sslmode_is_honoured() {
    let Some((_folder, certificate, server)) = server_with_tls() else { return };
    server.psql("CREATE VIEW nodes AS SELECT 'a@h' AS node, ssl::text AS ignored FROM pg_stat_ssl WHERE pid = pg_backend_pid()").expect("a view");
    let tried = async |query: &str, files: &str| {
        let url = format!("{}?{query}", server.url());
        let mut trial = Trial::of(&format!(
            r"sql:url={},query=SELECT * FROM nodes WHERE ignored \= '{files}'",
            url.replace('=', r"\=")
        ));
        if let SourceUpdate::Failed(line) = trial.next().await {
            return line;
        }
        trial.until_candidates("an answer", |_| true).await;
        format!("{:?}", trial.names())
    };
    let one = r#"["a@h"]"#;
    let ca = format!("sslrootcert={}", certificate.display());
    assert_eq!(tried("sslmode=disable", "false").await, one);
    assert_eq!(tried("", "true").await, one, "preferred where the server has it");
    assert_eq!(tried("sslmode=require", "true").await, one);
    assert_eq!(
        tried("sslmode=require&channel_binding=require", "true").await,
        one,
        "the login is bound to the session"
    );
    let line = tried("sslmode=disable&channel_binding=require", "false").await;
    assert!(line.contains("channel binding"), "{line}");
    assert_eq!(tried(&format!("sslmode=verify-ca&{ca}"), "true").await, one, "whatever its name");
    let line = tried(&format!("sslmode=verify-full&{ca}"), "true").await;
    assert!(line.contains("no TLS with PostgreSQL") && line.contains("db.example"), "{line}");
    let line = tried("sslmode=verify-ca", "true").await;
    assert!(line.contains("no TLS") || line.contains("no certificate is trusted"), "{line}");
    let named = server.url().replace("127.0.0.1", "db.example");
    let url = format!("{named}?hostaddr=127.0.0.1&sslmode=verify-full&{ca}").replace('=', r"\=");
    Trial::of(&format!("sql:url={url},query=SELECT node FROM nodes")).until(&["a@h"]).await;
}
