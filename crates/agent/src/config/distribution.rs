//! `[distribution]`: TLS between the agent's own nodes and the BEAM nodes, as `-proto_dist inet_tls`.

use metacluster_erl::{NameCheck, Tls, TlsOptions, TlsSetupError};

use super::{
    cookie,
    environment::Environment,
    fault::{Fault, Origin},
    values::Values,
};

/// Reads the section and its files; none when the agent speaks plain distribution.
pub(super) fn validate(values: &Values, environment: &Environment, faults: &mut Vec<Fault>) -> Option<Tls> {
    let path = |key: &str| values.text(key).map(|(path, _)| cookie::expand_home(path, environment));
    let Some(certificate) = path("distribution.certificate") else {
        for key in KEYS_OF_TLS {
            if values.origin(key).is_explicit() {
                let message = format!("`{key}` does nothing without `distribution.certificate`: set that too");
                faults.push(Fault::new(values.origin(key), message));
            }
        }
        return None;
    };
    let Some(authorities) = path("distribution.authorities") else {
        let message = "`distribution.certificate` needs `distribution.authorities`: the file with the certificates of those \
                       who sign";
        faults.push(Fault::new(values.origin("distribution.certificate"), message));
        return None;
    };
    let key = path("distribution.key").unwrap_or_else(|| certificate.clone());
    let mut options = TlsOptions::new(certificate, key, authorities);
    options.names = match values.text("distribution.names") {
        Some(("never", _)) => NameCheck::Never,
        Some(("always", _)) => NameCheck::Always,
        Some(_) | None => NameCheck::Dialled,
    };
    options.client_certificates = values.flag("distribution.client_certificates").unwrap_or(true);
    match Tls::load(&options) {
        Ok(tls) => Some(tls),
        Err(error) => {
            let key = blamed(&error, &options);
            faults.push(Fault::new(told(values, key), format!("`{key}`: {error}")));
            None
        }
    }
}

/// What means nothing without a certificate.
const KEYS_OF_TLS: [&str; 4] =
    ["distribution.key", "distribution.authorities", "distribution.names", "distribution.client_certificates"];

/// The key whose file it is.
fn blamed(error: &TlsSetupError, options: &TlsOptions) -> &'static str {
    match error.file() {
        file if *file == options.authorities => "distribution.authorities",
        file if *file == options.certificate => "distribution.certificate",
        _ => "distribution.key",
    }
}

/// Where the file was named: that of a key that nobody set is the certificate's.
fn told<'a>(values: &'a Values, key: &str) -> &'a Origin {
    let origin = values.origin(key);
    if origin.is_explicit() { origin } else { values.origin("distribution.certificate") }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Place, valid},
        *,
    };

    #[test]
    fn a_certificate_makes_it_tls_and_every_fault_names_its_key() {
        let place = Place::new();
        assert!(valid(place.load("")).distribution.is_none(), "plain, when nobody says anything");
        place.certificate("node.pem", "ca.pem");
        let whole = "[distribution]\ncertificate = \"~/node.pem\"\nauthorities = \"~/ca.pem\"\n";
        let tls = valid(place.load(whole)).distribution.expect("TLS");
        let options = tls.options();
        assert_eq!(
            (&options.key, options.names, options.client_certificates),
            (&options.certificate, NameCheck::Dialled, true)
        );
        let more = format!("{whole}names = \"always\"\nclient_certificates = false\n");
        let options = valid(place.load(&more)).distribution.expect("TLS").options().clone();
        assert_eq!((options.names, options.client_certificates), (NameCheck::Always, false));

        for (text, fault) in [
            ("[distribution]\nkey = \"~/node.pem\"\n", "2: `distribution.key` does nothing without"),
            ("[distribution]\nnames = \"never\"\n", "2: `distribution.names` does nothing without"),
            (
                "[distribution]\ncertificate = \"~/node.pem\"\n",
                "2: `distribution.certificate` needs `distribution.authorities`",
            ),
            (
                "[distribution]\ncertificate = \"~/no.pem\"\nauthorities = \"~/ca.pem\"\n",
                "2: `distribution.certificate`: no.pem: No such file",
            ),
            (
                "[distribution]\ncertificate = \"~/node.pem\"\nauthorities = \"~/.erlang.cookie\"\n",
                "3: `distribution.authorities`: .erlang.cookie: no certificate in PEM form",
            ),
            (
                "[distribution]\ncertificate = \"~/node.pem\"\nauthorities = \"~/ca.pem\"\nkey = \"~/.erlang.cookie\"\n",
                "4: `distribution.key`: .erlang.cookie: no private key in PEM form",
            ),
        ] {
            let faults = place.faults(text);
            assert!(faults.contains(fault), "{fault}: {faults}");
        }
    }
}
