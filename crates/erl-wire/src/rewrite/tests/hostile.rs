//! Bytes from peers that lie are refused where they begin to, with bounded work and memory.

use proptest::prelude::*;

use super::*;

fn refused(bytes: &[u8]) -> RewriteError {
    let whole = rewrite(bytes, &[], &mut Keep).expect_err("refused");
    let everywhere: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(rewrite(bytes, &everywhere, &mut Keep), Err(whole), "{bytes:?} in pieces");
    whole
}

#[test]
fn what_no_node_sends_is_refused_where_it_stands() {
    let cases: [(&[u8], u64, RewriteFault); 20] = [
        (&[104, 2, 97, 1, 82, 0], 4, RewriteFault::UnknownTag(82)),
        (&[67, 0], 0, RewriteFault::UnknownTag(67)),
        (&[104, 1, 121, 0], 2, RewriteFault::UnknownTag(121)),
        (&[131, 106], 0, RewriteFault::UnknownTag(131)),
        (&[106, 106], 1, RewriteFault::Trailing),
        (&[104, 1, 109, 0, 0, 0, 1, 7, 7], 8, RewriteFault::Trailing),
        (&[119, 1, 0xff], 0, RewriteFault::BadAtom),
        (&[104, 1, 119, 2, 0xd0, 0xd0], 2, RewriteFault::BadAtom),
        (&[118, 4, 0], 0, RewriteFault::BadAtom),
        (&[100, 1, 0], 0, RewriteFault::BadAtom),
        (&[70, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], 0, RewriteFault::BadFloat),
        (&[70, 0xff, 0xff, 0, 0, 0, 0, 0, 1], 0, RewriteFault::BadFloat),
        (&[77, 0, 0, 0, 1, 9, 0], 0, RewriteFault::Malformed("bit string")),
        (&[77, 0, 0, 0, 0, 3], 0, RewriteFault::Malformed("bit string")),
        (&[90, 0, 0, 119, 0, 0, 0, 0, 0], 0, RewriteFault::Malformed("reference")),
        (&[104, 1, 90, 0, 6], 2, RewriteFault::Malformed("reference")),
        (&[88, 97, 1], 0, RewriteFault::BadAtom),
        (&[113, 119, 0, 119, 0, 98, 0], 0, RewriteFault::Malformed("export")),
        (&[112, 0xff, 0xff, 0xff, 0xff], 0, RewriteFault::FunTooLarge(16 << 20)),
        (&[112, 0, 0, 0, 0], 0, RewriteFault::Malformed("fun")),
    ];
    for (bytes, at, fault) in cases {
        assert_eq!(refused(bytes), RewriteError { at, fault }, "{bytes:?}");
    }
    let mut text = vec![99];
    text.resize(32, 0);
    text[1..5].copy_from_slice(b"1e99");
    assert_eq!(rewrite(&text, &[], &mut Keep), Ok(text.clone()));
    text[1..4].copy_from_slice(b"inf");
    text[4] = 0;
    assert_eq!(refused(&text).fault, RewriteFault::BadFloat);
}

#[test]
fn a_term_that_is_cut_anywhere_is_not_complete() {
    for (name, bytes) in golden() {
        for length in 0..bytes.len() {
            let error = rewrite(&bytes[..length], &[], &mut Keep).expect_err(name);
            assert_eq!(error, RewriteError { at: error.at, fault: RewriteFault::Truncated }, "{name} at {length}");
        }
    }
}

#[test]
fn counts_cost_nothing() {
    let cases: [&[u8]; 6] = [
        &[108, 0xff, 0xff, 0xff, 0xff, 106],
        &[105, 0xff, 0xff, 0xff, 0xff],
        &[116, 0xff, 0xff, 0xff, 0xff, 97, 1],
        &[109, 0xff, 0xff, 0xff, 0xff],
        &[111, 0xff, 0xff, 0xff, 0xff, 0],
        &[107, 0xff, 0xff],
    ];
    for case in cases {
        assert_eq!(refused(case).fault, RewriteFault::Truncated, "{case:?}");
    }
    // As deep as it gets: one number is all that is kept.
    let deep = [[104, 2].repeat(1 << 18), [106].repeat((1 << 18) + 1)].concat();
    assert_eq!(rewrite(&deep, &[99, 1001], &mut Keep), Ok(deep));
}

#[test]
fn a_closure_whose_size_lies_is_refused() {
    let (_, bytes) = golden().into_iter().find(|(name, _)| *name == "fun_free").expect("in the corpus");
    let size = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    let changed = |size: u32, rest: &[u8]| [&[104, 2, 112][..], &size.to_be_bytes(), &bytes[5..], rest].concat();
    assert!(rewrite(&changed(size, &[106]), &[], &mut Prefix::add()).is_ok());
    for wrong in [0, 4, 28, 29, 40, size - 1, size + 1, size + 2] {
        let error = refused(&changed(wrong, &[106, 106, 106]));
        assert!(matches!(error.fault, RewriteFault::Malformed("fun")), "{wrong}: {error}");
    }
    for wrong in [size + 100, 15 << 20] {
        assert_eq!(refused(&changed(wrong, &[106])).fault, RewriteFault::Truncated);
    }
    // A closure in a closure, longer than the outer one.
    let mut inner = bytes.clone();
    inner[4] += 1;
    let mut outer = [&bytes[..bytes.len() - 2], &inner].concat();
    outer[1..5].copy_from_slice(&u32::try_from(bytes.len() - 3 + inner.len()).expect("short").to_be_bytes());
    assert_eq!(refused(&[&[104, 2], &outer[..], &[106]].concat()).fault, RewriteFault::Malformed("fun"));
}

#[test]
fn limits_hold() {
    let (_, bytes) = golden().into_iter().find(|(name, _)| *name == "fun_bare").expect("in the corpus");
    let run = |limits: RewriteLimits, bytes: &[u8], translate: &mut dyn FnMut() -> Prefix| {
        let mut out = BytesMut::new();
        Rewriter::new(limits).rewrite(1, bytes, &mut translate(), &mut out).map_err(|error| error.fault)
    };
    let limits = RewriteLimits { fun_bytes_max: bytes.len(), ..RewriteLimits::default() };
    assert_eq!(run(limits, &bytes, &mut Prefix::add), Ok(()));
    // One whose creator is renamed grows beyond it.
    let grows = encoded(&rewriting::fun(vec![], 2));
    let limits = RewriteLimits { fun_bytes_max: grows.len(), ..limits };
    assert_eq!(run(limits, &grows, &mut Prefix::add), Err(RewriteFault::FunTooLarge(grows.len())));
    let less = RewriteLimits { fun_bytes_max: bytes.len() - 1, ..limits };
    assert_eq!(run(less, &bytes, &mut Prefix::add), Err(RewriteFault::FunTooLarge(bytes.len() - 1)));

    let nest = |inner: &[u8]| {
        let mut outer = bytes.clone();
        outer[29] = 1;
        outer.extend_from_slice(inner);
        let size = u32::try_from(outer.len() - 1).expect("short");
        outer[1..5].copy_from_slice(&size.to_be_bytes());
        outer
    };
    let nested = |depth: usize| (1..depth).fold(bytes.clone(), |inner, _| nest(&inner));
    let limits = RewriteLimits { fun_depth_max: 3, ..RewriteLimits::default() };
    assert_eq!(run(limits, &nested(3), &mut Prefix::add), Ok(()));
    assert_eq!(run(limits, &nested(4), &mut Prefix::add), Err(RewriteFault::FunTooDeep(3)));

    // A pid of a node without name, many times over, grows.
    let pids = [[105, 0, 0, 1, 0].to_vec(), [88, 119, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1].repeat(256)].concat();
    let limits = RewriteLimits { written_bytes_max: pids.len() as u64, ..RewriteLimits::default() };
    assert_eq!(run(limits, &pids, &mut Prefix::add), Err(RewriteFault::TooLong(pids.len() as u64)));
}

#[test]
fn a_closure_that_trickles_in_is_held_and_given_back() {
    let (_, bytes) = golden().into_iter().find(|(name, _)| *name == "fun_bare").expect("in the corpus");
    let mut rewriter = Rewriter::new(RewriteLimits::default());
    let mut out = BytesMut::new();
    rewriter.start(1);
    for (held, byte) in bytes.chunks(1).enumerate() {
        assert_eq!((rewriter.held_bytes(), out.len()), (held, 0));
        rewriter.feed(byte, &mut Keep, &mut out).expect("valid");
    }
    assert_eq!((rewriter.held_bytes(), rewriter.finish()), (0, Ok(())));
    assert_eq!(out, bytes);
}

/// Faults that only a decoder finds.
fn only_a_decoder_finds(error: &DecodeError) -> bool {
    let limit = matches!(error, DecodeError::TooDeep(_) | DecodeError::TooManyElements(_) | DecodeError::TooLong(_));
    // A closure's old numbers may be larger than a decoder takes.
    limit || matches!(error, DecodeError::DuplicateKey | DecodeError::Malformed("fun"))
}

fn agrees_with_the_decoder(bytes: &[u8]) {
    let rewritten = rewrite(bytes, &[bytes.len() / 2], &mut Keep);
    match term::decode(bytes, &Limits::default()) {
        Ok((_, taken)) if taken == bytes.len() => assert_eq!(rewritten.as_deref(), Ok(bytes)),
        Ok(_) => assert!(matches!(rewritten, Err(RewriteError { fault: RewriteFault::Trailing, .. }))),
        Err(error) if only_a_decoder_finds(&error) => {}
        Err(error) => assert!(rewritten.is_err(), "{bytes:?}: {error}"),
    }
}

#[test]
fn a_changed_byte_is_judged_as_the_decoder_does() {
    for (_, bytes) in golden() {
        for (index, value) in (0..bytes.len()).flat_map(|index| [0, 1, 0x7f, 0x80, 0xff].map(|value| (index, value))) {
            let mut bytes = bytes.clone();
            bytes[index] = value;
            agrees_with_the_decoder(&bytes);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_as_the_decoder_does(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees_with_the_decoder(&bytes);
    }

    #[test]
    fn wherever_it_is_cut_the_outcome_is_the_same(
        line in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(0_usize..100, 0..8),
    ) {
        let golden = golden();
        let mut bytes = line.get(&golden).1.clone();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        prop_assert_eq!(rewrite(&bytes, &cuts, &mut Keep), rewrite(&bytes, &[], &mut Keep));
    }
}
