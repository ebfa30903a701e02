//! Terms: what is read is written and read as the same.

use metacluster_erl_wire::{
    Control, Term,
    term::{self, Limits},
};

use super::{Outcome, kind_of};

pub(super) fn fuzz(bytes: &[u8]) -> Outcome {
    let mut outcome = String::new();
    for limits in [Limits::default(), Limits::SMALL] {
        for read in [term::decode(bytes, &limits), term::decode_external(bytes, &limits)] {
            match read {
                Ok((term, taken)) => {
                    assert!(taken <= bytes.len());
                    use_term(&term);
                    outcome.push_str(&shape(&term));
                }
                Err(error) => outcome.push_str(&kind_of(&error)),
            }
        }
    }
    outcome
}

/// Does with a term all that can be done.
pub(super) fn use_term(term: &Term) {
    let bytes = term::encode_external(term);
    let limits = Limits { elements_max: usize::MAX, bytes_max: usize::MAX, ..Limits::default() };
    let again = term::decode_external(&bytes, &limits).map(|(term, _)| term);
    assert_eq!(again.as_ref(), Ok(term));
    assert!(!term.to_string().is_empty());
    if let Ok(control) = Control::try_from(term.clone()) {
        assert_eq!(Control::try_from(Term::from(control.clone())), Ok(control));
    }
}

/// The kinds of terms down to the second level.
fn shape(term: &Term) -> String {
    let kind = |term: &Term| format!("{:.3}", kind_name(term));
    let inner: std::collections::BTreeSet<String> = match term {
        Term::List(items) | Term::Tuple(items) | Term::ImproperList(items, _) => items.iter().map(kind).collect(),
        Term::Map(entries) => entries.iter().flat_map(|(key, value)| [kind(key), kind(value)]).collect(),
        Term::Fun(fun) => fun.free.iter().map(kind).collect(),
        Term::Integer(_)
        | Term::BigInteger(_)
        | Term::Float(_)
        | Term::Atom(_)
        | Term::Binary(_)
        | Term::BitString { .. }
        | Term::Pid(_)
        | Term::Port(_)
        | Term::Reference(_)
        | Term::ExportFun(_) => std::collections::BTreeSet::new(),
    };
    format!("{}{inner:?}", kind_name(term))
}

fn kind_name(term: &Term) -> &'static str {
    match term {
        Term::Integer(_) => "int",
        Term::BigInteger(_) => "big",
        Term::Float(_) => "flo",
        Term::Atom(_) => "ato",
        Term::Binary(_) => "bin",
        Term::BitString { .. } => "bit",
        Term::List(_) => "lis",
        Term::ImproperList(..) => "imp",
        Term::Tuple(_) => "tup",
        Term::Map(_) => "map",
        Term::Pid(_) => "pid",
        Term::Port(_) => "por",
        Term::Reference(_) => "ref",
        Term::Fun(_) => "fun",
        Term::ExportFun(_) => "exp",
    }
}
