//! Through a database: PostgreSQL, whose table `metacluster sql migrate` makes, and a file of SQLite that hosts share.

use std::process::Command;

use anyhow::{Result, ensure};
use metacluster_testbed::{Host, Network, Postgres, Tool, capture, require};

use crate::support::{NEEDED, binary, candidates_are, fails, full_mesh, row_becomes, sites};

/// `metacluster sql migrate`, on the host of the server.
fn migrate(on: &Host, arguments: &[&str]) -> Command {
    let mut command = on.command(binary());
    command.args(["sql", "migrate"]).args(arguments);
    command
}

#[test]
fn nodes_form_by_the_table_that_the_command_makes_and_stay_when_the_server_dies_and_returns() -> Result<()> {
    if !require(&NEEDED) || !require(&[Tool::Postgres]) {
        return Ok(());
    }
    let network = Network::new()?;
    let server = network.host()?;
    let mut postgres = Postgres::start_on(&server)?;
    let hosts: [_; 2] = network.hosts()?;
    let settings = format!("strategy = \"sql\"\nurl = \"{}\"\ntimeout = \"1s\"\n", postgres.url());
    let sites = sites(&hosts, &settings)?;
    fails(&sites[0], "metacluster sql migrate")?;

    let statements = capture(&mut migrate(&server, &["--print", &postgres.url()]))?;
    ensure!(statements.contains("CREATE TABLE IF NOT EXISTS"), "{statements}");
    ensure!(postgres.psql("SELECT to_regclass('metacluster_nodes') IS NULL")? == "t", "--print makes nothing");
    // As often as one likes.
    for _ in 0..2 {
        capture(&mut migrate(&server, &[&postgres.url()]))?;
    }
    full_mesh(&sites)?;
    candidates_are(&sites[0], &sites[1..])?;

    postgres.kill9()?;
    fails(&sites[0], "PostgreSQL")?;
    full_mesh(&sites)?;
    postgres.restart()?;
    row_becomes(&sites[0], "it is well again", |row| row["state"] == "ok")?;
    full_mesh(&sites)
}

#[test]
fn the_command_says_what_it_cannot_do() -> Result<()> {
    for (arguments, code, says) in [
        (&["mysql://db/shop"][..], 2, "postgres://"),
        (&["postgres://nobody@127.0.0.1:1/shop"], 1, "127.0.0.1:1"),
        (&["sqlite:/no/such/folder/peers.db"], 1, "/no/such/folder"),
        (&["--table", "a; DROP TABLE b", "sqlite:peers.db"], 2, "table"),
    ] {
        let output = Command::new(binary()).args(["sql", "migrate"]).args(arguments).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(says) && told.trim().lines().count() == 1, "{arguments:?}: {told}");
    }
    Ok(())
}

#[test]
fn nodes_form_by_a_file_of_sqlite() -> Result<()> {
    if !require(&NEEDED) {
        return Ok(());
    }
    let network = Network::new()?;
    let hosts: [_; 3] = network.hosts()?;
    let path = hosts[0].home().join("peers.db");
    let mut sites = sites(&hosts, &format!("strategy = \"sql\"\nurl = \"sqlite:{}\"\n", path.display()))?;
    full_mesh(&sites)?;
    candidates_are(&sites[0], &sites[1..])?;
    sites[2].agent.terminate()?;
    candidates_are(&sites[0], &sites[1..2])
}
