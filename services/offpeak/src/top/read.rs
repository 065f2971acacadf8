//! Reads the grid for a picture: the database and the broker, each by itself, each within a bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::rabbit::{self, Node};
use broker::{RabbitBroker, RabbitSettings};
use ports::Broker as _;
use ports::broker::{BrokerError, Link};
use ports::store::{ActivityStore as _, ReportStore as _};
use protocol::address::{Origin, SUBMIT_QUEUE, outcomes_queue, work_queue};
use protocol::job::JobState;
use protocol::{Micros, PoolName};
use store::{SqlStore, StoreOptions};

use super::{Database, Lane, Queues};
use crate::exit::told;
use crate::grid;

/// A read that takes longer tells nothing of this moment.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rates are of so long at most.
const WINDOW: Duration = Duration::from_mins(1);
/// And of so many rows of the ledger: a grid's rate is known after fewer.
const MAX_ROWS: u32 = 5_000;
/// Running jobs at most; nobody reads more.
const MAX_RUNNING: u32 = 200;
/// And so many that ended last.
const MAX_ENDED: u32 = 20;

/// Reads the database again and again.
pub struct DatabaseReader {
    url: String,
    store: Option<Arc<SqlStore>>,
}

impl DatabaseReader {
    /// Reaches nothing yet.
    pub fn new(url: String) -> Self {
        Self { url, store: None }
    }

    /// Reads, connecting first where need be.
    pub async fn read(&mut self, now: Micros) -> Result<Database, String> {
        let read = tokio::time::timeout(PATIENCE, self.try_read(now)).await;
        read.unwrap_or_else(|_late| Err(format!("it did not answer within {PATIENCE:?}")))
    }

    async fn try_read(&mut self, now: Micros) -> Result<Database, String> {
        let store = match &self.store {
            Some(store) => Arc::clone(store),
            None => self.open().await?,
        };
        let read = async {
            let since = Micros(now.0.saturating_sub(i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX)));
            let mut jobs = store.running(MAX_RUNNING).await?;
            let youngest = store.jobs(None, MAX_RUNNING).await?;
            let ended = youngest.into_iter().filter(|job| job.state != JobState::Running);
            jobs.extend(ended.take(usize::try_from(MAX_ENDED).unwrap_or(0)));
            Ok::<_, store::StoreError>((jobs, store.activity(since, MAX_ROWS).await?))
        };
        let (jobs, activity) = read.await.map_err(|error| told(&error.into()))?;
        Ok(Database::new(&jobs, &activity, now))
    }

    async fn open(&mut self) -> Result<Arc<SqlStore>, String> {
        if let Some(reason) = grid::no_file(&self.url) {
            return Err(reason);
        }
        let options = StoreOptions { max_connections: 1, patience: PATIENCE, ..StoreOptions::default() };
        let opening = async {
            let store = SqlStore::connect(&self.url, options).await?;
            store.check_schema().await?;
            Ok::<_, store::StoreError>(Arc::new(store))
        };
        let store = opening.await.map_err(|error| told(&error.into()))?;
        self.store = Some(Arc::clone(&store));
        Ok(store)
    }
}

/// Reads the broker again and again.
pub struct BrokerReader {
    broker: RabbitBroker,
    /// The management side's URL, if it is known.
    management: Option<String>,
    pools: BTreeMap<PoolName, u16>,
    shards: u16,
}

impl BrokerReader {
    /// Begins to connect; only a URL that cannot be read is an error.
    pub fn new(url: &str, management: &str, pools: BTreeMap<PoolName, u16>, shards: u16) -> anyhow::Result<Self> {
        let patience_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        let settings =
            RabbitSettings { name: "offpeak top".to_owned(), connection_timeout_ms: patience_ms, ..RabbitSettings::new(url) };
        let management = Some(management.to_owned()).filter(|url| !url.is_empty());
        Ok(Self { broker: RabbitBroker::connect(&settings)?, management, pools, shards })
    }

    /// Ends the connections.
    pub async fn close(&self) {
        let _left_behind = tokio::time::timeout(PATIENCE, self.broker.close()).await;
    }

    /// Reads the depths of the grid's queues, and what is wrong with the broker.
    pub async fn read(&self) -> Result<Queues, String> {
        let read = tokio::time::timeout(PATIENCE, self.try_read()).await;
        read.unwrap_or_else(|_late| Err(format!("it did not answer within {PATIENCE:?}")))
    }

    async fn try_read(&self) -> Result<Queues, String> {
        let mut queues = Queues { submit: self.lane(SUBMIT_QUEUE).await?, ..Queues::default() };
        for (pool, lanes) in &self.pools {
            let lanes = self.lanes(|lane| work_queue(pool, lane), *lanes).await?;
            queues.pools.insert(pool.clone(), lanes);
        }
        queues.outcomes = self.lanes(outcomes_queue, self.shards).await?;
        for origin in Origin::ALL {
            let parked = self.lane(&origin.queue()).await?.unwrap_or_default().ready;
            if parked > 0 {
                queues.dead.insert(origin.key(), parked);
            }
        }
        queues.alarms = self.alarms().await;
        Ok(queues)
    }

    async fn lane(&self, queue: &str) -> Result<Option<Lane>, String> {
        match self.broker.depth(queue).await {
            Ok(depth) => Ok(depth.map(Lane::from)),
            // Its last words: where and for how long is told anyway.
            Err(BrokerError::Unreachable { last, .. }) => Err(last),
            Err(error @ (BrokerError::Refused { .. } | BrokerError::Closed)) => Err(told(&error.into())),
        }
    }

    /// Those that are there.
    async fn lanes(&self, name: impl Fn(u16) -> String, count: u16) -> Result<Vec<Lane>, String> {
        let mut lanes = Vec::new();
        for lane in 0..count {
            lanes.extend(self.lane(&name(lane)).await?);
        }
        Ok(lanes)
    }

    async fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        match self.broker.link() {
            Link::Blocked(reason) => alarms.push(format!("the broker takes no messages: {reason}")),
            Link::Up | Link::Down(_) => {}
        }
        let Some(management) = &self.management else { return alarms };
        match rabbit::nodes(management, PATIENCE / 2).await {
            Ok(nodes) => nodes.iter().for_each(|node| of_node(node, &mut alarms)),
            Err(error) => alarms.push(format!("the broker's nodes are not seen: {error}")),
        }
        alarms
    }
}

fn of_node(node: &Node, alarms: &mut Vec<String>) {
    let troubles = [
        (!node.running, "is down"),
        (node.memory_alarm, "has its memory alarm on"),
        (node.disk_alarm, "has its disk alarm on"),
        (!node.partitions.is_empty(), "has lost sight of others"),
    ];
    alarms.extend(troubles.iter().filter(|(is_so, _)| *is_so).map(|(_, what)| format!("broker node {} {what}", node.name)));
}
