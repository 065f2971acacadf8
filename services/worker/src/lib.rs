//! The worker: takes units from its lane, fetches what they need over the broker, computes them in the sandbox, reports.

pub mod cache;
mod compute;
mod fetch;
mod inbox;
mod lane;
mod metrics;
mod occupancy;
mod programs;
mod settings;
mod take;
mod under_way;
mod watched;

use std::sync::Arc;

use ports::{Broker, Clock, Execute};
use protocol::{HostId, PoolName};
use service::{ReadyCheck, Scope};

use cache::DiskCache;
pub use lane::Lane;
pub use metrics::WorkerMetrics;
pub use settings::WorkerSettings;

/// A worker's resources; clones share them.
#[derive(Clone)]
pub struct Worker {
    /// Which machine this is.
    pub host: HostId,
    /// The pool it serves.
    pub pool: PoolName,
    /// The lane it listens on.
    pub lane: Lane,
    /// How many shards outcomes are spread over.
    pub shards: u16,
    /// Where work comes from and outcomes go to.
    pub broker: Arc<dyn Broker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Runs units.
    pub execute: Arc<dyn Execute>,
    /// Apps and shared inputs on disk; without it each is fetched whenever it is not in memory.
    pub cache: Option<Arc<DiskCache>>,
    /// The settings.
    pub settings: Arc<WorkerSettings>,
    /// The counts.
    pub metrics: WorkerMetrics,
    /// Told when the lane is being served.
    pub ready: ReadyCheck,
}

impl Worker {
    /// Starts the worker's loops on the scope; they end with it.
    pub fn start(mut self, scope: &Scope) {
        self.execute = Arc::new(watched::Watched::new(self.execute, self.metrics.clone()));
        let host = self.host.clone();
        let inbox = Arc::new(inbox::Inbox::default());
        let fetcher = Arc::new(fetch::Fetcher::new(&self, Arc::clone(&inbox)));
        scope.spawn_background(format!("inbox of {host}"), inbox::run(self.clone(), inbox.clone(), scope.closing()));
        scope.spawn_loop(format!("lane of {host}"), take::run(self, fetcher, inbox, scope.stopping()));
    }
}
