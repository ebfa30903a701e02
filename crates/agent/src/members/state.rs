//! The small state that each member carries: its nodes, a summary of its links, the key that it seals with, the id that
//! its provider gave its host, and the port of its gateway.
//!
//! At most 512 bytes travel. Names that do not fit are left out, in order, and their number is told; whoever needs those
//! finds them by a topology. A version that is not known reads as an error, and then nothing is known of the nodes.
//!
//! ```text
//! state = version:u8=1 flags:u8 key:u32 nodes:varint links:varint [instance:text8 if flags & 1]
//!         [gateway:u16 if flags & 2] group*
//! group = host:text8 count:u8 basename:text8*        (names by host, so that a host part travels once)
//! text8 = length:u8 utf-8        integers are big-endian, varints are LEB128 of at most 32 bits
//! ```

use std::collections::{BTreeMap, BTreeSet};

use metacluster_types::NodeName;

const VERSION: u8 = 1;
const HAS_INSTANCE: u8 = 1;
const HAS_GATEWAY: u8 = 2;
/// The most bytes that the machine carries.
pub(crate) const STATE_BYTES_MAX: usize = 512;
/// The longest instance id that is told.
pub(crate) const INSTANCE_BYTES_MAX: usize = 128;

/// What a member says in its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberState {
    /// Its local nodes, as many as fit.
    pub(crate) nodes: BTreeSet<NodeName>,
    /// How many local nodes it has.
    pub(crate) nodes_total: u32,
    /// How many links they have.
    pub(crate) links: u32,
    /// The id of the key that it seals with; zero when it seals with none.
    pub(crate) key: u32,
    /// The id of its host, as its provider gave it.
    pub(crate) instance: Option<String>,
    /// Where it takes links of other clusters and cells.
    pub(crate) gateway: Option<u16>,
}

/// Why bytes are no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StateError {
    /// A later version of the program wrote it.
    #[error("version {0} of a member's state; this is version 1")]
    Incompatible(u8),
    /// They end within a field, or a field holds what it cannot.
    #[error("no member's state")]
    Malformed,
}

impl MemberState {
    /// The bytes, at most `bytes_max` of them. Says whether all nodes are in.
    pub(crate) fn encode(&self, bytes_max: usize) -> (Vec<u8>, bool) {
        let instance = self.instance.as_deref().filter(|instance| instance.len() <= INSTANCE_BYTES_MAX);
        let flags = u8::from(instance.is_some()) * HAS_INSTANCE + u8::from(self.gateway.is_some()) * HAS_GATEWAY;
        let mut out = vec![VERSION, flags];
        out.extend_from_slice(&self.key.to_be_bytes());
        put_varint(&mut out, self.nodes_total);
        put_varint(&mut out, self.links);
        if let Some(instance) = instance {
            put_text(&mut out, instance);
        }
        if let Some(port) = self.gateway {
            out.extend_from_slice(&port.to_be_bytes());
        }
        let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in &self.nodes {
            hosts.entry(node.host()).or_default().push(node.basename());
        }
        let mut all = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX) >= self.nodes_total;
        for (host, basenames) in hosts {
            for some in basenames.chunks(usize::from(u8::MAX)) {
                all &= put_group(&mut out, host, some, bytes_max);
            }
        }
        (out, all)
    }

    /// Reads the bytes of another member.
    ///
    /// # Errors
    /// When they are no state, or one of a later version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader(bytes);
        match reader.byte() {
            Some(VERSION) => reader.state().ok_or(StateError::Malformed),
            Some(version) => Err(StateError::Incompatible(version)),
            None => Err(StateError::Malformed),
        }
    }
}

/// Adds the names of one host, as many as fit. Says whether all did.
fn put_group(out: &mut Vec<u8>, host: &str, basenames: &[&str], bytes_max: usize) -> bool {
    let begin = out.len();
    if host.len() > 255 {
        return false;
    }
    put_text(out, host);
    let count_at = out.len();
    out.push(0);
    let mut count = 0;
    for basename in basenames {
        if basename.len() > 255 || out.len() + 1 + basename.len() > bytes_max {
            break;
        }
        put_text(out, basename);
        count += 1;
    }
    if count == 0 {
        out.truncate(begin);
        return false;
    }
    out[count_at] = count;
    usize::from(count) == basenames.len()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or_default());
    out.extend_from_slice(text.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn state(&mut self) -> Option<MemberState> {
        let flags = self.byte().filter(|flags| flags & !(HAS_INSTANCE | HAS_GATEWAY) == 0)?;
        let key = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let (nodes_total, links) = (self.varint()?, self.varint()?);
        let instance = if flags & HAS_INSTANCE == 0 { None } else { Some(self.text()?.to_owned()) };
        let bad = |text: &String| text.len() > INSTANCE_BYTES_MAX || text.contains(char::is_control);
        if instance.as_ref().is_some_and(bad) {
            return None;
        }
        let gateway = match flags & HAS_GATEWAY {
            0 => None,
            _ => Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?)),
        };
        let mut nodes = BTreeSet::new();
        while !self.0.is_empty() {
            let host = self.text()?;
            for _ in 0..self.byte()? {
                nodes.insert(NodeName::from_parts(self.text()?, host).ok()?);
            }
        }
        Some(MemberState { nodes, nodes_total, links, key, instance, gateway })
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).expect("valid")
    }

    fn state() -> MemberState {
        MemberState {
            nodes: ["shop@10.0.0.4", "web@10.0.0.4", "db@h"].map(node).into(),
            nodes_total: 3,
            links: 300,
            key: 0xdead_beef,
            instance: Some("i-1".to_owned()),
            gateway: Some(4391),
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let (bytes, all) = state().encode(STATE_BYTES_MAX);
        let golden =
            b"\x01\x03\xde\xad\xbe\xef\x03\xac\x02\x03i-1\x11\x27\x0810.0.0.4\x02\x04shop\x03web\x01h\x01\x02db";
        assert_eq!((bytes.as_slice(), all), (golden.as_slice(), true));
        assert_eq!(MemberState::decode(&bytes), Ok(state()));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let nodes: BTreeSet<NodeName> = (0..200).map(|n| node(&format!("worker-{n:03}@10.0.0.4"))).collect();
        let many = MemberState { nodes_total: 200, nodes, ..MemberState::default() };
        let (bytes, all) = many.encode(STATE_BYTES_MAX);
        assert!(!all && bytes.len() <= STATE_BYTES_MAX);
        let read = MemberState::decode(&bytes).expect("a state");
        assert_eq!(read.nodes_total, 200);
        assert!(read.nodes.len() >= 40 && read.nodes.is_subset(&many.nodes), "{}", read.nodes.len());
        assert!(MemberState::default().encode(STATE_BYTES_MAX).1);
    }

    #[test]
    fn a_later_version_and_half_a_state_are_refused() {
        let (bytes, _) = state().encode(STATE_BYTES_MAX);
        assert_eq!(MemberState::decode(&[2, 0]), Err(StateError::Incompatible(2)));
        assert_eq!(MemberState::decode(&[]), Err(StateError::Malformed));
        // A cut between two groups is a state with fewer nodes; any other is none.
        let whole = (0..bytes.len()).filter(|&length| MemberState::decode(&bytes[..length]).is_ok());
        assert_eq!(whole.collect::<Vec<_>>(), [15, 34]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            drop(MemberState::decode(&bytes));
            let mut ours = vec![VERSION];
            ours.extend(bytes);
            drop(MemberState::decode(&ours));
        }

        #[test]
        fn a_state_survives_its_bytes(
            names in proptest::collection::btree_set("[a-z]{1,12}@[a-z0-9.]{1,16}", 0..12),
            links: u32, key: u32, instance in proptest::option::of("[a-z0-9-]{0,40}"), gateway: Option<u16>,
        ) {
            let nodes: BTreeSet<NodeName> = names.iter().map(|name| node(name)).collect();
            let nodes_total = u32::try_from(nodes.len()).expect("few");
            let state = MemberState { nodes, nodes_total, links, key, instance, gateway };
            let (bytes, all) = state.encode(STATE_BYTES_MAX);
            prop_assert!(bytes.len() <= STATE_BYTES_MAX);
            let read = MemberState::decode(&bytes).expect("a state");
            prop_assert_eq!(all, read == state);
        }
    }
}
