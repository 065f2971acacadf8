//! Queues that belong to our connection and go with it: declared again before each subscription to them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Error};
use protocol::HostId;
use protocol::address::{CONTROL_EXCHANGE, WORKER_EXCHANGE, worker_queue};

use super::properties::short;

/// The workers' own queues of this process.
#[derive(Default)]
pub(super) struct OwnQueues {
    hosts: Mutex<BTreeMap<String, HostId>>,
}

impl OwnQueues {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HostId>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a worker's queue, and returns its name.
    pub(super) fn add(&self, host: &HostId) -> String {
        let name = worker_queue(host);
        self.lock().insert(name.clone(), host.clone());
        name
    }

    pub(super) fn contains(&self, queue: &str) -> bool {
        self.lock().contains_key(queue)
    }

    /// Declares a queue if it is one of ours, bound to the worker and control exchanges.
    pub(super) async fn declare(&self, channel: &Channel, queue: &str) -> Result<(), Error> {
        let Some(host) = self.lock().get(queue).cloned() else { return Ok(()) };
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(short(queue), options, FieldTable::default()).await?;
        for (exchange, key) in [(WORKER_EXCHANGE, host.as_str()), (CONTROL_EXCHANGE, "")] {
            let options = QueueBindOptions::default();
            channel.queue_bind(short(queue), short(exchange), short(key), options, FieldTable::default()).await?;
        }
        Ok(())
    }
}
