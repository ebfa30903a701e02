//! Terms against the bytes of OTP, round trips, and bytes from peers that lie.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// From `golden.erl`: name, bytes, and how Erlang prints the term.
fn golden() -> impl Iterator<Item = (&'static str, Vec<u8>, &'static str)> {
    let lines = include_str!("../../tests/corpus/terms.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let mut parts = line.splitn(3, ' ');
        let (name, hex, text) = (parts.next(), parts.next(), parts.next());
        let hex = hex.expect("bytes").as_bytes();
        let digits = hex.chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        let bytes = digits.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect();
        (name.expect("a name"), bytes, text.expect("a text"))
    })
}

fn read(bytes: &[u8]) -> Result<Term, DecodeError> {
    let (term, taken) = decode_external(bytes, &Limits::default())?;
    assert_eq!(taken, bytes.len());
    Ok(term)
}

#[test]
fn what_otp_writes_is_read_and_written_the_same() {
    let mut seen = 0;
    for (name, bytes, _) in golden() {
        let term = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = encode_external(&term);
        if !name.starts_with("old_") && name != "compressed" {
            assert_eq!(written, bytes, "{name}: {term}");
        }
        assert_eq!(read(&written), Ok(term), "{name}");
        seen += 1;
    }
    assert!(seen > 60, "only {seen} lines");
}

#[test]
fn the_size_of_a_term_is_bounded_from_above_and_not_by_far() {
    for (name, bytes, _) in golden() {
        let term = read(&bytes).expect("valid");
        let mut written = BytesMut::new();
        encode(&term, &mut written);
        let most = bytes_within(&term, 1 << 20).expect("small terms");
        assert!(written.len() <= most, "{name}: {} bytes are more than {most}", written.len());
        assert_eq!(bytes_within(&term, most), Some(most), "{name}");
        assert_eq!(bytes_within(&term, most - 1), None, "{name}");
    }
    assert_eq!(bytes_within(&Term::binary(vec![0; 1_000]), 2_000), Some(1_011));
}

#[test]
fn terms_print_as_in_erlang() {
    // Identifiers print with the name of their node, and lists of characters beyond Latin-1 as numbers.
    let ours = ["pid", "port", "reference", "alias", "gen_call", "list_unicode"];
    for (name, bytes, text) in golden() {
        let identifier = ours.iter().any(|own| name.ends_with(own)) || name == "old_new_reference";
        if !identifier {
            assert_eq!(read(&bytes).expect("valid").to_string(), text, "{name}");
        }
    }
}

#[test]
fn identifiers_print_with_their_node() {
    let print = |wanted: &str| {
        let (_, bytes, _) = golden().find(|(name, ..)| *name == wanted).expect("in the corpus");
        read(&bytes).expect("valid").to_string()
    };
    assert_eq!(print("old_pid"), "<a@b.7.1/2>");
    assert_eq!(print("v4_port"), "#Port<a@b.1099511627776/2>");
    assert_eq!(print("v4_reference"), "#Ref<a@b.5.4.3.2.1/2>");
}

#[test]
fn terms_say_what_they_are() {
    let (_, bytes, _) = golden().find(|(name, ..)| *name == "gen_call").expect("in the corpus");
    let term = read(&bytes).expect("valid");
    let [call, from, request] = term.as_tuple().expect("a tuple") else { panic!("{term}") };
    assert!(call.is_atom("$gen_call"));
    assert_eq!(from.as_tuple().expect("a tuple")[0].as_pid().expect("a pid").node, "golden@127.0.0.1");
    assert_eq!(request.as_tuple().expect("a tuple")[1].as_atom().map(Atom::as_str), Some("golden@127.0.0.1"));
    let Term::ImproperList(items, tail) = &from.as_tuple().expect("a tuple")[1] else { panic!("{from}") };
    assert!(items[0].is_atom("alias") && tail.as_reference().is_some());

    assert_eq!(Term::string("жар").as_text().as_deref(), Some("жар"));
    assert_eq!(Term::binary("жар").as_text().as_deref(), Some("жар"));
    assert_eq!(Term::binary([0xff]).as_text(), None);
    assert_eq!(Term::list([]).as_text().as_deref(), Some(""));
    let map = Term::map([(Term::atom("a"), Term::from(1_i64)), (Term::atom("a"), Term::from(2_i64))]);
    assert_eq!((map.map_get("a").and_then(Term::as_i64), map.map_get("b")), (Some(2), None));
    assert_eq!(Term::from(u64::MAX).as_u64(), Some(u64::MAX));
    assert_eq!((Term::from(-1_i64).as_u64(), Term::from(u64::MAX).as_i64()), (None, None));
}

#[test]
fn equality_is_exact_and_order_is_that_of_erlang() {
    let (a, b) = (Term::atom("a"), Term::atom("b"));
    let one = Term::from(1_i64);
    // b => 1, a => 1
    let bytes = [131, 116, 0, 0, 0, 2, 119, 1, b'b', 97, 1, 119, 1, b'a', 97, 1];
    assert_eq!(read(&bytes), Ok(Term::map([(a.clone(), one.clone()), (b.clone(), one.clone())])));
    assert_ne!(one, Term::from(1.0));
    assert_ne!(Term::binary("a"), Term::string("a"));
    // In the order of Erlang.
    let bits = Term::BitString { bytes: vec![0x80].into(), bits: 1 };
    let improper = Term::ImproperList(vec![a.clone()], Box::new(b.clone()));
    let below = Term::from_magnitude(true, &[0; 8].map(|_| 0xff));
    let ordered = [
        below,
        one,
        Term::from(u64::MAX),
        Term::from(0.5),
        a.clone(),
        b.clone(),
        Term::tuple([]),
        Term::tuple([a.clone()]),
        Term::map([]),
        Term::list([]),
        improper,
        Term::list([a.clone()]),
        Term::list([a.clone(), a.clone()]),
        Term::list([b]),
        Term::binary([]),
        Term::binary([0x7f]),
        bits,
    ];
    assert!(ordered.is_sorted_by(|x, y| x < y));
}

#[test]
fn a_term_that_is_cut_anywhere_is_refused() {
    for (name, bytes, _) in golden() {
        for length in 0..bytes.len() {
            let result = decode_external(&bytes[..length], &Limits::default());
            assert!(result.is_err(), "{name} cut at {length}: {result:?}");
        }
    }
}

#[test]
fn a_changed_byte_never_panics() {
    for (_, bytes, _) in golden() {
        for (index, value) in (0..bytes.len()).flat_map(|index| [0, 1, 0x7f, 0x80, 0xff].map(|value| (index, value))) {
            let mut bytes = bytes.clone();
            bytes[index] = value;
            if let Ok((term, _)) = decode_external(&bytes, &Limits::default()) {
                assert_eq!(read(&encode_external(&term)), Ok(term));
            }
        }
    }
}

#[test]
fn counts_are_not_believed() {
    let cases: [&[u8]; 6] = [
        &[108, 0xff, 0xff, 0xff, 0xff, 106],
        &[105, 0xff, 0xff, 0xff, 0xff],
        &[116, 0xff, 0xff, 0xff, 0xff, 97, 1],
        &[109, 0xff, 0xff, 0xff, 0xff],
        &[111, 0xff, 0xff, 0xff, 0xff, 0],
        &[107, 0xff, 0xff],
    ];
    for case in cases {
        assert_eq!(decode(case, &Limits::default()).map(|_| ()), Err(DecodeError::Truncated), "{case:?}");
    }
    // Each list could be as long as what is left, if the ones around it awaited nothing.
    let mut nested = Vec::new();
    for _ in 0..100 {
        nested.extend([108, 0, 0, 4, 0]);
    }
    nested.resize(3000, 106);
    assert_eq!(decode(&nested, &Limits::default()).map(|_| ()), Err(DecodeError::Truncated));
}

#[test]
fn limits_hold() {
    let limits = Limits { depth_max: 3, elements_max: 10, bytes_max: 100 };
    let decode = |term: &Term| {
        let mut bytes = BytesMut::new();
        encode(term, &mut bytes);
        decode(&bytes, &limits).map(|_| ())
    };
    let nested = |depth| (0..depth).fold(Term::tuple([]), |term, _| Term::tuple([term]));
    assert_eq!(decode(&nested(3)), Ok(()));
    assert_eq!(decode(&nested(4)), Err(DecodeError::TooDeep(3)));
    let atoms = |count| Term::tuple(vec![Term::atom("a"); count]);
    assert_eq!(decode(&atoms(10)), Ok(()));
    assert_eq!(decode(&atoms(11)), Err(DecodeError::TooManyElements(10)));
    assert_eq!(decode(&Term::string("12345678901")), Err(DecodeError::TooManyElements(10)));
    assert_eq!(decode(&Term::binary([0; 95])), Ok(()));
    assert_eq!(decode(&Term::binary([0; 96])), Err(DecodeError::TooLong(100)));
}

#[test]
fn a_compressed_term_is_inflated_only_as_far_as_it_may() {
    let (_, mut bytes, _) = golden().find(|(name, ..)| *name == "compressed").expect("in the corpus");
    let limits = Limits { bytes_max: 405, ..Limits::default() };
    assert_eq!(decode_external(&bytes, &limits).map(|_| ()), Err(DecodeError::TooLong(405)));
    for claim in [0, 1, 405, 407, 0xffff_ffff_u32] {
        bytes[2..6].copy_from_slice(&claim.to_be_bytes());
        let limits = Limits { bytes_max: usize::MAX, ..Limits::default() };
        assert_eq!(decode_external(&bytes, &limits).map(|_| ()), Err(DecodeError::Inflate), "claims {claim}");
    }
}

#[test]
fn maps_as_keys_of_maps_take_no_time_beyond_their_size() {
    // Two keys a level, each a map like the level below, different only in the last value: a comparison that sorts
    // would take four times as long at each of these levels.
    let mut bytes = vec![97, 0];
    for _ in 0..14 {
        let mut other = bytes.clone();
        *other.last_mut().expect("not empty") = 1;
        bytes = [&[116, 0, 0, 0, 2][..], &other, &[97, 0], &bytes, &[97, 0]].concat();
    }
    let (term, _) = decode(&bytes, &Limits::default()).expect("valid");
    assert_eq!(term, term.clone());
}

#[test]
fn malformed_terms_are_refused() {
    let cases: [(&[u8], DecodeError); 12] = [
        (&[130, 97, 1], DecodeError::Version(130)),
        (&[131, 82, 0], DecodeError::UnknownTag(82)),
        (&[131, 67, 0], DecodeError::UnknownTag(67)),
        (&[131, 121, 0], DecodeError::UnknownTag(121)),
        (&[131, 119, 1, 0xff], DecodeError::BadAtom),
        (&[131, 70, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], DecodeError::BadFloat),
        (&[131, 77, 0, 0, 0, 1, 9, 0], DecodeError::Malformed("bit string")),
        (&[131, 77, 0, 0, 0, 0, 3], DecodeError::Malformed("bit string")),
        (&[131, 77, 0, 0, 0, 1, 0, 0], DecodeError::Malformed("bit string")),
        (&[131, 90, 0, 0, 119, 0, 0, 0, 0, 0], DecodeError::Malformed("reference")),
        (&[131, 90, 0, 6, 119, 0, 0, 0, 0, 0], DecodeError::Malformed("reference")),
        (&[131, 116, 0, 0, 0, 2, 97, 1, 106, 97, 1, 106], DecodeError::DuplicateKey),
    ];
    for (bytes, error) in cases {
        assert_eq!(read(bytes), Err(error), "{bytes:?}");
    }
    let mut long = vec![131, 118, 1, 0];
    long.resize(4 + 256, b'a');
    assert_eq!(read(&long), Err(DecodeError::BadAtom));
}

#[test]
fn the_deepest_term_fits_a_small_stack() {
    // All that recurses, on half of the 2 MiB that a thread has, in this build without optimisation.
    let walk = || {
        let limits = Limits { depth_max: usize::MAX, ..Limits::default() };
        for layer in [&[104, 1][..], &[108, 0, 0, 0, 1], &[116, 0, 0, 0, 1, 106]] {
            let mut bytes = layer.repeat(DEPTH_CEILING);
            bytes.push(106);
            bytes.resize(bytes.len() + DEPTH_CEILING, 106);
            let (term, _) = decode(&bytes, &limits).expect("at the ceiling");
            let copy = term.clone();
            assert!(term == copy);
            assert!(term.to_string().len() > DEPTH_CEILING);
            assert!(format!("{term:?}").len() > DEPTH_CEILING);
            let mut out = BytesMut::new();
            encode(&term, &mut out);
            drop(term);
            let deeper = [layer, &bytes].concat();
            assert_eq!(decode(&deeper, &limits).map(|_| ()), Err(DecodeError::TooDeep(DEPTH_CEILING)));
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(walk).expect("a thread");
    thread.join().expect("no overflow");
}

fn atom() -> impl Strategy<Value = Atom> {
    "\\PC{0,12}".prop_map(|text| Atom::new(&text).expect("short"))
}

fn pid() -> impl Strategy<Value = Pid> {
    (atom(), any::<[u32; 3]>()).prop_map(|(node, [id, serial, creation])| Pid { node, id, serial, creation })
}

fn leaf() -> impl Strategy<Value = Term> {
    let reference = (atom(), any::<u32>(), prop::collection::vec(any::<u32>(), 1..=5));
    let bits = (prop::collection::vec(any::<u8>(), 1..5), 1_u8..8);
    let export = (atom(), atom(), any::<u8>());
    prop_oneof![
        any::<i64>().prop_map(Term::Integer),
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(negative, magnitude)| Term::from_magnitude(negative, &magnitude)),
        (-1e300..1e300).prop_map(Term::Float),
        atom().prop_map(Term::Atom),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Term::binary),
        bits.prop_map(|(mut bytes, bits)| {
            *bytes.last_mut().expect("not empty") &= 0xff << (8 - bits);
            Term::BitString { bytes: bytes.into(), bits }
        }),
        "\\PC{0,8}".prop_map(|text| Term::string(&text)),
        pid().prop_map(Term::Pid),
        (atom(), any::<u64>(), any::<u32>()).prop_map(|(node, id, creation)| Term::Port(Port { node, id, creation })),
        reference.prop_map(|(node, creation, ids)| Term::Reference(Reference { node, creation, ids })),
        export.prop_map(|(module, function, arity)| Term::ExportFun(ExportFun { module, function, arity })),
    ]
}

pub(crate) fn any_term() -> impl Strategy<Value = Term> {
    leaf().prop_recursive(4, 64, 6, |inner| {
        let items = || prop::collection::vec(inner.clone(), 0..6);
        let fun = (any::<u8>(), any::<[u8; 16]>(), any::<u32>(), atom(), any::<[i32; 2]>(), pid(), items());
        prop_oneof![
            items().prop_map(Term::List),
            (items(), inner.clone()).prop_map(|(items, tail)| Term::list_with_tail(items, tail)),
            items().prop_map(Term::Tuple),
            prop::collection::vec((inner.clone(), inner.clone()), 0..5).prop_map(Term::map),
            fun.prop_map(|(arity, unique, index, module, [old_index, old_unique], creator, free)| {
                let (old_index, old_unique) = (old_index.into(), old_unique.into());
                Term::Fun(Box::new(Fun { arity, unique, index, module, old_index, old_unique, creator, free }))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_term_survives_the_wire(term in any_term()) {
        let bytes = encode_external(&term);
        prop_assert_eq!(read(&bytes), Ok(term.clone()));
        prop_assert!(bytes_within(&term, 1 << 20).is_some_and(|most| bytes.len() <= 1 + most));
        // Printing is not parsed back, but must not panic or stall.
        prop_assert!(!term.to_string().is_empty());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((term, taken)) = decode(&bytes, &Limits::SMALL) {
            prop_assert!(taken <= bytes.len());
            prop_assert_eq!(read(&encode_external(&term)), Ok(term));
        }
    }

    #[test]
    fn the_order_is_total(a in any_term(), b in any_term(), c in any_term()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    #[test]
    fn big_integers_print_as_decimals(value in any::<i128>()) {
        let term = Term::from_magnitude(value < 0, &value.unsigned_abs().to_le_bytes());
        prop_assert_eq!(term.to_string(), value.to_string());
    }
}
