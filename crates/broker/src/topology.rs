//! The topology as data: every exchange, queue and binding of a grid, to be declared or checked by either broker.

use protocol::address::{
    CONTROL_EXCHANGE, CUSTOMER_EXCHANGE, DEAD_EXCHANGE, DEAD_WORK_QUEUE, FETCH_EXCHANGE, FETCH_QUEUE, OUTCOMES_EXCHANGE, Origin,
    SUBMIT_EXCHANGE, SUBMIT_QUEUE, WORK_EXCHANGE, WORKER_EXCHANGE, outcomes_queue, results_queue, work_key, work_queue,
};
use protocol::{CustomerName, PoolName};

use crate::limits::Limits;

/// How an exchange chooses queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// By patterns over the words of the routing key.
    Topic,
    /// By equal routing keys.
    Direct,
    /// All bound queues.
    Fanout,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: String,
    /// How it chooses queues.
    pub kind: ExchangeKind,
}

/// A durable quorum queue with its bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// Whether one consumer at a time receives, the others standing by.
    pub single_active: bool,
    /// Where its dead letters are parked; `None` drops them.
    pub dead: Option<Origin>,
    /// What it holds at most: applied by the in-memory broker, and by policy on `RabbitMQ`.
    pub limits: Limits,
    /// The exchange it is bound to.
    pub exchange: &'static str,
    /// The routing key or pattern of the binding.
    pub key: String,
}

/// All exchanges and queues of a grid; customers' and workers' own queues come as those arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The exchanges.
    pub exchanges: Vec<ExchangeSpec>,
    /// The queues, each with its binding.
    pub queues: Vec<QueueSpec>,
}

/// Why the topology is not as it should be; the operator has to act, a retry does not help.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The broker was not reached within the time given.
    #[error("topology cannot be ensured")]
    Broker(#[source] ports::broker::BrokerError),
    /// An exchange or queue exists, but is another than ours.
    #[error(
        "{object} exists but differs: {difference}; drain it and delete it (rabbitmqctl delete_queue, or delete the exchange), then start again so that it is declared anew"
    )]
    Differs {
        /// The exchange or queue.
        object: String,
        /// What differs, in the broker's words.
        difference: String,
    },
    /// An exchange or queue is missing, and declaring was not allowed.
    #[error(
        "{object} is missing; start a producer first, which declares the topology, or allow this process to (amqp.declare = true)"
    )]
    Missing {
        /// The exchange or queue.
        object: String,
    },
    /// The user has no right to it.
    #[error("{object} is refused to this user: {reason}; grant the right with rabbitmqctl set_permissions")]
    Forbidden {
        /// The exchange or queue.
        object: String,
        /// The broker's words.
        reason: String,
    },
}

impl Topology {
    /// The topology of a grid with these pools (each with its number of lanes) and shards of outcomes.
    pub fn grid(pools: &[(PoolName, u16)], shards: u16) -> Self {
        let mut queues = vec![
            plain(SUBMIT_QUEUE.into(), SUBMIT_EXCHANGE, "#".into(), Origin::Submit, Limits::SUBMIT),
            plain(FETCH_QUEUE.into(), FETCH_EXCHANGE, "#".into(), Origin::Fetch, Limits::FETCH),
        ];
        for (pool, lanes) in pools {
            for lane in 0..*lanes {
                let (name, key) = (work_queue(pool, lane), work_key(pool, lane));
                queues.push(plain(name, WORK_EXCHANGE, key, Origin::Work, Limits::WORK));
            }
        }
        for shard in 0..shards {
            let queue = plain(outcomes_queue(shard), OUTCOMES_EXCHANGE, shard.to_string(), Origin::Outcomes, Limits::OUTCOMES);
            queues.push(QueueSpec { single_active: true, ..queue });
        }
        queues.extend(Origin::ALL.map(dead));
        // A second copy of dead work, which aggregators settle.
        let (name, key) = (DEAD_WORK_QUEUE.into(), Origin::Work.key().into());
        queues.push(plain(name, DEAD_EXCHANGE, key, Origin::Outcomes, Limits::OUTCOMES));
        Self { exchanges: exchanges(), queues }
    }

    /// The queue of that name.
    pub fn queue_mut(&mut self, name: &str) -> Option<&mut QueueSpec> {
        self.queues.iter_mut().find(|queue| queue.name == name)
    }
}

/// A customer's results queue.
pub fn customer(name: &CustomerName) -> QueueSpec {
    QueueSpec {
        name: results_queue(name),
        single_active: false,
        dead: None,
        limits: Limits::RESULTS,
        exchange: CUSTOMER_EXCHANGE,
        key: name.to_string(),
    }
}

fn plain(name: String, exchange: &'static str, key: String, dead: Origin, limits: Limits) -> QueueSpec {
    QueueSpec { name, single_active: false, dead: Some(dead), limits, exchange, key }
}

fn dead(origin: Origin) -> QueueSpec {
    QueueSpec {
        name: origin.queue(),
        single_active: false,
        dead: None,
        limits: Limits::DEAD,
        exchange: DEAD_EXCHANGE,
        key: origin.key().into(),
    }
}

fn exchanges() -> Vec<ExchangeSpec> {
    let of = |name: &str, kind| ExchangeSpec { name: name.into(), kind };
    vec![
        of(SUBMIT_EXCHANGE, ExchangeKind::Topic),
        of(WORK_EXCHANGE, ExchangeKind::Direct),
        of(OUTCOMES_EXCHANGE, ExchangeKind::Direct),
        of(FETCH_EXCHANGE, ExchangeKind::Topic),
        of(CONTROL_EXCHANGE, ExchangeKind::Fanout),
        of(WORKER_EXCHANGE, ExchangeKind::Direct),
        of(CUSTOMER_EXCHANGE, ExchangeKind::Direct),
        of(DEAD_EXCHANGE, ExchangeKind::Direct),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_bound_to_an_exchange_of_the_topology_and_named_once() {
        let pool = PoolName::new("open").unwrap();
        let topology = Topology::grid(&[(pool, 3)], 2);
        let mut names: Vec<_> = topology.queues.iter().map(|queue| queue.name.clone()).collect();
        assert_eq!(names.len(), 2 + 3 + 2 + 4 + 1);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 12);
        for queue in &topology.queues {
            assert!(topology.exchanges.iter().any(|exchange| exchange.name == queue.exchange), "{}", queue.name);
        }
    }
}
