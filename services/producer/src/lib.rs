//! The producer: answers customers' requests, splits their jobs into units, dispatches these to the lanes of workers, and
//! hands out blobs.

mod answering;
mod apps;
mod asked;
mod blobs;
mod check;
mod damage;
mod dispatch;
mod expiry;
mod forget;
mod identity;
mod inputs;
mod intake;
mod lot;
mod metrics;
mod performing;
mod pool;
mod requests;
mod rescue;
mod room;
mod settings;
mod standing;
mod trouble;

use std::sync::Arc;

use ports::store::{
    ActivityStore, AdmissionStore, BlobStore, CustomerStore, DispatchStore, ReportStore, RequestStore, UploadStore,
};
use ports::{Broker, Clock, Publish};
use service::{ReadyCheck, Scope};

pub use metrics::ProducerMetrics;
pub use settings::{PoolSettings, ProducerSettings};
pub use standing::Standings;

/// What the producer needs of the store.
pub trait ProducerStore:
    ActivityStore + AdmissionStore + BlobStore + CustomerStore + DispatchStore + ReportStore + RequestStore + UploadStore
{
}

impl<T> ProducerStore for T where
    T: ActivityStore + AdmissionStore + BlobStore + CustomerStore + DispatchStore + ReportStore + RequestStore + UploadStore
{
}

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
    /// The customers seen lately.
    pub standings: Standings,
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
        scope.spawn_loop("forgotten uploads", forget::run(self.clone(), stopping.clone()));
        scope.spawn_loop("rescue", rescue::run(self.clone(), stopping.clone()));
        scope.spawn_loop("dispatch", dispatch::run(self, wake, stopping));
    }
}
