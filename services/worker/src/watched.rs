//! The sandbox, watched: how executors end under a unit, and how fast they stop for the owner.

use std::sync::Arc;

use async_trait::async_trait;
use ports::Execute;
use ports::sandbox::{ExecuteError, Executed, Task};

use crate::WorkerMetrics;

/// It crashed, broke off, or the system killed it.
const DIED: &str = "died";
/// The unit computed beyond its time.
const TIME_LIMIT: &str = "time_limit";
/// The unit was given back, or its job ended.
const INTERRUPTED: &str = "interrupted";
/// Why an executor is ended in the middle of a unit.
pub(crate) const DEATHS: [&str; 3] = [DIED, TIME_LIMIT, INTERRUPTED];

/// A sandbox and the metrics that tell of it.
pub(crate) struct Watched {
    inner: Arc<dyn Execute>,
    metrics: WorkerMetrics,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Execute>, metrics: WorkerMetrics) -> Self {
        Self { inner, metrics }
    }
}

/// Counts an executor's death unless its unit comes to an end.
struct Deathbed<'a> {
    metrics: &'a WorkerMetrics,
    reason: Option<&'static str>,
}

impl Drop for Deathbed<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.reason {
            self.metrics.executor_deaths.with_label_values(&[reason]).inc();
        }
    }
}

#[async_trait]
impl Execute for Watched {
    async fn execute(&self, task: Task) -> Result<Executed, ExecuteError> {
        let mut deathbed = Deathbed { metrics: &self.metrics, reason: Some(INTERRUPTED) };
        let result = self.inner.execute(task).await;
        deathbed.reason = match &result {
            Err(ExecuteError::Died { .. }) => Some(DIED),
            Err(ExecuteError::TimeLimit { .. }) => Some(TIME_LIMIT),
            Err(ExecuteError::Interrupted) => Some(INTERRUPTED),
            Ok(_) | Err(ExecuteError::App { .. } | ExecuteError::OutputLimit { .. } | ExecuteError::Unsupported { .. }) => None,
        };
        result
    }

    fn pause(&self) {
        let _timer = self.metrics.owner_yield_seconds.start_timer();
        self.inner.pause();
    }

    fn resume(&self) {
        self.inner.resume();
    }

    fn slots(&self) -> usize {
        self.inner.slots()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use ports::sandbox::Program;
    use protocol::job::{EntryKind, Limits};
    use protocol::unit::Call;
    use protocol::{CustomerName, Digest, Fuel};
    use service::Metrics;

    use super::*;

    /// Ends units as it is told, and never once there is no more to tell.
    struct Told(Mutex<VecDeque<Result<Executed, ExecuteError>>>);

    #[async_trait]
    impl Execute for Told {
        async fn execute(&self, _task: Task) -> Result<Executed, ExecuteError> {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(result) => result,
                None => std::future::pending().await,
            }
        }
        fn pause(&self) {}
        fn resume(&self) {}
        fn slots(&self) -> usize {
            1
        }
    }

    fn task() -> Task {
        let empty = Arc::new(Vec::new());
        let customer = CustomerName::new("acme").expect("a name");
        let (artefact, params, shared) = (Arc::clone(&empty), Arc::clone(&empty), empty);
        let (brief, entry, limits) = (Digest::of(b"brief"), EntryKind::Offpeak1, Limits::default());
        let program = Program { brief, customer, artefact, entry, params, shared, limits };
        Task { program, call: Call::Map, first: 0, items: Vec::new(), time_limit: Duration::from_secs(1) }
    }

    #[tokio::test]
    async fn every_way_to_die_is_counted_once_and_every_pause_timed() {
        let metrics = WorkerMetrics::new(&Metrics::new("worker", "0").expect("registry")).expect("metrics");
        let ends = [
            Ok(Executed { output: Vec::new(), fuel: Fuel::default(), compute: Duration::ZERO }),
            Err(ExecuteError::App { reason: "no".to_owned() }),
            Err(ExecuteError::Died { reason: "killed".to_owned() }),
            Err(ExecuteError::TimeLimit { limit: Duration::from_secs(1) }),
        ];
        let watched = Watched::new(Arc::new(Told(Mutex::new(ends.into()))), metrics.clone());
        for _ in 0..4 {
            drop(watched.execute(task()).await);
        }
        let given_back = tokio::time::timeout(Duration::from_millis(1), watched.execute(task())).await;
        assert!(given_back.is_err());
        let deaths = DEATHS.map(|reason| metrics.executor_deaths.with_label_values(&[reason]).get());
        assert_eq!(deaths, [1, 1, 1]);
        watched.pause();
        watched.resume();
        assert_eq!(metrics.owner_yield_seconds.get_sample_count(), 1);
    }
}
