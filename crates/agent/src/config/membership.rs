//! `[membership]`: how agents find and judge one another.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
};

use metacluster_membership::Key;

use super::{
    cookie::{expand_home, read_bounded},
    environment::Environment,
    fault::{Fault, Origin},
    values::Values,
};

/// A file of keys is shorter than this.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// So many keys may be in it, as in a keyring.
const KEYS_MAX: usize = 8;
const INSTANCE_BYTES_MAX: usize = 128;

/// How agents find and judge one another. It has no `Debug`, since it holds keys.
#[derive(Clone)]
#[non_exhaustive]
pub struct MembershipConfig {
    /// Whether they do.
    pub enabled: bool,
    /// Where this one listens; at the address of its node, else at every address.
    pub listen: Option<IpAddr>,
    /// On which port, if somebody asked for one.
    pub port: Option<u16>,
    /// Which address others are given; port 0 stands for the one on which it listens.
    pub advertise: Option<SocketAddr>,
    /// How fast they probe.
    pub profile: MembershipProfile,
    /// What is sealed and what is taken.
    pub encryption: Encryption,
    /// The keys, the one that seals first; a derived one when empty.
    pub keys: Vec<Key>,
    /// Whether the nodes of other members are linked to.
    pub candidates: bool,
    /// The id that the provider gave this host.
    pub instance: Option<String>,
}

impl MembershipConfig {
    /// Whether both say the same, their keys included.
    pub(super) fn same(&self, other: &Self) -> bool {
        let Self { enabled, listen, port, advertise, profile, encryption, keys, candidates, instance } = self;
        *enabled == other.enabled
            && *listen == other.listen
            && *port == other.port
            && *advertise == other.advertise
            && *profile == other.profile
            && *encryption == other.encryption
            && *keys == other.keys
            && *candidates == other.candidates
            && *instance == other.instance
    }
}

/// A preset of times, for how far members are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipProfile {
    /// On one machine, or one rack.
    Local,
    /// In one region.
    Lan,
    /// In several regions.
    Wan,
}

/// What is sealed and what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Everything is sealed, and nothing else is taken.
    Required,
    /// Everything is sealed; what is not is taken too, while encryption is turned on host by host.
    Preferred,
    /// Nothing is sealed; what is sealed is taken.
    Off,
}

impl Encryption {
    /// Whether packets are sealed.
    #[must_use]
    pub const fn seals(self) -> bool {
        match self {
            Self::Required | Self::Preferred => true,
            Self::Off => false,
        }
    }
}

/// Reads the section. `selective` says whether a topology prunes, or is for some local nodes only: then the topologies
/// alone say who is linked to whom.
pub(super) fn read(
    values: &Values,
    environment: &Environment,
    selective: bool,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<String>,
) -> MembershipConfig {
    let text = |path: &'static str| values.text(path);
    let mut take = |path: &'static str, origin: &Origin, message: String| {
        faults.push(Fault::new(origin, format!("`{path}`: {message}")));
    };
    let listen = text("membership.listen").and_then(|(text, origin)| {
        let parsed = text.parse::<IpAddr>();
        if parsed.is_err() {
            let message = format!("`{text}` is no address: expected one such as 10.0.0.4 or ::, without a port");
            take("membership.listen", origin, message);
        }
        parsed.ok()
    });
    let advertise = text("membership.advertise").and_then(|(text, origin)| {
        let parsed = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0)));
        let usable = parsed.ok().filter(|address| !address.ip().is_unspecified() && !address.ip().is_multicast());
        if usable.is_none() {
            let message =
                format!("`{text}` is no address to be reached at: expected one such as 10.0.0.4 or 10.0.0.4:45893");
            take("membership.advertise", origin, message);
        }
        usable
    });
    let instance = text("membership.instance").and_then(|(text, origin)| {
        let fits = text.len() <= INSTANCE_BYTES_MAX && !text.contains(char::is_control);
        if !fits {
            let message = format!("expected at most {INSTANCE_BYTES_MAX} bytes without control characters");
            take("membership.instance", origin, message);
        }
        fits.then(|| text.to_owned())
    });
    let keys = match text("membership.key_file") {
        Some((path, origin)) => keys(path, environment, warnings).unwrap_or_else(|message| {
            take("membership.key_file", origin, message);
            Vec::new()
        }),
        None => Vec::new(),
    };
    MembershipConfig {
        enabled: values.flag("membership.enabled").unwrap_or(true),
        listen,
        port: values.number("membership.port").and_then(|port| u16::try_from(port).ok()),
        advertise,
        profile: match text("membership.profile") {
            Some(("local", _)) => MembershipProfile::Local,
            Some(("wan", _)) => MembershipProfile::Wan,
            Some(_) | None => MembershipProfile::Lan,
        },
        encryption: match text("membership.encryption") {
            Some(("preferred", _)) => Encryption::Preferred,
            Some(("off", _)) => Encryption::Off,
            Some(_) | None => Encryption::Required,
        },
        keys,
        candidates: values.flag("membership.candidates").unwrap_or(!selective),
        instance,
    }
}

/// The keys of a file. The error never shows any of it.
fn keys(path: &str, environment: &Environment, warnings: &mut Vec<String>) -> Result<Vec<Key>, String> {
    let path = expand_home(path, environment);
    let bytes = read_bounded(&path, KEY_FILE_BYTES_MAX)?;
    let mode = std::fs::metadata(&path).map(|metadata| metadata.permissions().mode()).unwrap_or(0);
    if mode & 0o077 != 0 {
        let (shown, mode) = (path.display(), mode & 0o777);
        warnings.push(format!("the key file {shown} is open to others (mode {mode:03o}); run: chmod 600 {shown}"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not text", path.display()))?;
    let mut keys = Vec::new();
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let key = key(line).ok_or_else(|| {
            format!(
                "{}, line {number}: expected 64 hexadecimal digits, as `openssl rand -hex 32` makes them",
                path.display()
            )
        })?;
        keys.push(key);
    }
    match keys.len() {
        0 => Err(format!("{} holds no key", path.display())),
        1..=KEYS_MAX => Ok(keys),
        many => Err(format!("{} holds {many} keys: at most {KEYS_MAX}", path.display())),
    }
}

/// 64 hexadecimal digits.
fn key(text: &str) -> Option<Key> {
    let digits = text.as_bytes();
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
