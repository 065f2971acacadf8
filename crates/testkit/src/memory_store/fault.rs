//! What goes wrong: by plan, or because the store would have to hold what contradicts itself.

use ports::store::StoreError;
use protocol::frame::FrameError;

/// What the plan has go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// Nothing.
    None,
    /// The database is not available, and nothing is changed.
    FailBefore,
    /// All is written, but the connection is lost at the commit: the caller is told that the database is not available.
    FailAfter,
}

/// Decides what goes wrong with a call, by the operation as the errors name it.
pub type FaultPlan = Box<dyn FnMut(&'static str) -> StoreFault + Send>;

/// What a database would refuse by a constraint; nothing was changed.
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
