//! Computing: a unit becomes an outcome, whatever happens to it.

use std::time::Duration;

use ports::Execute;
use ports::sandbox::{ExecuteError, Executed, Task};
use protocol::frame::{self, FrameError, ItemFrame};
use protocol::input::Input;
use protocol::outcome::{Computed, OutcomeResult, bounded_reason};
use protocol::unit::{Items, Work};
use protocol::{Digest, MeterId};

use crate::fetch::{FetchError, Fetcher};
use crate::programs::Loaded;

/// Why a unit's items cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ItemsError {
    /// Their blob.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// They make no frame.
    #[error("items of the unit cannot be framed: {0}")]
    Frame(String),
}

/// The unit's frame in.
pub(crate) async fn items(fetcher: &Fetcher, work: &Work) -> Result<Vec<u8>, ItemsError> {
    match &work.items {
        Items::Frame(frame) => Ok(frame.clone()),
        Items::Blob { digest, .. } => Ok(fetcher.get(*digest).await?),
        Items::Range { start, end } => {
            let mut frame = ItemFrame::default();
            let range = Input::Range { start: *start, end: *end };
            for index in 0..end.saturating_sub(*start) {
                let item = range.item(index).ok_or_else(|| ItemsError::Frame(format!("no item {index}")))?;
                let pushed = item.map_err(|e| e.to_string()).and_then(|item| frame.push(&item).map_err(|e| e.to_string()));
                pushed.map_err(ItemsError::Frame)?;
            }
            Ok(frame.finish())
        }
    }
}

/// Runs the unit; what happened, and how long it computed.
pub(crate) async fn run(execute: &dyn Execute, work: &Work, loaded: Loaded, items: Vec<u8>) -> (OutcomeResult, Duration) {
    let lengths = frame::lengths(&items);
    let time_limit = Duration::from_millis(work.time_limit_ms.into());
    let task = Task { program: loaded.program, call: work.call, first: work.slice.first, items, time_limit };
    match execute.execute(task).await {
        Ok(executed) => {
            let compute = executed.compute;
            (computed(executed, loaded.meter, lengths), compute)
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
