//! The contract suite on both brokers.

use std::sync::Arc;

use async_trait::async_trait;
use broker::MemoryBroker;
use ports::broker::Broker;
use testkit::broker_contract::{Grid, all};

use crate::node::{NODE, Vhost, topology};

struct Memory(MemoryBroker);

#[async_trait]
impl Grid for Memory {
    async fn client(&self) -> Arc<dyn Broker> {
        Arc::new(self.0.clone())
    }

    async fn cut(&self) {
        self.0.cut_consumers();
    }

    fn user(&self) -> String {
        "guest".into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_in_memory_keeps_the_contract() {
    all(&Memory(MemoryBroker::with_topology(&topology()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_keeps_the_contract() {
    let _node = NODE.read().await;
    all(&Vhost::new("contract").await).await;
}
