//! Compression: used where both ends offer it, by no one else, and of no use to who would do harm with it.

use metacluster_erl_wire::term;

use crate::{
    codec::frame::{Kind, head},
    lanes::Piece,
};

use super::*;

/// A cluster `east` with a member of `orders`, and the pid that stands for it in `west`.
fn world(compress: [bool; 2]) -> (World, Pid) {
    let with = |name, number, compress| Settings { compress, ..settings(name, number) };
    let mut world = World::with(vec![with("east", 1, compress[0]), with("west", 2, compress[1])]);
    world.link(0, 1);
    let proxy = world.export(0, &pid("shop@east", 1), 1);
    (world, proxy)
}

/// The frame that holds these compressed.
fn squeezed(frames: &[u8]) -> Vec<u8> {
    let piece = Piece { head: None, body: Bytes::copy_from_slice(frames), lane: 1 };
    Squeezer::default().squeeze(&piece).expect("it shrinks").to_vec()
}

/// Says these bytes to `east`; whether the link is up then.
fn is_up_after(world: &mut World, bytes: &[u8]) -> bool {
    let link = *world.wires.keys().next().expect("a link");
    let now = world.now;
    world.gateways[0].machine.handle_link(now, link, bytes);
    world.run();
    world.gateways[0].machine.status(now).gateways.iter().any(|gateway| gateway.up.is_some())
}

#[test]
fn what_both_offer_is_used_and_what_one_does_not_is_not() {
    for (compress, least, most) in
        [([true, true], 0, 9_000), ([true, false], 300_000, 310_000), ([false, true], 300_000, 310_000)]
    {
        let (mut world, proxy) = world(compress);
        let from = pid("till@west", 2);
        let before = world.carried;
        for size in [100, 5_000, 295_000] {
            let text = Term::binary(b"a customer in the north ".iter().copied().cycle().take(size).collect::<Vec<_>>());
            world.say(1, send(&from, &proxy), Some(&text));
            let (_, _, payload) = world.only(0);
            assert_eq!(payload, Some(text), "{compress:?}: {size} bytes");
        }
        let carried = world.carried - before;
        assert!((least..=most).contains(&carried), "{compress:?}: {carried} bytes crossed");
        let traffic = |world: &World, place: usize| {
            let status = world.gateways[place].machine.status(world.now).gateways.remove(0);
            (status.squeezes, status.traffic.squeezed_out, status.traffic.squeezed_in)
        };
        let ((here, _, came), (there, went, _)) = (traffic(&world, 0), traffic(&world, 1));
        assert_eq!((here, there, went), (most < 300_000, most < 300_000, came), "{compress:?}");
        if here {
            assert!(went.plain_bytes > 300_000 && went.squeezed_bytes < carried as u64, "{went:?}");
        } else {
            assert_eq!(went.plain_bytes, 0);
        }
    }
}

#[test]
fn several_small_messages_of_one_turn_are_compressed_together_and_keep_their_order() {
    let (mut world, proxy) = world([true, true]);
    let (from, before) = (pid("till@west", 2), world.carried);
    for number in 0..200 {
        world.put(1, send(&from, &proxy), Some(&term!({order, (Term::from(number)), customer, north})));
    }
    world.run();
    for number in 0..200 {
        let (_, _, payload) = world.next(0).expect("it came");
        assert_eq!(payload, Some(term!({order, (Term::from(number)), customer, north})));
    }
    assert!(world.carried - before < 200 * 30, "{} bytes crossed", world.carried - before);
}

#[test]
fn compression_that_was_not_agreed_ends_the_link() {
    let pings = [&head(Kind::Ping, 1, 8)[..], &[0; 8]].concat().repeat(100);
    for compress in [[true, false], [false, true], [false, false]] {
        let (mut world, _) = world(compress);
        assert!(!is_up_after(&mut world, &squeezed(&pings)), "{compress:?}");
    }
    let (mut world, _) = world([true, true]);
    assert!(is_up_after(&mut world, &squeezed(&pings)));
}

#[test]
fn a_bomb_is_counted_and_ends_the_link() {
    let pings = [&head(Kind::Ping, 1, 8)[..], &[0; 8]].concat().repeat(1_000);
    let good = squeezed(&pings);
    let size = |size: u32| {
        let mut bad = good.clone();
        bad[6..10].copy_from_slice(&size.to_be_bytes());
        bad
    };
    for bad in [size(u32::MAX), size(128 * 1024 + 1), size(13_999), size(14_001), size(0)] {
        let (mut world, _) = world([true, true]);
        assert!(!is_up_after(&mut world, &bad));
        assert_eq!(world.refused(0, Refusal::Inflation), 1);
    }
}

#[test]
fn what_is_compressed_is_whole_frames_and_nothing_compressed_again() {
    let pings = [&head(Kind::Ping, 1, 8)[..], &[0; 8]].concat().repeat(100);
    let part = [&pings[..], &head(Kind::Ping, 1, 8), &[0; 4]].concat();
    let again = squeezed(&pings).repeat(20);
    for bad in [part, again, vec![0; 600]] {
        let (mut world, _) = world([true, true]);
        assert!(!is_up_after(&mut world, &squeezed(&bad)));
    }
    // A farewell within it is one.
    let (mut world, _) = world([true, true]);
    let bye = [&pings[..], &head(Kind::Bye, 0, 4), b"\0\x02so"].concat();
    assert!(!is_up_after(&mut world, &squeezed(&bye)));
    let said =
        |notice: &Notice| matches!(notice, Notice::Unlinked { reason: CloseReason::Bye(why), .. } if why == "so");
    assert!(world.gateways[0].notices.iter().any(said));
}
