//! Hosts become candidates as the keys say.

use std::net::IpAddr;

use metacluster_types::{HostState, Place, Zone};

use super::*;
use crate::{Fault, Settings, Value};

const TABLE: &[Key] = &[BASENAME, ROLES_FROM];

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let value = |text: &str| match text.split_once(',') {
        Some(_) => Value::List(text.split(',').map(Value::from).collect()),
        None => Value::from(text),
    };
    pairs.iter().map(|&(key, text)| (key.to_owned(), value(text))).collect()
}

fn read(gives: Gives, pairs: &[(&str, &str)]) -> Result<Naming, Vec<Fault>> {
    let settings = settings(pairs);
    let mut reader = Reader::new(&[TABLE, HOST_KEYS], &settings);
    let naming = Naming::read(&mut reader, gives);
    reader.finish()?;
    Ok(naming)
}

fn naming(pairs: &[(&str, &str)]) -> Naming {
    read(Gives::Hosts, pairs).expect("valid settings")
}

fn faults(pairs: &[(&str, &str)]) -> String {
    let faults = read(Gives::Hosts, pairs).expect_err("faults");
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn host(texts: &[&str]) -> Host {
    Host { addresses: addresses(texts), ..Host::default() }
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.candidates.iter().map(|candidate| candidate.node.as_str()).collect()
}

#[test]
fn each_host_has_one_candidate_for_each_basename() {
    let answer = naming(&[("basename", "shop,worker")]).answer(vec![host(&["10.0.0.5"]), host(&["fd00::4"])]);
    assert_eq!(names(&answer), ["shop@10.0.0.5", "shop@fd00::4", "worker@10.0.0.5", "worker@fd00::4"]);
    assert_eq!(answer.hosts.len(), 2);
    assert_eq!(answer.notes, Vec::<String>::new());
    assert_eq!(answer.candidates[0].host, answer.hosts[0], "a candidate carries its host");
}

#[test]
fn without_a_name_the_hosts_alone_are_told() {
    let naming = naming(&[]);
    assert!(!naming.names_nodes());
    let answer = naming.answer(vec![host(&["10.0.0.5"])]);
    assert_eq!((answer.hosts.len(), answer.candidates.len()), (1, 0));
}

#[test]
fn only_hosts_that_run_are_candidates_and_all_are_told() {
    let states = [HostState::Pending, HostState::Running, HostState::Terminating, HostState::Terminated];
    let hosts = states.into_iter().enumerate().map(|(at, state)| Host { state, ..host(&[&format!("10.0.0.{at}")]) });
    let answer = naming(&[("basename", "shop")]).answer(hosts.collect());
    assert_eq!(names(&answer), ["shop@10.0.0.1"]);
    assert_eq!(answer.hosts.len(), 4);
}

#[test]
fn a_template_takes_all_that_is_known() {
    let mut web = host(&["10.0.0.5"]);
    web.name = Some("web1.example.org".to_owned());
    web.instance = Some("i-1".to_owned());
    web.place = Place { zone: Zone::new("z1").ok(), region: None };
    web.tags.insert("app".to_owned(), "till".to_owned());
    for (template, node) in [
        ("shop@{ip_dashes}.pod", "shop@10-0-0-5.pod"),
        ("shop@{host}", "shop@web1.example.org"),
        ("{instance}-{zone}@{short}", "i-1-z1@web1"),
        ("{tag.app}@{name}", "till@web1.example.org"),
    ] {
        let answer = naming(&[("name_template", template)]).answer(vec![web.clone()]);
        assert_eq!(names(&answer), [node], "{template}");
    }
    let answer = naming(&[("name_template", "shop@{host}")]).answer(vec![host(&["10.0.0.5"])]);
    assert_eq!(names(&answer), ["shop@10.0.0.5"], "a host without a name goes by its address");
}

#[test]
fn a_host_that_lacks_what_the_template_wants_is_noted_and_stays_a_host() {
    let answer = naming(&[("name_template", "shop@{tag.dns}")]).answer(vec![host(&["10.0.0.5"]), host(&["10.0.0.6"])]);
    assert_eq!((answer.hosts.len(), answer.candidates.len()), (2, 0));
    assert_eq!(answer.notes.len(), 1, "one line for both");
    assert!(answer.notes[0].contains("`{tag.dns}`") && answer.notes[0].contains("10.0.0.5"), "{:?}", answer.notes);
}

#[test]
fn addresses_are_chosen_and_ordered() {
    let all = ["2001:db8::1", "8.8.8.8", "fd00::1", "10.0.0.5", "fe80::1", "10.0.0.5", "0.0.0.0"];
    let chosen = |word: &str| naming(&[("addresses", word)]).answer(vec![host(&all)]).hosts[0].addresses.clone();
    assert_eq!(chosen("private"), addresses(&["10.0.0.5", "fd00::1", "fe80::1", "8.8.8.8", "2001:db8::1"]));
    assert_eq!(chosen("public"), addresses(&["8.8.8.8", "2001:db8::1"]));
    assert_eq!(chosen("ipv6"), addresses(&["2001:db8::1", "fd00::1"]));
    let (private, public) = (addresses(&["10.0.0.5"]), addresses(&["8.8.8.8"]));
    assert_eq!(Addresses::Private.pick(&private, &public), private);
    assert_eq!(Addresses::Public.pick(&private, &public), public);
    let answer = naming(&[("addresses", "public"), ("basename", "shop")]).answer(vec![host(&["10.0.0.5"])]);
    assert!(answer.candidates.is_empty() && answer.notes[0].contains("no address"), "{:?}", answer.notes);
}

#[test]
fn tags_give_roles_and_the_settings_the_port() {
    let mut web = host(&["10.0.0.5"]);
    web.port = Some(1);
    web.tags.insert("roles".to_owned(), "web, till,,".to_owned());
    let answer = naming(&[("roles_from", "roles"), ("port", "4000")]).answer(vec![web]);
    let roles: Vec<&str> = answer.hosts[0].roles.iter().map(Role::as_str).collect();
    assert_eq!((roles, answer.hosts[0].port), (vec!["till", "web"], Some(4000)));
}

#[test]
fn an_answer_without_end_is_cut_in_a_fixed_order_and_noted() {
    let hosts: Vec<Host> =
        (0..=12_000_u32).rev().map(|at| host(&[&IpAddr::from((0x0a00_0000 + at).to_be_bytes()).to_string()])).collect();
    let answer = naming(&[("basename", "shop,worker")]).answer(hosts);
    assert_eq!((answer.hosts.len(), answer.candidates.len()), (HOSTS_MAX, HOSTS_MAX));
    assert_eq!(answer.hosts[0].addresses, addresses(&["10.0.0.0"]), "the same ones in each answer");
    assert_eq!(answer.notes.len(), 2, "hosts and nodes: {:?}", answer.notes);
}

#[test]
fn a_source_of_names_and_hosts_filters_the_ones_and_names_the_others() {
    let naming = read(Gives::Both, &[("basename", "shop,work-*")]).expect("valid");
    let node = |text: &str| Candidate::new(NodeName::new(text).expect("a node"));
    let named = vec![node("work-1@h"), node("other@h"), node("shop@h")];
    let answer = naming.answer_with(vec![host(&["10.0.0.5"])], named);
    assert_eq!(names(&answer), ["shop@10.0.0.5", "shop@h", "work-1@h"]);
}

#[test]
fn no_node_is_a_candidate_twice() {
    let answer = naming(&[("name_template", "shop@{region}x")]).answer(vec![host(&["10.0.0.5"])]);
    assert!(answer.candidates.is_empty());
    let answer = naming(&[("name_template", "shop@one")]).answer(vec![host(&["10.0.0.5"]), host(&["10.0.0.6"])]);
    assert_eq!(names(&answer), ["shop@one"]);
}

#[test]
fn faults_say_what_would_be_right() {
    for (pairs, says) in [
        (&[("name_template", "shop@{zoen}")][..], "did you mean `{zone}`?"),
        (&[("name_template", "shop@{quux}")], "{basename}, {ip}"),
        (&[("name_template", "shop@{ip")], "without its `}`"),
        (&[("name_template", "shop")], "name@host"),
        (&[("name_template", "{basename}@{ip}")], "give `basename` too"),
        (&[("name_template", "shop@{ip}"), ("basename", "shop")], "leave one of them out"),
        (&[("basename", "shop-*")], "names no node"),
        (&[("basename", "sh op")], "space"),
        (&[("addresses", "privat")], "did you mean `private`?"),
        (&[("port", "0")], "1 to 65535"),
    ] {
        let faults = faults(pairs);
        assert!(faults.contains(says), "{pairs:?}: {faults}");
    }
}
