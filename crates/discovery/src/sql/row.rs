//! What a query gives, read by the names of its columns as [`crate::record`] knows them.
//!
//! Invariant: a row that cannot be read hides no other row.

use metacluster_types::{AgentId, Candidate, Host};

use super::error::SqlError;
use crate::record::{self, Column, Row};

/// The answer to a query, every value as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

/// What the rows say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peers {
    pub(super) hosts: Vec<Host>,
    pub(super) named: Vec<Candidate>,
    /// The rows that could not be read, and why the first could not.
    pub(super) unread: Option<(usize, String)>,
}

/// Reads a table. Rows of the agent `but` are left out.
pub(super) fn read(table: &Table, but: Option<AgentId>) -> Result<Peers, SqlError> {
    let columns: Vec<Column> = table.columns.iter().map(|name| Column::of(name)).collect();
    if !columns.iter().any(|column| column.says_who()) {
        return Err(SqlError::Columns { columns: table.columns.clone() });
    }
    let mut peers = Peers::default();
    for row in &table.rows {
        match record::read(
            columns.iter().copied().zip(row).filter_map(|(column, value)| Some((column, value.as_deref()?))),
        ) {
            Ok(Row { agent: Some(agent), .. }) if Some(agent) == but => {}
            Ok(Row { node, agent, host }) => {
                if let Some(node) = node {
                    peers.named.push(Candidate { node, agent, host: host.clone() });
                }
                peers.hosts.push(host);
            }
            Err(what) => match &mut peers.unread {
                Some((count, _)) => *count += 1,
                None => peers.unread = Some((1, what)),
            },
        }
    }
    match peers.unread {
        Some((count, what)) if count == table.rows.len() => Err(SqlError::Rows { what }),
        Some(_) | None => Ok(peers),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use metacluster_types::{Role, Tags};

    use super::*;

    fn table(columns: &[&str], rows: &[&[&str]]) -> Table {
        let text = |value: &&str| (*value != "NULL").then(|| (*value).to_owned());
        Table {
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: rows.iter().map(|row| row.iter().map(text).collect()).collect(),
        }
    }

    fn one(columns: &[&str], row: &[&str]) -> Peers {
        read(&table(columns, &[row]), None).expect("a row")
    }

    #[test]
    fn columns_are_known_by_their_names() {
        let peers = one(
            &["id", "NODE", "ip", "port", "zone", "region", "state", "instance", "roles", "tags"],
            &[
                "7",
                "a@h1",
                "10.0.0.5/32",
                "4000",
                "z1",
                "r1",
                "running",
                "i-1",
                "{web,\"till\"}",
                r#"{"app":"shop","n":1}"#,
            ],
        );
        let [candidate] = &peers.named[..] else { panic!("{peers:?}") };
        assert_eq!(candidate.node.as_str(), "a@h1");
        assert_eq!(candidate.host, peers.hosts[0]);
        let host = &peers.hosts[0];
        assert_eq!(host.addresses, ["10.0.0.5".parse::<IpAddr>().expect("an address")]);
        assert_eq!((host.port, host.instance.as_deref()), (Some(4000), Some("i-1")));
        assert_eq!(host.roles.iter().map(Role::as_str).collect::<Vec<_>>(), ["till", "web"]);
        assert_eq!(host.tags, Tags::from([("app".to_owned(), "shop".to_owned()), ("n".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn a_name_is_a_node_or_a_host_and_a_host_is_a_name_or_an_address() {
        assert_eq!(one(&["name"], &["a@10.0.0.4"]).named[0].host.addresses.len(), 1);
        let host = &one(&["name"], &["db1.example"]).hosts[0];
        assert_eq!((host.name.as_deref(), host.addresses.len()), (Some("db1.example"), 0));
        let host = &one(&["host", "address"], &["db1", "10.0.0.4, fd00::1"]).hosts[0];
        assert_eq!((host.name.as_deref(), host.addresses.len()), (Some("db1"), 2));
        assert_eq!(one(&["host"], &["10.0.0.4"]).hosts[0].name, None);
    }

    #[test]
    fn the_columns_that_came_are_told_when_none_is_known() {
        let error = read(&table(&["hostname", "id"], &[&["a", "1"]]), None).expect_err("no column");
        let line = error.to_string();
        assert!(line.contains("`hostname`, `id`") && line.contains("AS node"), "{line}");
    }

    #[test]
    fn a_bad_row_hides_no_other_and_nothing_but_bad_rows_is_a_failure() {
        let peers = read(&table(&["node"], &[&["a@h"], &["no node"], &["NULL"], &["b@h"]]), None).expect("two");
        assert_eq!(peers.named.len(), 2);
        assert!(matches!(&peers.unread, Some((2, what)) if what.contains("no node")), "{:?}", peers.unread);
        assert!(matches!(read(&table(&["node"], &[&["x"], &["y"]]), None), Err(SqlError::Rows { .. })));
        assert_eq!(read(&table(&["node"], &[]), None), Ok(Peers::default()));
    }

    #[test]
    fn the_own_rows_are_left_out_and_an_agent_without_nodes_is_a_host() {
        let (ours, theirs) = (AgentId(1).to_string(), AgentId(2).to_string());
        let both = table(&["agent", "node", "zone"], &[&[&ours, "a@h1", "z"], &[&theirs, "", "z"]]);
        let peers = read(&both, Some(AgentId(1))).expect("one");
        assert_eq!((peers.hosts.len(), peers.named.len(), peers.unread), (1, 0, None));
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said() {
        for (columns, row, says) in [
            (&["ip", "port"][..], &["10.0.0.1", "0x1"][..], "no port"),
            (&["ip"], &["10.0.0.300"], "no address"),
            (&["ip", "state"], &["10.0.0.1", "gone"], "expected pending, running"),
            (&["ip", "tags"], &["10.0.0.1", "x"], "key=value"),
            (&["ip", "tags"], &["10.0.0.1", "{x"], "JSON"),
            (&["host"], &["a b"], "no host"),
            (&["node", "zone"], &["NULL", "z"], "no node"),
        ] {
            let Err(SqlError::Rows { what }) = read(&table(columns, &[row]), None) else { panic!("{row:?} was read") };
            assert!(what.contains(says), "{what}");
        }
        assert_eq!(one(&["ip", "tags"], &["10.0.0.1", r#""a"=>"1", b=2"#]).hosts[0].tags.len(), 2);
    }
}
