//! The frames of the ABI: several byte strings in one buffer, each followed by zeros up to a multiple of eight bytes from
//! the frame's start.

/// A frame that ends too early or names impossible lengths; only a broken host makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameError {
    /// Where in the frame the reading stopped, in bytes.
    pub offset: usize,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the frame is broken at byte {}", self.offset)
    }
}

impl std::error::Error for FrameError {}

/// Reads a frame of items or of partial results: a count, then per part its length, its bytes and padding.
///
/// # Errors
/// Where the frame ends too early.
pub fn parts_of(frame: &[u8]) -> Result<Vec<&[u8]>, FrameError> {
    let mut offset = 0;
    let count = read_u32(frame, &mut offset)?;
    // A part takes at least four bytes, so a lying count cannot make this reserve more than the frame itself.
    let mut parts = Vec::with_capacity(count.min(frame.len() / 4));
    for _ in 0..count {
        let length = read_u32(frame, &mut offset)?;
        let end = offset.checked_add(length).ok_or(FrameError { offset })?;
        parts.push(frame.get(offset..end).ok_or(FrameError { offset })?);
        offset = end.next_multiple_of(8);
    }
    Ok(parts)
}

/// Writes a frame of items or partial results, as the host does; tests of apps need it.
pub fn frame_of(parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4 + parts.iter().map(|part| part.len() + 12).sum::<usize>());
    push_u32(&mut frame, parts.len());
    for part in parts {
        push_u32(&mut frame, part.len());
        push_padded(&mut frame, part);
    }
    frame
}

/// Writes the frame of results: a count, then per item its status, its length, its bytes and padding.
#[cfg(any(target_arch = "wasm32", test))]
pub(crate) struct ResultFrame(Vec<u8>);

#[cfg(any(target_arch = "wasm32", test))]
impl ResultFrame {
    pub(crate) fn new(count: usize) -> Self {
        let mut frame = Vec::new();
        push_u32(&mut frame, count);
        ResultFrame(frame)
    }

    pub(crate) fn push(&mut self, result: &Result<Vec<u8>, String>) {
        let (status, bytes) = match result {
            Ok(bytes) => (0, bytes.as_slice()),
            Err(reason) => (1, reason.as_bytes()),
        };
        self.0.reserve(16 + bytes.len());
        self.0.extend([status, 0, 0, 0]);
        push_u32(&mut self.0, bytes.len());
        push_padded(&mut self.0, bytes);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

fn push_padded(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend_from_slice(bytes);
    frame.resize(frame.len().next_multiple_of(8), 0);
}

fn push_u32(frame: &mut Vec<u8>, value: usize) {
    // A module's memory has 32-bit addresses, so no length in it is greater.
    frame.extend(u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
}

fn read_u32(frame: &[u8], offset: &mut usize) -> Result<usize, FrameError> {
    let error = FrameError { offset: *offset };
    let bytes = frame.get(*offset..).and_then(|rest| rest.first_chunk::<4>()).ok_or(error)?;
    *offset += 4;
    usize::try_from(u32::from_le_bytes(*bytes)).ok().ok_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_the_round_trip() {
        let parts: [&[u8]; 4] = [b"", b"a", b"12345678", b"123456789"];
        let frame = frame_of(&parts);
        assert_eq!(frame.len(), 8 + 8 + 16 + 16);
        assert_eq!(parts_of(&frame), Ok(parts.to_vec()));
        assert_eq!(parts_of(&frame_of(&[])), Ok(vec![]));
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error_at_its_place() {
        let frame = frame_of(&[b"12345678", b"x"]);
        assert_eq!(parts_of(&frame[..3]), Err(FrameError { offset: 0 }));
        assert_eq!(parts_of(&frame[..6]), Err(FrameError { offset: 4 }));
        assert_eq!(parts_of(&frame[..10]), Err(FrameError { offset: 8 }));
        assert_eq!(parts_of(&[255, 255, 255, 255, 255, 255, 255, 255]), Err(FrameError { offset: 8 }));
    }

    #[test]
    fn results_carry_a_status_each() {
        let mut frame = ResultFrame::new(2);
        frame.push(&Ok(vec![7]));
        frame.push(&Err("no".to_owned()));
        let expected =
            [&[2, 0, 0, 0][..], &[0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0], &[1, 0, 0, 0, 2, 0, 0, 0, b'n', b'o', 0, 0, 0, 0, 0, 0]];
        assert_eq!(frame.into_bytes(), expected.concat());
    }
}
