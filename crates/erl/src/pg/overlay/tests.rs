//! The overlay against a model of a scope process of OTP, which ends of what it does not expect.

use metacluster_erl_wire::{Atom, term};

use super::*;

fn pid(node: &'static str, id: u32) -> Pid {
    Pid { node: Atom::from_static(node), id, serial: 0, creation: 4 }
}

fn group(number: u64) -> Term {
    term!({group, (number)})
}

/// What `pg.erl` keeps of one peer, with its faults.
#[derive(Default)]
struct Otp {
    /// Whether it knows us, and what it has of us.
    remote: Option<BTreeMap<Term, Vec<Pid>>>,
}

impl Otp {
    fn take(&mut self, message: &Term) {
        match Heard::parse(message).expect("nothing else is ever sent") {
            Heard::Discover { .. } => drop(self.remote.get_or_insert_default()),
            Heard::Sync { groups, .. } => {
                let count = groups.len();
                let map: BTreeMap<_, _> = groups.into_iter().collect();
                assert_eq!(map.len(), count, "a group is said once");
                self.remote = Some(map);
            }
            Heard::Join { group, pids, .. } => {
                if let Some(map) = &mut self.remote {
                    map.entry(group).or_default().extend(pids);
                }
            }
            Heard::Leave { pids, groups, .. } => {
                let Some(map) = &mut self.remote else { return };
                for group in groups {
                    let members = map.get_mut(&group).expect("leave_remote would end with badkey");
                    take(members, &pids);
                    if members.is_empty() {
                        map.remove(&group);
                    }
                }
            }
        }
    }
}

fn drain(overlay: &mut Overlay) -> Vec<Effect> {
    std::iter::from_fn(|| overlay.poll_effect()).collect()
}

fn sent(effects: &[Effect]) -> Vec<&Term> {
    fn message(effect: &Effect) -> Option<&Term> {
        if let Effect::Send { message, .. } = effect { Some(message) } else { None }
    }
    effects.iter().filter_map(message).collect()
}

#[test]
fn a_peer_that_asks_is_told_all_and_asked_back_once() {
    let (own, peer, member) = (pid("a", 1), pid("b", 1), pid("a", 2));
    let mut overlay = Overlay::new(own.clone());
    overlay.join(&group(1), &member);
    drain(&mut overlay);
    overlay.heard(Heard::Discover { peer: peer.clone() });
    let effects = drain(&mut overlay);
    assert_eq!(effects[0], Effect::Monitor(peer.clone()));
    let groups = [(&group(1), std::slice::from_ref(&member))];
    assert_eq!(sent(&effects), [&message::sync(&own, groups.into_iter()), &message::discover(&own)]);
    overlay.heard(Heard::Discover { peer });
    assert_eq!(sent(&drain(&mut overlay)).len(), 1, "it is known");
}

#[test]
fn a_peer_is_told_nothing_before_its_sync() {
    let (own, peer, member) = (pid("a", 1), pid("b", 1), pid("a", 2));
    let mut overlay = Overlay::new(own);
    overlay.join(&group(1), &member);
    overlay.heard(Heard::Discover { peer: peer.clone() });
    drain(&mut overlay);
    overlay.unsent(&peer);
    overlay.leave(&group(1), &member);
    assert!(sent(&drain(&mut overlay)).is_empty());
    overlay.repeat();
    assert_eq!(sent(&drain(&mut overlay)).len(), 2, "it is told, and asked, since it has said nothing yet");
    overlay.heard(Heard::Sync { peer, groups: vec![] });
    overlay.repeat();
    assert!(drain(&mut overlay).is_empty(), "once is enough");
}

#[test]
fn the_view_is_the_sum_and_changes_are_its_differences() {
    let (peer, other) = (pid("b", 1), pid("c", 1));
    let (one, two, mine) = (pid("b", 2), pid("b", 3), pid("a", 2));
    let mut overlay = Overlay::new(pid("a", 1));
    overlay.join(&group(1), &mine);
    overlay.heard(Heard::Sync { peer: peer.clone(), groups: vec![(group(1), vec![one.clone(), one.clone()])] });
    overlay.heard(Heard::Join { peer: peer.clone(), group: group(2), pids: vec![two.clone()] });
    overlay.heard(Heard::Join { peer: other, group: group(2), pids: vec![two.clone()] });
    assert_eq!(overlay.members(&group(1)), [mine.clone(), one.clone(), one.clone()]);
    assert_eq!(overlay.members(&group(2)), std::slice::from_ref(&two), "who was never met is not believed");
    assert_eq!(overlay.local_members(&group(1)), std::slice::from_ref(&mine));
    assert_eq!((overlay.groups(false), overlay.groups(true)), (vec![group(1), group(2)], vec![group(1)]));
    drain(&mut overlay);
    // What stays is not told again.
    overlay.heard(Heard::Sync { peer: peer.clone(), groups: vec![(group(1), vec![one.clone()]), (group(3), vec![])] });
    let left =
        |group, pids: &[&Pid]| Effect::Tell(Change::Left { group, pids: pids.iter().copied().cloned().collect() });
    assert_eq!(drain(&mut overlay), [left(group(1), &[&one]), left(group(2), &[&two])]);
    overlay.heard(Heard::Leave { peer: peer.clone(), pids: vec![two], groups: vec![group(1), group(9)] });
    assert!(drain(&mut overlay).is_empty());
    overlay.ended(&peer);
    assert_eq!(drain(&mut overlay), [left(group(1), &[&one])]);
    assert_eq!(overlay.members(&group(1)), [mine]);
}

#[test]
fn a_restarted_scope_takes_the_place_of_the_old_one() {
    let (old, new) = (pid("b", 1), pid("b", 9));
    let mut overlay = Overlay::new(pid("a", 1));
    overlay.heard(Heard::Sync { peer: old.clone(), groups: vec![(group(1), vec![pid("b", 2)])] });
    overlay.heard(Heard::Discover { peer: new.clone() });
    assert_eq!(overlay.peers().collect::<Vec<_>>(), [&new]);
    assert!(overlay.groups(false).is_empty());
    assert!(drain(&mut overlay).contains(&Effect::Demonitor(old)));
}

/// Any order of what can happen, some of it lost on the way out: nothing that is sent would end a scope process of OTP,
/// and in the end it has what we have.
#[test]
fn no_order_of_events_ends_a_scope_of_otp() {
    for seed in 1..400_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let own = pid("a", 1);
        let mut overlay = Overlay::new(own);
        let mut lives = [1_u32, 1];
        let nodes = ["b", "c"];
        let mut peers = [Otp::default(), Otp::default()];
        for _ in 0..120 {
            let (side, member, in_group) = (random(2) as usize, pid("a", 10 + random(4) as u32), group(random(3)));
            let peer = pid(nodes[side], lives[side]);
            match random(10) {
                0..=2 => overlay.join(&in_group, &member),
                3 => drop(overlay.leave(&in_group, &member)),
                4 => overlay.ended(&member),
                5 => {
                    overlay.ended(&peer);
                    peers[side] = Otp::default();
                    lives[side] += random(2) as u32;
                }
                6 => overlay.heard(Heard::Discover { peer }),
                // It is connected anew before the end of the old connection is told.
                7 => {
                    peers[side] = Otp::default();
                    overlay.connected(nodes[side]);
                    peers[side].take(&message::discover(&pid("a", 1)));
                }
                8 if random(4) == 0 => overlay.missed(),
                _ => overlay.heard(Heard::Sync { peer, groups: vec![(in_group, vec![pid(nodes[side], 77)])] }),
            }
            if random(5) == 0 {
                overlay.repeat();
            }
            settle(&mut overlay, &mut peers, nodes, lives, |_| random(6) == 0);
        }
        overlay.repeat();
        settle(&mut overlay, &mut peers, nodes, lives, |_| false);
        let local: BTreeMap<Term, Vec<Pid>> =
            overlay.groups(true).into_iter().map(|group| (group.clone(), overlay.local_members(&group))).collect();
        for (side, peer) in peers.iter().enumerate() {
            if overlay.peers().any(|pid| pid.node == nodes[side]) {
                let sorted = |map: &BTreeMap<Term, Vec<Pid>>| {
                    let mut map = map.clone();
                    map.values_mut().for_each(|pids| pids.sort());
                    map
                };
                let seen = peer.remote.as_ref().map(sorted);
                assert_eq!(seen, Some(sorted(&local)), "seed {seed}, peer {side}");
            }
        }
    }
}

/// Delivers what is sent, except what is lost.
fn settle(
    overlay: &mut Overlay,
    peers: &mut [Otp; 2],
    nodes: [&'static str; 2],
    lives: [u32; 2],
    mut lost: impl FnMut(&Pid) -> bool,
) {
    while let Some(effect) = overlay.poll_effect() {
        let Effect::Send { to, message } = effect else { continue };
        let side = usize::from(to.node.as_str() == nodes[1]);
        if lost(&to) {
            overlay.unsent(&to);
        } else if to == pid(nodes[side], lives[side]) {
            peers[side].take(&message);
        }
    }
}
