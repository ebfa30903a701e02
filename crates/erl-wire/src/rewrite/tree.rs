//! The same for a term that is built already. Slow beside a [`super::Rewriter`], and the measure for it in tests.

use super::{PidView, PortView, ReferenceView, Translate};
use crate::term::{Fun, Pid, Term};

/// A copy of a term with its identifiers translated. It recurses, which is safe for any term that was decoded.
///
/// Where a translation makes two keys of a map equal, the value of the last one stays, as in [`Term::map`].
pub fn translate_term(term: &Term, translate: &mut impl Translate) -> Term {
    let mut all = |terms: &[Term]| -> Vec<Term> { terms.iter().map(|term| translate_term(term, translate)).collect() };
    match term {
        Term::Integer(_)
        | Term::BigInteger(_)
        | Term::Float(_)
        | Term::Atom(_)
        | Term::Binary(_)
        | Term::BitString { .. }
        | Term::ExportFun(_) => term.clone(),
        Term::List(items) => Term::List(all(items)),
        Term::ImproperList(items, tail) => {
            let items = all(items);
            Term::list_with_tail(items, translate_term(tail, translate))
        }
        Term::Tuple(items) => Term::Tuple(all(items)),
        Term::Map(entries) => Term::map(
            entries.iter().map(|(key, value)| (translate_term(key, translate), translate_term(value, translate))),
        ),
        Term::Pid(pid) => Term::Pid(translate_pid(pid, translate)),
        Term::Port(port) => {
            let other = translate.port(&PortView::from(port)).map(|other| other.to_port());
            Term::Port(other.unwrap_or_else(|| port.clone()))
        }
        Term::Reference(reference) => {
            let other = translate.reference(&ReferenceView::from(reference)).map(|other| other.to_reference());
            Term::Reference(other.unwrap_or_else(|| reference.clone()))
        }
        Term::Fun(fun) => {
            let creator = translate_pid(&fun.creator, translate);
            let free = fun.free.iter().map(|term| translate_term(term, translate)).collect();
            Term::Fun(Box::new(Fun { creator, free, module: fun.module.clone(), ..**fun }))
        }
    }
}

fn translate_pid(pid: &Pid, translate: &mut impl Translate) -> Pid {
    let other = translate.pid(&PidView::from(pid)).map(|other| other.to_pid());
    other.unwrap_or_else(|| pid.clone())
}
