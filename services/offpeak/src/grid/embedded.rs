//! The whole grid in this process: `offpeak run`. The same services, on an in-memory broker and SQLite unless told otherwise.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aggregator::{Aggregator, AggregatorMetrics};
use anyhow::{Context as _, Result, anyhow};
use broker::{MemoryBroker, RabbitBroker, RabbitSettings};
use ports::clock::SystemClock;
use ports::store::DispatchStore as _;
use ports::{Broker, Clock as _, Store};
use producer::{PoolSettings, Producer, ProducerMetrics};
use protocol::{HostId, PoolName, address};
use service::scope::Reason;
use service::{Metrics, Readiness, Scope};
use store::{SqlStore, StoreOptions};
use tokio::sync::watch;
use uuid::Uuid;
use worker::cache::DiskCache;
use worker::{Lane, Worker, WorkerMetrics};

use super::settings::{DEFAULTS, Settings};
use super::{compile, open};

/// What the grid is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept.
    pub data: PathBuf,
    /// How many workers, each computing one unit at a time.
    pub workers: usize,
    /// The pool they serve.
    pub pool: PoolName,
    /// What an executor needs of memory, if that is more than the default.
    pub executor_bytes: u64,
    /// RabbitMQ instead of the in-memory broker.
    pub amqp: Option<String>,
    /// A database instead of the data folder's.
    pub database: Option<String>,
}

/// A running grid.
pub struct Grid {
    /// Producer and workers.
    computing: Watched,
    /// The aggregator, which settles what they leave.
    settling: Watched,
    store: Arc<SqlStore>,
    broker: Arc<dyn Broker>,
    shards: u16,
}

/// A unit that is computing has so long to finish when the run is interrupted; then it is handed back.
const DRAIN_MS: u64 = 5_000;
/// And everything has so long to end, the aggregator once more.
const GRACE: Duration = Duration::from_secs(20);
/// What was computed by then is settled within so long.
const SETTLING: Duration = Duration::from_secs(10);
/// How often the queues of outcomes are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// What a lost replica of an earlier run with a real broker may take of a round.
const MAX_EXPIRED: u32 = 1_000_000;
/// More lanes than this prove nothing: they exist so that replicas of a unit go to different workers.
const MAX_RUN_LANES: usize = 16;

impl Grid {
    /// Starts producer, workers and aggregator.
    pub async fn start(options: Options) -> Result<Self> {
        let settings: Settings = service::settings::load(DEFAULTS, None, std::iter::empty())?;
        let (computing, settling) = (Scope::new(), Scope::new());
        let lanes = u16::try_from(options.workers.clamp(1, MAX_RUN_LANES))?;
        let shards = settings.grid.shards;
        let topology = open::topology([(&options.pool, lanes)], shards);

        // Nothing is changed in either before it is known that no other grid makes use of them.
        let rabbit = match named(options.amqp.as_deref()) {
            Some(url) => Some(unused_broker(url).await.context(UNUSABLE)?),
            None => None,
        };
        let store = if let Some(url) = named(options.database.as_deref()) {
            unused_database(url).await?
        } else {
            let store = database(&open::database_url(&options.data)).await?;
            // The folder is locked, so whoever claimed anything in it is gone.
            store.free_claims().await?;
            store
        };
        let broker: Arc<dyn Broker> = if let Some(rabbit) = rabbit {
            rabbit.ensure_topology(&topology, true).await.context(UNUSABLE)?;
            open::close_with(&rabbit, &settling);
            rabbit
        } else {
            // The in-memory broker begins empty: what an earlier run had sent is due again.
            store.expire_replicas(SystemClock.now(), MAX_EXPIRED, true).await?;
            Arc::new(MemoryBroker::with_topology(&topology))
        };
        let metrics = Metrics::new("run", env!("CARGO_PKG_VERSION"))?;
        let parts = Parts { settings: &settings, broker: &broker, store: &store, metrics: &metrics };
        parts.producer(BTreeMap::from([(options.pool.clone(), PoolSettings { lanes })]))?.start(&computing);
        parts.aggregator()?.start(&settling);
        let workers = Workers::new(&settings, &options, &metrics)?;
        for number in 0..options.workers.max(1) {
            workers.make(number, lanes, shards, &broker)?.start(&computing);
        }
        Ok(Self { computing: Watched::new(computing), settling: Watched::new(settling), store, broker, shards })
    }

    /// The grid's store.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// The grid's broker.
    pub fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    /// Returns when the grid stopped although nobody asked it to.
    pub async fn failed(&self) -> anyhow::Error {
        let end = tokio::select! {
            end = self.computing.end() => end,
            end = self.settling.end() => end,
        };
        anyhow!(end.err().unwrap_or_else(|| "it ended".to_owned()))
    }

    /// Hands back what computes, settles what was computed, and ends.
    pub async fn drain(&self) -> Result<()> {
        let computed = self.computing.drain().await;
        if tokio::time::timeout(SETTLING, self.outcomes_taken()).await.is_err() {
            tracing::warn!("outcomes are left unsettled, and their units are computed again");
        }
        let settled = self.settling.drain().await;
        self.store.close().await;
        computed.and(settled).map_err(|error| anyhow!(error))
    }

    /// Waits until the aggregator has taken all outcomes, or has ended; what it has taken it settles before it ends.
    async fn outcomes_taken(&self) {
        for shard in 0..self.shards {
            let queue = address::outcomes_queue(shard);
            let waits = async || matches!(self.broker.depth(&queue).await, Ok(Some(depth)) if depth.ready > 0);
            while !self.settling.has_ended() && waits().await {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// A scope that a task joins.
struct Watched {
    scope: Scope,
    /// Its end, if it has come.
    ended: watch::Receiver<Option<Result<(), String>>>,
}

impl Watched {
    #[expect(clippy::disallowed_methods, reason = "this task joins the scope, so it cannot be on it")]
    fn new(scope: Scope) -> Self {
        let (sender, ended) = watch::channel(None);
        let joined = scope.clone();
        tokio::spawn(async move {
            let end = joined.join(GRACE).await.map(drop).map_err(|error| crate::exit::told(&error.into()));
            sender.send_replace(Some(end));
        });
        Self { scope, ended }
    }

    /// Stops its tasks, and returns when they have ended.
    async fn drain(&self) -> Result<(), String> {
        self.scope.drain(Reason::Request("the run's end".to_owned()));
        self.end().await
    }

    async fn end(&self) -> Result<(), String> {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.map_or(Ok(()), |end| end.clone().unwrap_or(Ok(())))
    }

    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }
}

const UNUSABLE: &str = "cannot use the broker";

/// A server's URL; a variable that is set to nothing names none.
fn named(url: Option<&str>) -> Option<&str> {
    url.filter(|url| !url.is_empty())
}

/// A broker on which no grid runs.
async fn unused_broker(url: &str) -> Result<Arc<RabbitBroker>> {
    let settings = RabbitSettings { setup_patience_ms: Some(15_000), ..RabbitSettings::new(url) };
    let broker = Arc::new(RabbitBroker::connect(&settings)?);
    open::wait_until_unused(&broker).await?;
    Ok(broker)
}

/// A database on which no grid runs.
async fn unused_database(url: &str) -> Result<Arc<SqlStore>> {
    let look = SqlStore::connect(url, StoreOptions::default()).await.context(UNOPENED)?;
    let unserved = open::wait_until_unserved(&look).await;
    look.close().await;
    unserved.context("cannot use the database")?;
    database(url).await
}

const UNOPENED: &str = "cannot open the database";

/// A database with its tables, for a grid.
async fn database(url: &str) -> Result<Arc<SqlStore>> {
    let store = SqlStore::connect(url, StoreOptions { serves: true, ..StoreOptions::default() }).await.context(UNOPENED)?;
    store.migrate().await.context("cannot create the database's tables")?;
    Ok(Arc::new(store))
}

/// What producer and aggregator are made of.
struct Parts<'a> {
    settings: &'a Settings,
    broker: &'a Arc<dyn Broker>,
    store: &'a Arc<SqlStore>,
    metrics: &'a Metrics,
}

impl Parts<'_> {
    fn producer(&self, pools: BTreeMap<PoolName, PoolSettings>) -> Result<Producer> {
        let shards = self.settings.grid.shards;
        Ok(Producer {
            name: format!("run-{}", Uuid::now_v7()),
            broker: Arc::clone(self.broker),
            store: self.store.clone(),
            publish: compile::bounded_publisher(&self.settings.publisher)?,
            generation: sandbox::generation(),
            clock: Arc::new(SystemClock),
            settings: Arc::new(producer::ProducerSettings { pools, shards, ..self.settings.producer.clone() }),
            metrics: ProducerMetrics::new(self.metrics)?,
            standings: producer::Standings::default(),
            ready: Readiness::new().check("admission"),
        })
    }

    fn aggregator(&self) -> Result<Aggregator> {
        Ok(Aggregator {
            broker: Arc::clone(self.broker),
            store: self.store.clone(),
            clock: Arc::new(SystemClock),
            shards: self.settings.grid.shards,
            // Without a number of days: the folder is its user's, and what is in it stays.
            settings: Arc::new(self.settings.aggregator.clone()),
            metrics: AggregatorMetrics::new(self.metrics)?,
            ready: Readiness::new().check("settling"),
        })
    }
}

/// What the workers of one run share.
struct Workers {
    run: Uuid,
    pool: PoolName,
    cache: Arc<DiskCache>,
    settings: Arc<worker::WorkerSettings>,
    memory_bytes: u64,
    metrics: WorkerMetrics,
    readiness: Readiness,
}

impl Workers {
    fn new(settings: &Settings, options: &Options, metrics: &Metrics) -> Result<Self> {
        Ok(Self {
            run: Uuid::now_v7(),
            pool: options.pool.clone(),
            cache: Arc::new(DiskCache::open(options.data.join("cache"), settings.worker.cache_bytes)?),
            settings: Arc::new(worker::WorkerSettings { drain_timeout_ms: DRAIN_MS, ..settings.worker.own.clone() }),
            memory_bytes: settings.worker.memory_bytes.max(options.executor_bytes),
            metrics: WorkerMetrics::new(metrics)?,
            readiness: Readiness::new(),
        })
    }

    fn make(&self, number: usize, lanes: u16, shards: u16, broker: &Arc<dyn Broker>) -> Result<Worker> {
        let run = self.run.simple().to_string();
        let suffix = run.get(20..).unwrap_or("run");
        Ok(Worker {
            host: HostId::new(format!("local-{suffix}-{number}"))?,
            pool: self.pool.clone(),
            lane: Lane::Fixed(u16::try_from(number % usize::from(lanes))?),
            shards,
            broker: Arc::clone(broker),
            clock: Arc::new(SystemClock),
            execute: open::executors(1, self.memory_bytes)?,
            cache: Some(Arc::clone(&self.cache)),
            settings: Arc::clone(&self.settings),
            metrics: self.metrics.clone(),
            ready: self.readiness.check("lane"),
        })
    }
}
