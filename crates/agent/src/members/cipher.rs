//! How packets are sealed: ChaCha20-Poly1305 (RFC 8439), with keys derived by HKDF-SHA256 (RFC 5869), both from ring.
//!
//! Each boot of each member seals under a key of its own, so the packet's counter alone is the nonce and none is used
//! twice. Until a keyring is installed, the ring's one key is derived from the cookie and the cluster's name, which the
//! hosts share already.

use std::collections::{BTreeMap, VecDeque};

use metacluster_membership::{Cipher, Epoch, Key, KeyScope};
use metacluster_types::{AgentId, ClusterName, Cookie};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};

/// So many derived keys are kept; beyond, the one that was made first is derived again when it is needed. Only keys
/// that have opened a packet are kept, so strangers cannot push out those of members.
const KEYS_KEPT: usize = 4_096;

/// 32 bytes, the length of every key here.
struct KeyBytes;

impl KeyType for KeyBytes {
    fn len(&self) -> usize {
        32
    }
}

/// The key that is used until another is installed.
pub(crate) fn default_key(cookie: &Cookie, cluster: &ClusterName) -> Key {
    Key::new(derive(b"metacluster membership key 1", cookie.reveal().as_bytes(), &[cluster.as_str().as_bytes()]))
}

fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let pseudorandom = Salt::new(HKDF_SHA256, salt).extract(secret);
    pseudorandom
        .expand(info, KeyBytes)
        .and_then(|derived| derived.fill(&mut bytes))
        .expect("32 bytes are less than the 8160 that HKDF-SHA256 can give");
    bytes
}

type Scope = (AgentId, Epoch, [u8; 32]);

/// The cipher of the agent's [`Sealer`](metacluster_membership::Sealer).
#[derive(Default)]
pub(crate) struct ChaCha {
    keys: BTreeMap<Scope, LessSafeKey>,
    order: VecDeque<Scope>,
}

impl ChaCha {
    fn scope(scope: &KeyScope<'_>) -> Scope {
        let mut secret = [0; 32];
        let bytes = scope.secret.reveal();
        let length = bytes.len().min(32);
        secret[..length].copy_from_slice(&bytes[..length]);
        (scope.sender, scope.epoch, secret)
    }

    fn key((sender, epoch, secret): &Scope) -> LessSafeKey {
        let bytes = derive(b"metacluster packets 1", secret, &[&sender.0.to_be_bytes(), &epoch.0.to_be_bytes()]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).expect("the key has the 32 bytes of the algorithm");
        LessSafeKey::new(key)
    }

    fn keep(&mut self, scope: Scope, key: LessSafeKey) {
        if self.keys.insert(scope, key).is_none() {
            self.order.push_back(scope);
        }
        if self.order.len() > KEYS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for ChaCha {
    const TAG_BYTES: usize = 16;

    fn seal(&mut self, scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &mut Vec<u8>) {
        let scope = Self::scope(scope);
        let key = self.keys.remove(&scope).unwrap_or_else(|| {
            self.order.push_back(scope);
            Self::key(&scope)
        });
        key.seal_in_place_append_tag(nonce(counter), Aad::from(header), body)
            .expect("a message is far below the 256 GiB of the algorithm");
        self.keys.insert(scope, key);
    }

    fn open(&mut self, scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &mut Vec<u8>) -> bool {
        let scope = Self::scope(scope);
        let known = self.keys.get(&scope);
        let fresh = known.is_none().then(|| Self::key(&scope));
        let Some(key) = known.or(fresh.as_ref()) else { return false };
        let Ok(length) = key.open_in_place(nonce(counter), Aad::from(header), body).map(|opened| opened.len()) else {
            return false;
        };
        body.truncate(length);
        if let Some(fresh) = fresh {
            self.keep(scope, fresh);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use metacluster_types::Secret;

    use super::*;

    fn name(text: &str) -> ClusterName {
        ClusterName::new(text).expect("valid")
    }

    fn sealed(secret: &Secret, sender: u128, counter: u64) -> Vec<u8> {
        let mut body = b"body".to_vec();
        let scope = KeyScope { secret, sender: AgentId(sender), epoch: Epoch(7) };
        ChaCha::default().seal(&scope, counter, b"header", &mut body);
        body
    }

    #[test]
    fn only_the_same_key_boot_counter_and_header_open_it() {
        let (secret, other) = (Secret::new(&[1; 32]), Secret::new(&[2; 32]));
        let bytes = sealed(&secret, 1, 5);
        assert_eq!(bytes.len(), 4 + ChaCha::TAG_BYTES);
        let opens = |secret: &Secret, sender, epoch, counter, header: &[u8]| {
            let mut body = bytes.clone();
            let scope = KeyScope { secret, sender: AgentId(sender), epoch: Epoch(epoch) };
            ChaCha::default().open(&scope, counter, header, &mut body) && body == b"body"
        };
        assert!(opens(&secret, 1, 7, 5, b"header"));
        assert!(!opens(&other, 1, 7, 5, b"header"));
        assert!(!opens(&secret, 2, 7, 5, b"header"));
        assert!(!opens(&secret, 1, 8, 5, b"header"));
        assert!(!opens(&secret, 1, 7, 6, b"header"));
        assert!(!opens(&secret, 1, 7, 5, b"Header"));
    }

    #[test]
    fn too_little_is_refused() {
        let scope = KeyScope { secret: &Secret::new(&[1; 32]), sender: AgentId(1), epoch: Epoch(1) };
        for length in 0..ChaCha::TAG_BYTES {
            assert!(!ChaCha::default().open(&scope, 1, b"", &mut vec![0; length]));
        }
    }

    #[test]
    fn the_default_key_needs_the_cookie_and_the_cluster() {
        let key = |cookie: &str, cluster: &str| default_key(&Cookie::new(cookie), &name(cluster)).id();
        assert_eq!(key("secret", "main"), key("secret", "main"));
        assert_ne!(key("secret", "main"), key("secret", "other"));
        assert_ne!(key("secret", "main"), key("Secret", "main"));
    }

    #[test]
    fn strangers_push_out_no_key_and_members_are_bounded() {
        let secret = Secret::new(&[1; 32]);
        let mut cipher = ChaCha::default();
        let good = sealed(&secret, 1, 5);
        let open = |cipher: &mut ChaCha, sender, bytes: &[u8]| {
            let scope = KeyScope { secret: &secret, sender: AgentId(sender), epoch: Epoch(7) };
            cipher.open(&scope, 5, b"header", &mut bytes.to_vec())
        };
        assert!(open(&mut cipher, 1, &good));
        for stranger in 2..200 {
            assert!(!open(&mut cipher, stranger, &good));
        }
        assert_eq!((cipher.keys.len(), cipher.order.len()), (1, 1));
        for member in 0..KEYS_KEPT as u128 + 50 {
            cipher.keep((AgentId(member), Epoch(1), [0; 32]), ChaCha::key(&(AgentId(member), Epoch(1), [0; 32])));
        }
        assert_eq!((cipher.keys.len(), cipher.order.len()), (KEYS_KEPT, KEYS_KEPT));
        assert!(open(&mut cipher, 1, &good), "a key that was pushed out is derived again");
    }
}
