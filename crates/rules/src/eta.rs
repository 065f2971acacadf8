//! When a job will be done, by the rate it had so far.

use std::time::Duration;

use protocol::job::ItemCounts;

/// Seconds to the end at the rate so far; `None` while nothing is done. How long a reduction takes (any stage after the first) is
/// not known from the job's items.
pub fn seconds(stage: u8, items: &ItemCounts, elapsed: Duration) -> Option<u64> {
    if stage > 0 {
        return None;
    }
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
        assert_eq!(seconds(0, &items(0, 0), Duration::from_secs(9)), None);
        assert_eq!(seconds(0, &items(20, 5), Duration::from_secs(10)), Some(30));
        assert_eq!(seconds(0, &items(100, 0), Duration::from_secs(10)), Some(0));
        assert_eq!(seconds(1, &items(100, 0), Duration::from_secs(10)), None);
    }
}
