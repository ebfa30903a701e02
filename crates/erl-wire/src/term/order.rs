//! Exact equality and order of terms.
//!
//! The order is that of the keys of a map in OTP: number < atom < reference < fun < port < pid < tuple < map < nil <
//! list < bit string; integers before floats; tuples and maps by size first. It is total, so that a term can key an
//! ordered map. Where OTP's own order is private to the machine (funs), ours is by content.

use std::cmp::Ordering;

use super::Term;

impl Term {
    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) | Self::BigInteger(_) => 0,
            Self::Float(_) => 1,
            Self::Atom(_) => 2,
            Self::Reference(_) => 3,
            Self::Fun(_) => 4,
            Self::ExportFun(_) => 5,
            Self::Port(_) => 6,
            Self::Pid(_) => 7,
            Self::Tuple(_) => 8,
            Self::Map(_) => 9,
            Self::List(items) if items.is_empty() => NIL,
            Self::List(_) | Self::ImproperList(..) => LIST,
            Self::Binary(_) | Self::BitString { .. } => 12,
        }
    }
}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::BigInteger(a), Self::BigInteger(b)) => a.cmp(b),
            (Self::Integer(_), Self::BigInteger(b)) => {
                if b.is_negative() {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Self::BigInteger(_), Self::Integer(_)) => other.cmp(self).reverse(),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Atom(a), Self::Atom(b)) => a.cmp(b),
            (Self::Reference(a), Self::Reference(b)) => a.cmp(b),
            (Self::Fun(a), Self::Fun(b)) => a.cmp(b),
            (Self::ExportFun(a), Self::ExportFun(b)) => a.cmp(b),
            (Self::Port(a), Self::Port(b)) => a.cmp(b),
            (Self::Pid(a), Self::Pid(b)) => a.cmp(b),
            (Self::Tuple(a), Self::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Map(a), Self::Map(b)) => a.len().cmp(&b.len()).then_with(|| compare_maps(a, b)),
            _ => self.rank().cmp(&other.rank()).then_with(|| match (self.cells(), other.cells()) {
                (Some(a), Some(b)) => compare_lists(a, b),
                _ => self.bits().cmp(&other.bits()),
            }),
        }
    }
}

impl Term {
    fn cells(&self) -> Option<(&[Self], Option<&Self>)> {
        if let Self::List(items) = self {
            Some((items, None))
        } else if let Self::ImproperList(items, tail) = self {
            Some((items, Some(tail)))
        } else {
            None
        }
    }

    fn bits(&self) -> Option<(&[u8], u8)> {
        if let Self::Binary(bytes) = self {
            // A whole last byte comes after a part of it.
            Some((bytes, 8))
        } else if let Self::BitString { bytes, bits } = self {
            Some((bytes, *bits))
        } else {
            None
        }
    }
}

/// What a list goes on with once the cells that both have are compared.
const NIL: u8 = 10;
const LIST: u8 = 11;

fn compare_lists((a, a_tail): (&[Term], Option<&Term>), (b, b_tail): (&[Term], Option<&Term>)) -> Ordering {
    let shared = a.len().min(b.len());
    let rest = |items: &[Term], tail: Option<&Term>| match tail {
        _ if items.len() > shared => LIST,
        Some(tail) => tail.rank(),
        None => NIL,
    };
    a[..shared].cmp(&b[..shared]).then_with(|| rest(a, a_tail).cmp(&rest(b, b_tail))).then_with(|| {
        // Of the same rank: both end here, and a tail is no list, so that this descends.
        a_tail.cmp(&b_tail)
    })
}

/// Both have as many entries, in the order of their keys.
fn compare_maps(a: &[(Term, Term)], b: &[(Term, Term)]) -> Ordering {
    let keys = a.iter().map(|entry| &entry.0).cmp(b.iter().map(|entry| &entry.0));
    keys.then_with(|| a.iter().map(|entry| &entry.1).cmp(b.iter().map(|entry| &entry.1)))
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Term {}
