//! The services' settings, one file for all of them: `default.toml` beside this file is their manual.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use aggregator::AggregatorSettings;
use producer::{PoolSettings, ProducerSettings};
use protocol::{HostId, PoolName};
use serde::Deserialize;
use service::settings::{Mistake, Secret, Validate, optional};
use service::telemetry::Format;
use worker::WorkerSettings;

use super::terms::Terms;
use crate::exit::{self, Refused};

/// The defaults, which are the manual.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settings {
    pub(crate) log: Log,
    pub(crate) admin: Admin,
    pub(crate) amqp: Amqp,
    pub(crate) database: Database,
    pub(crate) grid: GridSettings,
    pub(crate) producer: ProducerSettings,
    #[cfg_attr(not(feature = "compiler"), expect(dead_code, reason = "read by the producer only"))]
    pub(crate) publisher: PublisherSettings,
    pub(crate) worker: WorkerSection,
    pub(crate) aggregator: AggregatorSettings,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) filter: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Amqp {
    pub(crate) url: Secret,
    pub(crate) declare: bool,
    #[cfg_attr(not(feature = "compiler"), expect(dead_code, reason = "read by the producer only"))]
    pub(crate) management_url: Secret,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Database {
    pub(crate) url: Secret,
    pub(crate) max_connections: u32,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GridSettings {
    pub(crate) pools: String,
    pub(crate) shards: u16,
    pub(crate) shutdown_grace_ms: u64,
    pub(crate) rate_card: String,
    pub(crate) results_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(not(feature = "compiler"), expect(dead_code, reason = "read by the producer only"))]
pub(crate) struct PublisherSettings {
    pub(crate) cpu_seconds: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) wall_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WorkerSection {
    pub(crate) pool: PoolName,
    #[serde(deserialize_with = "optional")]
    pub(crate) lane: Option<u16>,
    #[serde(deserialize_with = "optional")]
    pub(crate) host: Option<HostId>,
    pub(crate) slots: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) cache_dir: String,
    pub(crate) cache_bytes: u64,
    #[serde(flatten)]
    pub(crate) own: WorkerSettings,
}

/// A service of the grid, which asks of the settings what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    #[cfg(feature = "compiler")]
    Producer,
    Worker,
    Aggregator,
}

impl Service {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "compiler")]
            Self::Producer => "producer",
            Self::Worker => "worker",
            Self::Aggregator => "aggregator",
        }
    }

    /// Whether it keeps the grid's state, and its terms; a worker never sees the database.
    pub(crate) fn keeps_state(self) -> bool {
        self != Self::Worker
    }

    /// What it lacks in these settings.
    fn lacks(self, settings: &Settings) -> Vec<Mistake> {
        if !self.keeps_state() {
            return settings.lane_mistake().into_iter().collect();
        }
        let unset = settings.database.url.is_empty().then(|| {
            let way_out = "name the database in the file given with --config, or in OFFPEAK__DATABASE__URL";
            Mistake::new("database.url", "is not set").way_out(way_out)
        });
        let terms = Terms::load(settings).err();
        unset.into_iter().chain(terms.iter().flat_map(|error| error.mistakes().iter().cloned())).collect()
    }
}

/// Lanes are queues, and each is asked for its depth many times a second.
pub(crate) const MAX_LANES: u16 = 64;
/// Shards are queues with a consumer each in every aggregator.
const MAX_SHARDS: u16 = 64;
/// After its drain a worker hands back for 5 s what it could not finish, and its other tasks have some time to end.
const HAND_BACK_MS: u64 = 10_000;
/// A century: beyond it is a slip, 0 keeps results for ever.
const MAX_RESULTS_DAYS: u32 = 36_500;

impl Settings {
    /// The defaults, a file over them, and the environment over both.
    pub(crate) fn load(config: Option<&Path>) -> anyhow::Result<Self> {
        let loaded = service::settings::load(DEFAULTS, config, service::settings::process_env());
        loaded.map_err(|error| Refused::Usage(error.to_string()).into())
    }

    /// The same for one service, with all that it needs.
    pub(crate) fn load_for(service: Service, config: Option<&Path>) -> anyhow::Result<Self> {
        let env = service::settings::process_env();
        let loaded = service::settings::load_for(DEFAULTS, config, env, |settings| service.lacks(settings));
        loaded.map_err(|error| Refused::Usage(error.to_string()).into())
    }

    /// Why the worker's pool or lane is none of the grid's, if its pools are understood.
    fn lane_mistake(&self) -> Option<Mistake> {
        let (pools, pool) = (self.pools().ok()?, &self.worker.pool);
        let Some(PoolSettings { lanes }) = pools.get(pool) else {
            let problem = format!("is {pool}, which is no pool of grid.pools");
            return Some(Mistake::new("worker.pool", problem).way_out("name one of them, or add it there"));
        };
        let lane = self.worker.lane.filter(|lane| lane >= lanes)?;
        let problem = format!("is {lane}, and pool {pool} has the lanes 0 to {}", lanes.saturating_sub(1));
        Some(Mistake::new("worker.lane", problem).way_out("take one of them, or leave it empty"))
    }

    /// What must be the same in every service of a grid.
    pub(crate) fn shared(&self) -> BTreeMap<&'static str, String> {
        let mut pools: Vec<&str> = self.grid.pools.split(',').map(str::trim).filter(|pool| !pool.is_empty()).collect();
        pools.sort_unstable();
        BTreeMap::from([("grid.pools", pools.join(",")), ("grid.shards", self.grid.shards.to_string())])
    }

    /// The pools with their lanes.
    pub(crate) fn pools(&self) -> Result<BTreeMap<PoolName, PoolSettings>, String> {
        let mut pools = BTreeMap::new();
        for entry in self.grid.pools.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, lanes) = entry.split_once(':').ok_or_else(|| format!("{entry:?} is not NAME:LANES"))?;
            let name: PoolName = name.trim().parse().map_err(|e: protocol::ids::IdError| e.to_string())?;
            let lanes = lanes.trim().parse().ok().filter(|lanes| (1..=MAX_LANES).contains(lanes));
            let lanes = lanes.ok_or_else(|| format!("lanes of pool {name} are not a number from 1 to {MAX_LANES}"))?;
            if pools.insert(name.clone(), PoolSettings { lanes }).is_some() {
                return Err(format!("pool {name} is there twice"));
            }
        }
        if pools.is_empty() { Err("there is no pool".to_owned()) } else { Ok(pools) }
    }
}

impl Validate for Settings {
    fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut unless = |fine: bool, key: &str, problem: String, way_out: &str| {
            if !fine {
                mistakes.push(Mistake::new(key, problem).way_out(way_out));
            }
        };
        let pools = self.pools();
        let problem = pools.as_ref().err().cloned().unwrap_or_default();
        unless(pools.is_ok(), "grid.pools", problem, "write NAME:LANES, separated by commas");
        let shards = self.grid.shards;
        unless((1..=MAX_SHARDS).contains(&shards), "grid.shards", format!("is {shards}"), &format!("take 1 to {MAX_SHARDS}"));
        let days = self.grid.results_days;
        unless(
            days <= MAX_RESULTS_DAYS,
            "grid.results_days",
            format!("is {days}"),
            &format!("take at most {MAX_RESULTS_DAYS}, or 0 to keep them"),
        );
        let (drain, grace) = (self.worker.own.drain_timeout_ms, self.grid.shutdown_grace_ms);
        let problem = format!("is {drain}, less than {HAND_BACK_MS} below grid.shutdown_grace_ms, {grace}");
        let way_out = "leave time to hand back what is interrupted: lower it, or raise the other";
        unless(drain.saturating_add(HAND_BACK_MS) <= grace, "worker.drain_timeout_ms", problem, way_out);
        let (unit, deadline) = (self.producer.max_unit_ms, self.producer.replica_deadline_ms);
        let problem = format!("is {deadline}, not above producer.max_unit_ms, {unit}");
        unless(deadline > u64::from(unit), "producer.replica_deadline_ms", problem, "give a unit time to be computed");
        unless(unit > 0, "producer.max_unit_ms", "is 0".to_owned(), "take some minutes");
        unless(self.producer.lease_ms >= 1_000, "producer.lease_ms", "is under a second".to_owned(), "take some seconds");
        unless(self.aggregator.batch > 0, "aggregator.batch", "is 0".to_owned(), "take some hundreds");
        let database = Some(self.database.url.expose()).filter(|url| !url.is_empty());
        let unusable = [
            ("amqp.url", broker::rabbit::check_url(self.amqp.url.expose()).err().map(|error| error.to_string())),
            ("database.url", database.and_then(|url| store::check_url(url).err())),
            ("log.filter", service::telemetry::check_filter(&self.log.filter).err().map(|error| exit::told(&error.into()))),
        ];
        let told = |(key, problem): (&str, Option<String>)| Some(Mistake::new(key, format!("cannot be used: {}", problem?)));
        mistakes.extend(unusable.into_iter().filter_map(told));
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(env: &[(&str, &str)]) -> Result<Settings, String> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        service::settings::load(DEFAULTS, None, env).map_err(|e| e.to_string())
    }

    #[test]
    fn the_manual_is_a_valid_file() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings.pools().unwrap().len(), 2);
        assert_eq!(settings.worker.lane, None);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let error = load(&[
            ("OFFPEAK__GRID__POOLS", "open"),
            ("OFFPEAK__GRID__SHARDS", "0"),
            ("OFFPEAK__GRID__RESULTS_DAYS", "36501"),
            ("OFFPEAK__WORKER__DRAIN_TIMEOUT_MS", "90000"),
            ("OFFPEAK__WORKER__SLOT", "1"),
            ("OFFPEAK__AMQP__URL", "broker:s3cret"),
            ("OFFPEAK__DATABASE__URL", "mysql://me:s3cret@host/grid"),
            ("OFFPEAK__LOG__FILTER", "info,=="),
        ]);
        let error = error.unwrap_err();
        for part in [
            "grid.pools",
            "grid.shards",
            "grid.results_days",
            "drain_timeout_ms",
            "OFFPEAK__WORKER__SLOT",
            "amqp.url",
            "database.url",
            "log.filter",
        ] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_worker_has_time_to_hand_back() {
        let within = |grace| {
            load(&[("OFFPEAK__WORKER__DRAIN_TIMEOUT_MS", "10000"), ("OFFPEAK__GRID__SHUTDOWN_GRACE_MS", grace)]).map(drop)
        };
        assert_eq!(within("20000"), Ok(()));
        let error = within("19999").unwrap_err();
        assert!(error.contains("worker.drain_timeout_ms is 10000, less than 10000 below grid.shutdown"), "{error}");
    }

    #[test]
    fn what_a_service_lacks_is_told_with_the_rest() {
        let load = |service: Service, env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let loaded = service::settings::load_for::<Settings>(DEFAULTS, None, env, |settings| service.lacks(settings));
            loaded.map(drop).map_err(|error| error.to_string())
        };
        let shards = ("OFFPEAK__GRID__SHARDS", "0");
        let told = load(Service::Aggregator, &[shards, ("OFFPEAK__GRID__RATE_CARD", "/nonexistent")]).unwrap_err();
        for part in ["variable OFFPEAK__GRID__SHARDS: grid.shards", "database.url is not set", "/nonexistent: cannot be read"] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
        assert_eq!(load(Service::Worker, &[]), Ok(()));
        let lane = load(Service::Worker, &[shards, ("OFFPEAK__WORKER__LANE", "4")]).unwrap_err();
        assert!(lane.contains("grid.shards") && lane.contains("worker.lane is 4, and pool open has the lanes 0 to 3"), "{lane}");
        let pool = load(Service::Worker, &[("OFFPEAK__WORKER__POOL", "none")]).unwrap_err();
        assert!(pool.contains("worker.pool is none, which is no pool of grid.pools"), "{pool}");
    }
}
