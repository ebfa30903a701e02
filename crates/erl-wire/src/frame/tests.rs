//! Frames cut, interleaved and hostile.
