//! Integers that do not fit 64 bits.

use std::cmp::Ordering;

use super::Term;

/// An integer below -2^63 or above 2^63 - 1.
///
/// There is none that fits an `i64`: [`Term::from_magnitude`] makes an [`Term::Integer`] of that, so that equal
/// integers are equal terms.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BigInteger {
    negative: bool,
    /// Little-endian, without zero bytes at the end.
    magnitude: Box<[u8]>,
}

impl BigInteger {
    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Its absolute value, little-endian; the last byte is not zero.
    #[must_use]
    pub fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }

    /// The value as `i128`, when it fits.
    #[must_use]
    pub fn as_i128(&self) -> Option<i128> {
        let magnitude = self.as_unsigned()?;
        if self.negative { 0_i128.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() }
    }

    /// The value as `u128`, when it fits.
    #[must_use]
    pub fn as_u128(&self) -> Option<u128> {
        if self.negative { None } else { self.as_unsigned() }
    }

    fn as_unsigned(&self) -> Option<u128> {
        let mut word = [0; 16];
        word.get_mut(..self.magnitude.len())?.copy_from_slice(&self.magnitude);
        Some(u128::from_le_bytes(word))
    }

    /// The value as `u64`, when it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        if self.negative { None } else { little_endian(&self.magnitude) }
    }
}

impl Term {
    /// The integer of this sign and absolute value (little-endian).
    #[must_use]
    pub fn from_magnitude(negative: bool, magnitude: &[u8]) -> Self {
        let length = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let magnitude = &magnitude[..length];
        if let Some(value) = little_endian(magnitude) {
            let value = if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
            if let Some(value) = value {
                return Self::Integer(value);
            }
        }
        Self::BigInteger(BigInteger { negative, magnitude: magnitude.into() })
    }
}

impl From<i128> for Term {
    fn from(value: i128) -> Self {
        Self::from_magnitude(value < 0, &value.unsigned_abs().to_le_bytes())
    }
}

impl From<u128> for Term {
    fn from(value: u128) -> Self {
        Self::from_magnitude(false, &value.to_le_bytes())
    }
}

impl From<usize> for Term {
    fn from(value: usize) -> Self {
        Self::from_magnitude(false, &value.to_le_bytes())
    }
}

impl From<u64> for Term {
    fn from(value: u64) -> Self {
        Self::from_magnitude(false, &value.to_le_bytes())
    }
}

impl PartialOrd for BigInteger {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BigInteger {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_magnitude = || {
            let length = self.magnitude.len().cmp(&other.magnitude.len());
            length.then_with(|| self.magnitude.iter().rev().cmp(other.magnitude.iter().rev()))
        };
        match (self.negative, other.negative) {
            (false, false) => by_magnitude(),
            (true, true) => by_magnitude().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

fn little_endian(magnitude: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..magnitude.len())?.copy_from_slice(magnitude);
    Some(u64::from_le_bytes(word))
}
