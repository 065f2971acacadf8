//! The aggregator: settles outcomes (validates and meters), assembles jobs, replies to customers.

mod assemble;
mod damage;
mod decide;
mod halve;
mod metrics;
mod mirror;
mod relay;
mod retention;
mod settings;
mod settle;
mod tally;

use std::sync::Arc;
use std::sync::atomic::AtomicU16;

use ports::store::{BlobStore, ReportStore, SettlementStore};
use ports::{Broker, Clock};
use protocol::address;
use service::{ReadyCheck, Scope};

pub use metrics::AggregatorMetrics;
pub use settings::AggregatorSettings;

/// What the aggregator needs of the store.
pub trait AggregatorStore: SettlementStore + BlobStore + ReportStore {}

impl<T: SettlementStore + BlobStore + ReportStore> AggregatorStore for T {}

/// An aggregator's resources; clones share them.
#[derive(Clone)]
pub struct Aggregator {
    /// Where outcomes come from and replies go to.
    pub broker: Arc<dyn Broker>,
    /// The truth.
    pub store: Arc<dyn AggregatorStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How many shards outcomes are spread over; each is read by one aggregator at a time.
    pub shards: u16,
    /// The settings.
    pub settings: Arc<AggregatorSettings>,
    /// The counts.
    pub metrics: AggregatorMetrics,
    /// Told when all outcomes are read.
    pub ready: ReadyCheck,
}

impl Aggregator {
    /// Starts the aggregator's loops on the scope; they end with it.
    pub fn start(self, scope: &Scope) {
        let work = Arc::new(assemble::Touched::default());
        let told = Arc::new(tokio::sync::Notify::new());
        // One turn for each queue that is not read yet.
        let unread = Arc::new(AtomicU16::new(self.shards + 1));
        for shard in 0..self.shards {
            let queue = address::outcomes_queue(shard);
            let source = settle::Source::Outcomes(queue.clone());
            let task = settle::run(self.clone(), source, Arc::clone(&work), Arc::clone(&unread), scope.stopping());
            scope.spawn_loop(format!("settling of {queue}"), task);
        }
        let dead = settle::Source::DeadWork;
        scope.spawn_loop("settling of dead work", settle::run(self.clone(), dead, Arc::clone(&work), unread, scope.stopping()));
        scope.spawn_loop("assembly", assemble::run(self.clone(), work, Arc::clone(&told), scope.stopping()));
        scope.spawn_loop("replies", relay::run(self.clone(), told, scope.stopping()));
        scope.spawn_loop("retention", retention::run(self.clone(), scope.stopping()));
        scope.spawn_loop("ledger mirror", mirror::run(self, scope.stopping()));
    }
}
