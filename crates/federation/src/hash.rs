//! Hashes of numbers for the tables of identifiers: quick, and seeded by the process, so that no peer can choose numbers
//! that fall together.
//!
//! Each word is folded in by one multiplication, of which both halves count. Texts that come from peers are not hashed by
//! this.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Odd, and as many ones as zeros.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The seed of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded {
    start: u64,
    factor: u64,
}

impl Default for Seeded {
    fn default() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    #[inline]
    fn build_hasher(&self) -> Folded {
        Folded { state: self.start, factor: self.factor }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded {
    state: u64,
    factor: u64,
}

#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Folded {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.state = fold(self.state ^ number, self.factor);
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.write_u64(u64::from_le_bytes(padded));
        }
        self.write_u64(bytes.len() as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state, FACTOR)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_in_a_row_spread_over_both_ends_of_the_hash() {
        let seeded = Seeded { start: 0x2545_f491_4f6c_dd1d, factor: 0xd134_2543_de82_ef95 };
        let hashes: Vec<u64> = (0..4_096_u32).map(|number| seeded.hash_one((7_u32, number))).collect();
        for shift in [0, 20, 40, 57] {
            // As many boxes as numbers: about 63 of a hundred are met by chance, 7 bits of them all.
            let mask = if shift == 57 { 0x7f } else { 0xfff };
            let met: BTreeSet<u64> = hashes.iter().map(|hash| hash >> shift & mask).collect();
            let least = if shift == 57 { 128 } else { 2_300 };
            assert!(met.len() >= least, "{} at {shift}", met.len());
        }
    }

    #[test]
    fn another_table_hashes_otherwise() {
        let (one, other) = (Seeded::default(), Seeded::default());
        assert!((0..64_u64).any(|number| one.hash_one(number) != other.hash_one(number)));
    }
}
