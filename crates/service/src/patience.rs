//! Trying until it works: for what is only away for a while, such as a database that restarts.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::scope::TaskError;
use crate::{Backoff, told};

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: soon enough that a database's return is noticed at once.
const LONGEST: Duration = Duration::from_secs(5);
/// What is under way when the process is told to stop has so long to end: a database that answers nothing must not take all of
/// the grace period.
pub const LAST_ATTEMPT: Duration = Duration::from_secs(10);

/// Tries until an attempt succeeds, waiting longer each time; `None` if `stopping` is cancelled first.
///
/// The caller keeps what it holds meanwhile, so that its queue's prefetch becomes the back-pressure. The first
/// failure with its causes and the recovery are logged, not each attempt; `what` reads as a sentence's subject.
///
/// Once stopping, an attempt is given up after [`LAST_ATTEMPT`]: it may have had its effect or not, as if the process had been
/// killed.
pub async fn until_done<T, E, F>(what: &str, stopping: &CancellationToken, mut attempt: impl FnMut() -> F) -> Option<T>
where
    E: Into<TaskError>,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(FIRST, LONGEST);
    loop {
        let tried = tokio::select! {
            biased;
            tried = attempt() => tried,
            () = last_moment(stopping) => {
                tracing::warn!("{what} does not end within {LAST_ATTEMPT:?} of the stop and is given up");
                return None;
            }
        };
        match tried {
            Ok(done) => {
                if backoff.failures() > 0 {
                    tracing::info!("{what} works again after {} failures", backoff.failures());
                }
                return Some(done);
            }
            Err(error) => {
                let error: TaskError = error.into();
                if backoff.failures() == 0 {
                    tracing::warn!("{what} fails and is tried again: {}", told(&*error));
                } else {
                    tracing::debug!("{what} still fails: {}", told(&*error));
                }
            }
        }
        let wait = backoff.next_delay(random);
        tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Returns [`LAST_ATTEMPT`] after the stop, or after the call if that comes later.
async fn last_moment(stopping: &CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(LAST_ATTEMPT).await;
}

thread_local! {
    /// Where this thread's jitter stands; it begins at the seed that the standard library draws for its hash maps.
    static JITTER: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
}

/// Makes this thread's jitter repeatable, for simulations.
pub fn seed_jitter(seed: u64) {
    JITTER.set(seed);
}

/// A number from 0 to 1 for jitter (`SplitMix64`: Steele, Lea, Flood, 2014).
pub fn random() -> f64 {
    let state = JITTER.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    JITTER.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_tries_until_it_works_or_is_told_to_stop() {
        let stopping = CancellationToken::new();
        let mut failures = 0;
        let done = until_done("the test", &stopping, || {
            failures += 1;
            let result = if failures < 40 { Err("away") } else { Ok(failures) };
            async move { result }
        });
        assert_eq!(done.await, Some(40));
        stopping.cancel();
        let never = until_done("the test", &stopping, || async { Err::<(), _>("away") });
        assert_eq!(never.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_given_up_after_the_stop() {
        let (stopping, begun) = (CancellationToken::new(), Instant::now());
        let stop = async {
            tokio::time::sleep(10 * LAST_ATTEMPT).await;
            stopping.cancel();
        };
        let hangs = until_done("the test", &stopping, std::future::pending::<Result<(), &str>>);
        let (given_up, ()) = tokio::join!(hangs, stop);
        assert_eq!((given_up, begun.elapsed().as_secs()), (None, 110));
        let slow = until_done("the test", &stopping, || async {
            tokio::time::sleep(LAST_ATTEMPT / 2).await;
            Ok::<_, &str>(())
        });
        assert_eq!(slow.await, Some(()), "an attempt that was begun after the stop has its time, too");
    }
}
