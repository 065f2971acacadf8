//! What the aggregator counts.

use rules::invariants::Invariant;
use service::Metrics;
use service::metrics::{Histogram, IntCounter, IntCounterVec, MetricsError, SECONDS};

/// The aggregator's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct AggregatorMetrics {
    /// Outcomes read.
    pub outcomes: IntCounterVec,
    /// Outcomes in one transaction and its duration.
    pub settle_seconds: Histogram,
    /// Units by how they ended.
    pub units_settled: IntCounterVec,
    /// Computing time that was of no use.
    pub wasted_us: IntCounter,
    /// Jobs by how they ended.
    pub jobs_ended: IntCounterVec,
    /// Messages sent to customers.
    pub replies_sent: IntCounter,
    /// Messages that customers' queues refused; they are sent again.
    pub replies_refused: IntCounter,
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
        Ok(Self {
            outcomes: metrics.counter_with("outcomes_total", "Outcomes read, by what they say.", &["reason"])?,
            settle_seconds: metrics.histogram("settle_seconds", "Settling one batch of outcomes.", &SECONDS)?,
            units_settled: metrics.counter_with("units_settled_total", "Units by how they ended.", &["reason"])?,
            wasted_us: metrics.counter("wasted_compute_microseconds_total", "Computing time that was of no use.")?,
            jobs_ended: metrics.counter_with("jobs_ended_total", "Jobs by how they ended.", &["reason"])?,
            replies_sent: metrics.counter("replies_sent_total", "Messages sent to customers.")?,
            replies_refused: metrics.counter("replies_refused_total", "Messages that customers' queues refused.")?,
            ledger_fuel: metrics.counter_with("ledger_fuel_total", "Fuel in the ledger; a mirror, not for billing.", &payer)?,
            ledger_bytes: metrics.counter_with(
                "ledger_bytes_total",
                "Bytes in the ledger; a mirror, not for billing.",
                &payer,
            )?,
            ledger_units: metrics.counter_with("ledger_units_total", "Rows of the ledger; a mirror, not for billing.", &payer)?,
            invariants_broken,
            dead_letters: metrics.shared_counter_with(
                "dead_letters_total",
                "Messages parked as dead letters by a service; the broker's own are not among them.",
                &["origin"],
            )?,
        })
    }

    /// Counts a broken invariant, and says so: it is a bug.
    pub(crate) fn broken(&self, invariant: Invariant, what: &str) {
        tracing::error!("invariant {} is broken: {what}", invariant.key());
        self.invariants_broken.with_label_values(&[invariant.key()]).inc();
    }
}
