//! Retention: outputs that nobody released are dropped when their time is over.

use std::time::Duration;

use protocol::Micros;
use rules::month::DAY_US;
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;

use crate::Aggregator;

/// Results outlive their time by so long at most; days are promised, so a minute does not matter.
const EVERY: Duration = Duration::from_mins(1);
/// Jobs whose outputs are dropped in one transaction: it must not hold up settling.
const MAX_JOBS: u32 = 20;

/// Runs until stopped; also where results are kept for ever, since what a customer released may be too much for one go.
pub(crate) async fn run(aggregator: Aggregator, stopping: CancellationToken) -> Result<(), TaskError> {
    loop {
        let expire = || {
            let now = aggregator.clock.now();
            aggregator.store.expire_results(ended_before(now, aggregator.settings.results_days), now, MAX_JOBS)
        };
        let Some(jobs) = until_done("dropping old results", &stopping, expire).await else { return Ok(()) };
        if jobs > 0 {
            tracing::info!("the results of {jobs} jobs are dropped");
            aggregator.metrics.results_expired.inc_by(jobs.into());
        }
        let wait = if jobs < MAX_JOBS { EVERY } else { Duration::ZERO };
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Results of jobs that ended before this time are to go; of none if there is no number of days.
fn ended_before(now: Micros, days: u32) -> Micros {
    if days == 0 {
        return Micros(i64::MIN);
    }
    Micros(now.0.saturating_sub(DAY_US.saturating_mul(days.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_kept_for_as_many_days() {
        assert_eq!(ended_before(Micros(10 * DAY_US), 3), Micros(7 * DAY_US));
        assert_eq!(ended_before(Micros(10 * DAY_US), 0), Micros(i64::MIN));
        assert_eq!(ended_before(Micros(0), u32::MAX), Micros(-i64::MAX));
    }
}
