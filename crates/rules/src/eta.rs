//! When a job will be done, by the rate it had so far.

use std::time::Duration;

use protocol::job::ItemCounts;

/// Seconds to the end at the rate so far; `None` while nothing is done.
pub fn seconds(items: &ItemCounts, elapsed: Duration) -> Option<u64> {
    let done = items.succeeded.saturating_add(items.failed);
    let left = items.submitted.saturating_sub(done);
    let eta_ms = elapsed.as_millis().checked_mul(u128::from(left))?.checked_div(u128::from(done))?;
    u64::try_from(eta_ms / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_did() {
        let items = |succeeded, failed| ItemCounts { submitted: 100, succeeded, failed, cancelled: 0 };
        assert_eq!(seconds(&items(0, 0), Duration::from_secs(9)), None);
        assert_eq!(seconds(&items(20, 5), Duration::from_secs(10)), Some(30));
        assert_eq!(seconds(&items(100, 0), Duration::from_secs(10)), Some(0));
    }
}
