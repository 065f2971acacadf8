//! What is under way on this worker: after a lost connection the broker gives the same units again, while they compute here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};

use protocol::ReplicaKey;
use tokio::sync::Mutex;

/// Whether the replica is answered; held by the delivery of it that computes, so that a further one waits for its end.
pub(crate) type Answered = Arc<Mutex<bool>>;

/// The replicas that were delivered and are not settled.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    replicas: Lock<BTreeMap<ReplicaKey, Answered>>,
}

impl UnderWay {
    /// One delivery of a replica begins.
    pub(crate) fn enter(&self, replica: ReplicaKey) -> Answered {
        Arc::clone(self.lock().entry(replica).or_default())
    }

    /// It ends; the last one of a replica forgets it.
    pub(crate) fn leave(&self, replica: ReplicaKey, answered: Answered) {
        let mut replicas = self.lock();
        drop(answered);
        if replicas.get(&replica).is_some_and(|known| Arc::strong_count(known) == 1) {
            replicas.remove(&replica);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaKey, Answered>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
