//! Sealed packets: a keyring that changes in two phases while running, and a window against replays.
//!
//! The machine makes and reads plain packets. A driver with keys passes each through a [`Sealer`] on its way out and
//! in. The header stays in the clear and is authenticated; everything behind it is encrypted. The cipher itself is the
//! driver's, so that one provider serves the whole program: [`Cipher`] is one call each way.
//!
//! Each boot of each member seals under a key of its own, which the cipher derives from the ring's key and the
//! [`KeyScope`]; so the packet's counter is the whole nonce and none is used twice.
//!
//! To turn encryption on in a live cluster: install the key everywhere, then [`Policy::SealAndTakePlain`] everywhere,
//! then [`Policy::Seal`] everywhere. To change the key: install everywhere, use everywhere, remove everywhere.

use std::collections::{BTreeMap, VecDeque};

use metacluster_types::{AgentId, ClusterName, Secret};
use sha2::{Digest as _, Sha256};

use crate::{
    codec::{
        Reader,
        packet::{Header, header, put_header},
    },
    error::OpenError,
    record::Epoch,
};

/// So many keys are kept; a rotation needs two.
const KEYS_MAX: usize = 8;
/// Windows of so many boots are kept; the one that was made first goes when there are more.
const WINDOWS_MAX: usize = 40_000;

/// What names a key: the first bytes of its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A key of 256 bits. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: KeyId,
    secret: Secret,
}

impl Key {
    /// Takes 32 bytes of a good random source, or of a key derivation.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(b"metacluster key id 1").chain_update(bytes).finalize();
        let id = KeyId(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]));
        Self { id, secret: Secret::new(&bytes) }
    }

    /// What names it, in packets and in listings.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Its 32 bytes, for a driver that keeps it.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// Which key of the many that derive from one: each boot of each member seals under its own.
pub struct KeyScope<'a> {
    /// The ring's key, 32 bytes.
    pub secret: &'a Secret,
    /// Who seals.
    pub sender: AgentId,
    /// Its boot.
    pub epoch: Epoch,
}

/// Authenticated encryption with associated data, as the driver has it.
pub trait Cipher {
    /// So many bytes longer is what is sealed.
    const TAG_BYTES: usize;

    /// Seals `body` in place and appends the tag. The counter is unique within the scope.
    fn seal(&mut self, scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &mut Vec<u8>);

    /// Opens `body` in place and takes the tag off; `false` when it was not sealed so.
    fn open(&mut self, scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &mut Vec<u8>) -> bool;
}

/// What is sent and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Sends plain packets; takes both.
    Plain,
    /// Sends sealed packets; takes both.
    SealAndTakePlain,
    /// Sends sealed packets; takes no others.
    Seal,
}

/// Why the ring cannot be changed so. It stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// No such key was installed.
    #[error("no key {0} is installed")]
    Unknown(KeyId),
    /// The key in use cannot be removed; use another first.
    #[error("key {0} is in use; use another one first")]
    InUse(KeyId),
    /// There are as many keys as may be; remove one first.
    #[error("{KEYS_MAX} keys are installed already; remove one first")]
    Full,
}

/// Keys that open, and the one that seals.
#[derive(Clone)]
pub struct Keyring {
    keys: BTreeMap<KeyId, Key>,
    used: KeyId,
}

impl Keyring {
    /// A ring with one key, in use.
    #[must_use]
    pub fn new(key: Key) -> Self {
        let used = key.id;
        Self { keys: BTreeMap::from([(used, key)]), used }
    }

    /// First phase: a key that opens, and does not seal yet. Twice is once.
    ///
    /// # Errors
    /// When the ring is full.
    pub fn install(&mut self, key: Key) -> Result<(), KeyringError> {
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key.id) {
            return Err(KeyringError::Full);
        }
        self.keys.insert(key.id, key);
        Ok(())
    }

    /// Second phase: this key seals from now on.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn use_key(&mut self, id: KeyId) -> Result<(), KeyringError> {
        if !self.keys.contains_key(&id) {
            return Err(KeyringError::Unknown(id));
        }
        self.used = id;
        Ok(())
    }

    /// The end: what it sealed is not opened any more.
    ///
    /// # Errors
    /// When it is in use, or not installed.
    pub fn remove(&mut self, id: KeyId) -> Result<(), KeyringError> {
        if id == self.used {
            return Err(KeyringError::InUse(id));
        }
        self.keys.remove(&id).map(|_| ()).ok_or(KeyringError::Unknown(id))
    }

    /// Every key that opens.
    pub fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    /// Every key itself, for a driver that keeps the ring.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    /// The key that seals.
    #[must_use]
    pub const fn used(&self) -> KeyId {
        self.used
    }
}

/// The newest counter of a boot, and which of the [`WINDOW`] before it came.
///
/// A member has one counter for all that it sends, to whomever, in packets and over streams. So what comes to one of them has
/// gaps, and a message over a stream that had to wait for a lost packet of TCP comes after packets that were sent long
/// after it: at the most of gossip that the presets allow, some hundred packets a second, it may be
/// `stream_timeout` late, which is 300 packets (`lan`) to 1,000 (`wan`).
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    newest: u64,
    /// A ring of bits, a word longer than the window, so that the words of what is new are cleared before they are used.
    seen: [u64; WINDOW_WORDS],
}

/// So many counters back it is known what came.
const WINDOW: u64 = 64 * (WINDOW_WORDS as u64 - 1);
const WINDOW_WORDS: usize = 17;

impl Window {
    /// Whether this counter is new; it is not afterwards.
    fn take(&mut self, counter: u64) -> bool {
        let place = |word: u64| usize::try_from(word % WINDOW_WORDS as u64).unwrap_or_default();
        let (word, newest) = (counter / 64, self.newest / 64);
        if counter > self.newest {
            // All of them at most once, however far ahead it is.
            let passed = (word - newest).min(WINDOW_WORDS as u64);
            (1..=passed).for_each(|step| self.seen[place(word - passed + step)] = 0);
            self.newest = counter;
        } else if self.newest - counter >= WINDOW {
            return false;
        }
        let bit = 1 << (counter % 64);
        let known = self.seen[place(word)] & bit != 0;
        self.seen[place(word)] |= bit;
        !known
    }
}

/// Orders have keys of their own, apart from those of packets: no boot has such an epoch.
fn order_scope(key: &Key, (sender, epoch): (AgentId, Epoch)) -> KeyScope<'_> {
    KeyScope { secret: &key.secret, sender, epoch: Epoch(epoch.0 | 1 << 63) }
}

/// Seals what goes out and opens what comes in.
pub struct Sealer<C> {
    cluster: ClusterName,
    cipher: C,
    ring: Keyring,
    policy: Policy,
    windows: BTreeMap<(AgentId, Epoch), Window>,
    order: VecDeque<(AgentId, Epoch)>,
}

impl<C: Cipher> Sealer<C> {
    /// A sealer with this ring.
    #[must_use]
    pub fn new(cluster: ClusterName, cipher: C, ring: Keyring, policy: Policy) -> Self {
        Self { cluster, cipher, ring, policy, windows: BTreeMap::new(), order: VecDeque::new() }
    }

    /// The ring, to change it.
    pub fn ring(&mut self) -> &mut Keyring {
        &mut self.ring
    }

    /// What is sent and taken.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Seals an order for every member, under the ring's key whatever the policy says: what it carries may be a key.
    /// The nonce is a random one.
    pub fn seal_order(&mut self, from: (AgentId, Epoch), nonce: u64, plain: &[u8]) -> Vec<u8> {
        let mut out = self.ring.used.0.to_be_bytes().to_vec();
        out.extend_from_slice(&nonce.to_be_bytes());
        let mut body = plain.to_vec();
        if let Some(key) = self.ring.keys.get(&self.ring.used) {
            self.cipher.seal(&order_scope(key, from), nonce, &out, &mut body);
        }
        out.extend_from_slice(&body);
        out
    }

    /// Opens an order of a member's boot. Gives its nonce, by which the caller knows one that came before.
    ///
    /// # Errors
    /// When it is too short, sealed with an unknown key, or not as it should be, nor by that boot.
    pub fn open_order(&mut self, from: (AgentId, Epoch), bytes: &[u8]) -> Result<(u64, Vec<u8>), OpenError> {
        let mut reader = Reader::new(bytes);
        let (key, nonce) = (reader.u32()?, reader.u64()?);
        let (clear, sealed) = bytes.split_at(bytes.len() - reader.left());
        let key = self.ring.keys.get(&KeyId(key)).ok_or(OpenError::UnknownKey)?;
        let mut body = sealed.to_vec();
        let good = self.cipher.open(&order_scope(key, from), nonce, clear, &mut body);
        if good { Ok((nonce, body)) } else { Err(OpenError::Forged) }
    }

    /// Changes what is sent and taken.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Seals a packet or a stream message of the machine.
    ///
    /// # Errors
    /// When the bytes are none of the machine's.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, OpenError> {
        if self.policy == Policy::Plain {
            return Ok(plain.to_vec());
        }
        let mut reader = Reader::new(plain);
        let head = header(&mut reader)?;
        let mut body = plain[plain.len() - reader.left()..].to_vec();
        let mut out = Vec::with_capacity(plain.len() + C::TAG_BYTES + 4);
        put_header(&mut out, &Header { key: Some(self.ring.used.0), ..head });
        if let Some(key) = self.ring.keys.get(&self.ring.used) {
            let scope = KeyScope { secret: &key.secret, sender: head.sender, epoch: head.epoch };
            self.cipher.seal(&scope, head.counter, &out, &mut body);
        }
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Opens what came, for the machine.
    ///
    /// # Errors
    /// When it is of another cluster, sealed with an unknown key or not as it should be, plain where that is not
    /// taken, or came before. Nothing changed; the caller counts it.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut reader = Reader::new(bytes);
        let head = header(&mut reader)?;
        if head.cluster != self.cluster.as_str() {
            return Err(OpenError::Foreign);
        }
        let (clear, sealed) = bytes.split_at(bytes.len() - reader.left());
        let Some(key) = head.key else {
            return if self.policy == Policy::Seal { Err(OpenError::Plain) } else { Ok(bytes.to_vec()) };
        };
        let key = self.ring.keys.get(&KeyId(key)).ok_or(OpenError::UnknownKey)?;
        let scope = KeyScope { secret: &key.secret, sender: head.sender, epoch: head.epoch };
        let mut body = sealed.to_vec();
        if !self.cipher.open(&scope, head.counter, clear, &mut body) {
            return Err(OpenError::Forged);
        }
        // Only what the key made moves a window.
        let boot = (head.sender, head.epoch);
        let window = self.windows.entry(boot).or_insert_with(|| {
            self.order.push_back(boot);
            Window::default()
        });
        if !window.take(head.counter) {
            return Err(OpenError::Replayed);
        }
        if self.order.len() > WINDOWS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.windows.remove(&oldest);
        }
        let mut plain = Vec::with_capacity(bytes.len());
        put_header(&mut plain, &Header { key: None, ..head });
        plain.extend_from_slice(&body);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the shape of a cipher; it protects nothing.
    struct Toy;

    impl Toy {
        fn tag(scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &[u8]) -> [u8; 8] {
            let hash = Sha256::new()
                .chain_update(scope.secret.reveal())
                .chain_update(scope.sender.0.to_be_bytes())
                .chain_update(scope.epoch.0.to_be_bytes())
                .chain_update(counter.to_be_bytes())
                .chain_update(header)
                .chain_update(body)
                .finalize();
            let mut tag = [0; 8];
            tag.copy_from_slice(&hash[..8]);
            tag
        }
    }

    impl Cipher for Toy {
        const TAG_BYTES: usize = 8;

        fn seal(&mut self, scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &mut Vec<u8>) {
            body.iter_mut().for_each(|byte| *byte ^= 0x5a);
            let tag = Self::tag(scope, counter, header, body);
            body.extend_from_slice(&tag);
        }

        fn open(&mut self, scope: &KeyScope<'_>, counter: u64, header: &[u8], body: &mut Vec<u8>) -> bool {
            let Some((content, tag)) = body.split_last_chunk::<8>() else { return false };
            let good = Self::tag(scope, counter, header, content) == *tag;
            body.truncate(body.len() - 8);
            body.iter_mut().for_each(|byte| *byte ^= 0x5a);
            good
        }
    }

    fn sealer(cluster: &str, key: u8, policy: Policy) -> Sealer<Toy> {
        Sealer::new(ClusterName::new(cluster).expect("a name"), Toy, Keyring::new(Key::new([key; 32])), policy)
    }

    fn plain(counter: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let head = Header { cluster: "main", sender: AgentId(1), epoch: Epoch(5), counter, key: None };
        put_header(&mut out, &head);
        out.extend_from_slice(b"body");
        out
    }

    #[test]
    fn what_was_sealed_is_opened_once() {
        let (mut one, mut other) = (sealer("main", 1, Policy::Seal), sealer("main", 1, Policy::Seal));
        let sealed = one.seal(&plain(1)).expect("a packet");
        assert_eq!(other.open(&sealed), Ok(plain(1)));
        assert_eq!(other.open(&sealed), Err(OpenError::Replayed));
        let later: Vec<_> = (2..2000).map(|counter| one.seal(&plain(counter)).expect("a packet")).collect();
        assert!(other.open(&later[1997]).is_ok() && other.open(&later[1996]).is_ok(), "out of order is fine");
        assert_eq!(other.open(&later[0]), Err(OpenError::Replayed), "too old to know");
        // A stream that took ten seconds while a hundred packets a second went out.
        assert!(other.open(&later[998]).is_ok());
        assert_eq!(other.open(&later[998]), Err(OpenError::Replayed));
    }

    #[test]
    fn a_window_takes_each_counter_once_as_a_set_does() {
        let mut window = Window::default();
        let mut taken = std::collections::BTreeSet::new();
        // Ahead and back by all kinds of steps, across the ends of words and of the ring, and by more than the window.
        let (mut newest, mut random) = (0_u64, 1_u64);
        for round in 0..50_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let step = (random >> 33) % if round % 1000 == 0 { 5000 } else { 40 };
            let counter = if random >> 60 < 6 { newest + step } else { newest.saturating_sub(step * step) };
            let known = newest >= WINDOW && counter <= newest - WINDOW;
            let new = !known && taken.insert(counter);
            assert_eq!(window.take(counter), new, "round {round}: {counter} after {newest}");
            newest = newest.max(counter);
        }
        assert!(taken.len() > 10_000);
        assert!(window.take(u64::MAX) && !window.take(u64::MAX) && window.take(u64::MAX - WINDOW + 1));
        assert!(!window.take(u64::MAX - WINDOW));
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused() {
        let (mut one, mut other) = (sealer("main", 1, Policy::Seal), sealer("main", 1, Policy::Seal));
        let sealed = one.seal(&plain(1)).expect("a packet");
        for place in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[place / 8] ^= 1 << (place % 8);
            assert!(other.open(&bad).is_err(), "bit {place}");
        }
        for length in 0..sealed.len() {
            assert!(other.open(&sealed[..length]).is_err());
        }
        assert!(other.open(&sealed).is_ok(), "no forgery moves the window");
    }

    #[test]
    fn a_key_is_changed_while_running() {
        let (mut one, mut other) = (sealer("main", 1, Policy::Seal), sealer("main", 1, Policy::Seal));
        let (old, new) = (Key::new([1; 32]), Key::new([2; 32]));
        let mut counter = 0;
        let mut talks = |one: &mut Sealer<Toy>, other: &mut Sealer<Toy>| {
            counter += 1;
            let sealed = one.seal(&plain(counter)).expect("a packet");
            other.open(&sealed).map(|_| ())
        };
        one.ring().install(new.clone()).expect("room");
        assert_eq!(talks(&mut one, &mut other), Ok(()));
        other.ring().install(new.clone()).expect("room");
        one.ring().use_key(new.id()).expect("installed");
        assert_eq!(talks(&mut one, &mut other), Ok(()));
        assert_eq!(other.ring().remove(old.id()), Err(KeyringError::InUse(old.id())));
        other.ring().use_key(new.id()).expect("installed");
        other.ring().remove(old.id()).expect("not in use");
        assert_eq!(talks(&mut one, &mut other), Ok(()));
        one.ring().use_key(old.id()).expect("still there");
        assert_eq!(talks(&mut one, &mut other), Err(OpenError::UnknownKey));
    }

    #[test]
    fn an_order_is_sealed_whatever_the_policy_and_is_of_its_giver_alone() {
        let (mut one, mut other) = (sealer("main", 1, Policy::Plain), sealer("main", 1, Policy::Plain));
        let from = (AgentId(1), Epoch(5));
        let sealed = one.seal_order(from, 77, b"install a key");
        assert!(!sealed.windows(7).any(|part| part == b"install"));
        assert_eq!(other.open_order(from, &sealed), Ok((77, b"install a key".to_vec())));
        assert_eq!(other.open_order((AgentId(2), Epoch(5)), &sealed), Err(OpenError::Forged));
        assert_eq!(other.open_order((AgentId(1), Epoch(6)), &sealed), Err(OpenError::Forged));
        assert_eq!(sealer("main", 2, Policy::Seal).open_order(from, &sealed), Err(OpenError::UnknownKey));
        for length in 0..sealed.len() {
            assert!(other.open_order(from, &sealed[..length]).is_err());
        }
        for place in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[place / 8] ^= 1 << (place % 8);
            assert!(other.open_order(from, &bad).is_err(), "bit {place}");
        }
    }

    #[test]
    fn encryption_is_turned_on_in_a_live_cluster() {
        let (mut one, mut other) = (sealer("main", 1, Policy::Plain), sealer("main", 1, Policy::Plain));
        let sealed = |one: &mut Sealer<Toy>, counter| one.seal(&plain(counter)).expect("a packet");
        assert!(other.open(&sealed(&mut one, 1)).is_ok());
        one.set_policy(Policy::SealAndTakePlain);
        assert!(other.open(&sealed(&mut one, 2)).is_ok(), "a plain member takes sealed packets");
        other.set_policy(Policy::Seal);
        assert!(other.open(&sealed(&mut one, 3)).is_ok());
        one.set_policy(Policy::Plain);
        assert_eq!(other.open(&sealed(&mut one, 4)), Err(OpenError::Plain));
    }

    #[test]
    fn other_clusters_and_other_keys_are_told_apart() {
        let mut one = sealer("main", 1, Policy::Seal);
        let sealed = one.seal(&plain(1)).expect("a packet");
        assert_eq!(sealer("other", 1, Policy::Seal).open(&sealed), Err(OpenError::Foreign));
        assert_eq!(sealer("main", 2, Policy::Seal).open(&sealed), Err(OpenError::UnknownKey));
    }
}
