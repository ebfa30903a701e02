//! A place in the count of one process: `epoch-seq`, or a plain number as it was before.

use std::{fmt, str::FromStr};

/// The last event that a reader saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Of which process, if it is known.
    pub epoch: Option<u64>,
    /// Its number.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{epoch:x}-{}", self.seq),
            None => write!(f, "{}", self.seq),
        }
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, seq) = match text.split_once('-') {
            Some((epoch, seq)) => (Some(u64::from_str_radix(epoch, 16).map_err(|_| PositionError)?), seq),
            None => (None, text),
        };
        Ok(Self { epoch, seq: seq.parse().map_err(|_| PositionError)? })
    }
}

impl<'de> serde::Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that names no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the number of an event, or the id that the stream gave it")]
pub struct PositionError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_and_a_plain_number_is_one() {
        let position = Position { epoch: Some(0xab), seq: 7 };
        assert_eq!((position.to_string().as_str(), "ab-7".parse()), ("ab-7", Ok(position)));
        assert_eq!("7".parse(), Ok(Position { epoch: None, seq: 7 }));
        for bad in ["", "-", "x-1", "1-", "1-x", "1-2-3"] {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad}");
        }
    }
}
