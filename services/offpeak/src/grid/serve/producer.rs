//! The producer's process: broker, database, and a compiler in child processes.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use ports::clock::SystemClock;
use producer::{Producer, ProducerMetrics, ProducerSettings};
use uuid::Uuid;

use super::{Process, Start};
use crate::exit::Refused;
use crate::grid::compile;

/// Runs a producer until it is told to stop; its exit code.
pub async fn producer_main(config: Option<PathBuf>) -> Result<u8> {
    Process::new("producer", config.as_deref())?.with_database()?.run(start).await
}

async fn start(start: Start) -> Result<()> {
    let Some(broker) = start.broker().await? else { return Ok(()) };
    let Some(store) = start.store().await else { return Ok(()) };
    let pools = start.settings.pools().map_err(Refused::Usage)?;
    let producer = Producer {
        name: format!("producer-{}", Uuid::now_v7()),
        broker,
        store,
        publish: compile::bounded_publisher(&start.settings.publisher)?,
        generation: sandbox::generation(),
        clock: Arc::new(SystemClock),
        settings: Arc::new(ProducerSettings { pools, ..start.settings.producer }),
        metrics: ProducerMetrics::new(&start.metrics)?,
    };
    producer.start(&start.scope);
    Ok(())
}
