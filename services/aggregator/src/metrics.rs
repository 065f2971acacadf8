//! What the aggregator counts.

use protocol::address::Origin;
use protocol::job::JobState;
use rules::invariants::Invariant;
use service::Metrics;
use service::metrics::{Histogram, HistogramVec, IntCounter, IntCounterVec, LONG_SECONDS, MetricsError, SECONDS};

/// What outcomes say.
const OUTCOMES: [&str; 5] = ["computed", "failed", "too_large", "interrupted", "refused"];
/// How units end.
const UNIT_ENDS: [&str; 3] = ["valid", "failed", "split"];
/// How jobs end.
const JOB_ENDS: [&str; 4] =
    [JobState::Completed.word(), JobState::Cancelled.word(), JobState::Expired.word(), JobState::Exhausted.word()];

/// The aggregator's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct AggregatorMetrics {
    /// Outcomes read.
    pub outcomes: IntCounterVec,
    /// Outcomes in one transaction and its duration.
    pub settle_seconds: Histogram,
    /// Units by how they ended.
    pub units_settled: IntCounterVec,
    /// From when a replica was due until a host began to compute it, by pool.
    pub unit_wait_seconds: HistogramVec,
    /// Units that several hosts had to agree on.
    pub units_judged: IntCounter,
    /// Those of them on which hosts did not agree.
    pub disagreements: IntCounter,
    /// Computing time that was of no use.
    pub wasted_us: IntCounter,
    /// Fuel of results that were of no use.
    pub wasted_fuel: IntCounterVec,
    /// Jobs by how they ended.
    pub jobs_ended: IntCounterVec,
    /// Jobs with a deadline, by whether it was met.
    pub jobs_deadline: IntCounterVec,
    /// From admission to the end of a job.
    pub job_seconds: Histogram,
    /// Messages sent to customers.
    pub replies_sent: IntCounter,
    /// Messages that customers' queues refused; they are sent again.
    pub replies_refused: IntCounter,
    /// Jobs whose results were dropped by the aggregator.
    pub results_expired: IntCounter,
    /// Committed fuel of the ledger.
    pub ledger_fuel: IntCounterVec,
    /// Committed bytes of the ledger.
    pub ledger_bytes: IntCounterVec,
    /// Committed rows of the ledger.
    pub ledger_units: IntCounterVec,
    /// Broken invariants: must stay 0.
    pub invariants_broken: IntCounterVec,
    /// Messages parked as dead letters, by origin.
    pub dead_letters: IntCounterVec,
}

impl AggregatorMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let payer = ["customer", "pool"];
        let invariants_broken =
            metrics.shared_counter_with("invariants_broken_total", "Broken invariants: must be 0.", &["reason"])?;
        // A series that begins when it breaks would be one that no alert sees rise.
        for invariant in Invariant::ALL {
            invariants_broken.with_label_values(&[invariant.key()]).inc_by(0);
        }
        let help = "Messages parked as dead letters by a service; the broker's own are not among them.";
        let dead_letters = metrics.shared_counter_with("dead_letters_total", help, &["origin"])?;
        dead_letters.with_label_values(&[Origin::Outcomes.key()]).inc_by(0);
        Ok(Self {
            outcomes: metrics.counter_of("outcomes_total", "Outcomes read, by what they say.", "reason", &OUTCOMES)?,
            settle_seconds: metrics.histogram("settle_seconds", "Settling one batch of outcomes.", &SECONDS)?,
            units_settled: metrics.counter_of("units_settled_total", "Units by how they ended.", "reason", &UNIT_ENDS)?,
            unit_wait_seconds: metrics.histogram_with(
                "unit_wait_seconds",
                "From when a replica was due until a host began to compute it.",
                &["pool"],
                &SECONDS,
            )?,
            units_judged: metrics.counter("units_judged_total", "Units ended that several hosts had to agree on.")?,
            disagreements: metrics.counter("disagreements_total", "Units ended on which hosts did not agree.")?,
            wasted_us: metrics.counter("wasted_compute_microseconds_total", "Computing time that was of no use.")?,
            wasted_fuel: metrics.counter_of(
                "wasted_fuel_total",
                "Fuel of results that were of no use.",
                "reason",
                &crate::tally::WASTES,
            )?,
            jobs_ended: metrics.counter_of("jobs_ended_total", "Jobs by how they ended.", "reason", &JOB_ENDS)?,
            jobs_deadline: metrics.counter_of(
                "jobs_deadline_total",
                "Jobs with a deadline that ended, by whether it was met.",
                "result",
                &["met", "missed"],
            )?,
            job_seconds: metrics.histogram("job_seconds", "From admission to the end of a job.", &LONG_SECONDS)?,
            replies_sent: metrics.counter("replies_sent_total", "Messages sent to customers.")?,
            replies_refused: metrics.counter("replies_refused_total", "Messages that customers' queues refused.")?,
            results_expired: metrics.counter("results_expired_total", "Jobs whose results were dropped by the aggregator.")?,
            ledger_fuel: metrics.counter_with("ledger_fuel_total", "Fuel in the ledger; a mirror, not for billing.", &payer)?,
            ledger_bytes: metrics.counter_with(
                "ledger_bytes_total",
                "Bytes in the ledger; a mirror, not for billing.",
                &payer,
            )?,
            ledger_units: metrics.counter_with("ledger_units_total", "Rows of the ledger; a mirror, not for billing.", &payer)?,
            invariants_broken,
            dead_letters,
        })
    }

    /// Counts a broken invariant, and says so: it is a bug.
    pub(crate) fn broken(&self, invariant: Invariant, what: &str) {
        tracing::error!("invariant {} is broken: {what}", invariant.key());
        self.invariants_broken.with_label_values(&[invariant.key()]).inc();
    }
}
