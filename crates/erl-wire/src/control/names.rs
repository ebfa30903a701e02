//! Control messages from their routes, without terms between.
//!
//! The messages of a connection name the same two nodes again and again, so an atom of each name is kept: at most
//! [`NAMES_MAX`], of which a further one replaces the oldest.

use super::Control;
use crate::{
    rewrite::{AtomView, Endpoint, PidView, ReferenceView, Route},
    term::{Atom, Pid, Reference},
};

/// How many names are kept.
const NAMES_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Vec<Atom>,
    oldest: usize,
}

impl Names {
    /// The control message of this route: what [`Control`] makes of its term. Only of those that are most frequent.
    pub(crate) fn control(&mut self, route: &Route<'_>) -> Option<Control> {
        if !route.is_common() {
            return None;
        }
        let Some(Endpoint::Pid(from)) = route.from else { return None };
        let (from, trace) = (self.pid(&from), None);
        Some(match route.to? {
            Endpoint::Pid(to) => Control::SendSender { from, to: self.pid(&to), trace },
            Endpoint::Name(to) => Control::RegSend { from, to: to.to_atom(), trace },
            Endpoint::Alias(to) => Control::AliasSend { from, to: self.reference(&to), trace },
        })
    }

    fn pid(&mut self, pid: &PidView<'_>) -> Pid {
        Pid { node: self.name(&pid.node), id: pid.id, serial: pid.serial, creation: pid.creation }
    }

    fn reference(&mut self, reference: &ReferenceView<'_>) -> Reference {
        let ids = reference.ids.as_slice().to_vec();
        Reference { node: self.name(&reference.node), creation: reference.creation, ids }
    }

    fn name(&mut self, view: &AtomView<'_>) -> Atom {
        if let Some(known) = self.known.iter().find(|known| view.is(known.as_str())) {
            return known.clone();
        }
        let name = view.to_atom();
        if self.known.len() < NAMES_MAX {
            self.known.push(name.clone());
        } else {
            self.known[self.oldest] = name.clone();
            self.oldest = (self.oldest + 1) % NAMES_MAX;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::term::{self, Limits, Term};

    fn pid(node: &str) -> Pid {
        Pid { node: Atom::new(node).expect("short"), id: 7, serial: 1, creation: 0x1234_5678 }
    }

    #[test]
    fn it_is_that_of_the_term_whatever_names_came_before() {
        let mut names = Names::default();
        for number in 0..3 * NAMES_MAX {
            let from = pid(&format!("node{number}@host"));
            let reference = Reference { node: from.node.clone(), creation: 9, ids: vec![1, 2, 3] };
            let messages = [
                Control::SendSender { from: from.clone(), to: pid("near@host"), trace: None },
                Control::RegSend { from: from.clone(), to: Atom::from_static("shop"), trace: None },
                Control::AliasSend { from, to: reference, trace: None },
            ];
            for control in messages {
                let mut bytes = BytesMut::new();
                control.clone().encode(&mut bytes);
                let read = term::decode(&bytes, &Limits::default()).expect("a term").0;
                assert_eq!(read, Term::from(control.clone()));
                let route = Route::read(&bytes).expect("a route");
                assert_eq!(names.control(&route), Some(control));
            }
            assert!(names.known.len() <= NAMES_MAX);
        }
    }

    #[test]
    fn what_is_rare_takes_the_long_way() {
        let (from, to) = (pid("a@b"), pid("c@d"));
        let rare = [Control::Link { from, to: to.clone() }, Control::Send { to, trace: Some(Term::Integer(1)) }];
        for control in rare {
            let mut bytes = BytesMut::new();
            control.encode(&mut bytes);
            assert_eq!(Names::default().control(&Route::read(&bytes).expect("a route")), None);
        }
    }
}
