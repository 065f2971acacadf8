//! What is under way on this worker: after a lost connection the broker gives the same units again, while they compute here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};

use protocol::ReplicaKey;
use protocol::unit::Slice;
use tokio::sync::Mutex;

/// Whether the replica is answered; held by the delivery of it that computes, so that a further one waits for its end.
pub(crate) type Answered = Arc<Mutex<bool>>;

/// A replica of these items: after the store was restored from a backup, the same replica may be of others.
pub(crate) type Key = (ReplicaKey, Slice);

/// The replicas that were delivered and are not settled.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    replicas: Lock<BTreeMap<Key, Answered>>,
}

impl UnderWay {
    /// One delivery of a replica begins.
    pub(crate) fn enter(&self, key: Key) -> Answered {
        Arc::clone(self.lock().entry(key).or_default())
    }

    /// It ends; the last one of a replica forgets it.
    pub(crate) fn leave(&self, key: Key, answered: Answered) {
        let mut replicas = self.lock();
        drop(answered);
        if replicas.get(&key).is_some_and(|known| Arc::strong_count(known) == 1) {
            replicas.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Answered>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::UnitKey;

    use super::*;

    #[tokio::test]
    async fn a_further_delivery_waits_for_the_answer_and_then_all_is_forgotten() {
        let under_way = UnderWay::default();
        let unit = UnitKey { job: "01890000-0000-7000-8000-000000000001".parse().unwrap(), unit: 1 };
        let replica = (unit.replica(0), Slice { stage: 0, first: 3, end: 9 });
        let (first, second) = (under_way.enter(replica), under_way.enter(replica));
        {
            let mut computing = first.lock().await;
            assert!(second.try_lock().is_err(), "it is being answered");
            *computing = true;
        }
        under_way.leave(replica, first);
        assert!(*second.lock().await, "the answer is known to who has waited");
        under_way.leave(replica, second);
        assert!(under_way.lock().is_empty(), "and to nobody else");
    }
}
