//! When a failed unit is tried again: exponential back-off with jitter, and the bounds on trying at all.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer: an operator who has mended a host should not wait for the grid.
const LONGEST: Duration = Duration::from_mins(5);
/// After so many replicas a unit is given up whatever the reason; far above what retries and interruptions need.
pub const MAX_REPLICAS: u16 = 10_000;

/// The wait before the next try after that many failures (1 or more); `random` is any number, it spreads the
/// tries over the second half of the wait.
pub fn backoff(failures: usize, random: u64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = full / 2;
    let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % spread)
}

/// The least that is waited for an answer, however short units are: a worker fetches an app first.
const PATIENCE: Duration = Duration::from_mins(1);
/// A replica waits behind others, and hosts differ in speed: it may take so many times as long as units do.
const PATIENCE_UNITS: u64 = 20;
/// The wait for an answer doubles with each replica of a unit up to this power: some units are long.
const MAX_DOUBLINGS: u16 = 5;

/// How long a unit's replica of that number is waited for before it is taken for lost.
pub fn patience(mean_unit_ms: Option<u64>, replica: u16, longest: Duration) -> Duration {
    let Some(mean_unit_ms) = mean_unit_ms else { return longest };
    let first = PATIENCE.saturating_add(Duration::from_millis(mean_unit_ms.saturating_mul(PATIENCE_UNITS)));
    first.saturating_mul(1 << replica.min(MAX_DOUBLINGS)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn patience_grows_to_its_bound(mean: u64, replica: u16, longest_s in 1_u64..100_000) {
            let longest = Duration::from_secs(longest_s);
            let patience_of = |replica| patience(Some(mean), replica, longest);
            prop_assert!(patience_of(replica) <= longest && patience_of(replica) <= patience_of(replica.saturating_add(1)));
            prop_assert!(patience_of(replica) >= PATIENCE.min(longest));
            prop_assert_eq!(patience(None, replica, longest), longest);
        }

        #[test]
        fn the_wait_grows_to_its_bound(failures in 1_usize..1_000, random: u64) {
            let wait = backoff(failures, random);
            prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
            prop_assert!(backoff(failures + 2, 0) >= wait.min(LONGEST / 2));
        }
    }
}
