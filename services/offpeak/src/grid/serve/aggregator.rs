//! The aggregator's process: broker and database.

use std::path::PathBuf;
use std::sync::Arc;

use aggregator::{Aggregator, AggregatorMetrics, AggregatorSettings};
use anyhow::Result;
use ports::clock::SystemClock;

use super::gauges::OutboxGauges;
use super::{Process, Service, Start};

/// Holds while outcomes are read.
const SETTLING: &str = "settling";

/// Runs an aggregator until it is told to stop; its exit code.
pub async fn aggregator_main(config: Option<PathBuf>) -> Result<u8> {
    Process::new(Service::Aggregator, config.as_deref(), SETTLING)?.run(start).await
}

async fn start(start: Start) -> Result<()> {
    let (Some(broker), Some(store)) = tokio::try_join!(start.broker(), start.store())? else { return Ok(()) };
    let outbox = OutboxGauges::new(&start.metrics)?.watch(Arc::clone(&store), start.scope.stopping());
    start.scope.spawn("outbox gauges", outbox);
    let (rates, results_days) = start.promised();
    let aggregator = Aggregator {
        broker,
        store,
        clock: Arc::new(SystemClock),
        shards: start.settings.grid.shards,
        settings: Arc::new(AggregatorSettings { rates, results_days, ..start.settings.aggregator }),
        metrics: AggregatorMetrics::new(&start.metrics)?,
        ready: start.readiness.check(SETTLING),
    };
    aggregator.start(&start.scope);
    Ok(())
}
