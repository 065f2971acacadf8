//! The simulated grid: the real services as processes that are started, killed, drained and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aggregator::{Aggregator, AggregatorMetrics, AggregatorSettings};
use broker::MemoryBroker;
use broker::topology::Topology;
use ports::Broker;
use producer::{PoolSettings, Producer, ProducerMetrics, ProducerSettings};
use protocol::HostId;
use service::scope::Reason;
use service::{Ended, Metrics, Readiness, Scope, ScopeError};
use testkit::MemoryStore;
use testkit::simulator::{Broken, Database, Ether, Host, Network, Publisher, Pulse, SkewedClock};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use worker::{Lane, Worker, WorkerMetrics, WorkerSettings};

use crate::plan::{Plan, pool};

/// How long a drain may take before the process is cut off, as in production.
const GRACE: Duration = Duration::from_secs(30);
/// A process that ended is started again after so long.
const RESTART: Duration = Duration::from_secs(1);

/// What a process is.
#[derive(Debug, Clone, Copy)]
enum Role {
    Producer,
    Aggregator,
    Host(usize),
}

/// A place where a process runs, or will again.
struct Place {
    name: String,
    role: Role,
    ahead: Duration,
    running: Option<Process>,
    start_at: Instant,
    /// How often it was started.
    starts: u32,
}

/// A running process.
struct Process {
    scope: Scope,
    pulse: Pulse,
    network: Network,
    joining: AbortHandle,
}

/// How a process of a place ended.
type End = (usize, u32, Result<Ended, ScopeError>);

/// The grid.
pub(crate) struct Grid {
    pub(crate) broker: MemoryBroker,
    pub(crate) store: MemoryStore,
    pub(crate) ether: Arc<Ether>,
    pub(crate) topology: Topology,
    pub(crate) aggregating: AggregatorMetrics,
    broken: Option<Broken>,
    begun: Instant,
    shards: u16,
    lanes: u16,
    hosts: Vec<(Arc<Host>, u16)>,
    pub(crate) producing: ProducerMetrics,
    working: WorkerMetrics,
    places: Vec<Place>,
    ends: JoinSet<End>,
}

impl Grid {
    /// A grid whose processes start with the first [`Self::tick`].
    pub(crate) fn new(plan: &Plan, ether: &Arc<Ether>, broken: Option<Broken>) -> Self {
        let begun = Instant::now();
        let mut dice = plan.dice.clone();
        let host = |host: &crate::plan::HostPlan| {
            let executors = Host::new(Arc::clone(ether), host.nature, host.slowness, host.slots);
            (Arc::new(executors), host.lane)
        };
        let topology = Topology::grid(&[(pool(), plan.lanes)], plan.shards);
        let metrics = Metrics::new("simulation", "0").expect("metrics");
        let roles = std::iter::repeat_n(Role::Producer, plan.producers)
            .chain(std::iter::repeat_n(Role::Aggregator, plan.aggregators))
            .chain((0..plan.hosts.len()).map(Role::Host));
        let places = roles.enumerate().map(|(number, role)| {
            let kind = match role {
                Role::Producer => "producer",
                Role::Aggregator => "aggregator",
                Role::Host(_) => "host",
            };
            let ahead = Duration::from_millis(dice.between(0, plan.skew_ms));
            Place { name: format!("{kind}-{number}"), role, ahead, running: None, start_at: begun, starts: 0 }
        });
        let places = places.collect();
        Self {
            broker: MemoryBroker::with_topology(&topology),
            store: MemoryStore::new(Arc::new(SkewedClock::new(begun, Duration::ZERO))),
            ether: Arc::clone(ether),
            topology,
            aggregating: AggregatorMetrics::new(&metrics).expect("metrics"),
            broken,
            begun,
            shards: plan.shards,
            lanes: plan.lanes,
            hosts: plan.hosts.iter().map(host).collect(),
            producing: ProducerMetrics::new(&metrics).expect("metrics"),
            working: WorkerMetrics::new(&metrics).expect("metrics"),
            places,
            ends: JoinSet::new(),
        }
    }

    /// Notices which processes ended, and starts those whose time has come. A panic is an error.
    pub(crate) fn tick(&mut self) -> Result<(), String> {
        while let Some(ended) = self.ends.try_join_next() {
            let Ok((number, starts, end)) = ended else { continue };
            let place = &mut self.places[number];
            if place.starts != starts || place.running.is_none() {
                continue;
            }
            let how = end.as_ref().map_or_else(explained, |end| format!("{end:?}"));
            self.ether.trace.note(format_args!("{} ends: {how}", place.name));
            if let Err(ScopeError::Panicked { task, message }) = end {
                return Err(format!("task {task} of {} panicked: {message}", place.name));
            }
            place.start_at = Instant::now() + RESTART;
            place.running = None;
        }
        for number in 0..self.places.len() {
            if self.places[number].running.is_none() && self.places[number].start_at <= Instant::now() {
                self.start(number);
            }
        }
        Ok(())
    }

    fn start(&mut self, number: usize) {
        let place = &mut self.places[number];
        place.starts += 1;
        self.ether.trace.note(format_args!("{} starts", place.name));
        let name = format!("{}-{}", place.name, place.starts);
        let (scope, pulse) = (Scope::new(), Pulse::default());
        let inner: Arc<dyn Broker> = Arc::new(self.broker.clone());
        let network = Network::new(&place.name, inner, Arc::clone(&self.ether), pulse.clone(), self.broken);
        let database = Database::new(Arc::new(self.store.clone()), Arc::clone(&self.ether), pulse.clone(), self.broken);
        let parts = Parts { network: network.clone(), database, clock: Arc::new(SkewedClock::new(self.begun, place.ahead)) };
        match place.role {
            Role::Producer => self.producer(name, parts).start(&scope),
            Role::Aggregator => self.aggregator(parts).start(&scope),
            Role::Host(host) => self.worker(host, parts).start(&scope),
        }
        let (joined, starts) = (scope.clone(), self.places[number].starts);
        let joining = self.ends.spawn(async move { (number, starts, joined.join(GRACE).await) });
        self.places[number].running = Some(Process { scope, pulse, network, joining });
    }

    fn producer(&self, name: String, parts: Parts) -> Producer {
        let settings = ProducerSettings {
            lease_ms: 5_000,
            max_unit_ms: 2_000,
            replica_deadline_ms: 20_000,
            idle_ms: 250,
            require_user_id: true,
            operator: String::new(),
            pools: BTreeMap::from([(pool(), PoolSettings { lanes: self.lanes })]),
            shards: self.shards,
            rates: None,
            results_days: 30,
        };
        Producer {
            name,
            broker: Arc::new(parts.network),
            store: Arc::new(parts.database),
            publish: Arc::new(Publisher),
            generation: "simulated".to_owned(),
            clock: parts.clock,
            settings: Arc::new(settings),
            metrics: self.producing.clone(),
            standings: producer::Standings::default(),
            ready: Readiness::new().check("admission"),
        }
    }

    fn aggregator(&self, parts: Parts) -> Aggregator {
        let settings =
            AggregatorSettings { batch: 50, sweep_ms: 1_000, relay_ms: 500, mirror_ms: 60_000, rates: None, results_days: 30 };
        Aggregator {
            broker: Arc::new(parts.network),
            store: Arc::new(parts.database),
            clock: parts.clock,
            shards: self.shards,
            settings: Arc::new(settings),
            metrics: self.aggregating.clone(),
            ready: Readiness::new().check("settling"),
        }
    }

    fn worker(&self, number: usize, parts: Parts) -> Worker {
        let (execute, lane) = self.hosts[number].clone();
        Worker {
            host: HostId::new(format!("host-{number}")).expect("a name"),
            pool: pool(),
            lane: Lane::Fixed(lane),
            shards: self.shards,
            broker: Arc::new(parts.network),
            clock: parts.clock,
            execute,
            cache: None,
            settings: Arc::new(WorkerSettings { drain_timeout_ms: 2_000, max_deliveries: 10 }),
            metrics: self.working.clone(),
            ready: Readiness::new().check("lane"),
        }
    }

    /// Kills a process; it starts again after a while.
    pub(crate) fn crash(&mut self, number: usize, away: Duration) {
        let place = &mut self.places[number];
        place.start_at = Instant::now() + away;
        let Some(process) = place.running.take() else { return };
        self.ether.trace.note(format_args!("{} is killed", place.name));
        process.pulse.kill();
        process.network.cut();
        // The scope's tasks are dropped with its last handle, at whatever they wait for.
        process.joining.abort();
    }

    /// Kills all that use the store.
    pub(crate) fn crash_services(&mut self, away: Duration) {
        for number in 0..self.places.len() {
            if !matches!(self.places[number].role, Role::Host(_)) {
                self.crash(number, away);
            }
        }
    }

    /// Tells a process to end.
    pub(crate) fn drain(&mut self, number: usize) {
        if let Some(process) = &self.places[number].running {
            self.ether.trace.note(format_args!("{} is told to end", self.places[number].name));
            process.scope.drain(Reason::Terminate);
        }
    }

    /// Cuts a process's connection.
    pub(crate) fn cut(&mut self, number: usize) {
        if let Some(process) = &self.places[number].running {
            process.network.cut();
        }
    }

    /// Stops a process for a while; the broker gives up its connection meanwhile.
    pub(crate) fn pause(&mut self, number: usize, duration: Duration) {
        if let Some(process) = &self.places[number].running {
            self.ether.trace.note(format_args!("{} stands still for {duration:?}", self.places[number].name));
            process.pulse.pause(duration);
            process.network.cut();
        }
    }

    /// A connection for someone beside the grid's processes.
    pub(crate) fn connection(&self, name: &str) -> Network {
        Network::new(name, Arc::new(self.broker.clone()), Arc::clone(&self.ether), Pulse::default(), None)
    }
}

fn explained(error: &ScopeError) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// A process's connections and clock.
struct Parts {
    network: Network,
    database: Database,
    clock: Arc<SkewedClock>,
}
