//! Which test shows which fault of which source, and why some have none.

use std::{collections::BTreeSet, fs, path::Path};

use metacluster_testbed::Wire;

use self::Shown::{By, Here, Not};

/// What a source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It takes the question and never answers.
    Hangs,
    /// Nobody is there.
    Refuses,
    /// Its answer makes no sense.
    Garbage,
    /// Its answer breaks off.
    Half,
    /// Its answer comes half a minute late.
    Slow,
    /// Its answer has no end.
    Endless,
    /// For one answer it knows nobody.
    Forgets,
    /// It knows ten thousand.
    Many,
    /// It changes its certificate, or what it lets in with.
    Rotates,
}

impl Fault {
    /// Every one.
    pub(crate) const ALL: [Self; 9] = [
        Self::Hangs,
        Self::Refuses,
        Self::Garbage,
        Self::Half,
        Self::Slow,
        Self::Endless,
        Self::Forgets,
        Self::Many,
        Self::Rotates,
    ];

    /// How a source is told to commit it; `None` for what is in its answer and not in the way of it.
    pub(crate) fn wire(self) -> Option<Wire> {
        match self {
            Self::Hangs => Some(Wire::Hangs),
            Self::Refuses => Some(Wire::Refuses),
            Self::Garbage => Some(Wire::Garbage),
            Self::Half => Some(Wire::Half),
            Self::Slow => Some(Wire::Slow(super::SLOW)),
            Self::Endless => Some(Wire::Flood),
            Self::Forgets | Self::Many | Self::Rotates => None,
        }
    }
}

/// What shows a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The test of the row, in this folder.
    Here,
    /// These tests, each as the path from this crate and the name.
    By(&'static [&'static str]),
    /// Nothing, for this reason.
    Not(&'static str),
}

/// A source: the name of its strategy, and a word more where that is not enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    source: &'static str,
    hangs: Shown,
    refuses: Shown,
    garbage: Shown,
    half: Shown,
    slow: Shown,
    endless: Shown,
    forgets: Shown,
    many: Shown,
    rotates: Shown,
}

impl Row {
    pub(crate) fn shown(&self, fault: Fault) -> &Shown {
        match fault {
            Fault::Hangs => &self.hangs,
            Fault::Refuses => &self.refuses,
            Fault::Garbage => &self.garbage,
            Fault::Half => &self.half,
            Fault::Slow => &self.slow,
            Fault::Endless => &self.endless,
            Fault::Forgets => &self.forgets,
            Fault::Many => &self.many,
            Fault::Rotates => &self.rotates,
        }
    }
}

/// Every fault, committed here.
const ALL_HERE: Row = Row {
    source: "",
    hangs: Here,
    refuses: Here,
    garbage: Here,
    half: Here,
    slow: Here,
    endless: Here,
    forgets: Here,
    many: Here,
    rotates: Not("it asks for no credentials"),
};

const fn none(source: &'static str, why: &'static str) -> Row {
    Row {
        source,
        hangs: Not(why),
        refuses: Not(why),
        garbage: Not(why),
        half: Not(why),
        slow: Not(why),
        endless: Not(why),
        forgets: Not(why),
        many: Not(why),
        rotates: Not(why),
    }
}

const EC2: &str = "src/aws/ec2/tests.rs it_withstands_the_table_of_faults";
const ECS: &str = "src/aws/ecs/tests.rs it_withstands_the_table_of_faults";
const USER_DATA: &str = "src/launch_data/tests.rs user_data_withstand_the_table_of_faults";
/// The rule is the same for all sources.
const GUARD: &str =
    "../cli/tests/discovery/rancher.rs nodes_form_by_the_containers_of_a_service_and_stay_when_it_is_silent";
const MDNS: &str = "../cli/tests/discovery/mdns.rs a_link_full_of_garbage_and_strangers_costs_no_peer";
const KEYS_OF_AWS: &str = "src/aws/call.rs a_key_that_was_rotated_is_taken_once_the_old_one_is_refused";
const UNASKED: &str = "nobody is asked: hosts speak of their own accord, and who is silent expires";

/// Every source.
const TABLE: &[Row] = &[
    Row {
        rotates: By(&["tests/stores/consul.rs a_token_that_lacks_a_right_is_said_so_and_a_new_one_is_taken"]),
        ..all_here("consul")
    },
    Row { endless: Not("a message says how long it is, and has 64 KiB at most (RFC 1035, 4.2.2)"), ..all_here("dns") },
    Row {
        hangs: By(&[EC2]),
        refuses: By(&[EC2]),
        garbage: By(&[EC2]),
        half: By(&[EC2]),
        slow: By(&[EC2]),
        endless: By(&[EC2, "src/aws/ec2/tests.rs pages_without_end_are_an_error"]),
        forgets: By(&[GUARD]),
        many: By(&["src/aws/ec2/tests.rs ten_thousand_instances_come_in_pages"]),
        rotates: By(&[KEYS_OF_AWS]),
        source: "ec2",
    },
    Row {
        hangs: By(&[ECS]),
        refuses: By(&[ECS]),
        garbage: By(&[ECS]),
        half: By(&[ECS]),
        slow: By(&[ECS]),
        endless: By(&[ECS]),
        forgets: By(&[GUARD]),
        many: By(&["src/aws/ecs/tests.rs ten_thousand_tasks_are_one_answer"]),
        rotates: By(&[KEYS_OF_AWS]),
        source: "ecs",
    },
    all_here("epmd"),
    none("erlang-hosts", "it asks as `epmd` does, whose row holds for it; its file is read as in tests/epmd.rs"),
    Row {
        rotates: By(&[
            "tests/stores/etcd.rs a_certificate_that_was_rotated_is_followed_once_it_is_trusted",
            "tests/stores/etcd.rs a_password_that_was_changed_is_read_anew",
        ]),
        ..all_here("etcd")
    },
    all_here("exec"),
    Row {
        hangs: Not("a file answers, or its file system hangs, which needs one that does; a pipe is told of as none"),
        slow: Not("as for one that hangs"),
        rotates: Not("it asks for no credentials"),
        ..all_here("file")
    },
    Row {
        hangs: Not(UNASKED),
        refuses: By(&[
            "tests/gossip.rs a_port_that_is_not_shared_is_told_once_and_taken_when_free",
            "tests/gossip.rs an_interface_that_is_not_there_is_told",
        ]),
        garbage: By(&["tests/gossip.rs hostile_datagrams_do_not_stop_it"]),
        half: By(&["src/gossip/tests.rs hostile_datagrams_change_nothing_and_are_told_once_a_minute"]),
        slow: Not(UNASKED),
        endless: By(&["src/gossip/tests.rs a_flood_is_bounded_in_work_and_in_peers"]),
        forgets: By(&["src/gossip/tests.rs everyone_at_once_is_doubted_for_as_long_again"]),
        many: By(&["src/gossip/tests.rs a_flood_is_bounded_in_work_and_in_peers"]),
        rotates: Not("a secret is one of the settings: another one is another topology"),
        source: "gossip",
    },
    Row {
        rotates: By(&[
            "tests/kubernetes/simulator.rs a_rotated_token_is_followed",
            "tests/kubernetes/simulator.rs a_rotated_authority_is_followed",
        ]),
        ..all_here("kubernetes")
    },
    Row {
        hangs: Not("a file answers, or its file system hangs"),
        slow: Not("as for one that hangs"),
        forgets: By(&["src/launch_data/tests.rs a_file_of_seeds_is_followed"]),
        many: By(&["src/launch_data/grammar.rs no_more_seeds_are_taken_than_there_may_be"]),
        ..all_here("launch-data, a file")
    },
    Row {
        hangs: By(&[USER_DATA]),
        refuses: By(&[USER_DATA]),
        garbage: By(&[USER_DATA]),
        half: By(&[USER_DATA]),
        slow: By(&[USER_DATA]),
        endless: By(&[USER_DATA]),
        forgets: By(&["src/launch_data/tests.rs a_service_without_user_data_and_one_that_is_off_are_told_apart"]),
        many: By(&["src/launch_data/grammar.rs no_more_seeds_are_taken_than_there_may_be"]),
        rotates: By(&["src/launch_data/tests.rs user_data_gives_seeds_and_keeps_them_while_the_service_fails"]),
        source: "launch-data, user data",
    },
    none("local-epmd", "it asks as `epmd` does, whose row holds for it"),
    Row {
        hangs: Not(UNASKED),
        refuses: Not(UNASKED),
        garbage: By(&[MDNS]),
        half: By(&[MDNS]),
        slow: Not(UNASKED),
        endless: Not("a datagram has an end"),
        forgets: By(&["../cli/tests/discovery/mdns.rs nodes_form_by_mdns_and_avahi_sees_them_come_and_go"]),
        many: By(&[MDNS]),
        rotates: Not("it asks for no credentials"),
        source: "mdns",
    },
    all_here("rancher"),
    Row {
        rotates: By(&[
            "tests/stores/postgres.rs a_password_that_was_changed_is_read_anew",
            "tests/stores/postgres.rs a_certificate_that_was_rotated_is_followed_once_it_is_trusted",
        ]),
        ..all_here("sql, PostgreSQL")
    },
    all_here("sql, SQLite"),
    none("static", "nobody is asked: it is a list in the configuration"),
];

const fn all_here(source: &'static str) -> Row {
    Row { source, ..ALL_HERE }
}

/// The row of a source.
pub(crate) fn row(source: &str) -> &'static Row {
    TABLE.iter().find(|row| row.source == source).unwrap_or_else(|| panic!("{source} has no row"))
}

#[test]
fn every_strategy_has_a_row_and_every_test_is_there() {
    let rows: BTreeSet<&str> = TABLE.iter().filter_map(|row| row.source.split(',').next()).collect();
    let strategies: BTreeSet<&str> = metacluster_discovery::strategies().iter().map(|info| info.name).collect();
    assert_eq!(rows, strategies);
    for row in TABLE {
        let mut committed = false;
        for fault in Fault::ALL {
            match row.shown(fault) {
                Here => committed = true,
                Not(why) => assert!(!why.is_empty(), "{}, {fault:?}: no reason", row.source),
                By(tests) => {
                    for test in *tests {
                        let (path, name) = test.split_once(' ').expect("a path and a name");
                        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
                        let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
                        assert!(text.contains(&format!("fn {name}(")), "{}, {fault:?}: no {test}", row.source);
                    }
                }
            }
        }
        assert_eq!(committed, super::COMMITTED.contains(&row.source), "{} is committed here, or not", row.source);
    }
}
