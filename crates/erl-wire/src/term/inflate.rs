//! Terms that were compressed (`term_to_binary(Term, [compressed])`).

use flate2::{Decompress, FlushDecompress, Status};

use super::DecodeError;

/// How much one more step may inflate to.
const STEP_BYTES: usize = 64 << 10;

/// Inflates a zlib stream that claims `size` bytes. Gives them and how many bytes of `input` they took.
///
/// The claim is believed only as far as the data bear it out: the buffer grows as the stream does.
pub(super) fn inflate(input: &[u8], size: usize) -> Result<(Vec<u8>, usize), DecodeError> {
    let mut stream = Decompress::new(true);
    let mut out = Vec::new();
    let taken = |stream: &Decompress| usize::try_from(stream.total_in()).map_err(|_| DecodeError::Inflate);
    loop {
        // One byte past the claim, so that a stream that is longer than it says is seen to be.
        let room = (size + 1).saturating_sub(out.len()).min(STEP_BYTES);
        if room == 0 {
            return Err(DecodeError::Inflate);
        }
        out.reserve_exact(room);
        let before = (stream.total_in(), out.len());
        let rest = input.get(taken(&stream)?..).unwrap_or_default();
        let status = stream.decompress_vec(rest, &mut out, FlushDecompress::None).map_err(|_| DecodeError::Inflate)?;
        match status {
            Status::StreamEnd if out.len() == size => return Ok((out, taken(&stream)?)),
            Status::StreamEnd => return Err(DecodeError::Inflate),
            Status::Ok | Status::BufError if before == (stream.total_in(), out.len()) => {
                return Err(DecodeError::Truncated);
            }
            Status::Ok | Status::BufError => {}
        }
    }
}
