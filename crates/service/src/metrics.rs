//! The metrics of one process: a registry that names, checks and renders them; the door to crate prometheus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{Encoder, HistogramOpts, Opts, Registry, TextEncoder};

use crate::lock::lock;

pub use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// What every metric name begins with.
pub const PREFIX: &str = "offpeak_";

/// Labels whose values have no bound; each value would be a time series of its own.
const UNBOUNDED_LABELS: [&str; 7] = ["job", "unit", "replica", "host", "item", "message", "digest"];

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bucket bounds for durations in seconds, from a millisecond to ten minutes.
pub const SECONDS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Bucket bounds for what takes from seconds to days, such as jobs.
pub const LONG_SECONDS: [f64; 13] =
    [0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 10_800.0, 28_800.0, 86_400.0, 259_200.0, 604_800.0];

/// A metric could not be made or rendered.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The name does not follow the house rule; a programming error, found when the process starts.
    #[error("metric {name}: {rule}")]
    BadName {
        /// The name that was asked for.
        name: String,
        /// The rule it breaks.
        rule: String,
    },
    /// Crate prometheus refused: a name twice, a bad label.
    #[error("cannot register metric {name}")]
    Register {
        /// The full name.
        name: String,
        /// The reason.
        #[source]
        source: prometheus::Error,
    },
    /// The text could not be made.
    #[error("cannot render the metrics")]
    Render(#[source] prometheus::Error),
}

/// The metrics of one process or one test; a clone shares the registry.
///
/// It is a value rather than the process-wide default registry, so that two services in one process and tests side
/// by side do not see each other's counts. Names are given without [`PREFIX`].
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    shared: Arc<Mutex<BTreeMap<String, IntCounterVec>>>,
}

impl Metrics {
    /// A registry that says what runs, `offpeak_build_info{service, version} 1`, and what the process takes, `process_*`.
    pub fn new(service: &str, version: &str) -> Result<Self, MetricsError> {
        let metrics = Self { registry: Registry::new(), shared: Arc::default() };
        let help = "What runs here; always 1.";
        let info = metrics.gauge_with("build_info", help, &["service", "version"])?;
        info.with_label_values(&[service, version]).set(1);
        #[cfg(target_os = "linux")]
        metrics.watch_process()?;
        Ok(metrics)
    }

    /// Processor time, memory, open files and start of this process, under the names all Prometheus clients use.
    #[cfg(target_os = "linux")]
    fn watch_process(&self) -> Result<(), MetricsError> {
        let process = Box::new(prometheus::process_collector::ProcessCollector::for_self());
        let refused = |source| MetricsError::Register { name: "process".to_owned(), source };
        self.registry.register(process).map_err(refused)
    }

    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        let opts = counter_opts(name, help)?;
        self.register(name, IntCounter::with_opts(opts))
    }

    /// A counter with labels.
    pub fn counter_with(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        check_labels(name, labels)?;
        let opts = counter_opts(name, help)?;
        self.register(name, IntCounterVec::new(opts, labels))
    }

    /// A counter with one label whose values are known: each is there from the start, so that its first rise is seen.
    pub fn counter_of(&self, name: &str, help: &str, label: &str, values: &[&str]) -> Result<IntCounterVec, MetricsError> {
        let counter = self.counter_with(name, help, &[label])?;
        for value in values {
            counter.with_label_values(&[value]).inc_by(0);
        }
        Ok(counter)
    }

    /// A counter with labels that several services count in: whoever asks first registers it.
    pub fn shared_counter_with(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        let mut shared = lock(&self.shared);
        if let Some(counter) = shared.get(name) {
            return Ok(counter.clone());
        }
        let counter = self.counter_with(name, help, labels)?;
        shared.insert(name.to_owned(), counter.clone());
        Ok(counter)
    }

    /// A gauge of whole numbers.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        let opts = gauge_opts(name, help)?;
        self.register(name, IntGauge::with_opts(opts))
    }

    /// A gauge of whole numbers with labels.
    pub fn gauge_with(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        check_labels(name, labels)?;
        let opts = gauge_opts(name, help)?;
        self.register(name, IntGaugeVec::new(opts, labels))
    }

    /// A gauge of any number, for seconds and ratios.
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        let opts = gauge_opts(name, help)?;
        self.register(name, Gauge::with_opts(opts))
    }

    /// A gauge of any number with labels.
    pub fn float_gauge_with(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, MetricsError> {
        check_labels(name, labels)?;
        let opts = gauge_opts(name, help)?;
        self.register(name, GaugeVec::new(opts, labels))
    }

    /// A histogram; [`SECONDS`] fits most durations.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        let opts = HistogramOpts::from(gauge_opts(name, help)?).buckets(buckets.to_vec());
        self.register(name, Histogram::with_opts(opts))
    }

    /// A histogram with labels.
    pub fn histogram_with(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec, MetricsError> {
        check_labels(name, labels)?;
        let opts = HistogramOpts::from(gauge_opts(name, help)?).buckets(buckets.to_vec());
        self.register(name, HistogramVec::new(opts, labels))
    }

    /// Everything registered, in the Prometheus text format.
    pub fn render(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(MetricsError::Render)?;
        Ok(text)
    }

    fn register<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, MetricsError> {
        let refused = |source| MetricsError::Register { name: format!("{PREFIX}{name}"), source };
        let metric = made.map_err(refused)?;
        self.registry.register(Box::new(metric.clone())).map_err(refused)?;
        Ok(metric)
    }
}

fn bad_name(name: &str, rule: &str) -> MetricsError {
    MetricsError::BadName { name: name.to_owned(), rule: rule.to_owned() }
}

fn counter_opts(name: &str, help: &str) -> Result<Opts, MetricsError> {
    if !name.ends_with("_total") {
        return Err(bad_name(name, "the name of a counter ends in _total"));
    }
    opts(name, help)
}

fn gauge_opts(name: &str, help: &str) -> Result<Opts, MetricsError> {
    if name.ends_with("_total") {
        return Err(bad_name(name, "only the name of a counter ends in _total"));
    }
    opts(name, help)
}

fn opts(name: &str, help: &str) -> Result<Opts, MetricsError> {
    if name.starts_with(PREFIX) {
        return Err(bad_name(name, "the prefix offpeak_ is added, not given"));
    }
    if help.is_empty() {
        return Err(bad_name(name, "a metric has a help text"));
    }
    Ok(Opts::new(format!("{PREFIX}{name}"), help))
}

fn check_labels(name: &str, labels: &[&str]) -> Result<(), MetricsError> {
    match labels.iter().find(|label| UNBOUNDED_LABELS.contains(label)) {
        Some(label) => Err(bad_name(name, &format!("label {label} has no bounded set of values"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_renders_what_was_counted() {
        let metrics = Metrics::new("worker", "1.2.3").expect("registry");
        let units = metrics.counter_with("units_total", "Units computed.", &["pool", "outcome"]).expect("counter");
        units.with_label_values(&["open", "computed"]).inc_by(3);
        metrics.gauge("slots", "Slots.").expect("gauge").set(4);
        metrics.counter_of("ends_total", "Ends.", "how", &["well", "badly"]).expect("counter");
        let seconds = metrics.histogram("unit_seconds", "Unit duration.", &SECONDS).expect("histogram");
        seconds.observe(0.3);
        let text = String::from_utf8(metrics.render().expect("text")).expect("utf-8");
        for line in [
            "offpeak_build_info{service=\"worker\",version=\"1.2.3\"} 1",
            "offpeak_units_total{outcome=\"computed\",pool=\"open\"} 3",
            "offpeak_slots 4",
            "offpeak_unit_seconds_bucket{le=\"0.5\"} 1",
            "# HELP offpeak_slots Slots.",
            "offpeak_ends_total{how=\"well\"} 0",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.contains(line), "missing {line:?} in:\n{text}");
        }
    }

    #[test]
    fn registries_are_apart_and_a_name_is_used_once() {
        let one = Metrics::new("a", "1").expect("registry");
        let two = Metrics::new("a", "1").expect("a second registry in the same process");
        one.counter("jobs_total", "Jobs.").expect("counter").inc();
        two.counter("jobs_total", "Jobs.").expect("the other registry is free");
        let again = one.counter("jobs_total", "Jobs.").expect_err("twice");
        assert_eq!(again.to_string(), "cannot register metric offpeak_jobs_total");
        let shared = || one.shared_counter_with("letters_total", "Letters.", &["origin"]).expect("shared");
        shared().with_label_values(&["work"]).inc();
        assert_eq!(shared().with_label_values(&["work"]).get(), 1);
    }

    #[test]
    fn house_rules_are_checked() {
        let metrics = Metrics::new("a", "1").expect("registry");
        assert!(metrics.counter("jobs", "Jobs.").is_err(), "counters end in _total");
        assert!(metrics.gauge("jobs_total", "Jobs.").is_err(), "gauges do not");
        assert!(metrics.gauge("offpeak_jobs", "Jobs.").is_err(), "the prefix is added");
        assert!(metrics.gauge("jobs", "").is_err(), "help is needed");
        let unbounded = metrics.counter_with("jobs_total", "Jobs.", &["pool", "job"]);
        assert!(unbounded.expect_err("no label job").to_string().contains("label job"));
    }
}
