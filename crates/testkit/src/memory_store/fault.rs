//! What goes wrong: by plan, or because the store would have to hold what contradicts itself.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ports::store::StoreError;
use protocol::frame::FrameError;
use protocol::{ReplicaKey, UnitKey};

use super::MemoryStore;

/// What the plan has go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// Nothing.
    None,
    /// The database is not available, and nothing is changed.
    FailBefore,
    /// All is written, but the connection is lost at the commit: the caller is told that the database is not available.
    FailAfter,
    /// The database is not as expected, and nothing is changed.
    Corrupt,
}

/// Decides what goes wrong with a call, by the operation as the errors name it.
pub type FaultPlan = Box<dyn FnMut(&'static str) -> StoreFault + Send>;

/// Units whose rows are damaged.
pub(super) type Damaged = Mutex<BTreeSet<UnitKey>>;

impl MemoryStore {
    /// From now on the rows of these units are damaged, and those of all others are not: what settles one of them is refused.
    pub fn damage(&self, units: impl IntoIterator<Item = UnitKey>) {
        *self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner) = units.into_iter().collect();
    }

    /// Refuses replicas of damaged units.
    pub(super) fn intact(&self, keys: &[ReplicaKey]) -> Result<(), Refused> {
        let damaged = self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.iter().map(ReplicaKey::unit_key).find(|unit| damaged.contains(unit)) {
            Some(unit) => Err(Refused(format!("the rows of unit {unit} are damaged"))),
            None => Ok(()),
        }
    }
}

/// What a database would refuse by a constraint, or cannot understand; nothing was changed.
#[derive(Debug)]
pub(super) struct Refused(pub(super) String);

impl Refused {
    /// What the caller is told.
    pub(super) fn of(self, operation: &'static str) -> StoreError {
        StoreError::Corrupt { operation, detail: self.0 }
    }
}

impl From<FrameError> for Refused {
    fn from(error: FrameError) -> Self {
        Self(error.to_string())
    }
}

/// The database is not there.
pub(super) fn away(operation: &'static str, why: &'static str) -> StoreError {
    StoreError::Unavailable { operation, source: why.into() }
}
