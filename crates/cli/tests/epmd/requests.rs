//! Every request to both epmds.

use std::{collections::BTreeMap, io::Write, net::TcpStream};

use metacluster_testbed::{Tool, require};

use crate::servers::{Epmd, Whose, alive2, alive2_body, drain, request};

/// Something that a client does with the connection of that number.
enum Step {
    /// Opens it, if it is not, and sends.
    Send(u8, Vec<u8>),
    Close(u8),
}

use Step::{Close, Send};

/// A client's script, with the flags of the server.
struct Script {
    what: &'static str,
    flags: &'static [&'static str],
    steps: Vec<Step>,
}

fn script(what: &'static str, steps: Vec<Step>) -> Script {
    Script { what, flags: &[], steps }
}

fn relaxed(what: &'static str, steps: Vec<Step>) -> Script {
    Script { what, flags: &["-relaxed_command_check"], steps }
}

/// One request over one connection.
fn one(what: &'static str, bytes: Vec<u8>) -> Script {
    script(what, vec![Send(0, bytes)])
}

fn shop() -> Vec<u8> {
    alive2(b"shop", b"")
}

fn names() -> Vec<u8> {
    request(b"n")
}

/// Bytes cut into two sends at that place.
fn cut(bytes: &[u8], at: usize) -> Vec<Step> {
    vec![Send(0, bytes[..at].to_vec()), Send(0, bytes[at..].to_vec())]
}

/// A registration whose fields say other lengths than they have.
fn lying(name_length: u16, extra_length: u16) -> Vec<u8> {
    let mut body = alive2_body(6, b"shop", b"");
    body[9..11].copy_from_slice(&name_length.to_be_bytes());
    body[15..17].copy_from_slice(&extra_length.to_be_bytes());
    request(&body)
}

fn registrations() -> Vec<Script> {
    let long = |count: usize| "ж".repeat(count).into_bytes();
    vec![
        script("a node", vec![Send(0, shop()), Send(1, names()), Send(2, request(b"zshop")), Send(3, request(b"d"))]),
        script("taken", vec![Send(0, shop()), Send(1, shop()), Close(1), Send(2, names())]),
        script("a byte after the reply", vec![Send(0, shop()), Send(0, b"!".to_vec()), Send(1, names())]),
        script("a request after the reply", vec![Send(0, shop()), Send(0, names()), Send(1, names())]),
        script("a byte after a refusal", vec![Send(0, shop()), Send(1, shop()), Send(1, b"!".to_vec())]),
        script("comes back", vec![Send(0, shop()), Close(0), Send(1, shop()), Close(1), Send(2, shop())]),
        script(
            "newest first",
            ["a", "b", "c"]
                .into_iter()
                .zip(0..)
                .map(|(n, c)| Send(c, alive2(n.as_bytes(), b"")))
                .chain([
                    Send(3, names()),
                    Close(1),
                    Send(4, names()),
                    Send(5, request(b"d")),
                    Send(6, alive2(b"b", b"")),
                    Send(7, names()),
                    Close(0),
                    Close(2),
                    Send(8, request(b"d")),
                ])
                .collect(),
        ),
        script("with extra", vec![Send(0, alive2(b"shop", b"ab\0c")), Send(1, request(b"zshop"))]),
        script("the longest extra", vec![Send(0, alive2(b"shop", &[7; 1020])), Send(1, request(b"zshop"))]),
        one("too long an extra", alive2(b"shop", &[7; 1021])),
        one("far too long an extra", alive2(b"shop", &[7; 2000])),
        script("the longest name", vec![Send(0, alive2(&long(255), b"")), Send(1, names())]),
        one("a name too long", alive2(&long(256), b"")),
        one("a name far too long", alive2(&long(700), b"")),
        one("a name of 1,021 bytes", alive2(&[b'x'; 1021], b"")),
        script("in UTF-8", vec![Send(0, alive2("café".as_bytes(), b"")), Send(1, request("zcafé".as_bytes()))]),
        one("not in UTF-8", alive2(b"a\xff", b"")),
        one("overlong UTF-8", alive2(b"a\xc0\x80", b"")),
        one("a surrogate", alive2(b"a\xed\xa0\x80", b"")),
        one("a name with a zero", alive2(b"a\0b", b"")),
        one("a name that ends in a zero", alive2(b"shop\0", b"")),
        one("no name", alive2(b"", b"")),
        one("bytes behind the fields", request(&[alive2_body(6, b"shop", b""), b"more".to_vec()].concat())),
        one("a name longer than the packet", lying(5000, 0)),
        one("a name one longer than the packet", lying(5, 0)),
        one("an extra longer than the packet", lying(4, 1)),
        one("an extra far longer than the packet", lying(4, 0xffff)),
        one("an old version", request(&alive2_body(5, b"shop", b""))),
        one("an ancient version", request(&alive2_body(0, b"shop", b""))),
        one("a refusal of an old version", request(&alive2_body(5, &[b'x'; 300], b""))),
        one("a future version", request(&alive2_body(9, b"shop", b""))),
        one("a cut registration", request(&alive2_body(6, b"shop", b"")[..12])),
        one("only the opcode", request(b"x")),
    ]
}

fn look_ups() -> Vec<Script> {
    vec![
        one("nobody", request(b"znobody")),
        script("with a zero", vec![Send(0, shop()), Send(1, request(b"zshop\0"))]),
        script("with two zeros", vec![Send(0, shop()), Send(1, request(b"zshop\0\0"))]),
        script("with a zero within", vec![Send(0, shop()), Send(1, request(b"zsh\0op"))]),
        script("of a part", vec![Send(0, shop()), Send(1, request(b"zsho"))]),
        one("no name to look up", request(b"z")),
        one("a zero to look up", request(b"z\0")),
        one("254 characters", request(&[b"z", &[b'a'; 254][..]].concat())),
        one("256 characters", request(&[b"z", &[b'a'; 256][..]].concat())),
        one("no UTF-8 to look up", request(b"z\xff")),
        one("names of nobody", names()),
        one("names with bytes behind", request(b"nxxxx")),
        one("a dump of nobody", request(b"d")),
        one("a dump with bytes behind", request(b"dxx")),
    ]
}

fn commands() -> Vec<Script> {
    vec![
        script("kill with a node", vec![Send(0, shop()), Send(1, request(b"k")), Send(2, names())]),
        script("stop", vec![Send(0, shop()), Send(1, request(b"sshop")), Send(2, names())]),
        relaxed("a relaxed stop", vec![Send(0, shop()), Send(1, request(b"sshop")), Send(2, names()), Send(3, shop())]),
        relaxed("a relaxed stop with a zero", vec![Send(0, shop()), Send(1, request(b"sshop\0x")), Send(2, names())]),
        relaxed("a relaxed stop of nobody", vec![Send(0, request(b"snobody"))]),
        relaxed("a relaxed stop without a name", vec![Send(0, request(b"s"))]),
        one("the old registration", request(b"a\x0f\xa0shop")),
        one("the old look-up", request(b"pshop")),
        one("an unknown opcode", request(b"?")),
        one("an answer", request(b"v\0\0\0\0\x01")),
        one("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

fn framing() -> Vec<Script> {
    let longest = request(&[b"z", &[b'a'; 3056][..]].concat());
    let mut many = Vec::new();
    for at in 1..shop().len() {
        many.push(script("a registration in two", cut(&shop(), at)));
    }
    let trailing = [names(), b"x".to_vec()].concat();
    many.extend([
        one("nothing but a byte", b"\0".to_vec()),
        one("nothing but a length", b"\0\x01".to_vec()),
        one("a length of 0", b"\0\0".to_vec()),
        one("a length of 0 and more", b"\0\0n".to_vec()),
        one("names of the longest length", request(&[b'n'; 3057])),
        one("names a byte too long", request(&[b'n'; 3058])),
        one("the longest look-up", longest.clone()),
        script("the longest look-up in two", cut(&longest, 1500)),
        one("the largest length", b"\xff\xff".to_vec()),
        one("the largest length and a request", b"\xff\xffn".to_vec()),
        one("two at once", [names(), names()].concat()),
        one("a byte behind", trailing.clone()),
        // What comes behind is not read when the length was known before it came.
        script("a byte behind, the request in two", cut(&trailing, 2)),
        script("a byte behind, the length in two", cut(&trailing, 1)),
        script("two at once, the first in two", cut(&[names(), names()].concat(), 2)),
        script("a registration and more", vec![Send(0, [shop(), names()].concat()), Send(1, names())]),
        script("half, and gone", vec![Send(0, b"\0\x05zsh".to_vec()), Close(0), Send(1, names())]),
    ]);
    many
}

/// Plays a script and tells all that came, with what differs from run to run replaced.
fn play(whose: Whose, script: &Script) -> Vec<String> {
    let epmd = Epmd::start(whose, script.flags);
    let mut connections: BTreeMap<u8, TcpStream> = BTreeMap::new();
    let mut creations = BTreeMap::new();
    let mut sent = BTreeMap::new();
    let mut told = Vec::new();
    for (number, step) in script.steps.iter().enumerate() {
        match step {
            Send(connection, bytes) => {
                let stream = connections.entry(*connection).or_insert_with(|| epmd.connect());
                // It may have been closed by what was sent before.
                stream.write_all(bytes).ok();
                sent.insert(*connection, bytes.clone());
            }
            Close(connection) => drop(connections.remove(connection)),
        }
        epmd.settle();
        for (connection, stream) in &mut connections {
            let (bytes, open) = drain(stream);
            let state = if open { "open" } else { "closed" };
            let request = sent.get(connection).map(Vec::as_slice).unwrap_or_default();
            let answer = plain(&bytes, epmd.port, request, &mut creations);
            told.push(format!("step {number}, connection {connection}: {answer} {state}"));
        }
    }
    told
}

/// An answer with its own port, descriptors and the first creation of each name left out.
fn plain(answer: &[u8], port: u16, request: &[u8], creations: &mut BTreeMap<Vec<u8>, u32>) -> String {
    match answer {
        [b'v', 0, creation @ ..] => {
            let creation = u32::from_be_bytes(creation.try_into().expect("four bytes"));
            // Each name has its own count, from the clock on.
            let first = creations.entry(request.to_vec()).or_insert(creation);
            format!("v 0 first+{}", creation - *first)
        }
        [b'y', 0, 0, 1..=3] => "y 0 1..3".to_owned(),
        _ => match answer.strip_prefix(&u32::from(port).to_be_bytes()) {
            Some(lines) => {
                let mut text = format!("{:?}", String::from_utf8_lossy(lines));
                let mut from = 0;
                while let Some(at) = text[from..].find("fd = ") {
                    let digits = from + at + 5;
                    let end = digits + text[digits..].find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
                    text.replace_range(digits..end, "N");
                    from = digits;
                }
                format!("port {text}")
            }
            None => format!("{answer:?}"),
        },
    }
}

#[track_caller]
fn same(scripts: &[Script]) {
    if !require(&[Tool::Erl]) {
        return;
    }
    let differ: Vec<_> = scripts
        .iter()
        .filter_map(|script| {
            let [stock, ours] = Whose::BOTH.map(|whose| play(whose, script));
            (stock != ours).then(|| format!("{}:\n  stock {stock:#?}\n  ours {ours:#?}", script.what))
        })
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn registrations_are_answered_as_stock_epmd_answers() {
    same(&registrations());
}

#[test]
fn look_ups_are_answered_as_stock_epmd_answers() {
    same(&look_ups());
}

#[test]
fn commands_are_answered_as_stock_epmd_answers() {
    same(&commands());
}

#[test]
fn requests_are_framed_as_stock_epmd_frames() {
    same(&framing());
}

#[test]
fn a_kill_is_obeyed_when_no_node_lives_or_the_check_is_relaxed() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for whose in Whose::BOTH {
        for (flags, node) in [(&[][..], false), (&["-relaxed_command_check"], true)] {
            let mut epmd = Epmd::start(whose, flags);
            let held = node.then(|| epmd.register("shop"));
            assert_eq!(epmd.exchange(&request(b"k")), b"OK", "{whose:?}");
            assert!(epmd.child.wait(crate::servers::PATIENCE).expect("it ends").success());
            drop(held);
        }
    }
}

#[test]
fn creations_of_old_nodes_are_those_of_new_ones_in_three() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for whose in Whose::BOTH {
        let epmd = Epmd::start(whose, &[]);
        let mut last = None;
        for _ in 0..4 {
            let mut stream = epmd.connect();
            stream.write_all(&request(&alive2_body(5, b"old", b""))).expect("written");
            epmd.settle();
            let (reply, open) = drain(&mut stream);
            assert!(matches!(reply[..], [b'y', 0, 0, 1..=3]) && open, "{whose:?}: {reply:?}");
            assert!(last.is_none_or(|last: u8| reply[3] == last % 3 + 1), "{whose:?}: {last:?}, then {reply:?}");
            last = Some(reply[3]);
            drop(stream);
            epmd.lists("");
        }
        let (_shop, creation) = epmd.register("old");
        assert_eq!((creation % 3 + 1) as u8, last.expect("a creation") % 3 + 1, "{whose:?}");
    }
}

#[test]
fn a_thousand_names_are_remembered_and_five_while_debugging() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for (flags, remembered) in [(&[][..], 1_000), (&["-d"], 5)] {
        let dumped = Whose::BOTH.map(|whose| {
            let epmd = Epmd::start(whose, flags);
            let names: Vec<_> = (0..remembered + 60).map(|n| format!("n{n}")).collect();
            for some in names.chunks(20) {
                drop(some.iter().map(|name| epmd.register(name)).collect::<Vec<_>>());
                // Only what is gone is remembered.
                epmd.lists("");
            }
            let dump = String::from_utf8(epmd.exchange(&request(b"d"))[4..].to_vec()).expect("text");
            assert!(dump.split('\0').all(|line| line.is_empty() || line.starts_with("old/unused name <n")), "{dump}");
            assert!(dump.contains(names.last().expect("names")), "{whose:?} {flags:?}, the last is remembered: {dump}");
            assert!(!dump.contains("<n0>"), "{whose:?} {flags:?}, the first is not: {dump}");
            dump.matches('\0').count()
        });
        let [stock, ours] = dumped;
        assert_eq!(stock, ours, "{flags:?}");
        assert!(ours >= remembered, "{flags:?}: {ours}");
    }
}
