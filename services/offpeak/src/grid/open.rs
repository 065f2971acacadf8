//! Opens what the grid stands on: store, broker, sandbox.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use broker::topology::Topology;
use broker::{RabbitBroker, RabbitSettings};
use ports::Broker;
use ports::broker::{BrokerError, Depth};
use protocol::PoolName;
use sandbox::{ExecutorPool, ExecutorSettings};
use service::{CancellationToken, Scope};
use store::{SqlStore, StoreError, StoreOptions};

#[cfg(feature = "compiler")]
use crate::exit::Refused;

/// The database of an `offpeak run`, in its data folder.
pub fn database_url(data: &Path) -> String {
    format!("sqlite://{}", data.join("grid.db").display())
}

/// Opens a database whose tables are there.
pub async fn open_store(url: &str) -> Result<Arc<SqlStore>> {
    let store = SqlStore::connect(url, StoreOptions::default()).await?;
    store.check_schema().await?;
    Ok(Arc::new(store))
}

/// Why a SQLite file cannot be looked at: connecting would make it. `None` if it is there, or for a server.
#[cfg(feature = "compiler")]
pub(crate) fn no_file(url: &str) -> Option<String> {
    let path = Path::new(url.strip_prefix("sqlite://")?);
    if path.is_file() { None } else { Some(format!("there is no file {}", path.display())) }
}

/// Creates or updates a database's tables.
pub async fn migrate(url: &str) -> Result<()> {
    let store = SqlStore::connect(url, StoreOptions::default()).await?;
    store.migrate().await?;
    store.close().await;
    Ok(())
}

/// A command gives up on a broker that is away after so long; a service never does.
const COMMAND_PATIENCE_MS: u64 = 15_000;
/// How often a grid that is not there yet, or still there, is looked for.
const LOOK_MS: u64 = 250;
/// So long a broker or a database may take to see that a program which was killed is gone.
#[cfg(feature = "compiler")]
const LEAVING: Duration = Duration::from_secs(10);

/// Opens a broker for a command; its connections end with the scope.
pub async fn open_broker(url: &str, scope: &Scope) -> Result<Arc<dyn Broker>> {
    let settings = RabbitSettings { setup_patience_ms: Some(COMMAND_PATIENCE_MS), ..RabbitSettings::new(url) };
    let broker = Arc::new(RabbitBroker::connect(&settings)?);
    wait_for_grid(broker.as_ref()).await?;
    close_with(&broker, scope);
    Ok(broker)
}

/// Waits for a grid that is just being started on the broker.
async fn wait_for_grid(broker: &RabbitBroker) -> Result<()> {
    if looked(broker, Duration::from_millis(COMMAND_PATIENCE_MS), |queue| queue.is_some()).await? {
        return Ok(());
    }
    bail!("the broker is there, but no grid on it: its queue offpeak.submit is missing; start `offpeak producer` on it first")
}

/// Waits until no grid runs on a broker. The consumers of a run that was killed are there for a moment longer.
#[cfg(feature = "compiler")]
pub(super) async fn wait_until_unused(broker: &RabbitBroker) -> Result<()> {
    looked(broker, Duration::from_millis(COMMAND_PATIENCE_MS), |_| true).await?;
    if looked(broker, LEAVING, |queue| queue.is_none_or(|queue| queue.consumers == 0)).await? {
        return Ok(());
    }
    Err(in_use("broker").into())
}

/// Waits until no services are connected to a database: a run beside them would answer their customers on a broker of its own.
#[cfg(feature = "compiler")]
pub(super) async fn wait_until_unserved(store: &SqlStore) -> Result<()> {
    let unserved = async {
        while store.is_served().await? {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        Ok(())
    };
    tokio::time::timeout(LEAVING, unserved).await.unwrap_or_else(|_elapsed| Err(in_use("database").into()))
}

#[cfg(feature = "compiler")]
fn in_use(what: &str) -> Refused {
    Refused::Usage(format!(
        "a grid runs on this {what} already: hand it the job with `offpeak submit`, or name neither broker nor database \
         (OFFPEAK__AMQP__URL, OFFPEAK__DATABASE__URL) for a grid in this process alone"
    ))
}

/// Looks at the queue of submissions until it is as wanted; whether it came to that. A broker whose node is just being started is
/// waited for: it refuses connections, or lets them in before it serves their virtual host. Told at once, since it may as well be
/// a mistake in the address.
async fn looked(broker: &RabbitBroker, patience: Duration, is_wanted: impl Fn(Option<Depth>) -> bool) -> Result<bool> {
    let mut away = None;
    let there = async {
        loop {
            away = match broker.depth(protocol::address::SUBMIT_QUEUE).await {
                Ok(queue) if is_wanted(queue) => return Ok(()),
                Ok(_) => None,
                Err(BrokerError::Unreachable { operation, last, .. }) => {
                    if away.is_none() {
                        tracing::warn!("broker {} is not reachable: {last}; trying for {patience:?}", broker.address());
                    }
                    Some((operation, last))
                }
                Err(error @ (BrokerError::Refused { .. } | BrokerError::Closed)) => return Err(error),
            };
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(patience, there).await {
        return Ok(found.map(|()| true)?);
    }
    match away {
        Some((operation, last)) => Err(BrokerError::Unreachable { operation, waited: patience, last }.into()),
        None => Ok(false),
    }
}

/// Ends the broker's connections politely when everything else on the scope has ended.
pub(super) fn close_with(broker: &Arc<RabbitBroker>, scope: &Scope) {
    let (broker, closing) = (Arc::clone(broker), scope.closing());
    scope.spawn_background("broker connections", async move {
        closing.cancelled().await;
        broker.close().await;
        Ok(())
    });
}

/// Opens a service's database, waiting for it while it is away or has no tables yet; `None` if told to stop first.
/// `failed` is told of each attempt in vain, and tells it in words.
pub(super) async fn patient_store(
    url: &str,
    max_connections: u32,
    stopping: &CancellationToken,
    failed: impl Fn(StoreError) -> String,
) -> Option<Arc<SqlStore>> {
    let open = || async {
        let store = SqlStore::connect(url, StoreOptions { max_connections, serves: true, ..StoreOptions::default() }).await?;
        store.check_schema().await?;
        Ok::<_, StoreError>(Arc::new(store))
    };
    let open = || async { open().await.map_err(&failed) };
    service::patience::until_done("opening the database (offpeak migrate creates its tables)", stopping, open).await
}

/// The topology of those pools.
pub(crate) fn topology<'a>(pools: impl IntoIterator<Item = (&'a PoolName, u16)>, shards: u16) -> Topology {
    let pools: Vec<_> = pools.into_iter().map(|(name, lanes)| (name.clone(), lanes)).collect();
    Topology::grid(&pools, shards)
}

/// A pool of executors.
pub(super) fn executors(slots: usize, memory_bytes: u64) -> Result<Arc<ExecutorPool>> {
    Ok(Arc::new(ExecutorPool::new(ExecutorSettings { command: own("executor")?, slots, memory_bytes })?))
}

/// This program with another task.
pub(super) fn own(task: &str) -> Result<Vec<OsString>> {
    let program = std::env::current_exe().context("cannot find this program's own path, which its child processes need")?;
    Ok(vec![program.into_os_string(), task.into()])
}

/// A child that runs units; returns its exit code.
pub fn executor_main() -> std::process::ExitCode {
    sandbox::executor_main()
}

/// As many slots as this machine has cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
