//! The plain packet: a prefix, then an Erlang map in external term format.
//!
//! ```text
//! heartbeat::  #{node => 'shop@10.0.0.4'}                               libcluster's, the whole of it
//! heartbeat::  #{node => …, metacluster_agent => <<16 bytes>>,          ours
//!                metacluster_cluster => <<"main">>,
//!                metacluster_zone => <<"a">>, metacluster_region => <<"eu">>}
//! goodbye::    the same map                                             ours: the node's agent leaves
//! ```
//! libcluster's receiver asks for the key `node` with an atom and overlooks other keys, and it drops a packet whose
//! prefix it does not know. Bytes after the term are overlooked by both.

use metacluster_erl_wire::{
    Atom, Term,
    term::{self, Limits},
};
use metacluster_types::{AgentId, ClusterName, NodeName, Place, Region, Zone};

const HEARTBEAT: &[u8] = b"heartbeat::";
const GOODBYE: &[u8] = b"goodbye::";

const NODE: &str = "node";
const AGENT: &str = "metacluster_agent";
const CLUSTER: &str = "metacluster_cluster";
const ZONE: &str = "metacluster_zone";
const REGION: &str = "metacluster_region";

/// The name of a node that runs without distribution. libcluster announces it all the same.
const UNDISTRIBUTED: &str = "nonode@nohost";

/// What a heartbeat may cost to decode: some ten times what ours has.
const LIMITS: Limits = Limits { depth_max: 8, elements_max: 512, bytes_max: 16 << 10 };

/// What a packet says of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is up.
    Heartbeat,
    /// It leaves.
    Goodbye,
}

/// A packet that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) said: Said,
    pub(crate) node: NodeName,
    /// What an agent adds; libcluster adds nothing.
    pub(crate) about: Option<About>,
}

/// What an agent says beside the node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) agent: AgentId,
    pub(crate) cluster: ClusterName,
    pub(crate) place: Place,
}

/// Why a packet was not taken. The state of the receiver does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketFault {
    /// No prefix that we know. A packet that was sealed looks so to who has no secret.
    Prefix,
    /// No term, or one that costs too much.
    Term,
    /// A term without what we need, or with something else in its place.
    Content,
    /// A node that cannot be connected to.
    Undistributed,
}

impl Packet {
    /// The bytes of the packet.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let atom = |text: &str| Atom::new(text).map_or_else(|_| Term::binary(text), Term::Atom);
        let mut entries = vec![(atom(NODE), atom(self.node.as_str()))];
        if let Some(About { agent, cluster, place }) = &self.about {
            entries.push((atom(AGENT), Term::binary(agent.0.to_be_bytes())));
            entries.push((atom(CLUSTER), Term::binary(cluster.as_str())));
            let zone = place.zone.as_ref().map(|zone| (atom(ZONE), Term::binary(zone.as_str())));
            let region = place.region.as_ref().map(|region| (atom(REGION), Term::binary(region.as_str())));
            entries.extend(zone.into_iter().chain(region));
        }
        let prefix = match self.said {
            Said::Heartbeat => HEARTBEAT,
            Said::Goodbye => GOODBYE,
        };
        [prefix, &term::encode_external(&Term::map(entries))].concat()
    }

    /// Reads a packet.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PacketFault> {
        let (said, bytes) = if let Some(rest) = bytes.strip_prefix(HEARTBEAT) {
            (Said::Heartbeat, rest)
        } else if let Some(rest) = bytes.strip_prefix(GOODBYE) {
            (Said::Goodbye, rest)
        } else {
            return Err(PacketFault::Prefix);
        };
        let (map, _trailing) = term::decode_external(bytes, &LIMITS).map_err(|_| PacketFault::Term)?;
        let node = map.map_get(NODE).and_then(Term::as_atom).ok_or(PacketFault::Content)?;
        if node.as_str() == UNDISTRIBUTED {
            return Err(PacketFault::Undistributed);
        }
        let node = NodeName::new(node.as_str()).map_err(|_| PacketFault::Content)?;
        let about = match map.map_get(AGENT) {
            Some(agent) => Some(decode_about(&map, agent).ok_or(PacketFault::Content)?),
            None => None,
        };
        Ok(Self { said, node, about })
    }
}

fn decode_about(map: &Term, agent: &Term) -> Option<About> {
    let agent = <[u8; 16]>::try_from(agent.as_binary()?.as_ref()).ok()?;
    let cluster = ClusterName::new(&map.map_get(CLUSTER)?.as_text()?).ok()?;
    let zone = match map.map_get(ZONE) {
        Some(zone) => Some(Zone::new(&zone.as_text()?).ok()?),
        None => None,
    };
    let region = match map.map_get(REGION) {
        Some(region) => Some(Region::new(&region.as_text()?).ok()?),
        None => None,
    };
    Some(About { agent: AgentId(u128::from_be_bytes(agent)), cluster, place: Place { zone, region } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gossip::hex;

    fn plain(node: &str) -> Packet {
        Packet { said: Said::Heartbeat, node: NodeName::new(node).expect("a node"), about: None }
    }

    fn ours(said: Said) -> Packet {
        let place = Place { zone: Zone::new("zone-a").ok(), region: Region::new("région").ok() };
        let cluster = ClusterName::new("main").expect("a name");
        Packet { said, about: Some(About { agent: AgentId(7), cluster, place }), ..plain("shop@10.0.0.4") }
    }

    fn heartbeat(term: &str) -> Vec<u8> {
        [HEARTBEAT, &hex(term)].concat()
    }

    #[test]
    fn golden_bytes_of_otp_25_and_26() {
        // From libcluster 3.5.0 on OTP 25, and the form that OTP 26 sends.
        for bytes in [
            "6865617274626561743a3a8374000000016400046e6f646564000b61403132372e302e302e31",
            "6865617274626561743a3a83740000000177046e6f6465770b61403132372e302e302e31",
        ] {
            assert_eq!(Packet::decode(&hex(bytes)), Ok(plain("a@127.0.0.1")));
        }
        let sent = plain("a@127.0.0.1").encode();
        assert_eq!(sent, hex("6865617274626561743a3a83740000000177046e6f6465770b61403132372e302e302e31"));
    }

    #[test]
    fn every_form_of_an_atom_is_taken() {
        for key in ["6400046e6f6465", "73046e6f6465", "77046e6f6465", "7600046e6f6465"] {
            for value in ["64000361e940", "730361e940", "770461c3a940", "76000461c3a940"] {
                // The host has the same letter in the encoding of its atom: `aé@` and one more byte.
                let term = format!("837400000001{key}{}", lengthen(value));
                assert_eq!(Packet::decode(&heartbeat(&term)), Ok(plain("aé@h")), "{term}");
            }
        }
    }

    /// Adds the host `h` to an atom and one to its length, wherever that stands.
    fn lengthen(atom: &str) -> String {
        let mut bytes = hex(&format!("{atom}68"));
        let length_at = if matches!(bytes[0], 0x64 | 0x76) { 2 } else { 1 };
        bytes[length_at] += 1;
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn further_keys_compression_and_trailing_bytes_are_taken() {
        let further = heartbeat("8374000000026400046e6f6465640003614062640001786101ff00ff");
        assert_eq!(Packet::decode(&further), Ok(plain("a@b")));
        // term_to_binary(#{node => 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b'}, [compressed]) of OTP 25.
        let compressed = heartbeat(COMPRESSED);
        assert_eq!(Packet::decode(&compressed), Ok(plain(&format!("{}@b", "a".repeat(40)))));
    }

    const COMPRESSED: &str = "835000000039789c2b616060604c6160c9cb4f494d61d04a241238240100ec5112dc";

    #[test]
    fn our_own_come_back_whole() {
        for said in [Said::Heartbeat, Said::Goodbye] {
            assert_eq!(Packet::decode(&ours(said).encode()), Ok(ours(said)));
        }
        assert!(ours(Said::Goodbye).encode().starts_with(b"goodbye::"));
    }

    #[test]
    fn what_is_no_heartbeat_is_refused() {
        for (bytes, fault) in [
            (b"".to_vec(), PacketFault::Prefix),
            (b"heartbeat:".to_vec(), PacketFault::Prefix),
            (b"Peer:a@b".to_vec(), PacketFault::Prefix),
            (b"heartbeat::".to_vec(), PacketFault::Term),
            (b"heartbeat::rubbish".to_vec(), PacketFault::Term),
            (heartbeat("8374ffffffff"), PacketFault::Term),
            (heartbeat("836101"), PacketFault::Content),
            (heartbeat("837400000000"), PacketFault::Content),
            // node => <<"a@b">>, then node => 'a'
            (heartbeat("8374000000016400046e6f64656d00000003614062"), PacketFault::Content),
            (heartbeat("8374000000016400046e6f646564000161"), PacketFault::Content),
            // metacluster_agent => 1
            (
                heartbeat(
                    "83740000000277046e6f646577036140627711\
                        6d657461636c75737465725f6167656e746101",
                ),
                PacketFault::Content,
            ),
            (
                hex("6865617274626561743a3a8374000000016400046e6f646564000d6e6f6e6f6465406e6f686f7374"),
                PacketFault::Undistributed,
            ),
        ] {
            assert_eq!(Packet::decode(&bytes), Err(fault), "{bytes:x?}");
        }
        let deep = heartbeat(&format!("83{}", "6c00000001".repeat(10_000)));
        assert_eq!(Packet::decode(&deep), Err(PacketFault::Term));
    }

    proptest! {
        #[test]
        fn no_packet_panics(mut bytes: Vec<u8>, whole: bool) {
            if whole {
                bytes.splice(0..0, HEARTBEAT.iter().copied());
            }
            // Any verdict will do.
            drop(Packet::decode(&bytes));
        }

        #[test]
        fn no_damage_panics(at: usize, byte: u8) {
            let mut bytes = ours(Said::Heartbeat).encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            drop(Packet::decode(&bytes));
        }
    }
}
