//! One service as a process: settings, telemetry, scope, admin, then store, broker and the service; until told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aggregator::{Aggregator, AggregatorMetrics};
use anyhow::{Context as _, Result};
use broker::{RabbitBroker, RabbitSettings};
use ports::broker::Link;
use ports::clock::SystemClock;
use ports::{Broker, Execute as _};
use producer::{Producer, ProducerMetrics};
use protocol::{HostId, address};
use service::admin::{self, Admin, AdminError};
use service::scope::TaskError;
use service::signals::{self, Signals};
use service::{CancellationToken, Liveness, Metrics, Readiness, ReadyCheck, Scope};
use store::SqlStore;
use uuid::Uuid;
use worker::cache::DiskCache;
use worker::{Worker, WorkerMetrics};

use super::open;
use super::settings::{DEFAULTS, Settings};
use crate::exit::{self, Refused};

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Admits, splits, dispatches.
    Producer,
    /// Computes.
    Worker,
    /// Settles, assembles, replies.
    Aggregator,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Worker => "worker",
            Self::Aggregator => "aggregator",
        }
    }

    fn needs_database(self) -> bool {
        match self {
            Self::Producer | Self::Aggregator => true,
            Self::Worker => false,
        }
    }
}

/// How often readiness looks at the broker's link.
const LINK_EVERY: Duration = Duration::from_millis(500);

/// Runs a service until it is told to stop; its exit code.
pub async fn service_main(kind: Kind, config: Option<&Path>) -> Result<u8> {
    let signals = Signals::install()?;
    let settings = load(kind, config)?;
    service::telemetry::init(settings.log.format, &settings.log.filter).map_err(|e| Refused::Usage(exit::told(&e.into())))?;
    let scope = Scope::new();
    let metrics = Metrics::new(kind.name(), env!("CARGO_PKG_VERSION"))?;
    let readiness = Readiness::new();
    let admin = Admin { readiness: readiness.clone(), liveness: Liveness::new(), metrics: metrics.clone() };
    serve_admin(&settings, admin, &scope).await?;
    let grace = Duration::from_millis(settings.grid.shutdown_grace_ms);
    let unready = readiness.clone();
    let stopping = scope.stopping();
    scope.spawn("readiness", async move {
        stopping.cancelled().await;
        unready.drain();
        Ok(())
    });
    let start = Start { kind, settings, metrics, readiness, scope: scope.clone() };
    scope.spawn("start", async move { start.run().await.map_err(TaskError::from) });
    tracing::info!("offpeak {} {} starts", kind.name(), env!("CARGO_PKG_VERSION"));
    let ended = signals::run(&scope, signals, grace).await;
    match &ended {
        Ok(_) => tracing::info!("offpeak {} has ended well", kind.name()),
        Err(error) => tracing::error!("offpeak {} ends: {}", kind.name(), source_of(error)),
    }
    Ok(signals::exit_code(&ended))
}

fn source_of(error: &service::ScopeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn load(kind: Kind, config: Option<&Path>) -> Result<Settings> {
    let settings: Settings = service::settings::load(DEFAULTS, config, service::settings::process_env())
        .map_err(|error| Refused::Usage(error.to_string()))?;
    if kind.needs_database() && settings.database.url.is_empty() {
        let problem = "database.url is not set: name the database in the file given with --config, or in OFFPEAK__DATABASE__URL";
        return Err(Refused::Usage(problem.to_owned()).into());
    }
    Ok(settings)
}

async fn serve_admin(settings: &Settings, admin: Admin, scope: &Scope) -> Result<()> {
    let address = settings.admin.address;
    let listener = match admin::bind(address).await {
        Err(AdminError::Bind { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            let free = SocketAddr::new(address.ip(), 0);
            let listener = admin::bind(free).await?;
            tracing::warn!("admin address {address} is taken, {} is used instead", listener.local_addr()?);
            listener
        }
        bound => bound?,
    };
    tracing::info!("admin http listens on {}", listener.local_addr().unwrap_or((Ipv4Addr::LOCALHOST, 0).into()));
    let closing = scope.closing();
    scope.spawn_background("admin http", async move { Ok(admin::run(listener, admin, closing).await?) });
    Ok(())
}

/// What starting a service needs.
struct Start {
    kind: Kind,
    settings: Settings,
    metrics: Metrics,
    readiness: Readiness,
    scope: Scope,
}

impl Start {
    /// Waits for store and broker, then starts the service.
    async fn run(self) -> Result<()> {
        let stopping = self.scope.stopping();
        let check = self.readiness.check("broker");
        let Some(broker) = self.broker(&stopping).await? else { return Ok(()) };
        self.scope.spawn("broker link", watch_link(Arc::clone(&broker), check, stopping.clone()));
        match self.kind {
            Kind::Worker => self.worker(broker).await,
            Kind::Producer | Kind::Aggregator => {
                let check = self.readiness.check("database");
                check.not_ready("connecting");
                let database = &self.settings.database;
                let Some(store) = open::patient_store(database.url.expose(), database.max_connections, &stopping).await else {
                    return Ok(());
                };
                check.ready();
                self.start_with_store(broker, store)
            }
        }
    }

    /// Connects to the broker and sees to the topology, for as long as it takes; a refusal that is final is an error.
    async fn broker(&self, stopping: &CancellationToken) -> Result<Option<Arc<RabbitBroker>>> {
        let mut settings = RabbitSettings::new(self.settings.amqp.url.expose());
        settings.name = format!("offpeak {}", self.kind.name());
        let pools = self.settings.pools().map_err(Refused::Usage)?;
        let topology = open::topology(pools.iter().map(|(name, pool)| (name, pool.lanes)), self.settings.grid.shards);
        let declare = self.settings.amqp.declare;
        let attempt = || async {
            match open::rabbit(&settings, &topology, declare).await {
                Ok(broker) => Ok(Ok(broker)),
                Err(error) if open::is_final(&error) => Ok(Err(error)),
                Err(error) => Err(exit::told(&error)),
            }
        };
        let connecting = service::patience::until_done("connecting to the broker", stopping, attempt);
        let connected = tokio::select! {
            connected = connecting => connected,
            () = stopping.cancelled() => None,
        };
        let Some(connected) = connected else { return Ok(None) };
        let broker = connected.context("cannot use the broker")?;
        open::close_with(&broker, &self.scope);
        Ok(Some(broker))
    }

    fn start_with_store(&self, broker: Arc<RabbitBroker>, store: Arc<SqlStore>) -> Result<()> {
        let settings = &self.settings;
        if self.kind == Kind::Aggregator {
            let metrics = AggregatorMetrics::new(&self.metrics)?;
            let (shards, own) = (settings.grid.shards, Arc::new(settings.aggregator.clone()));
            Aggregator { broker, store, clock: Arc::new(SystemClock), shards, settings: own, metrics }.start(&self.scope);
            return Ok(());
        }
        let pools = settings.pools().map_err(Refused::Usage)?;
        let producer = Producer {
            name: format!("producer-{}", Uuid::now_v7()),
            broker,
            store,
            publish: open::bounded_publisher(&settings.publisher)?,
            generation: sandbox::generation(),
            clock: Arc::new(SystemClock),
            settings: Arc::new(producer::ProducerSettings { pools, shards: settings.grid.shards, ..settings.producer.clone() }),
            metrics: ProducerMetrics::new(&self.metrics)?,
        };
        producer.start(&self.scope);
        Ok(())
    }

    async fn worker(&self, broker: Arc<RabbitBroker>) -> Result<()> {
        let section = &self.settings.worker;
        let host = match &section.host {
            Some(host) => host.clone(),
            None => made_up_host()?,
        };
        let slots = if section.slots == 0 { crate::commands::cores() } else { section.slots };
        let lane = match section.lane {
            Some(lane) => lane,
            None => self.emptiest_lane(broker.as_ref(), &host).await?,
        };
        let cache = DiskCache::open(cache_dir(&section.cache_dir), section.cache_bytes)?;
        let execute = open::executors(slots, section.memory_bytes)?;
        let pool = section.pool.clone();
        tracing::info!("host {host} serves lane {lane} of pool {pool} with {} slots", execute.slots());
        let worker = Worker {
            host,
            pool,
            lane,
            shards: self.settings.grid.shards,
            broker,
            execute,
            cache: Some(Arc::new(cache)),
            settings: Arc::new(section.own.clone()),
            metrics: WorkerMetrics::new(&self.metrics)?,
            ready: self.readiness.check("lane"),
        };
        worker.start(&self.scope);
        Ok(())
    }

    /// The lane of the pool with the fewest workers; among equals one by the host's name, so that workers that start
    /// together spread.
    async fn emptiest_lane(&self, broker: &RabbitBroker, host: &HostId) -> Result<u16> {
        let section = &self.settings.worker;
        let pools = self.settings.pools().map_err(Refused::Usage)?;
        let lanes = pools.get(&section.pool).map_or(1, |pool| pool.lanes);
        let start = protocol::Digest::of(host.as_str().as_bytes()).0[0];
        // Among those, one in which units wait: its last worker may just have died.
        let mut best = ((u32::MAX, std::cmp::Reverse(0)), 0);
        for offset in 0..lanes {
            let lane = (u16::from(start) + offset) % lanes;
            let depth = broker.depth(&address::work_queue(&section.pool, lane)).await?.unwrap_or_default();
            let rank = (depth.consumers, std::cmp::Reverse(depth.ready));
            if rank < best.0 {
                best = (rank, lane);
            }
        }
        Ok(best.1)
    }
}

async fn watch_link(broker: Arc<RabbitBroker>, check: ReadyCheck, stopping: CancellationToken) -> Result<(), TaskError> {
    loop {
        match broker.link() {
            Link::Up => check.ready(),
            Link::Blocked(reason) => check.not_ready(format!("the broker takes no messages: {reason}")),
            Link::Down(reason) => check.not_ready(reason),
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(LINK_EVERY) => {}
        }
    }
}

/// A name from the machine's own and a random part: several workers may share a machine.
fn made_up_host() -> Result<HostId> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String = name.trim().to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    let random = Uuid::new_v4().simple().to_string();
    let suffix = random.get(..8).unwrap_or("0");
    let plain = if plain.is_empty() { "host".to_owned() } else { plain };
    Ok(HostId::new(format!("{plain}-{suffix}"))?)
}

fn cache_dir(set: &str) -> PathBuf {
    if set.is_empty() {
        let user = rustix::process::getuid().as_raw();
        std::env::temp_dir().join(format!("offpeak-cache-{user}"))
    } else {
        PathBuf::from(set)
    }
}
