//! Damage: rows that cannot be used, told apart from a database that is to be waited for.

use ports::store::{Settlement, StoreError};
use protocol::{JobId, ReplicaKey};

use crate::Aggregator;

/// Rows that waiting does not mend: what the store says of them.
#[derive(Debug)]
pub(crate) struct Damage(pub(crate) StoreError);

/// Makes an attempt, and tells damage of what it met from a database that is away, full, or not as expected whatever it is
/// asked, as one with the tables of another version is. That is waited for: or else everything would be taken for damaged.
pub(crate) async fn told_apart<T>(
    aggregator: &Aggregator,
    attempt: impl Future<Output = Result<T, StoreError>>,
) -> Result<Result<T, Damage>, StoreError> {
    match attempt.await {
        Ok(done) => Ok(Ok(done)),
        Err(error @ StoreError::Corrupt { .. }) => {
            settle_nothing(aggregator).await?;
            Ok(Err(Damage(error)))
        }
        Err(error @ (StoreError::Unavailable { .. } | StoreError::Full { .. } | StoreError::Unfit { .. })) => Err(error),
    }
}

/// Settles an outcome of no job: it asks what every settlement asks, and meets no row.
async fn settle_nothing(aggregator: &Aggregator) -> Result<(), StoreError> {
    let nothing = ReplicaKey { job: no_job(), unit: 0, replica: 0 };
    aggregator.store.settle(&[nothing], Box::new(|_no_rows| Settlement::default())).await
}

/// The id that no job has: ids begin with the time of admission.
fn no_job() -> JobId {
    let id: Result<JobId, _> = "00000000-0000-0000-0000-000000000000".parse();
    id.unwrap_or_else(|_impossible| unreachable!("a constant id"))
}
