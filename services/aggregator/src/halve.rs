//! Where a line of a text begins: needed when a unit of lines is to be cut in two.

use ports::store::{StoreError, UnitFacts};
use protocol::Digest;
use protocol::blob::PART_BYTES;
use protocol::job::JobState;
use service::CancellationToken;
use service::patience::until_done;

use crate::Aggregator;
use crate::damage::{Damage, told_apart};
use crate::decide::Middles;

/// Reads where the middles begin, or meets damage; `None` if the aggregator is stopping and the store is away.
pub(crate) async fn middles(
    aggregator: &Aggregator,
    units: Vec<(UnitFacts, (Digest, u64))>,
    stopping: &CancellationToken,
) -> Option<Result<Middles, Damage>> {
    let mut middles = Middles::default();
    for (unit, (blob, middle)) in units {
        let seek = || told_apart(aggregator, line_start(aggregator, &unit, blob, middle));
        match until_done("reading where a line begins", stopping, seek).await? {
            Ok(byte) => middles.insert(unit.key, (middle, byte)),
            Err(damage) => return Some(Err(damage)),
        };
    }
    Some(Ok(middles))
}

async fn line_start(aggregator: &Aggregator, unit: &UnitFacts, blob: Digest, middle: u64) -> Result<u64, StoreError> {
    let (mut at, end) = unit.bytes;
    let mut lines = middle.saturating_sub(unit.first);
    while at < end && lines > 0 {
        let part = aggregator.store.read_blob(blob, at, PART_BYTES).await?;
        if part.is_empty() {
            // A job that has ended needs its input no more, and nothing comes of this unit.
            let job = aggregator.store.job(unit.key.job).await?;
            if job.is_some_and(|job| job.state == JobState::Running) {
                let detail = format!("blob {blob} ends after {at} bytes, and unit {} after {end} of it", unit.key);
                return Err(StoreError::Corrupt { operation: "read where a line begins", detail });
            }
            break;
        }
        for byte in part {
            at += 1;
            lines -= u64::from(byte == b'\n');
            if lines == 0 {
                break;
            }
        }
    }
    Ok(at)
}
