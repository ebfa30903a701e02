//! Scenarios of the table of names.

use std::collections::BTreeSet;

use metacluster_erl_wire::epmd::NodeType;

use super::*;

const REMEMBERED: usize = 10;

fn node(name: &str) -> Registration {
    Registration::new(name, 4_000, NodeType::Normal)
}

fn table() -> Table {
    Table::new(REMEMBERED)
}

fn whole(table: &Table, listing: Listing, bytes: usize) -> String {
    let (mut out, mut cursor) = (String::new(), Some(Cursor::START));
    while let Some(from) = cursor {
        let mut page = String::new();
        cursor = table.list(listing, from, bytes, &mut page);
        assert!(cursor.is_none() || !page.is_empty(), "each page has something");
        out.push_str(&page);
    }
    out
}

#[test]
fn the_next_life_of_a_name_has_the_next_creation() {
    let mut table = table();
    let first = table.register(node("shop"), 77, 3).expect("free");
    assert_eq!(first.creation, 77);
    assert_eq!(table.register(node("shop"), 5, 3).err(), Some(Taken));
    assert!(table.unregister(&first));
    assert!(!table.unregister(&first), "twice is once");
    assert!(table.names().is_empty());
    let second = table.register(node("shop"), 5, 3).expect("free again");
    assert_eq!(second.creation, 78);
    assert!(!table.unregister(&first), "an old connection does not end the new registration");
    assert!(table.stop("shop"));
    assert!(!table.stop("shop"));
    assert!(!table.unregister(&second), "it was stopped");
    table.check();
}

#[test]
fn creations_below_four_are_left_out() {
    assert_eq!(next(u32::MAX), 4);
    assert_eq!(table().register(node("shop"), 0, 3).expect("free").creation, 4);
}

#[test]
fn each_new_name_beyond_the_bound_pushes_out_the_oldest() {
    let mut table = table();
    for n in 0..REMEMBERED + 30 {
        let entry = table.register(node(&format!("n{n}")), 9, 3).expect("free");
        table.unregister(&entry);
        table.check();
    }
    assert_eq!(table.remembered().len(), REMEMBERED + 1);
    assert_eq!(table.remembered()[0], "n29");
    let again = table.register(node("n39"), 9, 3).expect("free");
    assert!(again.creation > 9, "remembered");
    assert_eq!(table.remembered().len(), REMEMBERED, "a name that comes back pushes nobody out");
}

#[test]
fn what_goes_at_once_is_remembered_at_once() {
    let mut table = table();
    let entries: Vec<_> = (0..100).map(|n| table.register(node(&format!("n{n}")), 9, 3).expect("free")).collect();
    for entry in &entries {
        table.unregister(entry);
    }
    for entry in &entries {
        assert_eq!(table.register(node(entry.name()), 9, 3).expect("free").creation, entry.creation + 1);
    }
    table.check();
}

#[test]
fn a_forgotten_name_never_has_a_creation_twice() {
    let mut table = table();
    let mut seen = BTreeSet::new();
    for round in 0..5 {
        for n in 0..3 * REMEMBERED {
            let name = format!("n{n}");
            // The clock stands still.
            let entry = table.register(node(&name), 9, 3).expect("free");
            assert!(seen.insert((name, entry.creation)), "round {round}, name {n}");
            table.unregister(&entry);
        }
    }
}

#[test]
fn listings_have_the_newest_first_in_pages_of_any_size() {
    let mut table = table();
    let old = table.register(node("old"), 9, 5).expect("free");
    let older = table.register(node("older"), 9, 7).expect("free");
    table.unregister(&older);
    table.unregister(&old);
    table.register(node("shop"), 9, 6).expect("free");
    table.register(node("café"), 9, 8).expect("free");
    for bytes in [1, 30, 60, 100, 1_000] {
        assert_eq!(whole(&table, Listing::Names, bytes), "name café at port 4000\nname shop at port 4000\n");
        assert_eq!(
            whole(&table, Listing::Dump, bytes),
            "active name     <café> at port 4000, fd = 8\n\0active name     <shop> at port 4000, fd = 6\n\0\
             old/unused name <older>, port = 4000, fd = 7 \n\0old/unused name <old>, port = 4000, fd = 5 \n\0"
        );
    }
}

#[test]
fn a_listing_survives_changes_between_its_pages() {
    let mut table = table();
    let entries: Vec<_> = (0..5).map(|n| table.register(node(&format!("n{n}")), 9, n).expect("free")).collect();
    let mut out = String::new();
    let cursor = table.list(Listing::Names, Cursor::START, 1, &mut out).expect("more");
    table.unregister(&entries[4]);
    table.unregister(&entries[2]);
    table.register(node("new"), 9, 9).expect("free");
    assert_eq!(table.list(Listing::Names, cursor, 1_000, &mut out), None);
    let listed: Vec<_> = out.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(listed, ["n4", "n3", "n1", "n0"]);
}

#[test]
fn fifty_thousand_names_cost_a_watcher_nothing() {
    let mut table = Table::new(1_000);
    let mut seen = Vec::new();
    for n in 0..50_000_u32 {
        table.register(node(&format!("node-{n}")), 9, 3).expect("free");
        if n % 1_000 == 0 {
            seen.push(table.names().clone());
        }
    }
    for (n, names) in seen.iter().enumerate() {
        assert_eq!(names.len(), n * 1_000 + 1, "what was seen stays as it was");
    }
    assert_eq!(table.names().iter().count(), 50_000);
    assert_eq!(table.names()["node-49999"].port, 4_000);
    assert!(table.names().get("node-50000").is_none());
    table.check();
}
