//! Lost replicas: one that is not answered in time is due again, unless it is the grid itself that is slow to answer.

use std::time::Duration;

use ports::broker::{BrokerError, Link};
use protocol::{Micros, address};

use crate::Producer;
use crate::trouble::DispatchError;

/// How often lost replicas are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// A producer that did not look for so long was itself away: stopped, or without its database.
const AWAY: Duration = Duration::from_secs(10);
/// No replica is given up until the grid has been well for so long, in which late outcomes are settled.
const CALM: Duration = Duration::from_secs(10);
/// So many outcomes that wait in one shard are more than aggregators read in a moment.
const BUSY: u32 = 1_000;
/// Replicas given up in one step.
const MAX_EXPIRED: u32 = 1_000;

/// Finds lost replicas.
#[derive(Default)]
pub(crate) struct Expiry {
    looked_at: Option<Micros>,
    calm_since: Option<Micros>,
}

impl Expiry {
    /// Makes replicas due again whose deadline has passed.
    pub(crate) async fn look(&mut self, producer: &Producer, now: Micros) -> Result<(), DispatchError> {
        if self.looked_at.is_some_and(|at| now.since(at) < EVERY) {
            return Ok(());
        }
        let looked = self.expire(producer, now).await;
        match &looked {
            Ok(()) => self.looked_at = Some(now),
            Err(_) => self.hold(producer),
        }
        looked
    }

    /// Begins the calm anew: the broker or the database failed, so that outcomes wait.
    pub(crate) fn hold(&mut self, producer: &Producer) {
        self.calm_since = None;
        producer.metrics.expiry_held.set(1);
    }

    async fn expire(&mut self, producer: &Producer, now: Micros) -> Result<(), DispatchError> {
        let away = self.looked_at.is_some_and(|at| now.since(at) > AWAY);
        let unrest = if away { Some("this producer was away".to_owned()) } else { unrest(producer).await? };
        if let Some(reason) = unrest {
            if self.calm_since.is_some() {
                tracing::warn!("no replica is taken for lost for now: {reason}");
            }
            self.hold(producer);
            return Ok(());
        }
        let calm = now.since(*self.calm_since.get_or_insert(now)) >= CALM;
        producer.metrics.expiry_held.set((!calm).into());
        if !calm {
            return Ok(());
        }
        let lost = producer.store.expire_replicas(now, MAX_EXPIRED, false).await?;
        if lost > 0 {
            tracing::warn!("{lost} replicas were not answered in time and are due again");
            producer.metrics.replicas_lost.inc_by(lost.into());
        }
        Ok(())
    }
}

/// Why outcomes may exist that are not settled yet, if they may.
async fn unrest(producer: &Producer) -> Result<Option<String>, BrokerError> {
    match producer.broker.link() {
        Link::Up => {}
        Link::Blocked(reason) | Link::Down(reason) => return Ok(Some(format!("the broker is away: {reason}"))),
    }
    for shard in 0..producer.settings.shards {
        let queue = address::outcomes_queue(shard);
        let depth = producer.broker.depth(&queue).await?.unwrap_or_default();
        if depth.consumers == 0 {
            return Ok(Some(format!("no aggregator reads {queue}")));
        }
        if depth.ready > BUSY {
            return Ok(Some(format!("{} outcomes wait in {queue}", depth.ready)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Range;
    use std::sync::Arc;

    use broker::MemoryBroker;
    use broker::topology::Topology;
    use ports::clock::SystemClock;
    use ports::{Broker as _, Consumer};
    use protocol::PoolName;
    use service::{Metrics, Readiness};
    use testkit::MemoryStore;
    use testkit::memory_store::StoreFault;
    use testkit::simulator::Publisher;
    use testkit::store_contract::World;
    use testkit::store_contract::world::at;

    use super::*;
    use crate::{PoolSettings, ProducerMetrics, ProducerSettings, Standings};

    /// A producer and a replica that is overdue after 60 seconds, beside an aggregator that reads.
    struct Rig {
        broker: MemoryBroker,
        store: MemoryStore,
        producer: Producer,
        expiry: Expiry,
        _aggregator: Box<dyn Consumer>,
    }

    impl Rig {
        async fn new() -> Self {
            let pool = PoolName::new("open").expect("a name");
            let broker = MemoryBroker::with_topology(&Topology::grid(&[(pool.clone(), 2)], 1));
            let aggregator = broker.consume(&address::outcomes_queue(0), 1).await.expect("a consumer");
            let store = MemoryStore::new(Arc::new(SystemClock));
            let world = World::new(Arc::new(store.clone()));
            let job = world.admit(10).await;
            world.sent(job, &[0, 10]).await;
            let settings = ProducerSettings {
                lease_ms: 60_000,
                max_unit_ms: 600_000,
                replica_deadline_ms: 3_600_000,
                idle_ms: 20,
                require_user_id: true,
                operator: String::new(),
                pools: BTreeMap::from([(pool, PoolSettings { lanes: 2 })]),
                shards: 1,
                rates: None,
                results_days: 30,
            };
            let producer = Producer {
                name: "producer-1".to_owned(),
                broker: Arc::new(broker.clone()),
                store: Arc::new(store.clone()),
                publish: Arc::new(Publisher),
                generation: "1".to_owned(),
                clock: Arc::new(SystemClock),
                settings: Arc::new(settings),
                metrics: ProducerMetrics::new(&Metrics::new("test", "0").expect("registry")).expect("metrics"),
                standings: Standings::default(),
                ready: Readiness::new().check("admission"),
            };
            Self { broker, store, producer, expiry: Expiry::default(), _aggregator: aggregator }
        }

        /// Looks in each of these seconds; how many replicas are taken for lost by then.
        async fn lost(&mut self, seconds: Range<i64>) -> u64 {
            for second in seconds {
                self.expiry.look(&self.producer, at(second)).await.expect("a look");
            }
            self.producer.metrics.replicas_lost.get()
        }

        fn is_held(&self) -> bool {
            self.producer.metrics.expiry_held.get() == 1
        }
    }

    #[tokio::test]
    async fn an_overdue_replica_is_given_up_after_some_calm() {
        let mut rig = Rig::new().await;
        assert_eq!((rig.lost(55..65).await, rig.is_held()), (0, true), "the producer has just begun");
        assert_eq!((rig.lost(65..66).await, rig.is_held()), (1, false));
        assert_eq!(rig.lost(66..99).await, 1);
    }

    #[tokio::test]
    async fn none_is_given_up_right_after_a_failure_of_the_database() {
        let mut rig = Rig::new().await;
        assert_eq!((rig.lost(40..61).await, rig.is_held()), (0, false));
        rig.store.set_fault(Some(Box::new(|_| StoreFault::FailBefore)));
        rig.expiry.look(&rig.producer, at(61)).await.expect_err("the database fails");
        assert!(rig.is_held());
        rig.store.set_fault(None);
        assert_eq!(rig.lost(62..72).await, 0);
        assert_eq!(rig.lost(72..73).await, 1);
    }

    #[tokio::test]
    async fn none_is_given_up_right_after_the_broker_took_no_messages() {
        let mut rig = Rig::new().await;
        assert_eq!(rig.lost(40..61).await, 0);
        rig.broker.block("memory alarm");
        assert_eq!((rig.lost(61..66).await, rig.is_held()), (0, true));
        rig.broker.restore();
        assert_eq!(rig.lost(66..76).await, 0);
        assert_eq!(rig.lost(76..77).await, 1);
    }

    #[tokio::test]
    async fn none_is_given_up_right_after_the_producer_was_away() {
        let mut rig = Rig::new().await;
        assert_eq!(rig.lost(40..55).await, 0);
        assert_eq!((rig.lost(66..67).await, rig.is_held()), (0, true));
        assert_eq!(rig.lost(67..77).await, 0);
        assert_eq!(rig.lost(77..78).await, 1);
    }
}
