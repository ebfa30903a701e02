//! The rewriter against trees of terms, byte by byte, and against bytes from peers that lie.

mod beam;
mod hostile;
mod rewriting;
mod routing;

use bytes::BytesMut;

use super::*;
use crate::term::{self, Atom, DecodeError, Limits, Term};

/// Gives each node with an even process number another name, in both directions: a name goes from `here` to the same
/// one behind a prefix, and back.
pub(super) struct Prefix {
    back: bool,
    name: Atom,
    seen: usize,
}

const PREFIX: &str = "\u{416}far\u{2192}";

impl Prefix {
    pub(super) fn add() -> Self {
        Self { back: false, name: Atom::EMPTY, seen: 0 }
    }

    pub(super) fn strip() -> Self {
        Self { back: true, ..Self::add() }
    }

    fn rename(&mut self, node: &AtomView<'_>, number: u64) -> bool {
        self.seen += 1;
        if number % 2 == 1 {
            return false;
        }
        let atom = node.to_atom();
        let text = if self.back {
            atom.as_str().strip_prefix(PREFIX).expect("it was added").to_owned()
        } else {
            format!("{PREFIX}{atom}", atom = atom.as_str())
        };
        self.name = Atom::new(&text).expect("short");
        true
    }
}

impl Translate for Prefix {
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        self.rename(&pid.node, pid.id.into()).then_some(PidView { node: (&self.name).into(), ..*pid })
    }

    fn port(&mut self, port: &PortView<'_>) -> Option<PortView<'_>> {
        self.rename(&port.node, port.id).then_some(PortView { node: (&self.name).into(), ..*port })
    }

    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        let number = reference.ids.as_slice()[0].into();
        self.rename(&reference.node, number).then_some(ReferenceView { node: (&self.name).into(), ..*reference })
    }
}

/// Rewrites one term, cut as `cuts` says.
pub(super) fn rewrite(bytes: &[u8], cuts: &[usize], translate: &mut impl Translate) -> Result<Vec<u8>, RewriteError> {
    let mut rewriter = Rewriter::new(RewriteLimits::default());
    let mut out = BytesMut::new();
    rewriter.start(1);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for piece in cuts.windows(2) {
        rewriter.feed(&bytes[piece[0]..piece[1]], translate, &mut out)?;
    }
    rewriter.finish()?;
    assert_eq!(rewriter.held_bytes(), 0);
    Ok(out.to_vec())
}

pub(super) fn encoded(term: &Term) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    term::encode(term, &mut bytes);
    bytes.to_vec()
}

pub(super) fn decoded(bytes: &[u8]) -> Result<Term, DecodeError> {
    let (term, taken) = term::decode(bytes, &Limits::default())?;
    assert_eq!(taken, bytes.len());
    Ok(term)
}

/// The terms that OTP wrote: name and bytes, without version byte.
pub(super) fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("../../../tests/corpus/terms.txt").lines().filter(|line| !line.starts_with('#'));
    let all = lines.map(|line| {
        let mut words = line.split(' ');
        let (name, hex) = (words.next().expect("a name"), words.next().expect("bytes"));
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
        (name, (2..hex.len()).step_by(2).map(byte).collect())
    });
    // A message is never compressed.
    all.filter(|(name, _)| *name != "compressed").collect()
}
