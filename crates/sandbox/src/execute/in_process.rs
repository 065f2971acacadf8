//! Execution within this process, on threads of its own: for tests and tiny setups.
//!
//! Pausing, interruption and the time limit act between items, not within one; an item is bounded by its fuel alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ports::sandbox::{Execute, ExecuteError, Executed, Task};
use tokio::sync::Semaphore;
use wasmtime::Engine;

use super::StartError;
use super::clock::Stopwatch;
use super::loaded::Loaded;
use super::unit::{self, Unit};

/// Programs kept loaded: a few jobs run at the same time.
const MAX_LOADED: usize = 8;
/// How often a paused unit looks whether it was given up.
const PAUSE_LOOK: Duration = Duration::from_millis(100);

/// Runs units in this process.
pub struct InProcess {
    slots: usize,
    free: Arc<Semaphore>,
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    loaded: Mutex<Vec<Arc<Loaded>>>,
    paused: Mutex<bool>,
    resumed: Condvar,
}

impl InProcess {
    /// Runs up to `slots` units at the same time.
    pub fn new(slots: usize) -> Result<Self, StartError> {
        let slots = slots.max(1);
        let instances = u32::try_from(slots).unwrap_or(u32::MAX);
        let engine = crate::engine::runtime(instances).map_err(|e| StartError::Engine { reason: format!("{e:#}") })?;
        let inner = Inner { engine, loaded: Mutex::default(), paused: Mutex::new(false), resumed: Condvar::new() };
        Ok(Self { slots, free: Arc::new(Semaphore::new(slots)), inner: Arc::new(inner) })
    }
}

/// Tells the thread that nobody waits for its unit any more.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Execute for InProcess {
    async fn execute(&self, task: Task) -> Result<Executed, ExecuteError> {
        let slot = self.free.clone().acquire_owned().await.map_err(|_closed| ExecuteError::Interrupted)?;
        let given_up = Arc::new(AtomicBool::new(false));
        let guard = GiveUp(given_up.clone());
        let inner = self.inner.clone();
        let running = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            inner.run(&task, &given_up)
        });
        let result = running.await.map_err(|e| ExecuteError::Died { reason: format!("the executor thread ended: {e}") })?;
        drop(guard);
        result
    }

    fn pause(&self) {
        *self.inner.paused.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn resume(&self) {
        *self.inner.paused.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.inner.resumed.notify_all();
    }

    fn slots(&self) -> usize {
        self.slots
    }
}

impl Inner {
    fn run(&self, task: &Task, given_up: &AtomicBool) -> Result<Executed, ExecuteError> {
        let mut watch = Stopwatch::start();
        self.wait(given_up, &mut watch)?;
        let loaded = self.loaded(task)?;
        let limit = task.time_limit;
        let unit = Unit { call: task.call, first: task.first, items: &task.items };
        let done = unit::run(&loaded, unit, &mut || {
            self.wait(given_up, &mut watch)?;
            if watch.elapsed() > limit { Err(ExecuteError::TimeLimit { limit }) } else { Ok(()) }
        })?;
        super::log(&task.program, &done.log);
        Ok(Executed { output: done.output, fuel: done.fuel, compute: watch.elapsed() })
    }

    /// Waits while paused; the time does not count.
    fn wait(&self, given_up: &AtomicBool, watch: &mut Stopwatch) -> Result<(), ExecuteError> {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if *paused {
            watch.pause();
            while *paused && !given_up.load(Ordering::Relaxed) {
                let waited = self.resumed.wait_timeout(paused, PAUSE_LOOK);
                paused = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            watch.resume();
        }
        if given_up.load(Ordering::Relaxed) { Err(ExecuteError::Interrupted) } else { Ok(()) }
    }

    fn loaded(&self, task: &Task) -> Result<Arc<Loaded>, ExecuteError> {
        let mut kept = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|loaded| loaded.brief == task.program.brief);
        let loaded = match found {
            Some(at) => kept.remove(at),
            None => Arc::new(Loaded::new(&self.engine, &task.program)?),
        };
        kept.push(loaded.clone());
        if kept.len() > MAX_LOADED {
            kept.remove(0);
        }
        Ok(loaded)
    }
}
