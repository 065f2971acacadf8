//! What a worker and its executor say to each other.

use ports::sandbox::ExecuteError;
use protocol::job::{EntryKind, Limits};
use protocol::outcome::MAX_UNIT_OUTPUT_BYTES;
use protocol::unit::Call;
use protocol::{CustomerName, Digest, Fuel};
use serde::{Deserialize, Serialize};

/// An answer holds a unit's output: a frame that fits a message, or one item with the largest output there is.
pub(crate) const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// To the executor; each is answered by one [`Answer`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first message: bounds itself.
    Start { memory_bytes: u64 },
    /// Loads a program; sections: artefact, params, shared.
    Load { brief: Digest, customer: CustomerName, entry: EntryKind, limits: Limits },
    /// Drops a program.
    Forget { brief: Digest },
    /// Runs a unit of a loaded program; section: the items.
    Run { brief: Digest, call: Call, first: u64 },
}

/// From the executor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Ready,
    /// The unit is computed; section: the output.
    Done { fuel: Fuel, compute_us: u64, log: Vec<String> },
    /// It could not be done.
    Failed(Failure),
}

/// Why not: what of [`ExecuteError`] an executor can say of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    App(String),
    Host(String),
    OutputLimit,
    Unsupported(String),
}

impl From<ExecuteError> for Failure {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::App { reason } => Self::App(reason),
            ExecuteError::Died { reason } => Self::Host(reason),
            ExecuteError::OutputLimit { .. } => Self::OutputLimit,
            ExecuteError::Unsupported { reason } => Self::Unsupported(reason),
            ExecuteError::TimeLimit { .. } | ExecuteError::Interrupted => Self::Host(error.to_string()),
        }
    }
}

impl From<Failure> for ExecuteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::App(reason) => Self::App { reason },
            Failure::Host(reason) => Self::Died { reason },
            Failure::OutputLimit => Self::OutputLimit { limit: MAX_UNIT_OUTPUT_BYTES },
            Failure::Unsupported(reason) => Self::Unsupported { reason },
        }
    }
}
