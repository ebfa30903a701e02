//! Terms as Erlang prints them (`~p`, on one line).
//!
//! Pids, ports, references and closures have no source form; they print with the name of their node, so that a log
//! tells two nodes' processes apart.

use std::fmt::{self, Display, Formatter, Write};

use super::{BigInteger, ExportFun, Fun, Pid, Port, Reference, Term};

/// A larger integer is printed in base 16: base 10 takes time that grows with the square of the length.
const DECIMAL_BYTES_MAX: usize = 256;

/// The words that need quotes to be atoms.
const RESERVED: &[&str] = &[
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div",
    "else", "end", "fun", "if", "let", "maybe", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor",
];

pub(super) fn write_atom(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let lower = |c: char| matches!(c, 'a'..='z' | 'ß'..='ö' | 'ø'..='ÿ');
    let inside = |c: char| lower(c) || matches!(c, 'A'..='Z' | 'À'..='Ö' | 'Ø'..='Þ' | '0'..='9' | '_' | '@');
    if text.starts_with(lower) && text.chars().all(inside) && !RESERVED.contains(&text) {
        return f.write_str(text);
    }
    f.write_char('\'')?;
    text.chars().try_for_each(|c| write_escaped(f, c, '\''))?;
    f.write_char('\'')
}

fn write_escaped(f: &mut Formatter<'_>, c: char, quote: char) -> fmt::Result {
    match c {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\\' => f.write_str("\\\\"),
        c if c == quote => write!(f, "\\{c}"),
        c if c.is_control() => write!(f, "\\x{{{:X}}}", u32::from(c)),
        c => f.write_char(c),
    }
}

fn separated<'a>(f: &mut Formatter<'_>, items: impl IntoIterator<Item = &'a Term>) -> fmt::Result {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::BigInteger(value) => value.fmt(f),
            // `{:?}` keeps the point and the shortest digits that read back the same.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Atom(atom) => atom.fmt(f),
            Self::Binary(bytes) => write_binary(f, bytes),
            Self::BitString { bytes, bits } => write_bits(f, bytes, *bits),
            Self::List(items) => write_list(f, items),
            Self::ImproperList(items, tail) => {
                f.write_char('[')?;
                separated(f, items)?;
                write!(f, "|{tail}]")
            }
            Self::Tuple(items) => {
                f.write_char('{')?;
                separated(f, items)?;
                f.write_char('}')
            }
            Self::Map(entries) => {
                f.write_str("#{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{key} => {value}")?;
                }
                f.write_char('}')
            }
            Self::Pid(pid) => pid.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Reference(reference) => reference.fmt(f),
            Self::Fun(fun) => fun.fmt(f),
            Self::ExportFun(fun) => fun.fmt(f),
        }
    }
}

fn write_list(f: &mut Formatter<'_>, items: &[Term]) -> fmt::Result {
    let printable = |item: &Term| {
        let c = char::from_u32(u32::try_from(item.as_i64()?).ok()?)?;
        matches!(c, '\n' | '\r' | '\t' | ' '..='~' | '\u{a0}'..='\u{ff}').then_some(c)
    };
    if items.is_empty() || !items.iter().all(|item| printable(item).is_some()) {
        f.write_char('[')?;
        separated(f, items)?;
        return f.write_char(']');
    }
    f.write_char('"')?;
    items.iter().filter_map(printable).try_for_each(|c| write_escaped(f, c, '"'))?;
    f.write_char('"')
}

fn write_binary(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let printable = |c: char| matches!(c, '\n' | '\r' | '\t') || !c.is_control();
    match std::str::from_utf8(bytes) {
        Ok("") => f.write_str("<<>>"),
        Ok(text) if text.chars().all(printable) => {
            f.write_str("<<\"")?;
            text.chars().try_for_each(|c| write_escaped(f, c, '"'))?;
            f.write_str(if text.is_ascii() { "\">>" } else { "\"/utf8>>" })
        }
        Ok(_) | Err(_) => {
            f.write_str("<<")?;
            write_bytes(f, bytes)?;
            f.write_str(">>")
        }
    }
}

fn write_bytes(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{byte}")?;
    }
    Ok(())
}

fn write_bits(f: &mut Formatter<'_>, bytes: &[u8], bits: u8) -> fmt::Result {
    let Some((last, whole)) = bytes.split_last() else { return f.write_str("<<>>") };
    f.write_str("<<")?;
    write_bytes(f, whole)?;
    let comma = if whole.is_empty() { "" } else { "," };
    write!(f, "{comma}{}:{bits}>>", last >> 8_u8.saturating_sub(bits).min(7))
}

impl Display for BigInteger {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_negative() {
            f.write_char('-')?;
        }
        if self.magnitude().len() > DECIMAL_BYTES_MAX {
            f.write_str("16#")?;
            return self.magnitude().iter().rev().try_for_each(|byte| write!(f, "{byte:02X}"));
        }
        // Long division by 10^9, nine digits at a time, the most significant byte first.
        let mut rest: Vec<u8> = self.magnitude().iter().rev().copied().collect();
        let mut groups = Vec::new();
        while !rest.is_empty() {
            let mut remainder = 0_u64;
            for byte in &mut rest {
                let value = remainder << 8 | u64::from(*byte);
                // Below 256, because the remainder was below 10^9.
                *byte = (value / 1_000_000_000) as u8;
                remainder = value % 1_000_000_000;
            }
            groups.push(remainder);
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            rest.drain(..zeros);
        }
        let mut groups = groups.iter().rev();
        if let Some(first) = groups.next() {
            write!(f, "{first}")?;
        }
        groups.try_for_each(|group| write!(f, "{group:09}"))
    }
}

impl Display for Pid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<{}.{}.{}/{}>", self.node, self.id, self.serial, self.creation)
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "#Port<{}.{}/{}>", self.node, self.id, self.creation)
    }
}

impl Display for Reference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "#Ref<{}", self.node)?;
        // As Erlang does: the word that came last first.
        self.ids.iter().rev().try_for_each(|id| write!(f, ".{id}"))?;
        write!(f, "/{}>", self.creation)
    }
}

impl Display for Fun {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "#Fun<{}.{}.{}>", self.module, self.old_index, self.old_unique)
    }
}

impl Display for ExportFun {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "fun {}:{}/{}", self.module, self.function, self.arity)
    }
}

macro_rules! debug_as_display {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(Term, BigInteger, Pid, Port, Reference);
