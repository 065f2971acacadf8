//! Computing: a unit becomes an outcome, whatever happens to it.

use std::time::Duration;

use ports::Execute;
use ports::sandbox::{ExecuteError, Executed, Task};
use protocol::frame::{self, FrameError, ItemFrame};
use protocol::input::Input;
use protocol::outcome::{Computed, MAX_UNIT_OUTPUT_BYTES, OutcomeResult, bounded_reason};
use protocol::unit::{Items, Slice, Work};
use protocol::{Digest, MeterId};
use service::CancellationToken;

use crate::fetch::{FetchError, Fetcher};
use crate::programs::Loaded;

/// No unit of more items has an answer: each takes 8 bytes of the output frame at least.
const MAX_ITEMS: usize = MAX_UNIT_OUTPUT_BYTES / 8;

/// Why a unit's items cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ItemsError {
    /// Their blob.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// They make no frame.
    #[error("items of the unit cannot be framed: {0}")]
    Frame(String),
    /// They are more than a unit can have.
    #[error("the unit has {0} items, and the outputs of {most} at most fit one message", most = MAX_ITEMS)]
    TooMany(u64),
}

impl ItemsError {
    /// What is reported of the unit.
    pub(crate) fn result(&self) -> OutcomeResult {
        let reason = bounded_reason(self.to_string());
        match self {
            Self::Fetch(_) | Self::Frame(_) => OutcomeResult::Refused { reason },
            Self::TooMany(_) => OutcomeResult::TooLarge { reason },
        }
    }
}

/// The unit's frame in.
pub(crate) async fn items(fetcher: &Fetcher, work: &Work) -> Result<Vec<u8>, ItemsError> {
    match &work.items {
        Items::Frame(frame) => Ok(frame.clone()),
        Items::Blob { digest, .. } => Ok(fetcher.get(*digest).await?),
        Items::Range { start, end } => numbers(*start, *end, work.slice),
    }
}

/// The frame of numbers that are the items of a slice, one each; nothing is built of a range that anybody made up.
fn numbers(start: u64, end: u64, slice: Slice) -> Result<Vec<u8>, ItemsError> {
    let Slice { first, end: slice_end, .. } = slice;
    let count = end.checked_sub(start).filter(|count| slice_end.checked_sub(first) == Some(*count));
    let differs = || ItemsError::Frame(format!("the numbers from {start} to {end} are not its items {first} to {slice_end}"));
    let count = count.ok_or_else(differs)?;
    let has_answer = usize::try_from(count).is_ok_and(|count| count <= MAX_ITEMS);
    if !has_answer {
        return Err(ItemsError::TooMany(count));
    }
    let mut frame = ItemFrame::default();
    let range = Input::Range { start, end };
    for index in 0..count {
        let item = range.item(index).ok_or_else(|| ItemsError::Frame(format!("no item {index}")))?;
        let pushed = item.map_err(|e| e.to_string()).and_then(|item| frame.push(&item).map_err(|e| e.to_string()));
        pushed.map_err(ItemsError::Frame)?;
    }
    Ok(frame.finish())
}

/// Runs the unit; what happened, and how long it computed.
pub(crate) async fn run(
    execute: &dyn Execute,
    work: &Work,
    loaded: Loaded,
    items: Vec<u8>,
    stopping: &CancellationToken,
) -> (OutcomeResult, Duration) {
    let lengths = frame::lengths(&items);
    let time_limit = Duration::from_millis(work.time_limit_ms.into());
    let task = Task { program: loaded.program, call: work.call, first: work.slice.first, items, time_limit };
    match execute.execute(task).await {
        Ok(executed) => {
            let compute = executed.compute;
            (computed(executed, loaded.meter, lengths), compute)
        }
        // Who stops the worker may have ended its executors as well: that is no fault of the unit.
        Err(error @ ExecuteError::Died { .. }) if stopping.is_cancelled() => {
            (OutcomeResult::Interrupted { reason: bounded_reason(error.to_string()) }, Duration::ZERO)
        }
        Err(error) => failed(&error),
    }
}

fn computed(executed: Executed, meter: MeterId, lengths: Result<Vec<u64>, FrameError>) -> OutcomeResult {
    let Executed { output, fuel, .. } = executed;
    match lengths.and_then(|lengths| frame::succeeded_bytes(&lengths, &output)) {
        Ok(input_bytes) => {
            let digest = Digest::of(&output);
            OutcomeResult::Computed(Computed { meter, fuel, digest, output, input_bytes })
        }
        Err(error) => OutcomeResult::TooLarge { reason: format!("unit's frames do not fit: {error}") },
    }
}

fn failed(error: &ExecuteError) -> (OutcomeResult, Duration) {
    let reason = bounded_reason(error.to_string());
    match error {
        ExecuteError::App { .. } => (OutcomeResult::AppFailed { reason }, Duration::ZERO),
        ExecuteError::TimeLimit { limit } => (OutcomeResult::TooLarge { reason }, *limit),
        // A unit under which the executor dies shows, cut in halves again and again, which item it dies of.
        ExecuteError::Died { .. } | ExecuteError::OutputLimit { .. } => (OutcomeResult::TooLarge { reason }, Duration::ZERO),
        ExecuteError::Unsupported { .. } => (OutcomeResult::Refused { reason }, Duration::ZERO),
        ExecuteError::Interrupted => (OutcomeResult::Interrupted { reason }, Duration::ZERO),
    }
}

/// The outcomes that a worker sends, as [`kind`] names them.
pub(crate) const KINDS: [&str; 5] = ["computed", "app_failed", "too_large", "interrupted", "refused"];

/// The outcome's name in metrics.
pub(crate) fn kind(result: &OutcomeResult) -> &'static str {
    match result {
        OutcomeResult::Computed(_) => "computed",
        OutcomeResult::AppFailed { .. } => "app_failed",
        OutcomeResult::TooLarge { .. } => "too_large",
        OutcomeResult::Interrupted { .. } => "interrupted",
        OutcomeResult::Refused { .. } => "refused",
        OutcomeResult::Dead { .. } => "dead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(items: u64) -> Slice {
        Slice { stage: 0, first: 5, end: 5 + items }
    }

    #[test]
    fn a_range_is_the_numbers_of_its_slice() {
        let frame = numbers(10, 13, slice(3)).expect("a frame");
        assert_eq!(frame::items(&frame).expect("items"), [[10_u8], [11], [12]]);
    }

    #[test]
    fn a_range_that_was_made_up_is_refused_and_takes_no_memory() {
        for (start, end) in [(0, 1 << 63), (0, u64::MAX), (10, 12), (10, 14), (13, 10)] {
            let result = numbers(start, end, slice(3)).expect_err("no frame").result();
            assert!(matches!(&result, OutcomeResult::Refused { reason } if reason.contains("items 5 to 8")), "{result:?}");
        }
        let backwards = Slice { first: 8, end: 5, ..slice(3) };
        assert!(matches!(numbers(13, 10, backwards), Err(ItemsError::Frame(_))));
    }

    #[test]
    fn a_unit_of_more_items_than_can_be_answered_is_too_large() {
        for items in [u64::try_from(MAX_ITEMS).expect("a number") + 1, 1 << 63] {
            let result = numbers(0, items, slice(items)).expect_err("no frame").result();
            assert!(matches!(&result, OutcomeResult::TooLarge { reason } if reason.contains("917504 at most")), "{result:?}");
        }
    }
}
