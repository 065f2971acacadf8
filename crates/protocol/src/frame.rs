//! The frames that items and results cross the sandbox's border in (ABI `offpeak1`); all integers little-endian.
//!
//! Frame in: u32 count, then per item u32 length, bytes, padding to 8. Frame out: u32 count, then per item
//! u8 status (0 ok, 1 failed), 3 bytes zero, u32 length, bytes, padding to 8. Padding is counted from the frame's
//! first byte, so that each entry after the first begins at a multiple of 8 less the 4 bytes of the count.

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame ends before its last entry does.
    #[error("frame ends in entry {entry} of {count}")]
    Truncated {
        /// The entry that is cut off.
        entry: u32,
        /// How many entries the frame claims.
        count: u32,
    },
    /// A status that is neither 0 nor 1, or a reserved byte that is not zero.
    #[error("entry {entry} has an unknown status or a reserved byte that is not zero")]
    Status {
        /// The entry.
        entry: u32,
    },
    /// Bytes after the last entry.
    #[error("frame has {extra} bytes after its last entry")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A whole frame, but of more or fewer items than it should be.
    #[error("frame has {entries} entries for {items} items")]
    Count {
        /// How many entries it has.
        entries: usize,
        /// How many items it should have them for.
        items: u64,
    },
    /// An entry or a count beyond 32 bits.
    #[error("frame entry or count is beyond 32 bits")]
    TooLarge,
}

/// One result of a frame out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The item's output.
    Ok(&'a [u8]),
    /// The item failed; why, as text.
    Failed(&'a [u8]),
}

/// Builds a frame in.
#[derive(Debug, Clone)]
pub struct ItemFrame(Builder);

/// Builds a frame out.
#[derive(Debug, Clone)]
pub struct ResultFrame(Builder);

#[derive(Debug, Clone)]
struct Builder {
    bytes: Vec<u8>,
    count: u32,
}

impl Builder {
    fn new() -> Self {
        Self { bytes: vec![0; 4], count: 0 }
    }

    fn push(&mut self, status: Option<u8>, body: &[u8]) -> Result<(), FrameError> {
        let length = u32::try_from(body.len()).map_err(|_over| FrameError::TooLarge)?;
        self.count = self.count.checked_add(1).ok_or(FrameError::TooLarge)?;
        if let Some(status) = status {
            self.bytes.extend([status, 0, 0, 0]);
        }
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(padded(self.bytes.len()), 0);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[..4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// The next multiple of 8.
fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

impl Default for ItemFrame {
    fn default() -> Self {
        Self(Builder::new())
    }
}

impl ItemFrame {
    /// Appends an item.
    pub fn push(&mut self, item: &[u8]) -> Result<(), FrameError> {
        self.0.push(None, item)
    }

    /// How many items it holds.
    pub fn count(&self) -> u32 {
        self.0.count
    }

    /// Its size so far.
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// Whether it holds no item.
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// The frame's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

impl Default for ResultFrame {
    fn default() -> Self {
        Self(Builder::new())
    }
}

impl ResultFrame {
    /// Appends an item's output.
    pub fn ok(&mut self, output: &[u8]) -> Result<(), FrameError> {
        self.0.push(Some(0), output)
    }

    /// Appends an item's failure.
    pub fn failed(&mut self, reason: &str) -> Result<(), FrameError> {
        self.0.push(Some(1), reason.as_bytes())
    }

    /// How many results it holds.
    pub fn count(&self) -> u32 {
        self.0.count
    }

    /// Its size so far.
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// Whether it holds no result.
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// The frame's bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// The items of a frame in; checks the whole frame first.
pub fn items(frame: &[u8]) -> Result<Vec<&[u8]>, FrameError> {
    let entries = split(frame, false)?;
    Ok(entries.into_iter().map(|(_, body)| body).collect())
}

/// Bytes of each item of a frame in.
pub fn lengths(items: &[u8]) -> Result<Vec<u64>, FrameError> {
    Ok(self::items(items)?.iter().map(|item| u64::try_from(item.len()).unwrap_or(u64::MAX)).collect())
}

/// Bytes of those items that succeeded in a frame out: what is billed for the way in.
pub fn succeeded_bytes(lengths: &[u64], results: &[u8]) -> Result<u64, FrameError> {
    let results = self::results(results)?;
    let succeeded = lengths.iter().zip(&results).filter(|(_, entry)| matches!(entry, Entry::Ok(_)));
    Ok(succeeded.map(|(bytes, _)| *bytes).fold(0, u64::saturating_add))
}

/// The results of a frame out; checks the whole frame first.
pub fn results(frame: &[u8]) -> Result<Vec<Entry<'_>>, FrameError> {
    let entry = |(status, body)| if status == 0 { Entry::Ok(body) } else { Entry::Failed(body) };
    Ok(split(frame, true)?.into_iter().map(entry).collect())
}

/// The results of so many items; a frame of any other number is refused.
pub fn results_of(frame: &[u8], items: u64) -> Result<Vec<Entry<'_>>, FrameError> {
    let found = results(frame)?;
    let entries = found.len();
    if u64::try_from(entries) == Ok(items) { Ok(found) } else { Err(FrameError::Count { entries, items }) }
}

fn split(frame: &[u8], with_status: bool) -> Result<Vec<(u8, &[u8])>, FrameError> {
    let word = |at: usize| frame.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let count = word(0).ok_or(FrameError::Truncated { entry: 0, count: 0 })?;
    // An entry takes 4 bytes at least, so a count beyond that is a lie, and no memory is set aside for it.
    let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(frame.len() / 4));
    let mut at = 4;
    for entry in 0..count {
        let cut = || FrameError::Truncated { entry, count };
        let mut status = 0;
        if with_status {
            let head = frame.get(at..at + 4).ok_or_else(cut)?;
            if head[0] > 1 || head[1..] != [0, 0, 0] {
                return Err(FrameError::Status { entry });
            }
            status = head[0];
            at += 4;
        }
        let length = usize::try_from(word(at).ok_or_else(cut)?).map_err(|_over| FrameError::TooLarge)?;
        let end = at.saturating_add(4).saturating_add(length);
        entries.push((status, frame.get(at + 4..end).ok_or_else(cut)?));
        at = padded(end);
        if at > frame.len() {
            return Err(cut());
        }
    }
    match frame.len() - at {
        0 => Ok(entries),
        extra => Err(FrameError::Trailing { extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_as_documented() {
        let mut frame = ItemFrame::default();
        frame.push(b"abc").unwrap();
        frame.push(b"").unwrap();
        assert_eq!(frame.finish(), [2, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut frame = ResultFrame::default();
        frame.ok(b"x").unwrap();
        frame.failed("no").unwrap();
        let mut expected = vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'x', 0, 0, 0];
        expected.extend([1, 0, 0, 0, 2, 0, 0, 0, b'n', b'o', 0, 0, 0, 0, 0, 0]);
        assert_eq!(frame.finish(), expected);
    }

    #[test]
    fn bytes_of_items_that_failed_do_not_count() {
        let (mut items, mut results) = (ItemFrame::default(), ResultFrame::default());
        for (item, fails) in [(b"four".as_slice(), false), (b"no", true), (b"three", false)] {
            items.push(item).unwrap();
            if fails { results.failed("no") } else { results.ok(b"") }.unwrap();
        }
        assert_eq!(succeeded_bytes(&lengths(&items.finish()).unwrap(), &results.finish()), Ok(9));
    }

    #[test]
    fn results_are_of_so_many_items_and_no_others() {
        let mut frame = ResultFrame::default();
        frame.ok(b"x").unwrap();
        let frame = frame.finish();
        assert_eq!(results_of(&frame, 1), Ok(vec![Entry::Ok(b"x")]));
        for items in [0, 2, u64::MAX] {
            assert_eq!(results_of(&frame, items), Err(FrameError::Count { entries: 1, items }));
        }
    }

    #[test]
    fn a_claimed_count_sets_no_memory_aside() {
        assert_eq!(items(&[255, 255, 255, 255]), Err(FrameError::Truncated { entry: 0, count: u32::MAX }));
        assert!(items(&[]).is_err());
    }

    proptest! {
        #[test]
        fn frames_read_back(bodies: Vec<Result<Vec<u8>, String>>) {
            let mut frame = ResultFrame::default();
            for body in &bodies {
                match body {
                    Ok(output) => frame.ok(output).unwrap(),
                    Err(reason) => frame.failed(reason).unwrap(),
                }
            }
            let bytes = frame.finish();
            let read: Vec<_> = results(&bytes).unwrap();
            let same = read.iter().zip(&bodies).all(|(entry, body)| match (entry, body) {
                (Entry::Ok(a), Ok(b)) => a == b,
                (Entry::Failed(a), Err(b)) => *a == b.as_bytes(),
                _ => false,
            });
            prop_assert!(read.len() == bodies.len() && same);
        }

        #[test]
        fn rubbish_is_an_error_or_a_frame(bytes: Vec<u8>) {
            let _either = (items(&bytes), results(&bytes));
        }

        #[test]
        fn no_prefix_of_a_frame_is_a_frame(items_in in proptest::collection::vec(any::<Vec<u8>>(), 1..5), cut in 1_usize..64) {
            let mut frame = ItemFrame::default();
            for item in &items_in {
                frame.push(item).unwrap();
            }
            let bytes = frame.finish();
            let cut = bytes.len().saturating_sub(cut);
            prop_assert!(items(&bytes[..cut]).is_err());
        }
    }
}
