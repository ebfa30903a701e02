//! `[federation]` and its exports.

use std::{net::SocketAddr, path::PathBuf};

use metacluster_discovery::settings::COMMON;
use metacluster_federation::{ExportRule, Limits, cells::SEPARATOR};
use metacluster_types::Pattern;

use super::{
    FederationConfig, TopologyConfig, cookie,
    environment::Environment,
    fault::{Fault, Origin},
    keys::EXPORT_KEYS,
    raw::Raw,
    topology,
    values::Values,
};

/// The entries of the section.
pub(super) struct Entries {
    pub(super) exports: Vec<Raw>,
    pub(super) topologies: Vec<Raw>,
}

/// Validates the section; none when it makes no gateway.
pub(super) fn validate(
    values: &Values,
    entries: Entries,
    environment: &Environment,
    faults: &mut Vec<Fault>,
) -> Option<FederationConfig> {
    let listen = values.text("federation.listen").and_then(|(text, origin)| match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let message =
                format!("`federation.listen`: `{text}` is no address with a port: expected one such as 0.0.0.0:4391");
            faults.push(Fault::new(origin, message));
            None
        }
    });
    let mut peers = Vec::new();
    for (text, origin) in values.list("federation.peers") {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                peers.push(text.clone());
            }
            Some(_) | None => {
                let message = format!(
                    "`federation.peers`: `{text}` is no gateway: expected a name or address and a port, such as \
                     gw.west.example:4391"
                );
                faults.push(Fault::new(origin, message));
            }
        }
    }
    let exports: Vec<ExportRule> = entries.exports.into_iter().filter_map(|raw| export(raw, faults)).collect();
    let topologies = topologies(entries.topologies, faults);
    if let Some((name, origin)) = values.text("cluster").filter(|(name, _)| name.contains(SEPARATOR)) {
        let message = format!("`cluster`: `{name}` holds a `{SEPARATOR}`, after which gateways put the name of a cell");
        faults.push(Fault::new(origin, message));
    }
    let told = |path: &str| values.origin(path).is_explicit();
    if !["federation.listen", "federation.peers", "federation.identity", "federation.trust"].into_iter().any(told)
        && exports.is_empty()
        && topologies.is_empty()
    {
        return None;
    }
    let identity = values.text("federation.identity").map(|(path, _)| cookie::expand_home(path, environment));
    let trust: Vec<PathBuf> =
        values.list("federation.trust").iter().map(|(path, _)| cookie::expand_home(path, environment)).collect();
    for (missing, path, expected) in [
        (identity.is_none(), "federation.identity", "the file that `metacluster federation issue` makes"),
        (trust.is_empty(), "federation.trust", "the certificate of one other cluster at least"),
        (
            !told("federation.listen") && !told("federation.peers") && topologies.is_empty(),
            "federation.listen",
            "an address, `federation.peers`, or a [[federation.topology]]",
        ),
    ] {
        if missing {
            faults.push(Fault::new(&Origin::Default, format!("a gateway needs `{path}`: {expected}")));
        }
    }
    let compress = values.flag("federation.compress").unwrap_or_default();
    let limits = limits(values);
    Some(FederationConfig { listen, peers, topologies, compress, identity: identity?, trust, exports, limits })
}

/// What finds gateways. Keys that say something of nodes say nothing here.
fn topologies(entries: Vec<Raw>, faults: &mut Vec<Fault>) -> Vec<TopologyConfig> {
    let entries = topology::entries(entries, faults);
    for entry in &entries {
        for key in COMMON.iter().map(|key| key.name).filter(|key| !["name", "strategy"].contains(key)) {
            if entry.has(key) {
                let message =
                    format!("`{key}` is for [[topology]]: a gateway that is not found any more is not dialled again");
                faults.push(Fault::new(entry.place(key), message));
            }
        }
    }
    topology::validate(entries, faults)
}

/// The bounds of the machine, with what is held against one gateway.
fn limits(values: &Values) -> Limits {
    let number = |path: &str| values.number(path);
    let default = Limits::default();
    let size = |path: &str, default: usize| number(path).and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
    let identifiers_of_peer_max = size("federation.identifiers_max", default.identifiers_of_peer_max);
    Limits {
        messages_per_second: number("federation.messages_per_second").and_then(|n| u32::try_from(n).ok()),
        bytes_per_second: number("federation.bytes_per_second").and_then(|n| u32::try_from(n).ok()),
        identifiers_max: default.identifiers_max.max(identifiers_of_peer_max.saturating_mul(2)),
        identifiers_of_peer_max,
        members_of_peer_max: size("federation.members_max", default.members_of_peer_max),
        ..default
    }
}

fn export(raw: Raw, faults: &mut Vec<Fault>) -> Option<ExportRule> {
    let table = match raw.value.into_table() {
        Ok(table) => table,
        Err(other) => {
            faults.push(Fault::new(&raw.origin, format!("an export is a table, not {}", other.what())));
            return None;
        }
    };
    let values = Values::of_entry(EXPORT_KEYS, "[[federation.export]]", table, &raw.origin, faults);
    let (scope, origin) = values.text("scope")?;
    if scope.is_empty() || scope.chars().count() > 255 {
        faults.push(Fault::new(origin, "`scope`: expected the name of a scope, such as \"pg\""));
    }
    let patterns = |path: &str| values.list(path).iter().map(|(text, _)| Pattern::new(text)).collect();
    Some(ExportRule { to: patterns("to"), scope: scope.to_owned(), groups: patterns("groups") })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Place, valid},
        *,
    };

    #[test]
    fn a_gateway_says_who_it_is_whom_it_trusts_and_what_it_lets_out() {
        let place = Place::new();
        let text = "[federation]\nlisten = \"0.0.0.0:4391\"\npeers = [\"gw.west.example:4391\"]\nidentity = \"~/gw.pem\"\n\
                    trust = [\"/west.pem\"]\n\n[[federation.export]]\nto = [\"we*\"]\ngroups = [\"orders\"]\n";
        let federation = valid(place.load(text)).federation.expect("a gateway");
        assert_eq!(federation.listen, Some(SocketAddr::from(([0, 0, 0, 0], 4391))));
        assert!(federation.identity.is_absolute() && federation.identity.ends_with("gw.pem"));
        assert_eq!(federation.trust, [PathBuf::from("/west.pem")]);
        assert_eq!((federation.exports.len(), federation.exports[0].scope.as_str()), (1, "pg"));
        assert!(valid(place.load("")).federation.is_none(), "nobody is a gateway who did not ask for it");

        let text = "[federation]\nidentity = \"/gw.pem\"\ntrust = [\"/west.pem\"]\n\n[[federation.topology]]\nstrategy = \"dns\"\n\
                    query = \"gw.west.example\"\n";
        let found = valid(place.load(text)).federation.expect("a gateway");
        assert_eq!(found.topologies.iter().map(|topology| topology.name.as_str()).collect::<Vec<_>>(), ["dns"]);
        let faults = place.faults(&format!("cluster = \"a:b\"\n{text}prune = true\nquerry = 1\n"));
        for expected in ["`prune` is for [[topology]]", "no key `querry`: did you mean `query`", "`a:b` holds a `:`"] {
            assert!(faults.contains(expected), "{expected}: {faults}");
        }

        let faults = place.faults(
            "[federation]\nlisten = \"4391\"\npeers = [\"west\"]\n\n[[federation.export]]\nto = [\"west\"]\ngroup = [\"x\"]\n",
        );
        for expected in [
            "2: `federation.listen`: `4391` is no address with a port",
            "3: `federation.peers`: `west` is no gateway",
            "[[federation.export]] has no key `group`",
            "[[federation.export]] needs `groups`",
            "a gateway needs `federation.identity`",
            "a gateway needs `federation.trust`",
        ] {
            assert!(faults.contains(expected), "{expected}: {faults}");
        }
    }
}
