//! Orders about keys: install, use, remove, policy, list; their bytes, what a member answers, and the keyring's file.
//!
//! An order is sealed under the ring's key whatever the policy says, so a key is never on the wire in the clear, and
//! nobody without a key can give orders. The file is `keyring` in the state folder, mode 0600, and replaced as a whole.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use metacluster_membership::{Key, KeyId, Keyring, KeyringError, Policy};
use serde::{Deserialize, Serialize};

/// What every member is to do.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Tell its keys.
    List,
    /// Take packets of this key.
    Install(Key),
    /// Seal with this key.
    Use(KeyId),
    /// Take no packets of this key any more.
    Remove(KeyId),
    /// Seal, and take, so.
    Policy(Policy),
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::List => "List",
            Self::Install(_) => "Install",
            Self::Use(_) => "Use",
            Self::Remove(_) => "Remove",
            Self::Policy(_) => "Policy",
        })
    }
}

/// The word of the configuration for a policy.
pub(crate) const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Plain => "off",
        Policy::SealAndTakePlain => "preferred",
        Policy::Seal => "required",
    }
}

impl Order {
    /// The bytes, before they are sealed.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::List => vec![0],
            Self::Install(key) => [&[1], key.secret().reveal()].concat(),
            Self::Use(id) => [[2].as_slice(), &id.0.to_be_bytes()].concat(),
            Self::Remove(id) => [[3].as_slice(), &id.0.to_be_bytes()].concat(),
            Self::Policy(policy) => vec![
                4,
                match policy {
                    Policy::Plain => 0,
                    Policy::SealAndTakePlain => 1,
                    Policy::Seal => 2,
                },
            ],
        }
    }

    /// Reads the bytes of an order.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let id = |rest: &[u8]| rest.try_into().ok().map(|bytes| KeyId(u32::from_be_bytes(bytes)));
        match bytes.split_first()? {
            (0, []) => Some(Self::List),
            (1, rest) => rest.try_into().ok().map(|key| Self::Install(Key::new(key))),
            (2, rest) => id(rest).map(Self::Use),
            (3, rest) => id(rest).map(Self::Remove),
            (4, [0]) => Some(Self::Policy(Policy::Plain)),
            (4, [1]) => Some(Self::Policy(Policy::SealAndTakePlain)),
            (4, [2]) => Some(Self::Policy(Policy::Seal)),
            (_, _) => None,
        }
    }

    /// Does it to a ring and a policy.
    pub(crate) fn apply(&self, ring: &mut Keyring, policy: &mut Policy) -> Result<(), KeyringError> {
        match self {
            Self::List => Ok(()),
            Self::Install(key) => ring.install(key.clone()),
            Self::Use(id) => ring.use_key(*id),
            Self::Remove(id) => match ring.remove(*id) {
                // What is wanted is so.
                Ok(()) | Err(KeyringError::Unknown(_)) => Ok(()),
                Err(error) => Err(error),
            },
            Self::Policy(wanted) => {
                *policy = *wanted;
                Ok(())
            }
        }
    }
}

/// What a member has, after it did or did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyState {
    /// The ids of its keys.
    pub(crate) keys: Vec<String>,
    /// The one that seals.
    pub(crate) used: String,
    /// Its policy.
    pub(crate) policy: String,
}

impl KeyState {
    pub(crate) fn of(ring: &Keyring, policy: Policy) -> Self {
        let keys = ring.keys().map(|id| id.to_string()).collect();
        Self { keys, used: ring.used().to_string(), policy: policy_name(policy).to_owned() }
    }
}

/// A member's answer to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Why it was not done, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What it has now, unless it could not even read the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<KeyState>,
}

/// Reads a member's answer.
pub(crate) fn read_outcome(payload: &[u8]) -> Outcome {
    serde_json::from_slice(payload).unwrap_or_else(|_| Outcome {
        error: Some("its answer cannot be read: is it of another version?".to_owned()),
        state: None,
    })
}

/// The keyring on disk.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

/// Why the file cannot be used. No text shows a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// It cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    /// Its content is no keyring.
    #[error("{} is no keyring: {why}", .path.display())]
    Content { path: PathBuf, why: &'static str },
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    used: String,
    policy: String,
    keys: Vec<String>,
}

impl KeyFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("keyring") }
    }

    /// What is there, if anything is.
    pub(crate) fn read(&self) -> Result<Option<(Keyring, Policy)>, KeyFileError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KeyFileError::Io { path: self.path.clone(), error }),
        };
        let bad = |why| KeyFileError::Content { path: self.path.clone(), why };
        let content: Content = serde_json::from_str(&text).map_err(|_| bad("it is no JSON of ours"))?;
        if content.version != 1 {
            return Err(bad("it is of another version"));
        }
        let mut keys = content.keys.iter().map(|text| key(text));
        let first = keys.next().flatten().ok_or_else(|| bad("it has no key of 64 hexadecimal digits"))?;
        let mut ring = Keyring::new(first);
        for key in keys {
            let key = key.ok_or_else(|| bad("a key has not 64 hexadecimal digits"))?;
            ring.install(key).map_err(|_| bad("it has too many keys"))?;
        }
        let used = key_id(&content.used).ok_or_else(|| bad("the id of the key in use is none"))?;
        ring.use_key(used).map_err(|_| bad("the key in use is not among the keys"))?;
        let policy = policy(&content.policy).ok_or_else(|| bad("it has no policy"))?;
        Ok(Some((ring, policy)))
    }

    /// Replaces it as a whole, or leaves it as it was.
    pub(crate) fn write(&self, ring: &Keyring, of: Policy) -> Result<(), KeyFileError> {
        let keys = ring.all().map(|key| hex(key.secret().reveal())).collect();
        let content = Content { version: 1, used: ring.used().to_string(), policy: policy_name(of).to_owned(), keys };
        let fault = |error| KeyFileError::Io { path: self.path.clone(), error };
        let text = serde_json::to_string(&content).map_err(|error| fault(io::Error::other(error)))?;
        let beside = self.path.with_extension("new");
        let written = (|| {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        })();
        written.map_err(fault)
    }
}

/// The policy of a word.
pub(crate) fn policy(word: &str) -> Option<Policy> {
    [Policy::Plain, Policy::SealAndTakePlain, Policy::Seal].into_iter().find(|&policy| policy_name(policy) == word)
}

/// The key of 64 hexadecimal digits.
pub(crate) fn key(text: &str) -> Option<Key> {
    let digits = text.trim().as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(Key::new(bytes))
}

/// The id of eight hexadecimal digits.
pub(crate) fn key_id(text: &str) -> Option<KeyId> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits).map(KeyId)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_order_survives_its_bytes_and_nothing_else_is_one() {
        let key = Key::new([7; 32]);
        let policies = [Policy::Plain, Policy::SealAndTakePlain, Policy::Seal].map(Order::Policy);
        let id = key.id();
        for order in [Order::List, Order::Install(key), Order::Use(id), Order::Remove(id)].into_iter().chain(policies) {
            assert!(Order::decode(&order.encode()) == Some(order));
        }
        for bad in [&[][..], &[0, 0], &[1, 2], &[2, 0, 0], &[4, 3], &[5], &[1; 34]] {
            assert!(Order::decode(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_keyring_survives_its_file_which_nobody_else_may_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile::new(folder.path());
        assert!(file.read().expect("no file").is_none());
        let (one, two) = (Key::new([1; 32]), Key::new([2; 32]));
        let mut ring = Keyring::new(one.clone());
        ring.install(two.clone()).expect("room");
        ring.use_key(two.id()).expect("installed");
        file.write(&ring, Policy::SealAndTakePlain).expect("written");
        let (read, policy) = file.read().expect("read").expect("there");
        assert_eq!((read.used(), policy), (two.id(), Policy::SealAndTakePlain));
        assert_eq!(read.keys().collect::<Vec<_>>(), ring.keys().collect::<Vec<_>>());
        let mode = fs::metadata(folder.path().join("keyring")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_keyring_is_refused_and_shows_no_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile::new(folder.path());
        let secret = "ab".repeat(32);
        for content in [
            "x".to_owned(),
            format!(r#"{{"version":2,"used":"00000000","policy":"off","keys":["{secret}"]}}"#),
            format!(r#"{{"version":1,"used":"00000000","policy":"off","keys":["{secret}"]}}"#),
            r#"{"version":1,"used":"00000000","policy":"off","keys":[]}"#.to_owned(),
        ] {
            fs::write(folder.path().join("keyring"), &content).expect("written");
            let error = file.read().err().expect("refused").to_string();
            assert!(error.contains("is no keyring") && !error.contains("abab"), "{error}");
        }
    }
}
