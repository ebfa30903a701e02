//! Few bytes: compared, copied and appended without a call.
//!
//! Names of nodes, and what stands between identifiers, are a few bytes each: a call to the routines for long memory takes
//! longer than the bytes do. Here lengths up to [`BYTES_MAX`] are done in two overlapping halves of a fixed size; whatever
//! is longer goes to those routines.

use bytes::BytesMut;

/// What is few.
pub(super) const BYTES_MAX: usize = 64;

/// Whether both are the same.
#[inline(always)]
pub(super) fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (ends::<8>(one), ends::<8>(other)) {
        (Some(one), Some(other)) if one.2 <= 16 => {
            let half = |one: &[u8; 8], other: &[u8; 8]| u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*other);
            half(one.0, other.0) | half(one.1, other.1) == 0
        }
        _ => match (ends::<16>(one), ends::<16>(other)) {
            (Some(one), Some(other)) if one.2 <= 32 => {
                let half = |one: &[u8; 16], other: &[u8; 16]| u128::from_ne_bytes(*one) ^ u128::from_ne_bytes(*other);
                half(one.0, other.0) | half(one.1, other.1) == 0
            }
            _ => one == other,
        },
    }
}

/// The first and the last `N` bytes, and how many there are; both ends may overlap.
#[inline(always)]
fn ends<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8; N], usize)> {
    Some((bytes.first_chunk()?, bytes.last_chunk()?, bytes.len()))
}

/// Copies to the start of `to`, which is at least as long.
#[inline(always)]
pub(super) fn copy(from: &[u8], to: &mut [u8]) {
    let length = from.len();
    match length {
        32..=BYTES_MAX => halves::<32>(from, to),
        16..32 => halves::<16>(from, to),
        8..16 => halves::<8>(from, to),
        4..8 => halves::<4>(from, to),
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        _ => to[..length].copy_from_slice(from),
    }
}

/// Copies `N` to `2 * N` bytes.
#[inline(always)]
fn halves<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let Some((first, last, length)) = ends::<N>(from) {
        to[..N].copy_from_slice(first);
        to[length - N..length].copy_from_slice(last);
    }
}

/// Appends so many bytes from the start of `from`.
#[inline(always)]
pub(super) fn append(from: &[u8], count: usize, out: &mut BytesMut) {
    match from.first_chunk::<BYTES_MAX>() {
        // More than is needed, but of a size that is known beforehand.
        Some(chunk) if count <= BYTES_MAX => {
            let end = out.len() + count;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ if count <= BYTES_MAX => {
            let start = out.len();
            out.extend_from_slice(&[0; BYTES_MAX]);
            copy(&from[..count], &mut out[start..]);
            out.truncate(start + count);
        }
        _ => out.extend_from_slice(&from[..count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ from one another as far as they can.
    fn bytes_of_test(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8 + 1).collect()
    }

    #[test]
    fn equal_finds_each_byte_that_differs() {
        for length in 0..=100 {
            let one = bytes_of_test(length);
            assert!(equal(&one, &one.clone()));
            assert!(!equal(&one, &bytes_of_test(length + 1)), "{length}");
            for at in 0..length {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert!(!equal(&one, &other), "{length}: {at}");
            }
        }
    }

    #[test]
    fn every_length_is_copied_and_nothing_behind_it() {
        for length in 0..=100 {
            let mut to = [0; 120];
            copy(&bytes_of_test(length), &mut to);
            assert_eq!(to[..length], bytes_of_test(length));
            assert_eq!(to[length..], [0; 120][length..], "{length}");
        }
    }

    #[test]
    fn every_length_is_appended_also_at_the_end_of_what_is_there() {
        for length in 0..=100 {
            let from = bytes_of_test(length);
            for count in 0..=length {
                let mut out = BytesMut::from(&b"before"[..]);
                append(&from, count, &mut out);
                assert_eq!(out, [&b"before"[..], &from[..count]].concat());
            }
        }
    }
}
