//! One service as a process: settings, telemetry, scope, admin, then what it stands on and the service; until told to stop.

mod aggregator;
mod gauges;
#[cfg(feature = "compiler")]
mod producer;
mod worker;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::{RabbitBroker, RabbitSettings, Topology, TopologyError};
use ports::Broker as _;
use ports::broker::Link;
use rules::pricing::RateCard;
use service::admin::{self, Admin, AdminError};
use service::metrics::{IntGauge, IntGaugeVec};
use service::scope::TaskError;
use service::signals::{self, Signals};
use service::{CancellationToken, Metrics, Readiness, ReadyCheck, Scope, Startup};
use store::{SqlStore, StoreError};

use super::open;
use super::settings::{Service, Settings};
use super::terms::Terms;
use crate::exit::{self, Refused};

pub use aggregator::aggregator_main;
#[cfg(feature = "compiler")]
pub use producer::producer_main;
pub use worker::worker_main;

/// The names of the checks that several services have.
const BROKER: &str = "broker";
const DATABASE: &str = "database";

/// What precedes the reason when a service ends over its broker.
const UNUSABLE: &str = "cannot use the broker";

/// How often readiness looks at the broker's link, and at the queues that are to be read.
const LINK_EVERY: Duration = Duration::from_millis(500);

/// How often readiness asks the database for a sign of life, and how long it waits for one.
const PING_EVERY: Duration = Duration::from_secs(2);

/// A service's process before it does anything.
struct Process {
    service: Service,
    /// What must hold before it is ready.
    checks: Vec<&'static str>,
    signals: Signals,
    settings: Settings,
    /// What customers are promised, in services that keep it.
    terms: Option<Terms>,
}

impl Process {
    /// Listens to signals and reads the settings. `check` is what must hold beside broker and database, and the service knows of.
    fn new(service: Service, config: Option<&Path>, check: &'static str) -> Result<Self> {
        let signals = Signals::install()?;
        let settings = Settings::load_for(service, config)?;
        let (mut checks, mut terms) = (vec![BROKER], None);
        if service.keeps_state() {
            checks.push(DATABASE);
            terms = Some(Terms::load(&settings).map_err(|error| Refused::Usage(error.to_string()))?);
        }
        checks.push(check);
        Ok(Self { service, checks, signals, settings, terms })
    }

    /// Starts the service and runs it until it is told to stop; its exit code.
    async fn run<F>(self, start: impl FnOnce(Start) -> F) -> Result<u8>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let Self { service, checks, signals, settings, terms } = self;
        let name = service.name();
        service::telemetry::init(settings.log.format, &settings.log.filter)
            .map_err(|error| Refused::Usage(exit::told(&error.into())))?;
        let scope = Scope::new();
        let mut about = settings.shared();
        about.extend(terms.iter().flat_map(Terms::shared));
        about.extend([("service", name.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())]);
        let (startup, readiness, liveness) = (Startup::new(), Readiness::new(), scope.liveness());
        // All of them before anyone can ask.
        for check in checks {
            readiness.check(check);
        }
        let metrics = Metrics::new(name, env!("CARGO_PKG_VERSION"))?;
        let start = start(Start {
            name,
            settings: settings.clone(),
            terms,
            metrics: metrics.clone(),
            startup: startup.clone(),
            readiness: readiness.clone(),
            scope: scope.clone(),
        });
        let unready = readiness.clone();
        serve_admin(settings.admin.address, Admin { startup, readiness, liveness, metrics, about }, &scope).await?;
        let grace = Duration::from_millis(settings.grid.shutdown_grace_ms);
        let stopping = scope.stopping();
        scope.spawn("readiness", async move {
            stopping.cancelled().await;
            unready.drain();
            Ok(())
        });
        scope.spawn("start", async move { start.await.map_err(TaskError::from) });
        tracing::info!("offpeak {name} {} starts", env!("CARGO_PKG_VERSION"));
        let ended = signals::run(&scope, signals, grace).await;
        match &ended {
            Ok(_) => tracing::info!("offpeak {name} has ended well"),
            Err(error) => tracing::error!("offpeak {name} ends: {}", service::told(error)),
        }
        Ok(signals::exit_code(&ended))
    }
}

async fn serve_admin(address: SocketAddr, admin: Admin, scope: &Scope) -> Result<()> {
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
    name: &'static str,
    settings: Settings,
    terms: Option<Terms>,
    metrics: Metrics,
    startup: Startup,
    readiness: Readiness,
    scope: Scope,
}

impl Start {
    /// Prices and retention.
    fn promised(&self) -> (Option<Arc<RateCard>>, u32) {
        self.terms.as_ref().map_or((None, 0), |terms| (terms.rates.clone(), terms.results_days))
    }

    /// Connects to the broker and sees to the topology, for as long as it takes; what it waits for is told from the
    /// beginning. A refusal that is final is an error, and `None` that the service was told to stop first.
    async fn broker(&self) -> Result<Option<Arc<RabbitBroker>>> {
        let stopping = self.scope.stopping();
        let mut settings = RabbitSettings::new(self.settings.amqp.url.expose());
        settings.name = format!("offpeak {}", self.name);
        let topology = self.topology()?;
        let broker = Arc::new(RabbitBroker::connect(&settings).context(UNUSABLE)?);
        open::close_with(&broker, &self.scope);
        let link =
            self.metrics.gauge_with("broker_link", "1 for the state that the connection to the broker is in.", &["state"])?;
        let check = self.readiness.check(BROKER);
        self.scope.spawn("broker link", watch_link(Arc::clone(&broker), check, link, stopping.clone()));
        let attempt = || async {
            match broker.ensure_topology(&topology, self.settings.amqp.declare).await {
                Err(TopologyError::Broker(error)) => Err(error),
                ensured => Ok(ensured),
            }
        };
        let ensuring = service::patience::until_done("connecting to the broker", &stopping, attempt);
        let ensured = tokio::select! {
            ensured = ensuring => ensured,
            () = stopping.cancelled() => None,
        };
        let Some(ensured) = ensured else { return Ok(None) };
        ensured.context(UNUSABLE)?;
        Ok(Some(broker))
    }

    fn topology(&self) -> Result<Topology> {
        let pools = self.settings.pools().map_err(Refused::Usage)?;
        Ok(open::topology(pools.iter().map(|(name, pool)| (name, pool.lanes)), self.settings.grid.shards))
    }

    /// Opens the database, for as long as it takes; `None` if the service was told to stop first. The process has started
    /// with that, or when the database is away; tables that this version cannot use hold it up.
    async fn store(&self) -> Result<Option<Arc<SqlStore>>> {
        let (check, stopping) = (self.readiness.check(DATABASE), self.scope.stopping());
        check.not_ready("connecting");
        let up = self.metrics.gauge("database_up", "1 while the database answers.")?;
        let database = &self.settings.database;
        let failed = |error: StoreError| {
            let refused = matches!(error, StoreError::Unfit { .. } | StoreError::Corrupt { .. });
            let reason = exit::told(&error.into());
            if refused {
                self.startup.held_up(format!("{DATABASE}: {reason}"));
            } else {
                self.startup.started();
            }
            check.not_ready(&reason);
            reason
        };
        let store = open::patient_store(database.url.expose(), database.max_connections, &stopping, failed).await;
        if let Some(store) = &store {
            self.startup.started();
            self.scope.spawn("database ping", watch_database(Arc::clone(store), check, up, stopping));
        }
        Ok(store)
    }
}

async fn watch_link(
    broker: Arc<RabbitBroker>,
    check: ReadyCheck,
    link: IntGaugeVec,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    loop {
        let now = match broker.link() {
            Link::Up => {
                match broker.unread() {
                    None => check.ready(),
                    Some(reason) => check.not_ready(reason),
                }
                "up"
            }
            Link::Blocked(reason) => {
                check.not_ready(format!("the broker takes no messages: {reason}"));
                "blocked"
            }
            Link::Down(reason) => {
                check.not_ready(reason);
                "down"
            }
        };
        for state in ["up", "blocked", "down"] {
            link.with_label_values(&[state]).set((state == now).into());
        }
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(LINK_EVERY) => {}
        }
    }
}

async fn watch_database(
    store: Arc<SqlStore>,
    check: ReadyCheck,
    up: IntGauge,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    loop {
        match tokio::time::timeout(PING_EVERY, store.ping()).await {
            Ok(Ok(())) => check.ready(),
            Ok(Err(error)) => check.not_ready(exit::told(&error.into())),
            Err(_late) => check.not_ready(format!("the database does not answer within {PING_EVERY:?}")),
        }
        up.set(check.is_ready().into());
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(PING_EVERY) => {}
        }
    }
}
