//! Which crate may use which, and what a pure crate may not reach.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The table of ARCHITECTURE.md: a crate and those of ours that it may use.
const EDGES: [(&str, &[&str]); 13] = [
    ("metacluster-types", &[]),
    ("metacluster-erl-wire", &["metacluster-types"]),
    ("metacluster-federation", &["metacluster-types", "metacluster-erl-wire"]),
    ("metacluster-formation", &["metacluster-types"]),
    ("metacluster-membership", &["metacluster-types"]),
    (
        "metacluster-sim",
        &[
            "metacluster-types",
            "metacluster-erl-wire",
            "metacluster-federation",
            "metacluster-formation",
            "metacluster-membership",
        ],
    ),
    ("metacluster-erl", &["metacluster-types", "metacluster-erl-wire"]),
    ("metacluster-discovery", &["metacluster-types", "metacluster-erl-wire", "metacluster-erl"]),
    (
        "metacluster-agent",
        &[
            "metacluster-types",
            "metacluster-erl-wire",
            "metacluster-federation",
            "metacluster-formation",
            "metacluster-membership",
            "metacluster-erl",
            "metacluster-discovery",
        ],
    ),
    (
        "metacluster",
        &[
            "metacluster-types",
            "metacluster-erl-wire",
            "metacluster-federation",
            "metacluster-formation",
            "metacluster-erl",
            "metacluster-discovery",
            "metacluster-agent",
        ],
    ),
    ("metacluster-cli", &["metacluster-types", "metacluster-agent"]),
    ("metacluster-testbed", &[]),
    ("xtask", &["metacluster-testbed"]),
];

/// Crates for tests only: any crate may use them there, none in what is shipped.
const FOR_TESTS: [&str; 2] = ["metacluster-testbed", "metacluster-sim"];

/// Crates without clock, socket, thread or async.
const PURE: [&str; 6] = [
    "metacluster-types",
    "metacluster-erl-wire",
    "metacluster-federation",
    "metacluster-formation",
    "metacluster-membership",
    "metacluster-sim",
];

/// What a pure crate may not reach, however far away.
const IMPURE: [&str; 12] = [
    "async-std",
    "axum",
    "crossbeam-channel",
    "futures-executor",
    "hyper",
    "mio",
    "nix",
    "polling",
    "rayon",
    "smol",
    "socket2",
    "tokio",
];

/// Every fault of the crates, one line each.
pub(super) fn check(metadata: &Value) -> Result<Vec<String>> {
    let mut faults = edges(metadata)?;
    faults.extend(purity(metadata)?);
    Ok(faults)
}

fn edges(metadata: &Value) -> Result<Vec<String>> {
    let table: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let members: BTreeSet<&str> = list(metadata, "workspace_members")?.iter().filter_map(Value::as_str).collect();
    let mut faults = Vec::new();
    for package in list(metadata, "packages")? {
        if !members.contains(text(package, "id")?) {
            continue;
        }
        let name = text(package, "name")?;
        let Some(allowed) = table.get(name) else {
            faults.push(format!("{name}: the crate is not in the table of xtask/src/tidy/crates.rs"));
            continue;
        };
        for dependency in list(package, "dependencies")? {
            let (used, kind) = (text(dependency, "name")?, dependency["kind"].as_str());
            let ours = dependency["path"].is_string();
            let for_tests = kind == Some("dev") && FOR_TESTS.contains(&used);
            if ours && !for_tests && !allowed.contains(&used) {
                faults.push(format!("{name}: may not use {used}; the table of ARCHITECTURE.md has no such edge"));
            }
        }
    }
    Ok(faults)
}

fn purity(metadata: &Value) -> Result<Vec<String>> {
    let mut names = BTreeMap::new();
    for package in list(metadata, "packages")? {
        names.insert(text(package, "id")?, text(package, "name")?);
    }
    let mut uses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in list(&metadata["resolve"], "nodes")? {
        let mut normal = Vec::new();
        for dependency in list(node, "deps")? {
            if list(dependency, "dep_kinds")?.iter().any(|kind| kind["kind"].is_null()) {
                normal.push(text(dependency, "pkg")?);
            }
        }
        uses.insert(text(node, "id")?, normal);
    }
    let mut faults = Vec::new();
    for (&start, &name) in names.iter().filter(|(_, name)| PURE.contains(name)) {
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(id) = open.pop() {
            for &used in uses.get(id).map(Vec::as_slice).unwrap_or_default() {
                if reached.insert(used) {
                    open.push(used);
                }
            }
        }
        for impure in reached.iter().filter_map(|id| names.get(id)).filter(|name| IMPURE.contains(name)) {
            faults.push(format!("{name}: is pure and may not reach {impure}"));
        }
    }
    Ok(faults)
}

fn list<'v>(value: &'v Value, key: &str) -> Result<&'v Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata has no `{key}`"))
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    value[key].as_str().with_context(|| format!("cargo metadata has no `{key}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two crates of ours, of which the first depends on the second, which depends on tokio.
    fn metadata(first: &str, second: &str, kind: Option<&str>) -> Value {
        let package = |name: &str, dependencies: Value| json!({"id": name, "name": name, "dependencies": dependencies});
        let edge = |id: &str, kind: Option<&str>| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        json!({
            "workspace_members": [first, second],
            "packages": [
                package(first, json!([{"name": second, "kind": kind, "path": "x"}])),
                package(second, json!([{"name": "tokio", "kind": null}])),
                package("tokio", json!([])),
            ],
            "resolve": {"nodes": [
                {"id": first, "deps": [edge(second, kind)]},
                {"id": second, "deps": [edge("tokio", None)]},
                {"id": "tokio", "deps": []},
            ]},
        })
    }

    fn faults(first: &str, second: &str, kind: Option<&str>) -> Vec<String> {
        check(&metadata(first, second, kind)).expect("readable")
    }

    #[test]
    fn an_edge_that_the_table_has_is_fine() {
        assert_eq!(faults("metacluster-cli", "metacluster-agent", None), Vec::<String>::new());
    }

    #[test]
    fn an_edge_that_the_table_lacks_is_a_fault() {
        assert_eq!(faults("metacluster-cli", "metacluster-erl", None).len(), 1);
        assert_eq!(faults("metacluster-cli", "metacluster-erl", Some("dev")).len(), 1);
    }

    #[test]
    fn a_crate_that_the_table_lacks_is_a_fault() {
        assert!(faults("metacluster-novel", "metacluster-agent", None)[0].contains("not in the table"));
    }

    #[test]
    fn crates_for_tests_are_used_in_tests_only() {
        assert_eq!(faults("metacluster-cli", "metacluster-testbed", Some("dev")), Vec::<String>::new());
        assert_eq!(faults("metacluster-cli", "metacluster-testbed", None).len(), 1);
    }

    #[test]
    fn a_pure_crate_may_not_reach_a_socket_through_another() {
        let faults = faults("metacluster-formation", "metacluster-erl", None);
        assert!(
            faults.iter().any(|fault| fault == "metacluster-formation: is pure and may not reach tokio"),
            "{faults:?}"
        );
        let in_tests = purity(&metadata("metacluster-formation", "metacluster-testbed", Some("dev")));
        assert_eq!(in_tests.expect("readable"), Vec::<String>::new());
    }
}
