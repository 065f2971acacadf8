//! Execution in child processes: one per slot, kept between units of a customer, replaced after any death.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool::managed::{Manager, Metrics, Pool, PoolError, RecycleResult};
use ports::sandbox::{Execute, ExecuteError, Executed, Program, Task};

use super::StartError;
use super::messages::{Answer, Request};
use super::remote::{Herd, Remote};
use crate::wire::WireError;

/// Loading an app and copying its shared input; computing begins after it.
const LOAD_LIMIT: Duration = Duration::from_mins(2);
/// What an executor needs besides the app's memory and its inputs.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// How executors run.
#[derive(Debug, Clone)]
pub struct ExecutorSettings {
    /// A program with arguments that lead to [`executor_main`](crate::executor_main); the program by its full path.
    pub command: Vec<OsString>,
    /// How many units run at the same time, each in a process of its own.
    pub slots: usize,
    /// Private memory of one process: app instance, shared input and overhead.
    pub memory_bytes: u64,
}

/// Runs units in child processes.
pub struct ExecutorPool {
    slots: usize,
    memory_bytes: u64,
    pool: Pool<Nursery>,
    herd: Arc<Herd>,
}

impl ExecutorPool {
    /// A pool; processes start with their first unit.
    pub fn new(settings: ExecutorSettings) -> Result<Self, StartError> {
        let ExecutorSettings { command, slots, memory_bytes } = settings;
        let slots = slots.max(1);
        let herd = Arc::new(Herd::new());
        let nursery = Nursery { command, memory_bytes, herd: herd.clone() };
        let pool = Pool::builder(nursery).max_size(slots).build();
        let pool = pool.map_err(|e| StartError::Pool { reason: e.to_string() })?;
        Ok(Self { slots, memory_bytes, pool, herd })
    }

    /// Refuses a program that cannot fit, before it takes the host's memory.
    fn check(&self, program: &Program) -> Result<(), ExecuteError> {
        let bytes = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX).saturating_mul(2);
        let inputs = bytes(&program.artefact).saturating_add(bytes(&program.params)).saturating_add(bytes(&program.shared));
        let needed = program.limits.memory_bytes.saturating_add(inputs).saturating_add(OVERHEAD_BYTES);
        if needed > self.memory_bytes {
            let has = self.memory_bytes;
            let reason =
                format!("the job needs {needed} bytes of memory and an executor here has {has}: lower the job's memory limit");
            return Err(ExecuteError::Unsupported { reason });
        }
        Ok(())
    }

    /// One unit on one process; the process comes back if it is fit for another.
    async fn serve(&self, mut remote: Remote, task: &Task) -> (Option<Remote>, Result<Executed, ExecuteError>) {
        let limit = task.time_limit;
        match self.herd.bounded(LOAD_LIMIT, remote.load(&task.program)).await {
            Some((Ok(Ok(())), _)) => {}
            Some((Ok(Err(refused)), _)) => return (Some(remote), Err(refused)),
            Some((Err(e), _)) => return (None, Err(died(remote, &e).await)),
            None => return (None, Err(ExecuteError::Died { reason: format!("it did not load the app within {LOAD_LIMIT:?}") })),
        }
        let request = Request::Run { brief: task.program.brief, call: task.call, first: task.first };
        match self.herd.bounded(limit, remote.ask(&request, &[&task.items])).await {
            None => (None, Err(ExecuteError::TimeLimit { limit })),
            Some((Err(e), _)) => (None, Err(died(remote, &e).await)),
            Some((Ok(mut parcel), used)) => {
                let output = parcel.section();
                match parcel.header {
                    Answer::Done { fuel, compute_us, log } => {
                        super::log(&task.program, &log);
                        // The process counted its pauses too; what was seen from here did not.
                        let compute = Duration::from_micros(compute_us).min(used);
                        (Some(remote), Ok(Executed { output, fuel, compute }))
                    }
                    Answer::Failed(failure) => (Some(remote), Err(failure.into())),
                    Answer::Ready => (None, Err(ExecuteError::Died { reason: "it gave an answer to another question".into() })),
                }
            }
        }
    }
}

async fn died(remote: Remote, error: &WireError) -> ExecuteError {
    ExecuteError::Died { reason: remote.epitaph(error).await }
}

#[async_trait]
impl Execute for ExecutorPool {
    async fn execute(&self, task: Task) -> Result<Executed, ExecuteError> {
        self.check(&task.program)?;
        let mut slot = self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) | PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                ExecuteError::Died { reason: format!("no executor: {e}") }
            }
        })?;
        self.herd.running().await;
        // Taken out of its slot, the process is killed wherever this future is dropped.
        let fit = slot.0.take().filter(|remote| remote.may_serve(&task.program.customer));
        let remote = match fit {
            Some(remote) => remote,
            None => self.pool.manager().start().await?,
        };
        let (remote, result) = self.serve(remote, &task).await;
        slot.0 = remote;
        result
    }

    fn pause(&self) {
        self.herd.set_paused(true);
    }

    fn resume(&self) {
        self.herd.set_paused(false);
    }

    fn slots(&self) -> usize {
        self.slots
    }
}

/// Where processes come from.
struct Nursery {
    command: Vec<OsString>,
    memory_bytes: u64,
    herd: Arc<Herd>,
}

/// A place for one process; empty after the process had to go.
struct Slot(Option<Remote>);

impl Nursery {
    async fn start(&self) -> Result<Remote, ExecuteError> {
        Remote::start(&self.command, self.memory_bytes, &self.herd).await
    }
}

impl Manager for Nursery {
    type Type = Slot;
    type Error = ExecuteError;

    async fn create(&self) -> Result<Slot, ExecuteError> {
        Ok(Slot(Some(self.start().await?)))
    }

    async fn recycle(&self, slot: &mut Slot, _metrics: &Metrics) -> RecycleResult<ExecuteError> {
        if !slot.0.as_mut().is_some_and(Remote::is_alive) {
            slot.0 = None;
        }
        Ok(())
    }
}
