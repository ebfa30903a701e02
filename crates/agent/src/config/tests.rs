//! Whole files against their faults, line by line.

mod place;

use std::fs;

use metacluster_erl::NameCheck;
use metacluster_federation::cells::By;

pub(super) use self::place::{Place, valid};
use super::*;

const STATIC: &str = "[[topology]]\nstrategy = \"static\"\nnodes = [\"a@h1\"]\n";

#[test]
fn an_empty_file_has_every_default() {
    let place = Place::new();
    let config = valid(place.load(""));
    let home = place.folder.path();
    assert_eq!(config.cluster.as_str(), "main");
    assert_eq!(config.place.zone.as_ref().map(|zone| zone.as_str()), Some("local"));
    assert_eq!(config.place.region, None);
    assert_eq!(config.cookie.reveal(), "secretcookie");
    assert_eq!(config.state_dir, home.join(".local/state/metacluster"));
    assert_eq!((config.node_name.as_str(), config.host), ("metacluster", None));
    assert!(config.nodes.is_empty() && config.roles.is_empty() && config.tags.is_empty());
    assert!(config.topologies.is_empty() && config.handlers.is_empty());
    let epmd = EpmdConfig {
        mode: EpmdMode::Auto,
        port: 4369,
        addresses: Vec::new(),
        allow: Vec::new(),
        poll_interval: Duration::from_secs(1),
    };
    assert_eq!(config.epmd, epmd);
    let readiness = ReadinessConfig { nodes_min: 1, mandatory: Vec::new(), timeout: Duration::from_secs(60) };
    assert_eq!(config.readiness, readiness);
    assert_eq!(config.api.socket, home.join(".local/state/metacluster/metacluster.sock"));
    let http = HttpConfig { address: "127.0.0.1:4390".parse().expect("an address"), explicit: false };
    assert_eq!(config.api.http, Some(http));
    assert_eq!((config.events_keep, config.log_level), (10_000, LogLevel::Info));
    assert_eq!(config.warnings, ["there is no [[topology]]: no peer will be looked for"]);
}

#[test]
fn every_key_is_read() {
    let place = Place::new();
    place.write("other.cookie", "other", 0o400);
    let config = valid(place.load(
        r#"
cluster = "shop"
zone = "eu-west-1a"
region = "eu-west-1"
roles = ["web", "db"]
tags = { app = "shop" }
cookie_file = "~/other.cookie"
state_dir = "/tmp/state"
node_name = "agent"
host = "10.0.0.4"

[nodes]
names = ["shop", "worker-*", "*@10.0.0.4"]

[[topology]]
name = "lan"
strategy = "static"
nodes = ["a@h1", "b@h2"]
prune = true
local_nodes = ["shop"]
basename = "a"

[epmd]
mode = "external"
port = 4999
addresses = ["127.0.0.1", "::1"]
allow = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
poll_interval = "2s"

[readiness]
nodes_min = 3
mandatory = ["db@10.0.0.5"]
timeout = "1m 30s"

[[handler]]
on = ["nodedown", "nodeup"]
command = ["page-someone", "-v"]
at_most = 2
timeout = "5s"

[api]
socket = "/run/mc.sock"
http = "[::1]:5000"

[events]
keep = 7

[log]
level = "debug"
"#,
    ));
    assert_eq!(config.cluster.as_str(), "shop");
    assert_eq!(config.place.region.map(|region| region.to_string()).as_deref(), Some("eu-west-1"));
    assert_eq!(config.roles.iter().map(Role::as_str).collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!(config.tags["app"], "shop");
    assert_eq!(config.cookie.reveal(), "other");
    assert_eq!((config.node_name.as_str(), config.host.as_deref()), ("agent", Some("10.0.0.4")));
    assert_eq!(config.nodes.len(), 3);
    let topology = &config.topologies[0];
    assert_eq!((topology.name.as_str(), topology.strategy.as_str(), topology.prune), ("lan", "static", true));
    assert_eq!(topology.local_nodes, [Pattern::new("shop")]);
    assert!(metacluster_discovery::build(&topology.strategy, &topology.settings).is_ok());
    assert_eq!((config.epmd.mode, config.epmd.port, config.epmd.addresses.len()), (EpmdMode::External, 4999, 2));
    let allow: Vec<String> = config.epmd.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]);
    assert_eq!((config.readiness.nodes_min, config.readiness.timeout), (3, Duration::from_secs(90)));
    let handler = &config.handlers[0];
    assert_eq!(handler.on, BTreeSet::from([EventKind::NodeUp, EventKind::NodeDown]));
    assert_eq!((handler.command.len(), handler.at_most, handler.timeout), (2, 2, Duration::from_secs(5)));
    assert_eq!(config.api.socket, Path::new("/run/mc.sock"));
    assert!(config.api.http.is_some_and(|http| http.explicit && http.address.port() == 5000));
    assert_eq!((config.events_keep, config.log_level), (7, LogLevel::Debug));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn six_faults_are_reported_at_once_with_their_lines() {
    let place = Place::new();
    let text = r#"claster = "main"

[[topology]]
name = "lan"
strategy = "statik"

[epmd]
mode = "owned"
poll_interval = "250ms"

[readiness]
nodes_min = "three"
mandatory = [
  "db@10.0.0.5",
  "db",
]
"#;
    assert_eq!(
        place.faults(text),
        "\
metacluster.toml:1: there is no key `claster`: did you mean `cluster`?
metacluster.toml:5: there is no strategy `statik`: did you mean `static`?
metacluster.toml:8: `epmd.mode`: `owned` is not known: did you mean `own`?
metacluster.toml:9: `epmd.poll_interval`: `250ms` is too short: expected a duration such as \"30s\", at least 1s
metacluster.toml:12: `readiness.nodes_min`: expected a whole number from 0 to 100000, got the text \"three\"
metacluster.toml:15: `readiness.mandatory`: `db` is no node name: expected name@host, such as shop@10.0.0.4"
    );
}

#[test]
fn each_fault_is_one_clear_line() {
    let place = Place::new();
    for (text, expected) in [
        ("cluster = 7", "1: `cluster`: expected a text, got the number 7"),
        ("cluster = \"\"", "1: `cluster`: is empty"),
        ("\n\nroles = \"web\"", "3: `roles`: expected a list of texts, got the text \"web\""),
        ("roles = [\"web\",\n1]", "2: `roles`: expected a list of texts, it holds the number 1"),
        ("tags = { app = 1 }", "1: `tags`: expected a table of texts, `app` is the number 1"),
        ("epmd = 4369", "1: `epmd` is the number 4369: expected a section [epmd]"),
        ("[epmd]\nprot = 1", "2: there is no key `epmd.prot`: did you mean `port`?"),
        ("[epmd]\nport = 70000", "2: `epmd.port`: expected a port from 1 to 65535, got the number 70000"),
        (
            "[epmd]\naddresses = [\"localhost\"]",
            "2: `epmd.addresses`: `localhost` is no address: expected one such as 127.0.0.1 or ::1, without a port",
        ),
        (
            "[epmd]\nallow = [\"10.1.2.3/8\"]",
            "2: `epmd.allow`: `10.1.2.3/8` has bits behind its prefix: write `10.0.0.0/8` for the network, or the \
             address alone for the host",
        ),
        (
            "[nodes]\nnames = [\"a@b@c\"]",
            "2: `nodes.names`: \"a@b@c\" fits no node: expected a pattern such as worker-* or shop@10.0.0.*",
        ),
        ("[nodes]\nnames = [\"\"]", "2: `nodes.names`: an empty pattern fits no node"),
        (
            "[readiness]\ntimeout = \"soon\"",
            "2: `readiness.timeout`: `soon` is no duration: expected a number and a unit, such as 30s or 250ms",
        ),
        (
            "[api]\nhttp = \"0.0.0.0:4390\"",
            "2: `api.http`: `0.0.0.0:4390` is no loopback address, and this API asks nobody who he is: expected an address and a port such as 127.0.0.1:4390, or \"off\"",
        ),
        (
            "[api]\nhttp = \"4390\"",
            "2: `api.http`: `4390` is no address: expected an address and a port such as 127.0.0.1:4390, or \"off\"",
        ),
        ("[topology]\nname = \"x\"", "1: `topology` is a table: begin each entry with [[topology]]"),
        (
            "listen = \"localhost\"",
            "1: `listen`: `localhost` is no address with a port: expected one such as 0.0.0.0:0",
        ),
        ("node_name = \"a b\"", "1: `node_name`: `a b@host` holds a control character, a space, or a second `@`"),
        (
            "cookie = \"x\"",
            "1: the cookie may not stand in this file: write it to a file with mode 600 and name that with `cookie_file`, or set METACLUSTER_COOKIE",
        ),
        ("[[handler]]\ncommand = [\"x\"]", "1: [[handler]] needs `on`: a list of texts"),
        (
            "[[handler]]\non = [\"nodedwn\"]\ncommand = [\"x\"]",
            "2: `on`: there is no event `nodedwn`: did you mean `nodedown`?",
        ),
        ("[[handler]]\non = []\ncommand = [\"x\"]", "2: `on`: expected one event at least, such as \"nodedown\""),
        (
            "[[handler]]\non = [\"nodeup\"]\ncommand = []",
            "3: `command`: expected the program and its arguments, got an empty list",
        ),
        (
            "[[handler]]\non = [\"nodeup\"]\ncommand = [\"x\"]\nat_mots = 1",
            "4: [[handler]] has no key `at_mots`: did you mean `at_most`?",
        ),
        (
            "[[handler]]\non = [\"nodeup\"]\ncommand = [\"x\"]\nat_most = 0",
            "4: `at_most`: expected a whole number from 1 to 1000, got the number 0",
        ),
        ("[[topology]]\nname = 'x'\nstrategy = 3", "3: `strategy`: expected the name of a strategy, got the number 3"),
        ("[[topology]]\nstrategy = 'static'", "1: `nodes` is missing…"),
        (
            "[[topology]]\nstrategy = 'static'\nnodes = ['a@b']\nprun = true",
            "4: the strategy `static` has no key `prun`: did you mean `prune`?",
        ),
        (
            "[[topology]]\nstrategy = 'static'\nnodes = ['a@b']\nnoeds = 1",
            "4: the strategy `static` has no key `noeds`: did you mean `nodes`?",
        ),
        (
            "[[topology]]\nstrategy = 'static'\nnodes = ['a@b']\nprune = 7",
            "4: `prune` is a number: expected true or false",
        ),
        (
            "[[topology]]\nstrategy = 'static'\nnodes = ['a@b']\nprune = 7.5",
            "4: `prune`: no setting takes the number 7.5",
        ),
        (
            "[[topology]]\nstrategy = 'static'\nnodes = ['a@b']\nlocal_nodes = ['a b']",
            "4: `local_nodes`: \"a b\" fits no node: expected a pattern such as worker-* or shop@10.0.0.*",
        ),
        (
            "[[topology]]\nstrategy = 'static'\nnodes = ['a']",
            "3: `nodes` `a` is no node name: expected name@host, such as shop@10.0.0.4",
        ),
    ] {
        let faults = place.faults(text);
        let expected = format!("metacluster.toml:{expected}");
        // What ends with an ellipsis goes on in the words of the strategy.
        match expected.strip_suffix('…') {
            Some(begin) => assert!(faults.starts_with(begin) && faults.lines().count() == 1, "{text}: {faults}"),
            None => assert_eq!(faults, expected, "{text}"),
        }
    }
}

#[test]
fn two_topologies_may_not_share_a_name() {
    let place = Place::new();
    assert_eq!(
        place.faults(&format!("{STATIC}{STATIC}")),
        "metacluster.toml:4: another topology is called `static` (at metacluster.toml:1): give each a `name` of its own"
    );
    let config = valid(place.load(&format!("{STATIC}\n{STATIC}name = \"other\"\n")));
    assert_eq!(config.topologies.len(), 2);
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
    let place = Place::new();
    let environment = place.environment();
    let text = format!("cluster = \"file\"\n{STATIC}");
    assert_eq!(valid(place.load_with(&text, &environment)).cluster.as_str(), "file");
    let environment = environment.with_variable("METACLUSTER_CLUSTER", "variable");
    assert_eq!(valid(place.load_with(&text, &environment)).cluster.as_str(), "variable");
    let environment = environment.with_flag("--cluster", "cluster", "flag");
    assert_eq!(valid(place.load_with(&text, &environment)).cluster.as_str(), "flag");
}

#[test]
fn every_key_has_a_variable() {
    let place = Place::new();
    let certificate = place.certificate("node.pem", "ca.pem").display().to_string();
    let key_file = place.write("keys", &"0a".repeat(32), 0o600).display().to_string();
    let values = [
        ("CLUSTER", "c"),
        ("ZONE", "z"),
        ("REGION", "r"),
        ("ROLES", "web, db"),
        ("TAGS", "app=shop,tier=1"),
        ("COOKIE_FILE", "~/.erlang.cookie"),
        ("STATE_DIR", "/tmp/s"),
        ("NODE_NAME", "n"),
        ("HOST", "h"),
        ("LISTEN", "0.0.0.0:0"),
        ("DISTRIBUTION_CERTIFICATE", &certificate),
        ("DISTRIBUTION_KEY", &certificate),
        ("DISTRIBUTION_AUTHORITIES", "~/ca.pem"),
        ("DISTRIBUTION_NAMES", "never"),
        ("DISTRIBUTION_CLIENT_CERTIFICATES", "false"),
        ("NODES_NAMES", "a,b*"),
        ("EPMD_MODE", "own"),
        ("EPMD_PORT", "4001"),
        ("EPMD_ADDRESSES", "127.0.0.1,10.0.0.1"),
        ("EPMD_ALLOW", "10.0.0.0/8,fd00::/8"),
        ("EPMD_POLL_INTERVAL", "3s"),
        ("READINESS_NODES_MIN", "5"),
        ("READINESS_MANDATORY", "a@b"),
        ("READINESS_TIMEOUT", "1s"),
        ("FEDERATION_LISTEN", "0.0.0.0:4391"),
        ("FEDERATION_PEERS", "gw.west:4391,gw.east:4391"),
        ("FEDERATION_IDENTITY", "/gw.pem"),
        ("FEDERATION_TRUST", "/west.pem"),
        ("FEDERATION_COMPRESS", "true"),
        ("FEDERATION_MESSAGES_PER_SECOND", "1000"),
        ("FEDERATION_BYTES_PER_SECOND", "1000000"),
        ("FEDERATION_IDENTIFIERS_MAX", "5000"),
        ("FEDERATION_MEMBERS_MAX", "700"),
        ("CELLS_BY", "tag:rack"),
        ("CELLS_NODES_MAX", "40"),
        ("CELLS_NODES_MIN", "5"),
        ("CELLS_GATEWAYS", "3"),
        ("SOCKET", "/tmp/s.sock"),
        ("API_HTTP", "off"),
        ("MEMBERSHIP_ENABLED", "true"),
        ("MEMBERSHIP_LISTEN", "10.0.0.4"),
        ("MEMBERSHIP_PORT", "45000"),
        ("MEMBERSHIP_ADVERTISE", "192.0.2.4"),
        ("MEMBERSHIP_PROFILE", "wan"),
        ("MEMBERSHIP_ENCRYPTION", "preferred"),
        ("MEMBERSHIP_KEY_FILE", &key_file),
        ("MEMBERSHIP_CANDIDATES", "false"),
        ("MEMBERSHIP_INSTANCE", "i-1"),
        ("EVENTS_KEEP", "9"),
        ("LOG_LEVEL", "trace"),
    ];
    let names: Vec<String> = values.iter().map(|(name, _)| format!("METACLUSTER_{name}")).collect();
    assert_eq!(keys::KEYS.iter().map(|key| keys::variable(key.path)).collect::<Vec<_>>(), names);
    let environment = names
        .iter()
        .zip(&values)
        .fold(place.environment(), |environment, (name, (_, value))| environment.with_variable(name, value));
    let config = valid(place.load_with(STATIC, &environment));
    assert_eq!(config.roles.len(), 2);
    assert_eq!(config.tags["tier"], "1");
    let tls = config.distribution.expect("TLS");
    assert_eq!((tls.options().names, tls.options().client_certificates), (NameCheck::Never, false));
    assert_eq!(config.nodes, [Pattern::new("a"), Pattern::new("b*")]);
    assert_eq!((config.epmd.port, config.epmd.addresses.len(), config.epmd.allow.len()), (4001, 2, 2));
    assert_eq!((config.readiness.nodes_min, config.events_keep), (5, 9));
    let federation = config.federation.expect("a gateway");
    assert_eq!(federation.listen, Some(SocketAddr::from(([0, 0, 0, 0], 4391))));
    assert_eq!((federation.peers.len(), federation.trust.len()), (2, 1));
    assert_eq!(federation.identity, PathBuf::from("/gw.pem"));
    assert!(federation.compress);
    let limits = federation.limits;
    assert_eq!((limits.messages_per_second, limits.bytes_per_second), (Some(1_000), Some(1_000_000)));
    assert_eq!((limits.identifiers_of_peer_max, limits.members_of_peer_max), (5_000, 700));
    let cells = config.cells.expect("cells");
    assert_eq!((cells.by, cells.nodes_max, cells.nodes_min), (By::Tag("rack".to_owned()), 40, 5));
    assert_eq!(config.cell_gateways, 3);
    let membership = config.membership;
    assert!(membership.enabled && !membership.candidates);
    assert_eq!((membership.listen, membership.port), (Some(IpAddr::from([10, 0, 0, 4])), Some(45_000)));
    assert_eq!(membership.advertise, Some(SocketAddr::from(([192, 0, 2, 4], 0))));
    assert_eq!(membership.profile, MembershipProfile::Wan);
    assert_eq!((membership.encryption, membership.keys.len()), (Encryption::Preferred, 1));
    assert_eq!(membership.instance.as_deref(), Some("i-1"));
    assert_eq!(config.api, ApiConfig { socket: "/tmp/s.sock".into(), http: None });
    assert_eq!(config.warnings, [""; 0]);

    // Each name reaches its key: a value that no key takes is a fault that names the variable.
    for (key, name) in keys::KEYS.iter().zip(&names) {
        if matches!(key.kind, keys::Kind::Text | keys::Kind::Path | keys::Kind::List) {
            continue;
        }
        let environment = place.environment().with_variable(name, "%");
        let faults = place.load_with(STATIC, &environment).err().expect("a fault").to_string();
        assert!(faults.starts_with(&format!("{name}: `{}`: ", key.path)), "{faults}");
    }
}

#[test]
fn cells_need_a_word_on_what_divides_and_members() {
    let place = Place::new();
    assert_eq!(valid(place.load(STATIC)).cells, None);
    let faults = |text: &str| place.faults(&format!("{STATIC}[cells]\n{text}\n"));
    assert!(faults("by = \"zones\"").contains("`cells.by`: expected `zone`, `size` or `tag:NAME`"));
    assert!(faults("nodes_max = 9").contains("`cells.nodes_max`: there are no cells without `cells.by`"));
    let off = faults("by = \"zone\"\n\n[membership]\nenabled = false");
    assert!(off.contains("`cells.by`: who is in which cell goes by membership"), "{off}");
}

#[test]
fn the_port_of_epmd_is_that_of_erl() {
    let place = Place::new();
    let environment = place.environment().with_variable("ERL_EPMD_PORT", "5000");
    assert_eq!(valid(place.load_with(STATIC, &environment)).epmd.port, 5000);
    let file = format!("{STATIC}[epmd]\nport = 5001\n");
    assert_eq!(valid(place.load_with(&file, &environment)).epmd.port, 5001);
    let wrong = environment.with_variable("ERL_EPMD_PORT", "0");
    let faults = place.load_with(STATIC, &wrong).err().expect("a fault").to_string();
    assert_eq!(faults, "ERL_EPMD_PORT: `0` is no port: expected 1 to 65535");
}

#[test]
fn a_misspelt_variable_is_a_warning() {
    let place = Place::new();
    let environment =
        place.environment().with_variable("METACLUSTER_CLUSTR", "x").with_variable("METACLUSTER_SEQ", "1");
    assert_eq!(
        valid(place.load_with(STATIC, &environment)).warnings,
        ["METACLUSTER_CLUSTR: this variable is not known, and has no effect: did you mean `METACLUSTER_CLUSTER`?"]
    );
    let environment = place.environment().with_flag("--x", "no.key", "1");
    let faults = place.load_with(STATIC, &environment).err().expect("a fault").to_string();
    assert_eq!(faults, "--x: there is no key `no.key` to set");
}

#[test]
fn the_cookie_is_found_or_said_to_be_missing() {
    let place = Place::new();
    let folder = place.folder.path().to_str().expect("a text").to_owned();
    let home = |place: &Place, environment: &Environment| {
        place.load_with(STATIC, environment).map(|config| config.cookie.reveal().to_owned()).map_err(|e| e.to_string())
    };
    let environment = place.environment();
    assert_eq!(home(&place, &environment), Ok("secretcookie".to_owned()));
    let named = environment.clone().with_variable("METACLUSTER_COOKIE", "direct");
    assert_eq!(home(&place, &named), Ok("direct".to_owned()));

    let other = environment.clone().with_variable("METACLUSTER_COOKIE_FILE", "/nowhere/cookie");
    let hint = "name its file with cookie_file, set METACLUSTER_COOKIE, or start a node once";
    assert_eq!(
        home(&place, &other),
        Err(format!("METACLUSTER_COOKIE_FILE: no cookie: cannot read /nowhere/cookie: it does not exist; {hint}"))
    );
    fs::remove_file(place.folder.path().join(".erlang.cookie")).expect("removed");
    assert_eq!(
        home(&place, &environment),
        Err(format!("no cookie: cannot read {folder}/.erlang.cookie: it does not exist; {hint}"))
    );
    place.write(".erlang.cookie", " \n", 0o600);
    assert_eq!(
        home(&place, &environment),
        Err(format!("the cookie file {folder}/.erlang.cookie: the cookie is empty"))
    );
    place.write(".erlang.cookie", "one two", 0o600);
    let spaced = home(&place, &environment).expect_err("a fault");
    assert!(spaced.contains("white space") && !spaced.contains("one two"), "{spaced}");
    place.write(".erlang.cookie", &"x".repeat(256), 0o600);
    assert!(home(&place, &environment).expect_err("a fault").contains("256 characters: at most 255"));
}

#[test]
fn a_cookie_file_that_others_may_read_is_a_warning() {
    let place = Place::new();
    let path = place.write(".erlang.cookie", "secretcookie", 0o644);
    let path = path.display();
    assert_eq!(
        valid(place.load(STATIC)).warnings,
        [format!("the cookie file {path} is open to others (mode 644); run: chmod 600 {path}")]
    );
}

#[test]
fn a_handler_that_cannot_run_is_a_warning() {
    let place = Place::new();
    let plain = place.write("plain", "", 0o644);
    let text = format!("{STATIC}[[handler]]\non = ['nodeup']\ncommand = ['{}']", plain.display());
    let warnings = valid(place.load(&text)).warnings;
    assert!(warnings[0].contains(":6: the handler ") && warnings[0].contains("chmod +x"), "{warnings:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let place = Place::new();
    let missing = place.folder.path().join("missing.toml");
    let shown = missing.display();
    let faults = Config::load(&missing, &place.environment()).err().expect("a fault");
    assert_eq!(faults.to_string(), format!("{shown}: cannot read {shown}: it does not exist"));
    let folder = Config::load(place.folder.path(), &place.environment()).err().expect("a fault").to_string();
    assert!(folder.ends_with("it is a folder"), "{folder}");
    fs::write(&missing, b"a = 1\n\xff").expect("written");
    let binary = Config::load(&missing, &place.environment()).err().expect("a fault").to_string();
    assert_eq!(binary, format!("{shown}:2: the file is not UTF-8 text here"));
}

#[test]
fn a_socket_with_too_long_a_path_is_refused_early() {
    let place = Place::new();
    let faults = place.faults(&format!("state_dir = \"/tmp/{}\"", "x".repeat(100)));
    assert!(faults.starts_with("metacluster.toml:1: `state_dir`: the socket /tmp/xxx"), "{faults}");
    assert!(faults.ends_with("has a path of 122 bytes, and 107 are possible: set a shorter `api.socket`"), "{faults}");
}

#[test]
fn topologies_of_the_command_line_get_names() {
    let place = Place::new();
    let spec = |text: &str| text.parse::<Spec>().expect("a spec");
    let specs = vec![spec("static:nodes=a@h1,b@h2"), spec("static:nodes=c@h3"), spec("static:nodes=c@h3,name=x")];
    let config = valid(Config::embedded(specs, &place.environment()));
    let names: Vec<&str> = config.topologies.iter().map(|topology| topology.name.as_str()).collect();
    assert_eq!(names, ["static", "static-2", "x"]);
    let faults = Config::embedded(vec![spec("static:ndes=a@h1")], &place.environment()).err().expect("faults");
    let faults = faults.to_string();
    let (first, second) = faults.split_once('\n').expect("two lines");
    assert_eq!(first, "--topology static: the strategy `static` has no key `ndes`: did you mean `nodes`?");
    assert!(second.starts_with("--topology static: `nodes` is missing"), "{second}");
}

#[test]
fn the_reference_has_every_key() {
    let text = reference_markdown();
    for key in keys::KEYS.iter().chain(keys::HANDLER_KEYS) {
        assert!(text.contains(&format!("| `{}` |", key.path)), "{} is missing", key.path);
    }
    assert!(text.contains("METACLUSTER_SOCKET") && text.contains("`local_nodes`"));
}

/// `METACLUSTER_WRITE_DOCS=1 cargo test -p metacluster-agent reference` writes the page.
#[test]
fn the_reference_in_docs_is_that_of_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("METACLUSTER_WRITE_DOCS").is_some() {
        fs::write(&page, reference_markdown()).expect("written");
    }
    let written = fs::read_to_string(&page).expect("the page is there");
    assert!(written == reference_markdown(), "{} is not what the tables say: write it again", page.display());
}

#[test]
fn no_text_makes_it_panic() {
    let environment = Environment::empty().with_variable("METACLUSTER_COOKIE", "c").with_variable("HOME", "/nowhere");
    let text = "cluster='a'\nroles=['b',]\ntags={x='y'}\n[[topology]]\nstrategy='static'\nnodes=['a@b']\n[[handler]]\non=['nodeup']\ncommand=['x']\n[epmd]\nport=1\n";
    let judge = |text: &str| match raw::parse(Path::new("m.toml"), text) {
        Ok(file) => drop(validate::validate(file, validate::Topologies::File, &environment)),
        Err(fault) => assert!(fault.line().is_some(), "{text}: {fault}"),
    };
    for at in 0..=text.len() {
        judge(&text[..at]);
        // Each byte in turn becomes each of these, a removed one included.
        for other in ["", "=", "[", "]", "'", "\n", "{", "#", "é", "7", "."] {
            if let Some(rest) = text.get(at + 1..) {
                judge(&format!("{}{other}{rest}", &text[..at]));
            }
        }
    }
}

#[test]
fn what_membership_cannot_be_is_said() {
    let place = Place::new();
    place.write("none", "# nothing\n", 0o600);
    place.write("short", "abc\n", 0o600);
    let faults = |text: &str| place.faults(&format!("{STATIC}[membership]\n{text}\n"));
    assert!(faults("listen = \"10.0.0.4:1\"").contains("without a port"));
    assert!(faults("advertise = \"0.0.0.0\"").contains("no address to be reached at"));
    assert!(faults("profile = \"wam\"").contains("`membership.profile`: `wam` is not known: did you mean `wan`?"));
    assert!(faults("enabled = \"yes\"").contains("`membership.enabled`: expected true, false, got the text"));
    assert!(faults("key_file = \"~/none\"").contains("none holds no key"));
    assert!(faults("key_file = \"~/short\"").contains("line 1: expected 64 hexadecimal digits"));
    assert!(faults("key_file = \"~/missing\"").contains("it does not exist"));
    assert!(faults("candidate = true").contains("candidates"));
}

#[test]
fn a_topology_that_chooses_says_alone_who_belongs() {
    let place = Place::new();
    assert!(valid(place.load(STATIC)).membership.candidates);
    let prunes = format!("{STATIC}prune = true\n");
    assert!(!valid(place.load(&prunes)).membership.candidates);
    assert!(!valid(place.load(&format!("{STATIC}local_nodes = [\"shop\"]\n"))).membership.candidates);
    assert!(valid(place.load(&format!("{prunes}[membership]\ncandidates = true\n"))).membership.candidates);
}

#[test]
fn the_name_of_the_built_in_topology_is_taken() {
    let place = Place::new();
    let faults = place.faults("[[topology]]\nname = \"members\"\nstrategy = \"static\"\nnodes = [\"a@h1\"]\n");
    assert!(faults.contains("members"), "{faults}");
}
