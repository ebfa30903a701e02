//! The strategies that ask epmds: `epmd`, `local-epmd` and `erlang-hosts`.
//!
//! [`ask`] asks hosts again and again, [`tell`] turns what they say into updates. Each strategy only says which hosts,
//! and how a registered name becomes a node. A host that does not answer keeps the names it had: an epmd that died says
//! nothing of its nodes.

mod ask;
mod file;
mod given;
mod hosts;
mod local;
mod tell;

use metacluster_types::Pattern;

pub(crate) use self::{
    given::{KEYS as GIVEN_KEYS, make as make_given},
    hosts::{KEYS as HOSTS_KEYS, make as make_hosts},
    local::{KEYS as LOCAL_KEYS, make as make_local},
};
use crate::settings::{Absent, Key, Kind, Reader};

const PORT: Key = Key {
    name: "epmd_port",
    kind: Kind::Integer { least: 1, most: 65_535 },
    absent: Absent::Unset("ERL_EPMD_PORT, else 4369; in an agent, its `epmd.port`"),
    doc: "The port of epmd, the same on every host",
};

const INTERVAL: Key = Key {
    name: "interval",
    kind: Kind::Duration { least_ms: 100, most_ms: 3_600_000 },
    absent: Absent::Default("1s"),
    doc: "How often each epmd is asked; one that does not answer is asked less and less, down to every 5 s",
};

const EXCLUDE: Key = Key {
    name: "exclude",
    kind: Kind::Patterns,
    absent: Absent::Default("metacluster,metacluster-*"),
    doc: "Registered names that are no peers: agents, by default",
};

/// The port of epmd as the settings or the environment say, or 4369.
fn port(reader: &mut Reader<'_>) -> u16 {
    if reader.is_given("epmd_port") {
        return reader.integer("epmd_port");
    }
    let environment = std::env::var("ERL_EPMD_PORT").ok();
    environment.and_then(|text| text.parse().ok()).filter(|&port| port > 0).unwrap_or(metacluster_erl::epmd::PORT)
}

/// Whether a registered name is left out.
fn is_excluded(exclude: &[Pattern], name: &str) -> bool {
    exclude.iter().any(|pattern| pattern.matches(name))
}
