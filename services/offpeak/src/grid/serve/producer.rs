//! The producer's process: broker, database, and a compiler in child processes.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use broker::RabbitBroker;
use broker::rabbit::{ManagementError, PolicyError};
use ports::clock::SystemClock;
use producer::{Producer, ProducerMetrics, ProducerSettings};
use uuid::Uuid;

use super::gauges::LoadGauges;
use super::{Process, Service, Start};
use crate::exit::Refused;
use crate::grid::compile;

/// Holds while submissions are read.
const ADMISSION: &str = "admission";

/// Runs a producer until it is told to stop; its exit code.
pub async fn producer_main(config: Option<PathBuf>) -> Result<u8> {
    Process::new(Service::Producer, config.as_deref(), ADMISSION)?.run(start).await
}

async fn start(start: Start) -> Result<()> {
    let broker = async {
        let broker = start.broker().await?;
        if let Some(broker) = &broker {
            check_policies(&start, broker).await?;
        }
        anyhow::Ok(broker)
    };
    let (Some(broker), Some(store)) = tokio::try_join!(broker, start.store())? else { return Ok(()) };
    let pools = start.settings.pools().map_err(Refused::Usage)?;
    let load = LoadGauges::new(&start.metrics, pools.keys().cloned().collect())?;
    start.scope.spawn("load gauges", load.watch(Arc::clone(&store), start.scope.stopping()));
    let (rates, results_days) = start.promised();
    let shards = start.settings.grid.shards;
    let producer = Producer {
        name: format!("producer-{}", Uuid::now_v7()),
        broker,
        store,
        publish: compile::bounded_publisher(&start.settings.publisher)?,
        generation: sandbox::generation(),
        clock: Arc::new(SystemClock),
        settings: Arc::new(ProducerSettings { pools, shards, rates, results_days, ..start.settings.producer }),
        metrics: ProducerMetrics::new(&start.metrics)?,
        standings: producer::Standings::default(),
        ready: start.readiness.check(ADMISSION),
    };
    producer.start(&start.scope);
    Ok(())
}

/// Queues are declared without bounds, which come by policy: whether they did, only the management side knows.
async fn check_policies(start: &Start, broker: &RabbitBroker) -> Result<()> {
    let management = &start.settings.amqp.management_url;
    if management.is_empty() {
        tracing::warn!(
            "the queues' policies are not checked: set amqp.management_url, or compare `rabbitmqctl list_policies` with deploy/rabbitmq"
        );
        return Ok(());
    }
    match broker.check_policies(management.expose(), &start.topology()?).await {
        Ok(()) => Ok(()),
        // The grid needs the management side for nothing else.
        Err(error @ PolicyError::Unknown(ManagementError::Unread { .. } | ManagementError::Refused { .. })) => {
            tracing::warn!("the queues' policies are not checked: {error}");
            Ok(())
        }
        Err(error @ (PolicyError::Unknown(ManagementError::Url) | PolicyError::Wrong(_))) => Err(error.into()),
    }
}
