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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_wait_grows_to_its_bound(failures in 1_usize..1_000, random: u64) {
            let wait = backoff(failures, random);
            prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
            prop_assert!(backoff(failures + 2, 0) >= wait.min(LONGEST / 2));
        }
    }
}
