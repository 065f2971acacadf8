//! The producer: admits jobs, splits them into units, dispatches these to the lanes of workers, and hands out blobs.

mod admit;
mod apps;
mod blobs;
mod check;
mod dispatch;
mod expiry;
mod inputs;
mod intake;
mod lot;
mod metrics;
mod rescue;
mod settings;

use std::sync::Arc;

use ports::store::{AdmissionStore, BlobStore, DispatchStore};
use ports::{Broker, Clock, Publish};
use service::{ReadyCheck, Scope};

pub use metrics::ProducerMetrics;
pub use settings::{PoolSettings, ProducerSettings};

/// What the producer needs of the store.
pub trait ProducerStore: AdmissionStore + BlobStore + DispatchStore {}

impl<T: AdmissionStore + BlobStore + DispatchStore> ProducerStore for T {}

/// A producer's resources; clones share them.
#[derive(Clone)]
pub struct Producer {
    /// Names this process in leases; no two running producers share it.
    pub name: String,
    /// Where jobs come from and work goes to.
    pub broker: Arc<dyn Broker>,
    /// The truth.
    pub store: Arc<dyn ProducerStore>,
    /// Compiles apps.
    pub publish: Arc<dyn Publish>,
    /// The compiler's generation: engine version and target, under which apps are recorded.
    pub generation: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The settings.
    pub settings: Arc<ProducerSettings>,
    /// The counts.
    pub metrics: ProducerMetrics,
    /// Told when submissions are read.
    pub ready: ReadyCheck,
}

impl Producer {
    /// Starts the producer's loops on the scope; they end with it.
    pub fn start(self, scope: &Scope) {
        let wake = Arc::new(tokio::sync::Notify::new());
        let stopping = scope.stopping();
        self.metrics.begin(self.settings.pools.keys());
        scope.spawn_loop("admission", intake::run(self.clone(), Arc::clone(&wake), stopping.clone()));
        scope.spawn_loop("blob server", blobs::serve(self.clone(), stopping.clone()));
        scope.spawn_loop("rescue", rescue::run(self.clone(), stopping.clone()));
        scope.spawn_loop("dispatch", dispatch::run(self, wake, stopping));
    }
}
