//! The worker's process: broker, a lane, a cache on disk, and executors in child processes; no compiler.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use ports::Execute as _;
use ports::clock::SystemClock;
use protocol::HostId;
use uuid::Uuid;
use worker::cache::DiskCache;
use worker::{Lane, Worker, WorkerMetrics};

use super::{Process, Service, Start};
use crate::exit::Refused;
use crate::grid::open;

/// Holds while a lane is served.
const LANE: &str = "lane";

/// Runs a worker until it is told to stop; its exit code.
pub async fn worker_main(config: Option<PathBuf>) -> Result<u8> {
    Process::new(Service::Worker, config.as_deref(), LANE)?.run(start).await
}

async fn start(start: Start) -> Result<()> {
    start.startup.started();
    let Some(broker) = start.broker().await? else { return Ok(()) };
    let section = &start.settings.worker;
    let host = match &section.host {
        Some(host) => host.clone(),
        None => made_up_host()?,
    };
    let slots = if section.slots == 0 { open::cores() } else { section.slots };
    let pools = start.settings.pools().map_err(Refused::Usage)?;
    let lane = match section.lane {
        Some(lane) => Lane::Fixed(lane),
        None => Lane::Free { lanes: pools.get(&section.pool).map_or(1, |pool| pool.lanes) },
    };
    let cache = DiskCache::open(cache_dir(&section.cache_dir), section.cache_bytes)?;
    let execute = open::executors(slots, section.memory_bytes)?;
    let pool = section.pool.clone();
    tracing::info!("host {host} of pool {pool} has {} slots", execute.slots());
    let worker = Worker {
        host,
        pool,
        lane,
        shards: start.settings.grid.shards,
        broker,
        clock: Arc::new(SystemClock),
        execute,
        cache: Some(Arc::new(cache)),
        settings: Arc::new(section.own.clone()),
        metrics: WorkerMetrics::new(&start.metrics)?,
        ready: start.readiness.check(LANE),
    };
    worker.start(&start.scope);
    Ok(())
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
