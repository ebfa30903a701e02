//! Every command line to both programs, asking both servers.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    thread,
};

use metacluster_testbed::{Tool, require};

use crate::servers::{Epmd, Whose, free_port};

/// What a program printed and how it ended, with its time and port left out.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    code: Option<i32>,
    out: String,
    error: String,
}

fn run(whose: Whose, arguments: &[&str], variables: &[(&str, &str)], port: u16) -> Told {
    let mut command = whose.command();
    let output = command.args(arguments).envs(variables.iter().copied()).output().expect("it runs");
    let plain = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if port == 0 { text } else { text.replace(&port.to_string(), "PORT") }
    };
    Told { code: output.status.code(), out: plain(&output.stdout), error: without_time(&plain(&output.stderr)) }
}

/// `epmd: Sun Nov 22 04:33:40 2026: text` without the time.
fn without_time(text: &str) -> String {
    match text.strip_prefix("epmd: ") {
        Some(rest) if rest.len() > 26 && rest.as_bytes()[24] == b':' => format!("epmd: {}", &rest[26..]),
        _ => text.to_owned(),
    }
}

/// Runs a question with both programs against a server, and demands the same.
#[track_caller]
fn same(port: u16, arguments: &[&str]) -> Told {
    let text = port.to_string();
    let flags = [&["-port", &text], arguments].concat();
    let [stock, ours] = Whose::BOTH.map(|whose| run(whose, &flags, &[], port));
    assert_eq!(stock, ours, "{arguments:?}");
    let variable = run(Whose::Ours, arguments, &[("ERL_EPMD_PORT", &text)], port);
    assert_eq!(variable, ours, "ERL_EPMD_PORT and {arguments:?}");
    ours
}

const QUESTIONS: [&[&str]; 5] = [&["-names"], &["-started"], &["-dump"], &["-d", "-names"], &["-stop", "nobody"]];

#[test]
fn questions_are_printed_as_stock_epmd_prints_them() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for whose in Whose::BOTH {
        for flags in [&[][..], &["-relaxed_command_check"]] {
            let epmd = Epmd::start(whose, flags);
            for question in QUESTIONS {
                same(epmd.port, question);
            }
            let (shop, _) = epmd.register("shop");
            let (gone, _) = epmd.register("gone");
            drop(gone);
            epmd.lists("name shop at port 4000\n");
            for question in QUESTIONS {
                same(epmd.port, question);
            }
            let long = "x".repeat(1_001);
            same(epmd.port, &["-stop", &long]);
            assert!(epmd.names().contains("shop"), "the name is what it was");
            if flags.is_empty() {
                assert_eq!(same(epmd.port, &["-kill"]).code, Some(1));
            }
            drop(shop);
        }
    }
}

#[test]
fn a_kill_and_a_stop_are_printed_as_stock_epmd_prints_them() {
    if !require(&[Tool::Erl]) {
        return;
    }
    // Each of them changes its server, so each has its own.
    for server in Whose::BOTH {
        for question in [&["-kill"][..], &["-stop", "shop"]] {
            let [stock, ours] = Whose::BOTH.map(|client| {
                let epmd = Epmd::start(server, &["-relaxed_command_check"]);
                let _shop = epmd.register("shop");
                let text = epmd.port.to_string();
                run(client, &[&["-port", &text], question].concat(), &[], epmd.port)
            });
            assert_eq!(stock, ours, "{question:?} to {server:?}");
            assert_eq!(ours.code, Some(0));
        }
    }
}

#[test]
fn without_an_epmd_each_question_fails_in_the_same_words() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let port = free_port();
    for question in QUESTIONS.into_iter().chain([&["-kill"][..]]) {
        assert_eq!(same(port, question).code, Some(1), "{question:?}");
    }
}

#[test]
fn an_epmd_that_answers_wrongly_fails_in_the_same_words() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for answer in [&b""[..], b"O", b"NO", b"\0\0", b"ST", b"\0\0\x11\x11odd"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                // The whole request, so that the end is no reset.
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("a request");
                let mut body = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut body).expect("a request");
                stream.write_all(answer).expect("written");
            }
        });
        for question in [&["-names"][..], &["-started"], &["-dump"], &["-kill"], &["-stop", "shop"]] {
            same(port, question);
        }
    }
}

#[test]
fn wrong_usage_is_refused_where_stock_epmd_refuses_it() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for arguments in [
        &["-bogus"][..],
        &["help"],
        &["--help"],
        &["-h"],
        &["-port"],
        &["-port", "0"],
        &["-port", "x"],
        &["-packet_timeout"],
        &["-packet_timeout", "0"],
        &["-delay_accept", "x"],
        &["-delay_write"],
        &["-address"],
        &["-stop"],
        &["-stop", "a", "b"],
        &["-names", "x"],
        &["-kill", "-d"],
        &["-started", "-port", "1"],
        &["-dump", "-names"],
    ] {
        for whose in Whose::BOTH {
            let told = run(whose, arguments, &[], 0);
            assert_eq!((told.code, told.out.as_str()), (Some(1), ""), "{whose:?} {arguments:?}");
            assert!(told.error.starts_with("usage: epmd [-d|-debug] "), "{whose:?} {arguments:?}: {}", told.error);
        }
    }
}

#[test]
fn what_cannot_be_listened_on_is_refused_in_the_same_words() {
    if !require(&[Tool::Erl]) {
        return;
    }
    let port = free_port().to_string();
    let many = (2..=15).map(|n| format!("127.0.0.{n}")).collect::<Vec<_>>().join(",");
    for arguments in
        [&["-address", "localhost"][..], &["-address", "127.0.0.2,nonsense"], &["-address", &many], &["-systemd"]]
    {
        let arguments = [&["-port", &port], arguments].concat();
        let [mut stock, ours] = Whose::BOTH.map(|whose| run(whose, &arguments, &[], 0));
        // From OTP 29 on the loopback is left out of the same count.
        stock.error = stock.error.replace("more than 14 IP", "more than 16 IP");
        assert_eq!(stock, ours, "{arguments:?}");
        assert_eq!(ours.code, Some(1));
    }
    let variable = [("ERL_EPMD_ADDRESS", "nonsense"), ("ERL_EPMD_PORT", &port)];
    let [stock, ours] = Whose::BOTH.map(|whose| run(whose, &[], &variable, 0));
    assert_eq!((&stock, ours.code), (&ours, Some(1)));
    // An address that is not of this host: the words of the system differ.
    for whose in Whose::BOTH {
        let told = run(whose, &["-port", &port, "-address", "192.0.2.1"], &[], 0);
        assert_eq!(told.code, Some(1));
        assert!(told.error.contains("192.0.2.1") && told.error.contains("annot assign"), "{}", told.error);
    }
}

#[test]
fn a_second_epmd_ends_well() {
    if !require(&[Tool::Erl]) {
        return;
    }
    for first in Whose::BOTH {
        let epmd = Epmd::start(first, &[]);
        let port = epmd.port.to_string();
        for flags in [&["-port", &port][..], &["-port", &port, "-daemon"]] {
            let [stock, ours] = Whose::BOTH.map(|whose| run(whose, flags, &[], epmd.port));
            assert_eq!(stock, ours);
            assert_eq!((ours.code, ours.error.as_str()), (Some(0), ""));
        }
    }
}
