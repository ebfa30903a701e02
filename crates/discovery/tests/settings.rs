//! The tables of keys: what they refuse, how they say it, and that all of them are in the reference.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use metacluster_discovery::{
    Fault, Feed, Local, Settings, Strategy, Value, build,
    feed::Work,
    set_default,
    settings::{Absent, COMMON, Common, Kind, reference},
    spawn, strategies,
};
use metacluster_types::{AgentId, ClusterName, Pattern, Place, SourceUpdate, TopologyName};
use tokio::sync::{mpsc, watch};

fn settings(pairs: &[(&str, Value)]) -> Settings {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn faults(strategy: &str, pairs: &[(&str, Value)]) -> BTreeMap<String, String> {
    let faults = build(strategy, &settings(pairs)).err().unwrap_or_default();
    faults.into_iter().map(|Fault { key, message }| (key, message)).collect()
}

/// A value that the kind takes.
fn example(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Secret | Kind::Texts | Kind::Patterns => "text".into(),
        Kind::Path => "/nonexistent/file".into(),
        Kind::Duration { most_ms, .. } => format!("{most_ms}ms").as_str().into(),
        Kind::Integer { most, .. } => Value::Integer(most),
        Kind::Boolean => Value::Boolean(true),
        Kind::Address => "239.1.2.3".into(),
        Kind::Nodes => Value::List(vec!["a@h".into(), "b@h".into()]),
        Kind::OneOf(words) => words[0].into(),
        Kind::Table => Value::Table(settings(&[("app", "shop".into())])),
    }
}

#[test]
fn every_strategy_is_built_from_its_table() {
    for info in strategies() {
        let mut required = Settings::new();
        for key in info.keys.iter().filter(|key| key.absent == Absent::Required) {
            required.insert(key.name.to_owned(), example(key.kind));
        }
        // Where one of several is required.
        match info.name {
            "epmd" => required.insert("nodes".to_owned(), "a@h".into()),
            "kubernetes" => required.insert("service".to_owned(), "shop".into()),
            "ec2" => required.insert("auto_scaling_group".to_owned(), "shop".into()),
            "sql" => required.insert("url".to_owned(), "postgres://db.example/shop".into()),
            _ => None,
        };
        assert_eq!(build(info.name, &required).err(), None, "{}: what is required is enough", info.name);
        for key in info.all_keys() {
            let mut all = required.clone();
            all.insert(key.name.to_owned(), example(key.kind));
            for fault in build(info.name, &all).err().unwrap_or_default() {
                assert!(!fault.message.contains("metacluster"), "{}: {fault}", info.name);
            }
        }
    }
}

#[test]
fn all_faults_are_told_at_once_and_each_says_what_would_be_right() {
    let faults = faults(
        "gossip",
        &[
            ("prot", Value::Integer(1)),
            ("port", Value::Integer(70_000)),
            ("interval", "soon".into()),
            ("broadcast_only", "yes".into()),
            ("if_addr", "eth0".into()),
            ("multicast_addr", "10.0.0.1".into()),
            ("prune", Value::Boolean(true)),
        ],
    );
    let says = |key: &str, text: &str| assert!(faults[key].contains(text), "{key}: {}", faults[key]);
    says("prot", "did you mean `port`?");
    says("port", "1 to 65535");
    says("interval", "30s");
    says("broadcast_only", "true or false");
    says("if_addr", "10.0.0.1");
    says("multicast_addr", "224.0.0.0/4");
    assert!(!faults.contains_key("prune"), "a key of every topology");
    assert_eq!(faults.len(), 6);
}

#[test]
fn what_is_missing_or_at_odds_is_told() {
    assert!(faults("static", &[])["nodes"].contains("missing"));
    assert!(faults("epmd", &[])["nodes"].contains("`hosts`"));
    assert!(faults("static", &[("nodes", Value::List(vec!["a@h".into(), "b".into()]))])["nodes"].contains("`b`"));
    assert!(faults("gosip", &[])["strategy"].contains("did you mean `gossip`?"));
    assert!(faults("zzz", &[])["strategy"].contains("static, epmd"));
    let both = [("secret", "s3".into()), ("secret_file", "/nonexistent".into())];
    assert!(faults("gossip", &both)["secret_file"].contains("leave one of them out"));
    assert!(faults("gossip", &[("secret_file", "/nonexistent".into())])["secret_file"].contains("cannot read"));
    assert!(faults("gossip", &[("expire", "2s".into())])["expire"].contains("three times"));
    let both = [("broadcast_only", Value::Boolean(true)), ("multicast_if", "10.0.0.1".into())];
    assert!(faults("gossip", &both)["multicast_if"].contains("broadcast_only"));
}

#[test]
fn no_secret_is_ever_printed() {
    let given = settings(&[("secret", Value::List(vec!["hunter2".into(), "x".into()])), ("port", "hunter".into())]);
    assert!(!format!("{given:?}").contains("hunter2"));
    let faults = build("gossip", &given).err().expect("faults");
    assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.key == "secret" && fault.message.contains(r"`\,`")), "{faults:?}");
}

#[test]
fn common_keys_are_read_apart_from_the_rest() {
    let given = settings(&[("name", "lan".into()), ("local_nodes", "shop*".into()), ("port", Value::Integer(1))]);
    let common = Common::read(&given).expect("valid");
    assert_eq!(common.name, TopologyName::new("lan").ok());
    assert_eq!((common.prune, common.local_nodes), (false, vec![Pattern::new("shop*")]));
    assert_eq!(Common::read(&settings(&[("prune", "maybe".into())])).expect_err("a fault")[0].key, "prune");
}

#[test]
fn a_default_of_the_surroundings_fills_a_gap_only() {
    let mut given = Settings::new();
    set_default("gossip", &mut given, "epmd_port", Value::Integer(5000));
    assert!(given.is_empty(), "gossip asks no epmd");
    set_default("local-epmd", &mut given, "epmd_port", Value::Integer(5000));
    set_default("local-epmd", &mut given, "epmd_port", Value::Integer(6000));
    assert!(given["epmd_port"] == Value::Integer(5000), "the first stays");
}

#[test]
fn the_reference_has_every_key() {
    let page = reference();
    let keys = strategies().iter().flat_map(|info| info.all_keys()).chain(COMMON.iter().copied());
    for key in keys {
        assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
    }
    for info in strategies() {
        assert!(page.contains(&format!("## `{}`", info.name)), "{}", info.name);
    }
}

/// Panics in its first run, ends in its second, stays in its third.
struct Unsteady;

impl Strategy for Unsteady {
    fn run(self: Arc<Self>, feed: Feed) -> Work {
        Box::pin(async move {
            match feed.attempt() {
                0 => panic!("the database is gone"),
                1 => {}
                _ => {
                    feed.push(SourceUpdate::Snapshot(vec![])).await;
                    // It does not listen to the word to stop.
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_panics_or_ends_is_begun_anew_and_stops_in_bounded_time() {
    let cluster = ClusterName::new("main").expect("a name");
    let (_keeper, local) = watch::channel(Local {
        agent: AgentId(1),
        cluster,
        place: Place::default(),
        nodes: [].into(),
        agents: [].into(),
        port: None,
    });
    let (sender, mut updates) = mpsc::channel(8);
    let topology = TopologyName::new("t").expect("a name");
    let running = spawn(topology, Box::new(Unsteady), local, sender);
    let mut lines = Vec::new();
    while let Some((_, SourceUpdate::Failed(line))) = updates.recv().await {
        lines.push(line);
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("the database is gone") && lines[1].contains("of its own accord"), "{lines:?}");
    let stopping = tokio::time::Instant::now();
    running.stop().await;
    assert!(stopping.elapsed() <= Duration::from_millis(510), "{:?}", stopping.elapsed());
    assert_eq!(updates.recv().await, None, "nothing of it is left");
}
