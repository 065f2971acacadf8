//! Damage: rows that cannot be used, told apart from a database that is to be waited for.

use ports::store::StoreError;
use protocol::Digest;
use service::CancellationToken;
use service::patience::until_done;

use crate::Producer;
use crate::trouble::is_away;

/// Rows that waiting does not mend: what the store says of them.
#[derive(Debug)]
pub(crate) struct Damage(pub(crate) StoreError);

/// Makes attempts until the store answers, or damage is met; `None` if `stopping` is cancelled first.
///
/// Damage is met twice before it is believed: what was looked for may have been deleted in the middle of the first attempt.
pub(crate) async fn until_told<T, F>(
    producer: &Producer,
    what: &str,
    stopping: &CancellationToken,
    mut attempt: impl FnMut() -> F,
) -> Option<Result<T, Damage>>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut apart = || told_apart(producer, attempt());
    match until_done(what, stopping, &mut apart).await? {
        Ok(done) => Some(Ok(done)),
        Err(Damage(_first)) => until_done(what, stopping, &mut apart).await,
    }
}

/// Makes an attempt, and tells damage of what it met from a database that is away, full, or not as expected whatever it is
/// asked. That is waited for: or else everything would be taken for damaged.
async fn told_apart<T>(
    producer: &Producer,
    attempt: impl Future<Output = Result<T, StoreError>>,
) -> Result<Result<T, Damage>, StoreError> {
    match attempt.await {
        Ok(done) => Ok(Ok(done)),
        Err(error) if is_away(&error) => Err(error),
        Err(error) => {
            // A blob that nobody has: no row is met.
            producer.store.blob_size(Digest([0; 32])).await?;
            Ok(Err(Damage(error)))
        }
    }
}
