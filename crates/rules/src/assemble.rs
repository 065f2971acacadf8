//! Assembling: a stage's decided units, in item order, become one chain of digests, counts and parts.

use protocol::OutputChain;
use protocol::frame::{self, Entry, FrameError, ResultFrame};
use protocol::job::{Certificate, ItemCounts};
use protocol::state::UnitState;

use crate::tree;

/// How many parts [`parts`] makes of a frame, for the store, which numbers them.
pub use protocol::parts::{PART_BYTES, count as count_parts};

/// How far a stage is assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Items assembled.
    pub items: u64,
    /// The chain over them.
    pub chain: OutputChain,
    /// How many of them succeeded.
    pub succeeded: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were cancelled.
    pub cancelled: u64,
}

/// A decided unit: its first item, the first that is no longer its own, its state and its output frame.
pub type Decided<'a> = (u64, u64, UnitState, &'a [u8]);

/// Why assembling cannot go on: the store holds what settling would never have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// Units do not follow each other.
    #[error("unit begins at item {found}, assembly is at item {expected}")]
    Gap {
        /// Where the next unit should begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// A unit that is not decided yet.
    #[error("unit of items {first} to {end} is still open")]
    Open {
        /// The unit's first item.
        first: u64,
        /// The first item no longer its own.
        end: u64,
    },
    /// A valid unit's output is no frame of its items.
    #[error("output of items {first} to {end} is not valid")]
    Frame {
        /// The unit's first item.
        first: u64,
        /// The first item no longer its own.
        end: u64,
        /// What is wrong.
        #[source]
        source: FrameError,
    },
}

impl Progress {
    /// Takes the next unit in item order.
    pub fn take(&mut self, (first, end, state, output): Decided<'_>) -> Result<(), AssembleError> {
        if first != self.items {
            return Err(AssembleError::Gap { expected: self.items, found: first });
        }
        match state {
            UnitState::Valid => self.take_output(first, end, output)?,
            UnitState::Failed => (first..end).for_each(|_| self.failed()),
            UnitState::Cancelled => self.cancel(end - first),
            UnitState::Open => return Err(AssembleError::Open { first, end }),
        }
        Ok(())
    }

    /// The next items, so many, were never computed.
    pub fn cancel(&mut self, items: u64) {
        self.chain.cancelled(items);
        self.cancelled = self.cancelled.saturating_add(items);
        self.items = self.items.saturating_add(items);
    }

    fn take_output(&mut self, first: u64, end: u64, output: &[u8]) -> Result<(), AssembleError> {
        let invalid = |source| AssembleError::Frame { first, end, source };
        for entry in frame::results_of(output, end.saturating_sub(first)).map_err(invalid)? {
            match entry {
                Entry::Ok(output) => {
                    self.chain.succeeded(output);
                    self.succeeded += 1;
                    self.items += 1;
                }
                Entry::Failed(_) => self.failed(),
            }
        }
        Ok(())
    }

    fn failed(&mut self) {
        self.chain.failed();
        self.failed += 1;
        self.items += 1;
    }
}

/// What follows when a stage of so many items is wholly assembled: the next stage's items, or `None` after the last.
pub fn next_stage(stage_items: u64, last_stage: bool) -> Option<u64> {
    (!last_stage && stage_items > 0).then(|| tree::nodes_above(stage_items))
}

/// Whether a stage of so many items, reached by reducing, is the last.
pub fn is_last(stage_items: u64) -> bool {
    stage_items <= 1
}

/// The certificate of a job whose items were all assembled (invariant I2).
pub fn certificate(items: ItemCounts, items_chain: OutputChain, output: OutputChain) -> Certificate {
    Certificate { items, items_digest: items_chain.digest(), output_digest: output.digest() }
}

/// The chain over the outputs of a reduction that was cut short: its one result was never computed.
pub fn no_result() -> OutputChain {
    let mut chain = OutputChain::default();
    chain.cancelled(1);
    chain
}

/// Cuts a frame out into parts that fit messages; each with the index of its first item.
pub fn parts(first: u64, output: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, FrameError> {
    let entries = frame::results(output)?;
    if output.len() <= PART_BYTES && !entries.is_empty() {
        return Ok(vec![(first, output.to_vec())]);
    }
    let mut parts = Vec::new();
    let (mut part, mut part_first, mut next) = (ResultFrame::default(), first, first);
    for entry in entries {
        let body = match entry {
            Entry::Ok(body) | Entry::Failed(body) => body,
        };
        if !part.is_empty() && part.len().saturating_add(body.len()) > PART_BYTES {
            parts.push((part_first, std::mem::take(&mut part).finish()));
            part_first = next;
        }
        append(&mut part, entry)?;
        next += 1;
    }
    if !part.is_empty() {
        parts.push((part_first, part.finish()));
    }
    Ok(parts)
}

fn append(frame: &mut ResultFrame, entry: Entry<'_>) -> Result<(), FrameError> {
    match entry {
        Entry::Ok(output) => frame.ok(output),
        Entry::Failed(reason) => frame.failed(&String::from_utf8_lossy(reason)),
    }
}

/// Frames out as one part with the index of its first item; each comes with the index of its own. `None` if there are none, if items between them are missing, or if they do not fit a message.
pub fn whole<'a>(frames: impl IntoIterator<Item = (u64, &'a [u8])>) -> Result<Option<(u64, Vec<u8>)>, FrameError> {
    let mut joined = ResultFrame::default();
    let mut bounds: Option<(u64, u64)> = None;
    for (first, output) in frames {
        let (whole_first, mut next) = bounds.unwrap_or((first, first));
        if next != first {
            return Ok(None);
        }
        for entry in frame::results(output)? {
            append(&mut joined, entry)?;
            next = next.saturating_add(1);
        }
        bounds = Some((whole_first, next));
        // One item alone always fits.
        if joined.len() > PART_BYTES && joined.count() > 1 {
            return Ok(None);
        }
    }
    Ok(bounds.map(|(first, _)| (first, joined.finish())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame_of(items: &[Option<u8>]) -> Vec<u8> {
        let mut frame = ResultFrame::default();
        for item in items {
            match item {
                Some(byte) => frame.ok(&[*byte]).unwrap(),
                None => frame.failed("no").unwrap(),
            }
        }
        frame.finish()
    }

    #[test]
    fn gaps_and_wrong_counts_are_refused() {
        let frame = frame_of(&[Some(1)]);
        let mut progress = Progress::default();
        assert!(matches!(progress.take((1, 2, UnitState::Valid, &frame)), Err(AssembleError::Gap { .. })));
        let source = FrameError::Count { entries: 1, items: 2 };
        let wrong = Err(AssembleError::Frame { first: 0, end: 2, source });
        assert_eq!(progress.take((0, 2, UnitState::Valid, &frame)), wrong);
        assert_eq!(progress.take((0, 1, UnitState::Open, &frame)), Err(AssembleError::Open { first: 0, end: 1 }));
        assert_eq!(progress, Progress::default());
    }

    #[test]
    fn what_is_cancelled_has_its_place_in_the_chain() {
        let frame = frame_of(&[Some(1)]);
        let mut progress = Progress::default();
        progress.take((0, 1, UnitState::Valid, &frame)).unwrap();
        progress.take((1, 4, UnitState::Cancelled, &[])).unwrap();
        progress.take((4, 5, UnitState::Failed, &[])).unwrap();
        progress.cancel(10);
        let mut chain = OutputChain::default();
        chain.succeeded(&[1]);
        chain.cancelled(3);
        chain.failed();
        chain.cancelled(10);
        assert_eq!(progress, Progress { items: 15, chain, succeeded: 1, failed: 1, cancelled: 13 });
    }

    #[test]
    fn large_outputs_become_several_parts() {
        let mut frame = ResultFrame::default();
        for _ in 0..5 {
            frame.ok(&vec![7; 1 << 20]).unwrap();
        }
        frame.failed("last").unwrap();
        let cut = parts(10, &frame.finish()).unwrap();
        assert_eq!(cut.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [10, 13]);
        let counts = cut.iter().map(|(_, part)| frame::results(part).unwrap().len());
        assert_eq!(counts.sum::<usize>(), 6);
    }

    #[test]
    fn a_whole_has_no_gap_and_fits_a_message() {
        let (one, two) = (frame_of(&[Some(1), None]), frame_of(&[Some(2)]));
        let joined = whole([(3, one.as_slice()), (5, two.as_slice())]).unwrap();
        assert_eq!(joined, Some((3, frame_of(&[Some(1), None, Some(2)]))));
        assert_eq!(whole([(3, one.as_slice()), (6, two.as_slice())]).unwrap(), None);
        assert_eq!(whole([]).unwrap(), None);
        let mut large = ResultFrame::default();
        large.ok(&vec![7; PART_BYTES - 64]).unwrap();
        let large = large.finish();
        assert!(whole([(0, large.as_slice())]).unwrap().is_some());
        assert_eq!(whole([(0, large.as_slice()), (1, large.as_slice())]).unwrap(), None);
    }

    proptest! {
        // Each case copies megabytes.
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Parts hold the frame's entries in order, and their count is known without them.
        #[test]
        fn parts_are_the_whole(sizes in proptest::collection::vec(0_usize..3 << 20, 0..8)) {
            let mut frame = ResultFrame::default();
            for size in &sizes {
                frame.ok(&vec![1; *size]).unwrap();
            }
            let frame = frame.finish();
            let cut = parts(7, &frame).unwrap();
            prop_assert_eq!(cut.len(), usize::try_from(count_parts(&frame).unwrap()).unwrap());
            let mut next = 7;
            let mut lengths = Vec::new();
            for (first, part) in cut {
                prop_assert_eq!(first, next);
                for entry in frame::results(&part).unwrap() {
                    let Entry::Ok(body) = entry else { panic!("no item failed") };
                    lengths.push(body.len());
                    next += 1;
                }
            }
            prop_assert_eq!(lengths, sizes);
        }

        /// The chain does not depend on how items were cut into units.
        #[test]
        fn slicing_does_not_show(items in proptest::collection::vec(any::<Option<u8>>(), 1..60), cuts in proptest::collection::vec(1_usize..9, 1..20)) {
            let mut whole = Progress::default();
            let count = u64::try_from(items.len()).unwrap();
            whole.take((0, count, UnitState::Valid, &frame_of(&items))).unwrap();
            let (mut sliced, mut at) = (Progress::default(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(items.len());
                let (a, b) = (u64::try_from(at).unwrap(), u64::try_from(end).unwrap());
                sliced.take((a, b, UnitState::Valid, &frame_of(&items[at..end]))).unwrap();
                at = end;
                if at == items.len() { break; }
            }
            prop_assert_eq!(whole, sliced);
            prop_assert_eq!(whole.items, whole.succeeded + whole.failed);
        }
    }
}
