//! What comes out is what a tree of terms would give.

use proptest::prelude::*;

use super::*;
use crate::term::{ExportFun, Fun, Pid, Port, Reference, tests::any_term};

#[test]
fn what_otp_writes_stays_the_same_wherever_it_is_cut() {
    let golden = golden();
    assert!(golden.len() > 60);
    for (name, bytes) in golden {
        for cut in 0..=bytes.len() {
            assert_eq!(rewrite(&bytes, &[cut], &mut Keep), Ok(bytes.clone()), "{name} cut at {cut}");
        }
        let everywhere: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(rewrite(&bytes, &everywhere, &mut Keep), Ok(bytes.clone()), "{name} cut everywhere");
    }
}

#[test]
fn what_otp_writes_is_translated_as_its_tree() {
    for (name, bytes) in golden() {
        let everywhere: Vec<usize> = (0..bytes.len()).collect();
        let (mut slow, mut fast) = (Prefix::add(), Prefix::add());
        let tree = translate_term(&decoded(&bytes).expect("valid"), &mut slow);
        let whole = rewrite(&bytes, &[], &mut fast).expect("valid");
        assert_eq!(decoded(&whole), Ok(tree), "{name}");
        assert_eq!(rewrite(&bytes, &everywhere, &mut Prefix::add()), Ok(whole), "{name}");
        assert_eq!(slow.seen, fast.seen, "{name}");
    }
}

#[test]
fn every_kind_of_identifier_is_seen() {
    let node = || Atom::from_static("a@b");
    let terms = [
        Term::Pid(Pid { node: node(), id: 2, serial: 3, creation: 4 }),
        Term::Port(Port { node: node(), id: 2, creation: 4 }),
        Term::Port(Port { node: node(), id: 1 << 40, creation: 4 }),
        Term::Reference(Reference { node: node(), creation: 4, ids: vec![2] }),
        Term::Reference(Reference { node: node(), creation: 4, ids: vec![2, 3, 4, 5, 6] }),
    ];
    for term in terms {
        let bytes = rewrite(&encoded(&term), &[], &mut Prefix::add()).expect("valid");
        assert_eq!(decoded(&bytes), Ok(translate_term(&term, &mut Prefix::add())));
        assert_ne!(decoded(&bytes), Ok(term));
    }
    // The forms that current nodes do not write: a name in Latin-1, a creation of one byte.
    let old: [(&[u8], &str); 4] = [
        (&[103, 100, 0, 3, b'a', b'@', 0xe9, 0, 0, 0, 8, 0, 0, 0, 1, 2], "<'aé'.8.1/2>"),
        (&[102, 115, 3, b'a', b'@', 0xe9, 0, 0, 0, 8, 2], "#Port<'aé'.8/2>"),
        (&[101, 100, 0, 3, b'a', b'@', 0xe9, 0, 0, 0, 8, 2], "#Ref<'aé'.8/2>"),
        (&[114, 0, 2, 100, 0, 3, b'a', b'@', 0xe9, 2, 0, 0, 0, 8, 0, 0, 0, 9], "#Ref<'aé'.9.8/2>"),
    ];
    for (bytes, printed) in old {
        let printed = printed.replacen("aé", &format!("{PREFIX}a@é"), 1);
        let out = rewrite(bytes, &[], &mut Prefix::add()).expect("valid");
        assert_eq!(decoded(&out).map(|term| term.to_string()).as_ref(), Ok(&printed));
        assert_eq!(rewrite(bytes, &[], &mut Keep), Ok(bytes.to_vec()));
    }
}

#[test]
fn atoms_and_binaries_that_name_a_node_are_not_touched() {
    let node = Atom::from_static("a@b");
    let pid = Term::Pid(Pid { node: node.clone(), id: 2, serial: 0, creation: 1 });
    let inside = Term::binary(term::encode_external(&pid));
    let export = ExportFun { module: node.clone(), function: node.clone(), arity: 1 };
    let term = Term::tuple([Term::Atom(node), inside, export.into(), Term::string("a@b")]);
    assert_eq!(rewrite(&encoded(&term), &[], &mut Prefix::add()), Ok(encoded(&term)));
}

pub(super) fn fun(free: Vec<Term>, id: u32) -> Term {
    let creator = Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 1 };
    let module = Atom::from_static("shop");
    let (unique, old_unique) = ([7; 16], 1 << 26);
    Term::Fun(Box::new(Fun { arity: 1, unique, index: 3, module, old_index: 3, old_unique, creator, free }))
}

#[test]
fn the_sizes_of_closures_in_closures_follow_what_is_in_them() {
    let pid = |id| Term::Pid(Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 1 });
    let cases = [
        fun(vec![], 1),
        fun(vec![], 2),
        fun(vec![pid(2), Term::binary([0; 100])], 1),
        fun(vec![pid(2), fun(vec![pid(4), fun(vec![pid(6)], 8)], 1), pid(1)], 1),
        fun(vec![fun(vec![], 1), fun(vec![pid(4)], 1), fun(vec![], 1)], 1),
        Term::tuple([pid(2), fun(vec![Term::list([fun(vec![], 2), pid(2)])], 2), pid(2), fun(vec![], 1)]),
    ];
    for term in cases {
        let bytes = encoded(&term);
        let tree = encoded(&translate_term(&term, &mut Prefix::add()));
        for cut in 0..=bytes.len() {
            assert_eq!(rewrite(&bytes, &[cut], &mut Prefix::add()).as_ref(), Ok(&tree), "{term} cut at {cut}");
        }
        assert_eq!(rewrite(&tree, &[], &mut Prefix::strip()), Ok(bytes), "{term}");
    }
}

#[test]
fn several_terms_in_a_row_are_one_message() {
    let pid = |id| Term::Pid(Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 1 });
    let control = Term::tuple([Term::from(22_i64), pid(2), pid(4)]);
    let payload = Term::tuple([Term::atom("hello"), pid(6)]);
    let bytes = [encoded(&control), encoded(&payload)].concat();
    let expected: Vec<_> =
        [control, payload].iter().flat_map(|term| encoded(&translate_term(term, &mut Prefix::add()))).collect();
    let mut out = BytesMut::new();
    let mut rewriter = Rewriter::new(RewriteLimits::default());
    rewriter.rewrite(2, &bytes, &mut Prefix::add(), &mut out).expect("two terms");
    assert_eq!(out, expected);
}

#[test]
fn who_writes_what_passes_gets_the_same_message() {
    let term =
        crate::term!({(Term::binary(vec![1; 5_000])), (Term::binary(vec![2; 300])), [(Term::binary(vec![3; 9_000]))]});
    let bytes = encoded(&term);
    for step in [1, 10, 100, 6_000] {
        let (mut rewriter, mut out, mut passed) = (Rewriter::new(RewriteLimits::default()), BytesMut::new(), 0);
        rewriter.start(1);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let passing = usize::try_from(rewriter.passing()).expect("it fits").min(rest.len());
            let (taken, left) = rest.split_at(if passing > 0 { passing } else { step.min(rest.len()) });
            if passing > 0 {
                out.extend_from_slice(taken);
                rewriter.pass(passing as u64).expect("within the limit");
                passed += passing;
            } else {
                rewriter.feed(taken, &mut Keep, &mut out).expect("terms");
            }
            rest = left;
        }
        assert_eq!(rewriter.finish(), Ok(()));
        assert_eq!(out, bytes[..], "in steps of {step}");
        assert!(passed > 2_000, "{passed} bytes passed in steps of {step}");
    }
    let limits = RewriteLimits { written_bytes_max: 4_000, ..RewriteLimits::default() };
    let mut rewriter = Rewriter::new(limits);
    rewriter.start(1);
    rewriter.feed(&bytes[..10], &mut Keep, &mut BytesMut::new()).expect("terms");
    let error = rewriter.pass(5_000).expect_err("more than the limit");
    assert_eq!(error.fault, RewriteFault::TooLong(4_000));
}

#[test]
fn a_rewriter_is_used_again_after_an_error() {
    let mut rewriter = Rewriter::new(RewriteLimits::default());
    let bytes = encoded(&fun(vec![], 2));
    let mut out = BytesMut::new();
    for broken in [&bytes[..40], &[104, 2, 112, 0], &[104, 2, 82], &[109, 0, 0, 1]] {
        assert!(rewriter.rewrite(1, broken, &mut Keep, &mut out).is_err(), "{broken:?}");
        assert!(!rewriter.is_complete());
        out.clear();
        assert_eq!(rewriter.rewrite(1, &bytes, &mut Keep, &mut out), Ok(()));
        assert_eq!(out, bytes);
    }
}

/// A term in which closures, pids as keys and large parts are likely.
pub(super) fn message() -> impl Strategy<Value = Term> {
    let large = (any_term(), prop::collection::vec(any::<u8>(), 0..5000));
    prop_oneof![
        4 => any_term(),
        1 => (any_term(), any_term()).prop_map(|(a, b)| fun(vec![a, fun(vec![b], 3)], 2)),
        1 => large.prop_map(|(term, bytes)| Term::list([Term::binary(bytes), term])),
        1 => prop::collection::vec((0_u32..50, any_term()), 0..40).prop_map(|entries| {
            let pid = |id| Term::Pid(Pid { node: Atom::from_static("a@b"), id, serial: 0, creation: 1 });
            Term::map(entries.into_iter().map(|(id, value)| (pid(id), value)))
        }),
        1 => any_term().prop_map(|term| Term::Tuple(vec![term; 300])),
    ]
}

proptest! {
    #[test]
    fn any_message_that_is_kept_has_the_same_bytes(term in message(), cuts in prop::collection::vec(0_usize..400, 0..8)) {
        let bytes = encoded(&term);
        prop_assert_eq!(rewrite(&bytes, &cuts, &mut Keep), Ok(bytes));
    }

    #[test]
    fn any_message_is_translated_as_its_tree_and_back(term in message(), cuts in prop::collection::vec(0_usize..400, 0..8)) {
        let bytes = encoded(&term);
        let there = rewrite(&bytes, &cuts, &mut Prefix::add()).expect("valid");
        prop_assert_eq!(decoded(&there), Ok(translate_term(&term, &mut Prefix::add())));
        prop_assert_eq!(rewrite(&there, &cuts, &mut Prefix::strip()), Ok(bytes));
    }
}
