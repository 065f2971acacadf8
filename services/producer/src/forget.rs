//! Forgotten uploads: blobs that were begun and left are dropped, so that their bytes no longer count against their customers.

use std::time::Duration;

use protocol::Micros;
use service::CancellationToken;
use service::scope::TaskError;

use crate::Producer;

/// How often they are looked for.
const EVERY: Duration = Duration::from_mins(10);
/// An upload that is not whole after so long was given up; a resumed one has begun when its first part came.
const LEFT: Duration = Duration::from_hours(7 * 24);
/// Dropped in one transaction.
const BATCH: u32 = 100;
/// And in one look: the rest waits for the next.
const BATCHES: u32 = 100;

/// Runs until stopped.
pub(crate) async fn run(producer: Producer, stopping: CancellationToken) -> Result<(), TaskError> {
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        let before = earlier(producer.clock.now(), LEFT);
        for _ in 0..BATCHES {
            match producer.store.forget_uploads(before, BATCH).await {
                Ok(0) => break,
                Ok(dropped) => tracing::info!("{dropped} uploads were begun a week ago and left: they are dropped"),
                Err(error) => {
                    tracing::warn!("forgotten uploads were not dropped: {error}");
                    break;
                }
            }
        }
    }
}

fn earlier(now: Micros, by: Duration) -> Micros {
    Micros(now.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}
