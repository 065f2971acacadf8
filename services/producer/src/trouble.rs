//! Trouble of dispatch: whose it is, so that one job's stops no other and one pool's no other pool.

use std::collections::BTreeSet;

use ports::broker::BrokerError;
use ports::store::StoreError;
use protocol::JobId;

use crate::inputs::InputError;

/// Jobs in trouble that are remembered, so that each is told of once; all are forgotten when there are more.
const MAX_TROUBLED: usize = 1_000;

/// Why a round of dispatch ended early; what it had recorded stays due.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A job's input.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A message that cannot be written.
    #[error(transparent)]
    Codec(#[from] protocol::CodecError),
}

impl DispatchError {
    /// Whether it is one job's own trouble, if it was met at work for one job alone: others have none of it.
    pub(crate) fn is_of_one_job(&self) -> bool {
        match self {
            Self::Store(error) | Self::Input(InputError::Store(error)) => !is_away(error),
            Self::Input(InputError::Item { .. }) | Self::Codec(_) => true,
            Self::Broker(_) => false,
        }
    }

    /// Whether it is the trouble of all pools alike: none of them is worth a look now.
    pub(crate) fn is_of_all_pools(&self) -> bool {
        match self {
            Self::Store(error) | Self::Input(InputError::Store(error)) => is_away(error),
            Self::Broker(_) | Self::Input(InputError::Item { .. }) | Self::Codec(_) => false,
        }
    }
}

/// The jobs of which nothing can be sent.
#[derive(Default)]
pub(crate) struct Troubled(BTreeSet<JobId>);

impl Troubled {
    /// Logs once that nothing of a job can be sent.
    pub(crate) fn note(&mut self, job: JobId, error: &DispatchError) {
        if self.0.len() >= MAX_TROUBLED {
            self.0.clear();
        }
        if self.0.insert(job) {
            let error = service::told(error);
            tracing::error!(job = %job, "job {job} cannot be dispatched, and waits until it is cancelled or mended: {error}");
        }
    }
}

/// Whether the store is away, full or unfit, which is no fault of what was asked.
pub(crate) fn is_away(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable { .. } | StoreError::Full { .. } | StoreError::Unfit { .. } => true,
        StoreError::Corrupt { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_one_jobs_and_a_store_that_is_away_is_everyones() {
        let damage = || StoreError::Corrupt { operation: "read due replicas", detail: "column 2 holds -1".to_owned() };
        for error in [DispatchError::Store(damage()), DispatchError::Input(InputError::Store(damage()))] {
            assert!(error.is_of_one_job() && !error.is_of_all_pools(), "{error:?}");
        }
        let away = || StoreError::Unavailable { operation: "read due replicas", source: "connection refused".into() };
        for error in [DispatchError::Store(away()), DispatchError::Input(InputError::Store(away()))] {
            assert!(!error.is_of_one_job() && error.is_of_all_pools(), "{error:?}");
        }
    }
}
