//! What the producer counts.

use service::Metrics;
use service::metrics::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, MetricsError, SECONDS};

/// The producer's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct ProducerMetrics {
    /// Jobs admitted.
    pub jobs_admitted: IntCounter,
    /// Submissions refused, by problem code.
    pub submissions_refused: IntCounterVec,
    /// Units cut, by pool.
    pub units_cut: IntCounterVec,
    /// Replicas sent, by pool.
    pub replicas_sent: IntCounterVec,
    /// Replicas whose deadline passed.
    pub replicas_lost: IntCounter,
    /// Whether replicas are not taken for lost for now.
    pub expiry_held: IntGauge,
    /// Units ready in the lanes, by pool.
    pub lane_depth: IntGaugeVec,
    /// Consumers of the lanes, by pool.
    pub lane_consumers: IntGaugeVec,
    /// Time from publishing a batch of work to its last confirm.
    pub confirm_seconds: Histogram,
    /// Bytes of blobs handed to workers.
    pub blob_bytes: IntCounter,
}

impl ProducerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            jobs_admitted: metrics.counter("jobs_admitted_total", "Jobs admitted.")?,
            submissions_refused: metrics.counter_with("submissions_refused_total", "Submissions refused.", &["reason"])?,
            units_cut: metrics.counter_with("units_cut_total", "Units cut from jobs.", &["pool"])?,
            replicas_sent: metrics.counter_with("replicas_sent_total", "Replicas confirmed by the broker.", &["pool"])?,
            replicas_lost: metrics.counter("replicas_lost_total", "Replicas whose deadline passed.")?,
            expiry_held: metrics.gauge(
                "expiry_held",
                "1 while no replica is taken for lost, since the broker or the aggregators are slow to answer.",
            )?,
            lane_depth: metrics.gauge_with("lane_ready_units", "Units ready in the pool's lanes.", &["pool"])?,
            lane_consumers: metrics.gauge_with("lane_consumers", "Workers listening on the pool's lanes.", &["pool"])?,
            confirm_seconds: metrics.histogram("confirm_seconds", "Publishing work until its last confirm.", &SECONDS)?,
            blob_bytes: metrics.counter("blob_served_bytes_total", "Bytes of blobs handed to workers.")?,
        })
    }
}
