//! The rewriter: keeps what it should, translates as a tree is translated, and judges as the decoder does, wherever its
//! input is cut. Routes say what the decoder of control messages says.

use bytes::BytesMut;
use metacluster_erl_wire::{
    Atom, Control, Term,
    rewrite::{
        AtomView, Envelope, Keep, PidView, PortView, ReferenceView, RewriteError, RewriteFault, RewriteLimits,
        Rewriter, Translate, translate_term,
    },
    term::{self, DecodeError, Limits},
};

use super::{Outcome, kind_of};

/// Every node gets one name, which is longer than most.
struct Rename(Atom);

impl Rename {
    fn new() -> Self {
        Self(Atom::from_static("somebody@some.other.host.example"))
    }

    fn node(&self) -> AtomView<'_> {
        (&self.0).into()
    }
}

impl Translate for Rename {
    fn pid(&mut self, pid: &PidView<'_>) -> Option<PidView<'_>> {
        Some(PidView { node: self.node(), ..*pid })
    }

    fn port(&mut self, port: &PortView<'_>) -> Option<PortView<'_>> {
        Some(PortView { node: self.node(), ..*port })
    }

    fn reference(&mut self, reference: &ReferenceView<'_>) -> Option<ReferenceView<'_>> {
        Some(ReferenceView { node: self.node(), ..*reference })
    }
}

fn rewrite(bytes: &[u8], piece: usize, translate: &mut impl Translate) -> Result<Vec<u8>, RewriteError> {
    let mut rewriter = Rewriter::new(RewriteLimits::default());
    let mut out = BytesMut::new();
    rewriter.start(1);
    for piece in bytes.chunks(piece) {
        rewriter.feed(piece, translate, &mut out)?;
    }
    rewriter.finish()?;
    Ok(out.to_vec())
}

pub(super) fn fuzz(bytes: &[u8]) -> Outcome {
    // A message's terms have no version byte; those of the corpus do.
    let terms = bytes.strip_prefix(&[131]).unwrap_or(bytes);
    let mut outcome = format!("{} {}", judge(terms), routes(bytes));
    if let Ok(Some(route)) = Envelope::read(bytes).and_then(|envelope| envelope.route()) {
        outcome.push_str(&judge(route.control));
        outcome.push_str(&judge(route.payload));
    }
    outcome
}

/// One term, kept and renamed, in one piece and in several.
fn judge(bytes: &[u8]) -> String {
    let kept = rewrite(bytes, usize::MAX, &mut Keep);
    let renamed = rewrite(bytes, usize::MAX, &mut Rename::new());
    let odd = 1 + bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 37;
    for piece in [1, odd] {
        assert_eq!(rewrite(bytes, piece, &mut Keep), kept, "in pieces of {piece}");
        assert_eq!(rewrite(bytes, piece, &mut Rename::new()), renamed, "in pieces of {piece}");
    }
    match (&kept, term::decode(bytes, &Limits::default())) {
        (Ok(kept), Ok((term, _))) => {
            assert_eq!(kept, bytes);
            let tree = translate_term(&term, &mut Rename::new());
            let read = renamed.as_deref().map(|renamed| term::decode(renamed, &Limits::default()));
            match read {
                Ok(Ok((read, _))) => assert_eq!(read, tree),
                // One name for all makes keys equal that were not.
                Ok(Err(error)) => assert_eq!(error, DecodeError::DuplicateKey),
                // What is renamed may grow beyond a limit.
                Err(error) => assert!(is_limit(error), "{error}"),
            }
        }
        (Ok(_), Err(error)) => assert!(only_a_decoder_finds(&error), "{error}"),
        (Err(error), Ok((_, taken))) => {
            let trailing = error.fault == RewriteFault::Trailing && taken < bytes.len();
            assert!(trailing || is_limit(error), "{error}");
        }
        (Err(_), Err(_)) => {}
    }
    let changed = if renamed.as_deref() == Ok(bytes) { "kept" } else { "renamed" };
    kept.as_ref().map_or_else(|error| kind_of(&error.fault), |_| changed.to_owned())
}

fn is_limit(error: &RewriteError) -> bool {
    matches!(error.fault, RewriteFault::FunTooLarge(_) | RewriteFault::FunTooDeep(_) | RewriteFault::TooLong(_))
}

fn only_a_decoder_finds(error: &DecodeError) -> bool {
    matches!(
        error,
        DecodeError::TooDeep(_)
            | DecodeError::TooManyElements(_)
            | DecodeError::TooLong(_)
            | DecodeError::DuplicateKey
            // A closure's old numbers may be larger than a decoder takes.
            | DecodeError::Malformed("fun")
    )
}

fn routes(bytes: &[u8]) -> String {
    match Envelope::read(bytes).and_then(|envelope| envelope.route()) {
        Ok(Some(route)) => {
            if let Ok((term, taken)) = term::decode(route.control, &Limits::default()) {
                assert_eq!(taken, route.control.len());
                if let Ok(control) = Control::try_from(term.clone()) {
                    assert_eq!(control.has_payload(), route.has_payload());
                    let elements = term.as_tuple().unwrap_or_default();
                    assert_eq!(elements.first().and_then(Term::as_i64), Some(route.operation.into()));
                }
            }
            format!("operation {}", route.operation)
        }
        Ok(None) => "none".to_owned(),
        Err(error) => kind_of(&error),
    }
}
