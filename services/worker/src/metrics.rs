//! What the worker counts.

use protocol::address::Origin;
use service::Metrics;
use service::metrics::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, MetricsError, SECONDS};

use crate::{compute, inbox, watched};

/// The worker's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    /// Replicas by how they ended.
    pub outcomes: IntCounterVec,
    /// Fuel of computed replicas.
    pub fuel: IntCounter,
    /// Computing time of a replica.
    pub unit_seconds: Histogram,
    /// Slots that compute now.
    pub busy_slots: IntGauge,
    /// Slots there are.
    pub slots: IntGauge,
    /// Hosts by pool and by whether they compute.
    pub hosts: IntGaugeVec,
    /// Executors that were ended in the middle of a unit.
    pub executor_deaths: IntCounterVec,
    /// From the order to pause until every executor was stopped.
    pub owner_yield_seconds: Histogram,
    /// Bytes of blobs fetched.
    pub fetched_bytes: IntCounter,
    /// Deliveries that had been delivered before.
    pub redeliveries: IntCounter,
    /// Messages to this worker that were of no use, by why.
    pub inbox_dropped: IntCounterVec,
    /// Messages parked as dead letters, by origin.
    pub dead_letters: IntCounterVec,
}

impl WorkerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let help = "Messages parked as dead letters by a service; the broker's own are not among them.";
        let dead_letters = metrics.shared_counter_with("dead_letters_total", help, &["origin"])?;
        dead_letters.with_label_values(&[Origin::Work.key()]).inc_by(0);
        Ok(Self {
            outcomes: metrics.counter_of(
                "worker_outcomes_total",
                "Replicas by how they ended at a worker.",
                "reason",
                &compute::KINDS,
            )?,
            fuel: metrics.counter("worker_fuel_total", "Fuel of computed replicas, before validation; not for billing.")?,
            unit_seconds: metrics.histogram("unit_seconds", "Computing time of a replica.", &SECONDS)?,
            busy_slots: metrics.gauge("worker_busy_slots", "Slots that compute now.")?,
            slots: metrics.gauge("worker_slots", "Slots of this process.")?,
            hosts: metrics.gauge_with("hosts", "Hosts by whether they compute.", &["pool", "state"])?,
            executor_deaths: metrics.counter_of(
                "executor_deaths_total",
                "Executors that were ended in the middle of a unit.",
                "reason",
                &watched::DEATHS,
            )?,
            owner_yield_seconds: metrics.histogram(
                "owner_yield_seconds",
                "From the order to pause until every executor was stopped.",
                &SECONDS,
            )?,
            fetched_bytes: metrics.counter("worker_fetched_bytes_total", "Bytes of blobs fetched over the broker.")?,
            redeliveries: metrics.counter("worker_redeliveries_total", "Units that had been delivered before.")?,
            inbox_dropped: metrics.counter_of(
                "worker_inbox_dropped_total",
                "Messages to this worker that were of no use, and dropped.",
                "reason",
                &inbox::USELESS,
            )?,
            dead_letters,
        })
    }
}
