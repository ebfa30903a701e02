//! What a certificate says of the nodes that may show it.
//!
//! The names are those that `inet_tls_dist` of OTP takes for them: a `dNSName` is a host, the common name of a
//! `directoryName` is the part of a node's name before the `@`, and where there are both they belong together. Beyond
//! OTP, a `dNSName` or common name with an `@` is the whole name of a node, an `iPAddress` is a host, a first label `*`
//! stands for any, and a certificate without any such name falls back to the common name of its subject.
//!
//! Follows RFC 5280, section 4.1; what is read has been parsed and its signature checked by `rustls-webpki` before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metacluster_types::NodeName;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
/// The extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;
/// The version of a certificate.
const VERSION: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;
const DIRECTORY_NAME: u8 = 0xa4;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The names in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// `name@host`.
    nodes: Vec<String>,
    hosts: Vec<String>,
    /// The parts before the `@`.
    basenames: Vec<String>,
}

/// The common name of a certificate's subject, if it has one.
#[must_use]
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let mut body = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    body.optional(VERSION);
    // The serial number, the algorithm, the issuer, the validity.
    for _ in 0..4 {
        body.next()?;
    }
    common_names(body.expect(SEQUENCE)?).into_iter().next()
}

impl Names {
    /// Reads the names of a certificate; none of one that cannot be read.
    pub(crate) fn read(certificate: &[u8]) -> Self {
        let mut names = Self::default();
        // What is cut short has the names that came before.
        let _complete = names.read_certificate(certificate);
        names
    }

    fn read_certificate(&mut self, certificate: &[u8]) -> Option<()> {
        let mut body = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
        body.optional(VERSION);
        // The serial number, the algorithm, the issuer, the validity.
        for _ in 0..4 {
            body.next()?;
        }
        let subject = body.expect(SEQUENCE)?;
        while let Some((tag, value)) = body.next() {
            if tag == EXTENSIONS {
                self.read_extensions(value);
            }
        }
        if *self == Self::default() {
            for name in common_names(subject) {
                self.insert_host(name);
            }
        }
        Some(())
    }

    fn read_extensions(&mut self, extensions: &[u8]) -> Option<()> {
        let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
        while let Some((SEQUENCE, extension)) = extensions.next() {
            let mut extension = Der(extension);
            if extension.expect(OBJECT_IDENTIFIER)? == SUBJECT_ALT_NAME {
                while let Some((tag, value)) = extension.next() {
                    if tag == OCTET_STRING {
                        self.read_alternatives(value);
                    }
                }
            }
        }
        Some(())
    }

    fn read_alternatives(&mut self, names: &[u8]) -> Option<()> {
        let mut names = Der(Der(names).expect(SEQUENCE)?);
        while let Some((tag, value)) = names.next() {
            match tag {
                DNS_NAME => self.insert_host(text(value)),
                IP_ADDRESS => self.hosts.extend(address(value).map(|address| address.to_string())),
                DIRECTORY_NAME => {
                    for name in common_names(Der(value).expect(SEQUENCE)?) {
                        if name.contains('@') { self.nodes.push(name) } else { self.basenames.push(name) }
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn insert_host(&mut self, name: String) {
        if name.contains('@') { self.nodes.push(name) } else { self.hosts.push(name) }
    }

    /// Whether this node may show the certificate.
    pub(crate) fn allow(&self, node: &NodeName) -> bool {
        if self.nodes.iter().any(|name| name == node.as_str()) {
            return true;
        }
        let host = self.hosts.iter().any(|host| is_host(host, node.host()));
        let basename = self.basenames.iter().any(|name| name == node.basename());
        match (self.hosts.is_empty(), self.basenames.is_empty()) {
            (true, true) => false,
            (false, true) => host,
            (true, false) => basename,
            (false, false) => host && basename,
        }
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut names = self.nodes.clone();
        match (self.hosts.is_empty(), self.basenames.is_empty()) {
            (_, true) => names.extend(self.hosts.iter().cloned()),
            (true, false) => names.extend(self.basenames.iter().map(|name| format!("{name}@"))),
            (false, false) => names.extend(
                self.hosts.iter().flat_map(|host| self.basenames.iter().map(move |name| format!("{name}@{host}"))),
            ),
        }
        if names.is_empty() { f.write_str("nobody") } else { f.write_str(&names.join(", ")) }
    }
}

/// Whether a host of a certificate is this one.
fn is_host(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((_, rest))) => rest.parse::<IpAddr>().is_err() && domain.eq_ignore_ascii_case(rest),
        (_, _) => false,
    }
}

fn common_names(name: &[u8]) -> Vec<String> {
    let (mut parts, mut found) = (Der(name), Vec::new());
    while let Some((SET, part)) = parts.next() {
        let mut attributes = Der(part);
        while let Some((SEQUENCE, attribute)) = attributes.next() {
            let mut attribute = Der(attribute);
            if attribute.expect(OBJECT_IDENTIFIER) == Some(COMMON_NAME) {
                found.extend(attribute.next().map(|(_, value)| text(value)));
            }
        }
    }
    found
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Values of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next tag and value; none at the end, or when the rest is no DER.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // How many bytes the length has; longer ones have no use here.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Skips the next value if it has this tag.
    fn optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            let _skipped = self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(subject: Option<&str>, names: Vec<SanType>) -> Names {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(subject) = subject {
            params.distinguished_name.push(DnType::CommonName, subject);
        }
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        Names::read(params.self_signed(&key).expect("a certificate").der())
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().expect("ASCII"))
    }

    fn allows(names: &Names, node: &str) -> bool {
        names.allow(&NodeName::new(node).expect("a name"))
    }

    #[test]
    fn a_host_in_the_certificate_stands_for_all_its_nodes() {
        let names = certificate(Some("elsewhere"), vec![dns("a.example"), dns("*.b.example")]);
        assert!(allows(&names, "shop@a.example"));
        assert!(allows(&names, "shop@A.Example"));
        assert!(allows(&names, "shop@x.b.example"));
        assert!(!allows(&names, "shop@b.example"));
        assert!(!allows(&names, "shop@x.y.b.example"));
        assert!(!allows(&names, "shop@elsewhere"), "the subject counts only where nothing else does");
        assert_eq!(names.to_string(), "a.example, *.b.example");
    }

    #[test]
    fn a_node_in_the_certificate_stands_for_itself() {
        let names = certificate(None, vec![dns("shop@a.example")]);
        assert!(allows(&names, "shop@a.example"));
        assert!(!allows(&names, "till@a.example"));
        assert!(!allows(&names, "shop@b.example"));
    }

    #[test]
    fn an_address_in_the_certificate_is_a_host() {
        let names = certificate(
            None,
            vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into()), SanType::IpAddress(Ipv6Addr::LOCALHOST.into())],
        );
        assert!(allows(&names, "shop@127.0.0.1"));
        assert!(allows(&names, "shop@::1"));
        assert!(!allows(&names, "shop@127.0.0.2"));
    }

    #[test]
    fn the_subject_counts_where_there_is_no_other_name() {
        assert!(allows(&certificate(Some("host"), vec![]), "shop@host"));
        assert!(allows(&certificate(Some("shop@host"), vec![]), "shop@host"));
        assert!(!allows(&certificate(Some("shop@host"), vec![]), "till@host"));
        let nobody = certificate(None, vec![]);
        assert!(!allows(&nobody, "shop@host"));
        assert_eq!(nobody.to_string(), "nobody");
    }

    #[test]
    fn bytes_that_are_no_certificate_name_nobody() {
        let params = CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
        let key = KeyPair::generate().expect("a key");
        let good = params.self_signed(&key).expect("a certificate").der().to_vec();
        for length in 0..good.len() {
            let names = Names::read(&good[..length]);
            assert_eq!(names, Names::default(), "cut at {length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            // Whatever it says, it is read to its end.
            let _names = Names::read(&bad);
        }
    }
}
