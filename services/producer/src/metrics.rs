//! What the producer counts.

use protocol::PoolName;
use protocol::address::Origin;
use protocol::problem::Code;
use rules::invariants::Invariant;
use service::Metrics;
use service::metrics::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, MetricsError, SECONDS};

use crate::requests::KINDS;

/// A submission became a job, or was one before.
pub(crate) const ACCEPTED: &str = "accepted";
/// It is wrong.
pub(crate) const REFUSED: &str = "refused";
/// The grid could not answer at once; each submission counts once, and is mostly accepted or refused later.
pub(crate) const FAILED: &str = "failed";

/// A request was done and answered.
pub(crate) const ANSWERED: &str = "answered";
/// A request was dropped, since its customer does not read.
pub(crate) const DROPPED: &str = "dropped";
/// What becomes of requests.
const RESULTS: [&str; 3] = [ANSWERED, REFUSED, DROPPED];
/// The label of a request whose type is none.
const UNKNOWN: &str = "unknown";

/// The producer's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct ProducerMetrics {
    /// Jobs admitted.
    pub jobs_admitted: IntCounter,
    /// Submissions by what became of them.
    pub submissions: IntCounterVec,
    /// From a submission's delivery until its answer is written.
    pub submission_seconds: Histogram,
    /// Messages of customers refused, by problem code.
    pub submissions_refused: IntCounterVec,
    /// Requests of customers, by type and by what became of them.
    pub requests: IntCounterVec,
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
    /// Broken invariants: must stay 0.
    pub invariants_broken: IntCounterVec,
    /// Messages parked as dead letters, by origin.
    pub dead_letters: IntCounterVec,
    /// Messages that could not be parked, and whose customers were told why they had no effect.
    pub letters_lost: IntCounter,
}

impl ProducerMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let invariants_broken =
            metrics.shared_counter_with("invariants_broken_total", "Broken invariants: must be 0.", &["reason"])?;
        invariants_broken.with_label_values(&[Invariant::Depth.key()]).inc_by(0);
        let help = "Messages parked as dead letters by a service; the broker's own are not among them.";
        let dead_letters = metrics.shared_counter_with("dead_letters_total", help, &["origin"])?;
        for origin in [Origin::Submit, Origin::Fetch] {
            dead_letters.with_label_values(&[origin.key()]).inc_by(0);
        }
        let requests = metrics.counter_with("requests_total", "Requests of customers.", &["type", "result"])?;
        for kind in KINDS.iter().copied().chain([""]) {
            for result in RESULTS {
                requests.with_label_values(&[label(kind).as_str(), result]).inc_by(0);
            }
        }
        Ok(Self {
            requests,
            jobs_admitted: metrics.counter("jobs_admitted_total", "Jobs admitted.")?,
            submissions: metrics.counter_of(
                "submissions_total",
                "Submissions by what became of them; failed is the grid's own fault.",
                "result",
                &[ACCEPTED, REFUSED, FAILED],
            )?,
            submission_seconds: metrics.histogram(
                "submission_seconds",
                "From a submission's delivery until its answer is written.",
                &SECONDS,
            )?,
            submissions_refused: metrics.counter_of(
                "submissions_refused_total",
                "Messages of customers refused.",
                "reason",
                &Code::ALL.map(|code| code.about().code),
            )?,
            units_cut: metrics.counter_with("units_cut_total", "Units cut from jobs.", &["pool"])?,
            replicas_sent: metrics.counter_with("replicas_sent_total", "Replicas confirmed by the broker.", &["pool"])?,
            replicas_lost: metrics.counter("replicas_lost_total", "Replicas whose deadline passed.")?,
            expiry_held: metrics.gauge(
                "expiry_held",
                "1 while no replica is taken for lost, since the broker, the database or the aggregators are slow to answer.",
            )?,
            lane_depth: metrics.gauge_with("lane_ready_units", "Units ready in the pool's lanes.", &["pool"])?,
            lane_consumers: metrics.gauge_with("lane_consumers", "Workers listening on the pool's lanes.", &["pool"])?,
            confirm_seconds: metrics.histogram("confirm_seconds", "Publishing work until its last confirm.", &SECONDS)?,
            blob_bytes: metrics.counter("blob_served_bytes_total", "Bytes of blobs handed to workers.")?,
            invariants_broken,
            dead_letters,
            letters_lost: metrics.counter(
                "dead_letters_lost_total",
                "Messages of customers that were refused, and not parked as dead letters since there was no room.",
            )?,
        })
    }

    /// Counts a request of that type.
    pub(crate) fn request(&self, kind: &str, result: &str) {
        self.requests.with_label_values(&[label(kind).as_str(), result]).inc();
    }

    /// Shows every pool from the start, so that its first rise is seen.
    pub(crate) fn begin<'a>(&self, pools: impl Iterator<Item = &'a PoolName>) {
        for pool in pools {
            for counter in [&self.units_cut, &self.replicas_sent] {
                counter.with_label_values(&[pool.as_str()]).inc_by(0);
            }
        }
    }
}

/// A known type's noun and verb, such as `job-submit`; what customers make up becomes no label.
fn label(kind: &str) -> String {
    let known = KINDS.iter().find(|known| **known == kind);
    let plain = known.and_then(|known| known.strip_prefix("offpeak.")?.strip_suffix(".v1"));
    plain.map_or_else(|| UNKNOWN.to_owned(), |plain| plain.replace('.', "-"))
}
