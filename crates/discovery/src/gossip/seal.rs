//! Encryption of datagrams, as libcluster has it: 16 bytes of initialisation vector, then AES-256-CBC under the SHA-256
//! of the secret, padded by PKCS#7. There is no authentication in the format; the secret keeps strangers out, and what
//! its holders may do is bounded elsewhere.

use aes::{
    Aes256,
    cipher::{
        BlockModeDecrypt, BlockModeEncrypt, KeyIvInit,
        block_padding::{NoPadding, Pkcs7},
    },
};
use metacluster_types::Secret;
use sha2::{Digest, Sha256};

/// Bytes of a block and of an initialisation vector.
const BLOCK: usize = 16;

/// The key that a secret stands for. It has no `Debug`.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// One unsalted SHA-256, as every libcluster since 2018.
    pub(crate) fn derive(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.reveal()).into())
    }

    /// The datagram for a plain packet.
    pub(crate) fn seal(&self, iv: [u8; BLOCK], plain: &[u8]) -> Vec<u8> {
        let mut datagram = iv.to_vec();
        let encryptor = cbc::Encryptor::<Aes256>::new(&self.0.into(), &iv.into());
        datagram.extend(encryptor.encrypt_padded_vec::<Pkcs7>(plain));
        datagram
    }

    /// The plain packet of a datagram, if there can be one. Accepts what libcluster's receiver accepts: a last block
    /// that is not whole is left out, and a padding of zero bytes is none at all.
    pub(crate) fn open(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (iv, sealed) = datagram.split_first_chunk::<BLOCK>()?;
        let whole = sealed.len() - sealed.len() % BLOCK;
        let decryptor = cbc::Decryptor::<Aes256>::new(&self.0.into(), &(*iv).into());
        let mut plain = decryptor.decrypt_padded_vec::<NoPadding>(&sealed[..whole]).ok()?;
        let padding = *plain.last()?;
        let kept = plain.len().checked_sub(usize::from(padding))?;
        if usize::from(padding) > BLOCK || plain[kept..].iter().any(|&byte| byte != padding) {
            return None;
        }
        plain.truncate(kept);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gossip::hex;

    /// From libcluster 3.5.0 on OTP 25, and checked against OpenSSL: the secret `password`, the vector 00 to 0f, the
    /// heartbeats of `a@127.0.0.1` in the forms of OTP 25 and of OTP 26.
    const VECTORS: [(&str, &str); 2] = [
        (
            "6865617274626561743a3a8374000000016400046e6f646564000b61403132372e302e302e31",
            "000102030405060708090a0b0c0d0e0f3ae1c747bf3adf86e06af9a4c76d72ebdfd83c7501f0cc348b03c7fa9daa41af82213b552fcc\
             74fa7391123a0454f905",
        ),
        (
            "6865617274626561743a3a83740000000177046e6f6465770b61403132372e302e302e31",
            "000102030405060708090a0b0c0d0e0f3ae1c747bf3adf86e06af9a4c76d72eba50bbce009b33fc4f285f16e1986413255a8655a4325\
             5a62567d428fc59a7e2d",
        ),
    ];

    fn key() -> Key {
        Key::derive(&Secret::new(b"password"))
    }

    fn seal_blocks(plain: &[u8]) -> Vec<u8> {
        let iv = [7; BLOCK];
        let encryptor = cbc::Encryptor::<Aes256>::new(&key().0.into(), &iv.into());
        iv.into_iter().chain(encryptor.encrypt_padded_vec::<NoPadding>(plain)).collect()
    }

    #[test]
    fn golden_bytes_both_ways() {
        assert_eq!(key().0.to_vec(), hex("5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"));
        let iv = std::array::from_fn(|at| u8::try_from(at).expect("below 16"));
        for (plain, sealed) in VECTORS {
            assert_eq!(key().seal(iv, &hex(plain)), hex(sealed));
            assert_eq!(key().open(&hex(sealed)), Some(hex(plain)));
        }
    }

    #[test]
    fn what_libcluster_accepts_is_accepted() {
        let mut with_rest = key().seal([1; BLOCK], b"heartbeat::");
        with_rest.extend([9; 5]);
        assert_eq!(key().open(&with_rest), Some(b"heartbeat::".to_vec()), "a block that is not whole is left out");
        let unpadded = [b"fifteen bytes.. ".as_slice(), &[0; 16]].concat();
        assert_eq!(key().open(&seal_blocks(&unpadded)), Some(unpadded), "no padding at all");
    }

    #[test]
    fn what_libcluster_refuses_is_refused() {
        assert_eq!(key().open(&[]), None);
        assert_eq!(key().open(&[0; 15]), None);
        assert_eq!(key().open(&[0; 16]), None, "no block");
        assert_eq!(key().open(&[0; 31]), None, "no whole block");
        assert_eq!(key().open(&seal_blocks(&[17; 32])), None, "a padding longer than a block");
        assert_eq!(key().open(&seal_blocks(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3])), None, "uneven padding");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plain: Vec<u8>, iv: [u8; 16]) {
            prop_assert_eq!(key().open(&key().seal(iv, &plain)), Some(plain));
        }

        #[test]
        fn no_datagram_panics(datagram: Vec<u8>) {
            prop_assert!(key().open(&datagram).is_none_or(|plain| plain.len() < datagram.len()));
        }
    }
}
