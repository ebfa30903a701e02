//! `metacluster sql`: makes what the strategy `sql` needs in a database.

use std::{io::Read as _, path::PathBuf};

use clap::{Args, Subcommand};
use metacluster_agent::discovery::{sql::migrate::Migration, tls::TlsFiles};

use crate::{
    failure::{Failure, Outcome},
    output,
};

/// The arguments of `sql`.
#[derive(Args, Debug)]
pub(crate) struct Sql {
    #[command(subcommand)]
    command: SqlCommand,
}

#[derive(Debug, Subcommand)]
enum SqlCommand {
    /// Make the table of leases; where it is there already, nothing changes
    Migrate(Migrate),
}

#[derive(Args, Debug)]
struct Migrate {
    /// The database, such as postgres://owner@host:5432/database or sqlite:/path/to/file; `-` reads it from the input
    url: String,
    /// The table [default: metacluster_nodes]
    #[arg(long)]
    table: Option<String>,
    /// Print the statements, and run none
    #[arg(long)]
    print: bool,
    /// A file that holds the password
    #[arg(long, value_name = "PATH")]
    password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust beside the system's
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// The certificate (PEM) that is shown to the server
    #[arg(long, value_name = "PATH")]
    certificate_file: Option<PathBuf>,
    /// The key (PEM) of that certificate
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
}

/// No address is longer.
const URL_BYTES_MAX: u64 = 64 << 10;

/// Runs the command.
pub(crate) async fn run(arguments: Sql) -> Outcome {
    let SqlCommand::Migrate(migrate) = arguments.command;
    let files = TlsFiles { ca: migrate.ca_file, certificate: migrate.certificate_file, key: migrate.key_file };
    let url = if migrate.url == "-" { read_input()? } else { migrate.url };
    let migration =
        Migration::new(&url, migrate.table.as_deref(), files, migrate.password_file).map_err(Failure::Usage)?;
    if migrate.print {
        return output::print(&migration.statements());
    }
    migration.run().await.map_err(|error| Failure::NotSo(error.to_string()))?;
    output::print(&format!("the table {} is there\n", migration.table()))
}

/// An address with a password need not stand in a command line, which every user of the machine can read.
fn read_input() -> Outcome<String> {
    let mut text = String::new();
    let read = std::io::stdin().take(URL_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::NotSo(format!("cannot read the address: {error}")))?;
    Ok(text.trim().to_owned())
}
