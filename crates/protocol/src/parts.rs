//! Parts: the messages that a unit's outputs are cut into. Their numbers are part of the contract, so how many there are
//! of a frame is said here, for all who number them, and how much may wait for a customer who does not read.

use crate::frame::{self, Entry, FrameError};

/// A part is closed at this size: as Base64 in JSON it still fits a message.
pub const PART_BYTES: usize = 4 << 20;

/// While so many messages wait for a customer, it is given no further parts.
pub const MAX_WAITING_MESSAGES: u64 = 10_000;
/// And while they have so many bytes.
pub const MAX_WAITING_BYTES: u64 = 256 << 20;

/// How many bytes a frame out has before its first entry, and each entry before its body.
const FRAME_HEAD: usize = 4;
const ENTRY_HEAD: usize = 8;

/// How many parts a frame out is cut into: one more begins with an entry that would take the one before beyond
/// [`PART_BYTES`]. A frame without entries has none.
pub fn count(output: &[u8]) -> Result<u32, FrameError> {
    let entries = frame::results(output)?;
    if output.len() <= PART_BYTES {
        return Ok(u32::from(!entries.is_empty()));
    }
    let (mut parts, mut length) = (0_u32, FRAME_HEAD);
    for entry in entries {
        let (body, written) = match entry {
            Entry::Ok(body) => (body, body.len()),
            // A part says why as text, in which bytes that are none are replaced.
            Entry::Failed(body) => (body, String::from_utf8_lossy(body).len()),
        };
        if parts == 0 || (length > FRAME_HEAD && length.saturating_add(body.len()) > PART_BYTES) {
            parts = parts.checked_add(1).ok_or(FrameError::TooLarge)?;
            length = FRAME_HEAD;
        }
        length = length.saturating_add(ENTRY_HEAD + written).next_multiple_of(8);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ResultFrame;

    #[test]
    fn a_part_ends_before_it_is_too_large() {
        let count_of = |sizes: &[usize]| {
            let mut frame = ResultFrame::default();
            for size in sizes {
                frame.ok(&vec![7; *size]).unwrap();
            }
            count(&frame.finish()).unwrap()
        };
        assert_eq!([count_of(&[]), count_of(&[0]), count_of(&[1, 2, 3]), count_of(&[9 << 20])], [0, 1, 1, 1]);
        // The first entry takes 16 bytes with its head and the frame's count.
        assert_eq!([count_of(&[4, PART_BYTES - 16]), count_of(&[4, PART_BYTES - 15])], [1, 2]);
        assert_eq!(count_of(&[3 << 20, 3 << 20, 1 << 19, 0]), 2);
        assert_eq!(count_of(&[9 << 20, 0, 9 << 20]), 3);
    }
}
