//! What binds a login to the TLS session that it goes over: the digest of the server's certificate (`tls-server-end-point`,
//! RFC 5929, 4.1), without which SCRAM's proof could be passed on by one in the middle.
//!
//! Invariant: whatever the bytes of the certificate are, the walk goes over three lengths and ends.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;

/// The digest that both sides make of the certificate: by the hash of its signature, and by SHA-256 where that is MD5 or
/// SHA-1. `None` where the signature has no such hash, as that of Ed25519.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    // As in RFC 8017 (A.2.4), RFC 3279 (2.2.3) and RFC 5758 (3.2).
    match signature(certificate)? {
        // RSA and ECDSA with MD5, SHA-1 or SHA-256.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => Some(Sha256::digest(certificate).to_vec()),
        // With SHA-384.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => {
            Some(Sha384::digest(certificate).to_vec())
        }
        // With SHA-512.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

/// The identifier of the signature's algorithm: `SEQUENCE { tbsCertificate SEQUENCE, SEQUENCE { OBJECT, … }, … }` (RFC
/// 5280, 4.1).
fn signature(certificate: &[u8]) -> Option<&[u8]> {
    let (parts, _) = value(certificate, SEQUENCE)?;
    let (_, after) = value(parts, SEQUENCE)?;
    let (algorithm, _) = value(after, SEQUENCE)?;
    Some(value(algorithm, OBJECT)?.0)
}

/// The value that begins here, if it has that tag, and what comes after it (X.690, 8.1).
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        }
        // No certificate is so long.
        _ => return None,
    };
    if first == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let made = rcgen::CertificateParams::new(["db.example".to_owned()]).expect("a name").self_signed(&key);
        made.expect("a certificate").der().clone()
    }

    #[test]
    fn the_digest_is_by_the_hash_of_the_signature() {
        let short = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point(&short), Some(Sha256::digest(&short).to_vec()));
        let long = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&long), Some(Sha384::digest(&long).to_vec()));
        assert_eq!(end_point(&certificate(&rcgen::PKCS_ED25519)), None, "its hash is not defined");
    }

    #[test]
    fn no_certificate_has_no_digest() {
        let whole = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        for end in 0..whole.len() {
            assert_eq!(end_point(&CertificateDer::from(&whole[..end])), None, "the first {end} bytes");
        }
        for bytes in [&[0x30, 0x84, 1, 0, 0, 0][..], &[0x30, 0x80], &[0xff; 64]] {
            assert_eq!(end_point(&CertificateDer::from(bytes)), None);
        }
    }
}
