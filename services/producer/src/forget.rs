//! Forgetting: blobs that were begun and left are dropped, so that their bytes no longer count against their customers, and so
//! are the keys of messages that were handled long ago.

use std::time::Duration;

use protocol::Micros;
use service::CancellationToken;
use service::scope::TaskError;

use crate::Producer;

/// How often they are looked for.
const EVERY: Duration = Duration::from_mins(10);
/// An upload that is not whole after so long was given up; a resumed one has begun when its first part came.
const LEFT: Duration = Duration::from_hours(7 * 24);
/// The broker delivers a message again within minutes of a lost connection, or when a grid that stood still goes on.
const REMEMBERED: Duration = Duration::from_hours(7 * 24);
/// Uploads dropped in one transaction.
const BATCH: u32 = 100;
/// Keys of messages forgotten in one transaction.
const BATCH_HANDLED: u32 = 1_000;
/// Batches in one look: the rest waits for the next.
const BATCHES: u32 = 100;
/// Likewise of keys: a deletion brings those of all its blob's parts at once.
const BATCHES_HANDLED: u32 = 1_000;

/// Runs until stopped.
pub(crate) async fn run(producer: Producer, stopping: CancellationToken) -> Result<(), TaskError> {
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = producer.clock.now();
        let forgetting = async {
            uploads(&producer, earlier(now, LEFT)).await;
            handled(&producer, earlier(now, REMEMBERED)).await;
        };
        // What is left then is forgotten another time.
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = forgetting => {}
        }
    }
}

async fn uploads(producer: &Producer, before: Micros) {
    for _ in 0..BATCHES {
        match producer.store.forget_uploads(before, BATCH).await {
            Ok(0) => return,
            Ok(dropped) => tracing::info!("{dropped} uploads were begun a week ago and left: they are dropped"),
            Err(error) => return tracing::warn!("forgotten uploads were not dropped: {error}"),
        }
    }
}

async fn handled(producer: &Producer, before: Micros) {
    for _ in 0..BATCHES_HANDLED {
        match producer.store.forget_handled(before, BATCH_HANDLED).await {
            Ok(0) => return,
            Ok(forgotten) => tracing::debug!("{forgotten} messages were handled a week ago: their keys are forgotten"),
            Err(error) => return tracing::warn!("keys of handled messages were not forgotten: {error}"),
        }
    }
}

fn earlier(now: Micros, by: Duration) -> Micros {
    Micros(now.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}
