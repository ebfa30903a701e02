//! What the allocator keeps for a gateway.
//!
//! Large messages come in bursts, and each is in memory for as long as it takes to pass on. An allocator that gives all of
//! it back to the system after each burst has every page of the next one come anew, zeroed: of the time that a gateway
//! takes for a message of 64 KiB, that was a third.

use std::hint::black_box;

/// As much as a lane of a link may hold.
const BURST_BYTES: usize = 4 << 20;

/// Has the allocator keep about twice [`BURST_BYTES`] a thread when they are free, instead of an eighth of a megabyte.
///
/// glibc takes a block that is given back as a sign of what will be wanted again: its threshold for blocks of their own
/// grows to that size, and what may stay free to twice of it (mallopt(3), `M_MMAP_THRESHOLD`). The block is never touched,
/// so it costs no memory. Other allocators do not mind.
pub(super) fn keep_a_burst() {
    drop(black_box(Vec::<u8>::with_capacity(BURST_BYTES)));
}
