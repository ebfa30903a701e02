//! What a test needs of the machine. What is missing makes the test fail where `CI=true`, and is listed as skipped,
//! with the way to get it, elsewhere.

use std::{env, path::Path, thread};

use crate::{Python, TestRun, command::succeed, postgres};

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `erl`.
    Erl,
    /// `elixir`.
    Elixir,
    /// Erlang's `crypto` application.
    ErlangCrypto,
    /// Root on Linux with `ip netns` and `setpriv`.
    Namespaces,
    /// `nft`, and the right to use it.
    Nftables,
    /// HashiCorp's `serf`.
    Serf,
    /// RabbitMQ's server.
    RabbitMq,
    /// Wireshark's `tshark`.
    Tshark,
    /// `debootstrap`, and root, to unpack another release of Debian.
    Debootstrap,
    /// A simulator of the Kubernetes API.
    Kmock,
    /// A simulator of AWS.
    Moto,
    /// A DNS server: `knotd` and `knotc`.
    Knot,
    /// An mDNS responder and browser: `avahi-daemon` and `avahi-browse`, with `dbus-daemon`.
    Avahi,
    /// PostgreSQL's server, `psql` and PgBouncer.
    Postgres,
    /// `etcd`.
    Etcd,
    /// `haproxy`.
    Haproxy,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 16] = [
        Self::Erl,
        Self::Elixir,
        Self::ErlangCrypto,
        Self::Namespaces,
        Self::Nftables,
        Self::Serf,
        Self::RabbitMq,
        Self::Tshark,
        Self::Debootstrap,
        Self::Kmock,
        Self::Moto,
        Self::Knot,
        Self::Avahi,
        Self::Postgres,
        Self::Etcd,
        Self::Haproxy,
    ];

    /// Whether the machine has it.
    #[must_use]
    pub fn is_there(self) -> bool {
        match self {
            Self::Erl => on_path("erl"),
            Self::Elixir => on_path("elixir"),
            Self::ErlangCrypto => {
                on_path("erl")
                    && succeed(
                        "erl",
                        &["-noshell", "-eval", "halt(case code:which(crypto) of L when is_list(L) -> 0; _ -> 1 end)."],
                    )
            }
            Self::Namespaces => {
                nix::unistd::geteuid().is_root() && succeed("ip", &["netns", "list"]) && on_path("setpriv")
            }
            Self::Nftables => nix::unistd::geteuid().is_root() && succeed("nft", &["--version"]),
            Self::Serf => on_path("serf"),
            Self::Tshark => on_path("tshark"),
            Self::Debootstrap => nix::unistd::geteuid().is_root() && on_path("debootstrap"),
            Self::RabbitMq => Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").is_file(),
            Self::Knot => on_path("knotd") && on_path("knotc"),
            Self::Avahi => ["avahi-daemon", "avahi-browse", "dbus-daemon"].into_iter().all(on_path),
            Self::Kmock | Self::Moto => self.python().is_some_and(Python::is_there),
            Self::Postgres => {
                let programs = ["postgres", "initdb", "psql", "pgbouncer"];
                on_path("setpriv") && programs.iter().all(|program| postgres::program(program).is_some())
            }
            Self::Haproxy => on_path("haproxy"),
            Self::Etcd => on_path("etcd") && on_path("curl") && on_path("setpriv"),
        }
    }

    /// What is missing and how to get it.
    #[must_use]
    pub fn how_to_get(self) -> &'static str {
        match self {
            Self::Erl => "erl is missing (Debian: apt-get install erlang-base)",
            Self::Elixir => "elixir is missing (Debian: apt-get install elixir)",
            Self::ErlangCrypto => "Erlang's crypto is missing (Debian: apt-get install erlang-crypto)",
            Self::Namespaces => {
                "network namespaces need Linux, root, ip and setpriv (Debian: apt-get install iproute2 util-linux; then run as root)"
            }
            Self::Nftables => "nft is missing (Debian: apt-get install nftables; then run as root)",
            Self::Serf => "serf is missing (Debian: apt-get install serf)",
            Self::Debootstrap => "debootstrap is missing (Debian: apt-get install debootstrap; then run as root)",
            Self::Tshark => "tshark is missing (Debian: apt-get install tshark)",
            Self::RabbitMq => "RabbitMQ is missing (Debian: apt-get install rabbitmq-server)",
            Self::Knot => "knotd is missing (Debian: apt-get install knot)",
            Self::Avahi => "avahi is missing (Debian: apt-get install avahi-daemon avahi-utils)",
            Self::Kmock => {
                "kmock is missing (cargo xtask test installs it from PyPI; Debian: apt-get install python3-venv first)"
            }
            Self::Postgres => "PostgreSQL is missing (Debian: apt-get install postgresql pgbouncer)",
            Self::Etcd => "etcd is missing (Debian: apt-get install etcd-server curl)",
            Self::Haproxy => "haproxy is missing (Debian: apt-get install haproxy)",
            Self::Moto => {
                "moto is missing (cargo xtask test installs it from PyPI; Debian: apt-get install python3-venv first)"
            }
        }
    }

    /// The Debian packages that have it, or what it takes to install it.
    #[must_use]
    pub fn debian_package(self) -> &'static str {
        match self {
            Self::Erl => "erlang-base",
            Self::Elixir => "elixir",
            Self::ErlangCrypto => "erlang-crypto",
            Self::Namespaces => "iproute2",
            Self::Nftables => "nftables",
            Self::Serf => "serf",
            Self::Tshark => "tshark",
            Self::Debootstrap => "debootstrap",
            Self::RabbitMq => "rabbitmq-server",
            Self::Knot => "knot",
            Self::Avahi => "avahi-utils",
            Self::Kmock | Self::Moto => "python3-venv",
            Self::Postgres => "postgresql pgbouncer",
            Self::Etcd => "etcd-server curl",
            Self::Haproxy => "haproxy",
        }
    }

    /// The environment that it lives in, if it is a Python program.
    #[must_use]
    pub const fn python(self) -> Option<Python> {
        match self {
            Self::Kmock => Some(Python::new("kmock", "kmock==0.8")),
            Self::Moto => Some(Python::new("moto", "moto[ec2,server]==5.2.5")),
            Self::Erl
            | Self::Elixir
            | Self::ErlangCrypto
            | Self::Namespaces
            | Self::Nftables
            | Self::Serf
            | Self::RabbitMq
            | Self::Tshark
            | Self::Debootstrap
            | Self::Knot
            | Self::Avahi
            | Self::Postgres
            | Self::Etcd
            | Self::Haproxy => None,
        }
    }
}

/// Whether a test can run: `if !require(&[Tool::Erl]) { return }`. When it cannot, the skip is noted.
///
/// # Panics
/// When a tool is missing and `CI=true`.
#[must_use]
pub fn require(tools: &[Tool]) -> bool {
    let Some(missing) = tools.iter().find(|tool| !tool.is_there()) else { return true };
    let why = missing.how_to_get();
    assert!(env::var("CI").as_deref() != Ok("true"), "{why}");
    let test = thread::current().name().unwrap_or("a test").to_owned();
    if let Some(run) = TestRun::current()
        && let Err(error) = run.note_skipped(&test, why)
    {
        panic!("{error:#}");
    }
    note(&test, why);
    false
}

#[expect(clippy::print_stderr, reason = "a skip is said where the person who runs the test looks")]
fn note(test: &str, why: &str) {
    eprintln!("skipped {test}: {why}");
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_on_the_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-anywhere"));
    }
}
