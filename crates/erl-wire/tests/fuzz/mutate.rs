//! Inputs that are nearly right: what was right, with a few changes of the kinds that break decoders.

/// No input grows beyond this.
pub(crate) const BYTES_MAX: usize = 2048;

/// Tags of terms, kinds of frames, operations of epmd and of the handshake.
const TAGS: [u8; 48] = [
    0, 1, 67, 68, 69, 70, 77, 78, 80, 82, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109,
    110, 111, 112, 113, 114, 115, 116, 118, 119, 120, 121, 122, 131, 6, 22, 29, 33, 35, 37, 255, 127, 128,
];

/// A generator of numbers that look random (SplitMix64): the same seed gives the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 when that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.next().checked_rem(end as u64).map_or(0, |number| number as usize)
    }
}

/// Changes `bytes` in one to four places, with parts of `other`.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(3) {
        change(bytes, other, random);
        bytes.truncate(BYTES_MAX);
    }
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let end = at + random.below(bytes.len().min(at + 40).saturating_sub(at) + 1);
    match random.below(11) {
        0 => set(bytes, at, |byte| byte ^ (1 << (at % 8))),
        1 => {
            let tag = TAGS[random.below(TAGS.len())];
            set(bytes, at, |_| tag);
        }
        2 => set(bytes, at, |byte| byte.wrapping_add(1)),
        3 => set(bytes, at, |byte| byte.wrapping_sub(1)),
        // A length field: nothing, all, a little more or less, and everything there is.
        4 | 5 => {
            let length = bytes.len() as u32;
            let choices = [
                0,
                1,
                length,
                length.wrapping_sub(at as u32),
                length.wrapping_sub(at as u32 + 4),
                1 << 16,
                1 << 31,
                u32::MAX,
            ];
            let value = choices[random.below(choices.len())].wrapping_add(random.below(3) as u32).wrapping_sub(1);
            let width = [1, 2, 4][random.below(3)];
            for (offset, byte) in value.to_be_bytes()[4 - width..].iter().enumerate() {
                set(bytes, at + offset, |_| *byte);
            }
        }
        6 => bytes.truncate(at),
        7 => {
            bytes.drain(at..end.min(bytes.len()));
        }
        // The start of this, the end of another.
        8 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        // A part of another in the midst of this.
        9 => {
            let from = random.below(other.len());
            let to = from + random.below(other.len() - from + 1);
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        // All of this in a container.
        _ => {
            let heads: [&[u8]; 6] =
                [&[104, 1], &[108, 0, 0, 0, 1], &[116, 0, 0, 0, 1, 106], &[131], &[131, 68, 0], &[112]];
            let head = heads[random.below(heads.len())];
            bytes.splice(0..0, head.iter().copied());
        }
    }
}

fn set(bytes: &mut [u8], at: usize, value: impl Fn(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value(*byte);
    }
}
