//! The store in memory, for the simulation: the same answers as the SQL store, decided by nothing but its arguments.
//!
//! Every call is one transaction, done when it returns and never waiting. A decision that is handed in runs under the
//! store's lock, before anything is written; it must not call the store.

mod activity;
mod admission;
mod assemble;
mod blobs;
mod claim;
mod customers;
mod dispatch;
mod fault;
mod inbox;
mod inspect;
mod ledger;
mod outbox;
mod outputs;
mod report;
mod requests;
mod rows;
mod settle;
mod settlement;
mod state;
mod uploads;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ports::clock::Clock;
use ports::store::StoreError;

use self::fault::{Damaged, Refused, away};
pub use self::fault::{FaultPlan, StoreFault};
use self::state::State;

/// The store; clones share all of it, as connections to one database do.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    plan: Mutex<Option<FaultPlan>>,
    damaged: Damaged,
    clock: Arc<dyn Clock>,
}

/// A backup of the whole store.
#[derive(Clone)]
pub struct Snapshot(State);

impl MemoryStore {
    /// An empty store; the clock tells when jobs end, which nobody passes in.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (state, plan, damaged) = (Mutex::default(), Mutex::default(), Damaged::default());
        Self { shared: Arc::new(Shared { state, plan, damaged, clock }) }
    }

    /// Takes a backup.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lock().clone())
    }

    /// Puts everything back to where it was when the backup was taken, for all clones of this store.
    pub fn restore(&self, backup: &Snapshot) {
        *self.lock() = backup.0.clone();
    }

    /// From now on asks this plan what goes wrong, once a call, with the operation as the errors name it; nothing with `None`.
    pub fn set_fault(&self, plan: Option<FaultPlan>) {
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Runs one transaction, unless the plan has it fail.
    fn run<T>(
        &self,
        operation: &'static str,
        transaction: impl FnOnce(&mut State) -> Result<T, Refused>,
    ) -> Result<T, StoreError> {
        let fault = self.planned(operation);
        if fault == StoreFault::FailBefore {
            return Err(away(operation, "the connection was lost before anything was written"));
        }
        if fault == StoreFault::Corrupt {
            return Err(Refused("it is so by plan".to_owned()).of(operation));
        }
        let done = transaction(&mut self.lock()).map_err(|refused| refused.of(operation))?;
        if fault == StoreFault::FailAfter {
            return Err(away(operation, "the connection was lost at the commit"));
        }
        Ok(done)
    }

    fn planned(&self, operation: &'static str) -> StoreFault {
        let mut plan = self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.as_mut().map_or(StoreFault::None, |plan| plan(operation))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
