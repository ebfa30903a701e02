//! What is fuzzed: a function a target, which takes any bytes and panics when something is not as it must be.
//!
//! Each says what became of the input, so that inputs with a new outcome can be told from the rest.

mod epmd;
mod frame;
mod handshake;
mod rewrite;
mod term;

/// What became of an input. Equal for inputs that are treated alike, as far as a target can tell.
pub(crate) type Outcome = String;

/// A target.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]) -> Outcome,
}

/// All of them.
pub(crate) const TARGETS: [Target; 5] = [
    Target { name: "term", run: term::fuzz },
    Target { name: "rewrite", run: rewrite::fuzz },
    Target { name: "frame", run: frame::fuzz },
    Target { name: "epmd", run: epmd::fuzz },
    Target { name: "handshake", run: handshake::fuzz },
];

/// The text of an error without its numbers and its quoted parts, which would make each input new.
pub(crate) fn kind_of(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let name = text.split(['{', ' ']).next().unwrap_or_default();
    name.chars().filter(|character| character.is_alphabetic() || *character == '(').take(60).collect()
}
