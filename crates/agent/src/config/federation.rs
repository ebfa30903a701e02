//! `[federation]` and its exports.

use std::{net::SocketAddr, path::PathBuf};

use metacluster_federation::{ExportRule, Limits};
use metacluster_types::Pattern;

use super::{
    FederationConfig, cookie,
    environment::Environment,
    fault::{Fault, Origin},
    keys::EXPORT_KEYS,
    raw::Raw,
    values::Values,
};

/// Validates the section; none when it makes no gateway.
pub(super) fn validate(
    values: &Values,
    entries: Vec<Raw>,
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
    let exports: Vec<ExportRule> = entries.into_iter().filter_map(|raw| export(raw, faults)).collect();
    let told = |path: &str| values.origin(path).is_explicit();
    if !["federation.listen", "federation.peers", "federation.identity", "federation.trust"].into_iter().any(told)
        && exports.is_empty()
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
            !told("federation.listen") && !told("federation.peers"),
            "federation.listen",
            "an address, or `federation.peers`",
        ),
    ] {
        if missing {
            faults.push(Fault::new(&Origin::Default, format!("a gateway needs `{path}`: {expected}")));
        }
    }
    Some(FederationConfig { listen, peers, identity: identity?, trust, exports, limits: limits(values) })
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
