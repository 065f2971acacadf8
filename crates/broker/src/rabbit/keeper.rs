//! Keeps the topology: what was declared at start is declared again when the broker says that some of it is missing, and now
//! and then in any case.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info};

use super::control::Control;
use crate::topology::{Topology, TopologyError};

/// Between two declarations, so that a topology that cannot be declared does not keep the broker busy.
const REST: Duration = Duration::from_secs(1);

/// And at the latest after this: a lost exchange or binding may be seen only by others, who may not declare it.
const LATEST: Duration = Duration::from_mins(1);

/// Told of what is missing; a task of it declares, once there is a topology to be kept.
#[derive(Default)]
pub(super) struct Keeper {
    missing: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Keeps a topology from now on.
    pub(super) fn start(&self, control: Arc<Control>, topology: Topology) {
        let missing = Arc::clone(&self.missing);
        #[expect(clippy::disallowed_methods, reason = "an adapter knows no scope; the task is aborted on drop")]
        let task = tokio::spawn(keep(missing, control, topology));
        if let Some(before) = self.lock().replace(task) {
            before.abort();
        }
    }

    /// An exchange, queue or binding was not there.
    pub(super) fn missing(&self) {
        self.missing.notify_one();
    }

    /// Keeps nothing any more.
    pub(super) fn stop(&self) {
        if let Some(task) = self.lock().take() {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn keep(missing: Arc<Notify>, control: Arc<Control>, topology: Topology) {
    loop {
        let is_missing = timeout(LATEST, missing.notified()).await.is_ok();
        match control.ensure(&topology, true).await {
            Ok(()) if is_missing => info!("exchanges, queues or bindings were missing; all of them are declared again"),
            Ok(()) => debug!("all exchanges, queues and bindings are there"),
            Err(TopologyError::Broker(error)) => debug!("the broker is away, and nothing is declared: {error}"),
            Err(problem) => error!("exchanges, queues or bindings may be missing and cannot be declared: {problem}"),
        }
        sleep(REST).await;
    }
}
