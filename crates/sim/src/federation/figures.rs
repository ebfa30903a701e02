//! Figures that a test or a bench asks for: what groups cost when nothing happens, and to come back into step.

use std::collections::BTreeMap;

use bytes::BytesMut;
use metacluster_erl_wire::{Atom, Pid, Term, term};
use metacluster_federation::{Federation, GroupKey, LinkId, Output};
use metacluster_types::{Instant, NodeName};

use super::world::settings;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Bytes to bring each group to each cluster the first time.
    pub first_bytes: u64,
    /// Bytes to come into step again after all links were lost and nothing had changed.
    pub again_bytes: u64,
    /// Bytes of a minute at rest.
    pub minute_bytes: u64,
    /// Groups that are published, all clusters together.
    pub published: usize,
}

/// So many clusters, each linked to each, each with so many groups of one member.
///
/// # Panics
/// With more clusters than can be named.
#[must_use]
pub fn at_rest(clusters: usize, groups: usize) -> Rest {
    let mut now = Instant::from_origin(std::time::Duration::from_secs(1));
    let mut machines: Vec<Federation> =
        (0..clusters).map(|at| Federation::new(settings(at, 0, 1, 1 << 20), now)).collect();
    for (at, machine) in machines.iter_mut().enumerate() {
        let node = format!("n@c{at}");
        machine.node_up(&NodeName::new(&node).expect("a name"));
        for group in 0..groups {
            let number = u32::try_from(group).unwrap_or(u32::MAX);
            let mut bytes = BytesMut::new();
            term::encode(&term!({ shop, (number) }), &mut bytes);
            let key = GroupKey { scope: "pg".to_owned(), group: bytes.freeze() };
            let pid = Pid { node: Atom::new(&node).expect("short"), id: number, serial: 0, creation: 1 };
            machine.local_joined(now, &key, &[pid]);
        }
    }
    let mut wires: BTreeMap<LinkId, (usize, LinkId)> = BTreeMap::new();
    let (mut next, mut published, mut rest) = (0, 0_usize, Rest::default());
    let mut carried = [0_u64; 3];
    for (round, bytes) in carried.iter_mut().enumerate() {
        if round < 2 {
            for one in 0..clusters {
                for other in one + 1..clusters {
                    next += 2;
                    let (here, there) = (LinkId(next), LinkId(next + 1));
                    wires.insert(here, (other, there));
                    wires.insert(there, (one, here));
                    machines[one].link_opened(now, here, None, true);
                    machines[other].link_opened(now, there, None, false);
                }
            }
            *bytes += run(&mut machines, &wires, now, &mut published);
            if round == 0 {
                for (_, (other, there)) in wires.clone() {
                    machines[other].link_closed(now, there);
                }
                run(&mut machines, &wires, now, &mut published);
                wires.clear();
            }
            continue;
        }
        let until = now + std::time::Duration::from_secs(60);
        while let Some(due) = machines.iter().filter_map(Federation::next_deadline).min().filter(|due| *due <= until) {
            now = now.max(due);
            machines.iter_mut().for_each(|machine| machine.handle_timeout(now));
            *bytes += run(&mut machines, &wires, now, &mut published);
        }
    }
    [rest.first_bytes, rest.again_bytes, rest.minute_bytes] = carried;
    rest.published = published;
    rest
}

fn run(
    machines: &mut [Federation],
    wires: &BTreeMap<LinkId, (usize, LinkId)>,
    now: Instant,
    published: &mut usize,
) -> u64 {
    let mut carried = 0;
    loop {
        let mut quiet = true;
        for at in 0..machines.len() {
            while let Some(output) = machines[at].poll_output() {
                quiet = false;
                match output {
                    Output::Transmit(link) => {
                        let mut out = BytesMut::new();
                        while let Some(piece) = machines[at].poll_transmit(now, link) {
                            out.extend_from_slice(piece.head.as_ref().map_or(&[][..], |head| head));
                            out.extend_from_slice(&piece.body);
                        }
                        carried += out.len() as u64;
                        if let Some(&(other, there)) = wires.get(&link) {
                            machines[other].handle_link(now, there, &out);
                        }
                    }
                    Output::Publish { members, .. } => *published += members.len(),
                    Output::Withdraw { members, .. } => *published -= members.len(),
                    Output::Close { .. } | Output::Deliver { .. } | Output::Signal { .. } | Output::Notice(_) => {}
                }
            }
        }
        if quiet {
            return carried;
        }
    }
}

/// A group's name, for the worlds.
pub(super) fn group() -> GroupKey {
    let mut bytes = BytesMut::new();
    term::encode(&Term::atom("shop"), &mut bytes);
    GroupKey { scope: "pg".to_owned(), group: bytes.freeze() }
}
