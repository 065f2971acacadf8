//! Rates: how many requests a second a customer may send, as a token bucket, exact in whole numbers.

use std::time::Duration;

use protocol::Micros;

/// What one request takes; a bucket gains its rate in these each microsecond.
const REQUEST: u64 = 1_000_000;
/// So many seconds' worth of requests may come at once: a client that was away catches up.
pub const BURST_S: u64 = 10;

/// What a sender has left of its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    level: u64,
    at: Micros,
}

impl Bucket {
    /// A full bucket.
    pub fn full(per_second: u32, now: Micros) -> Self {
        Self { level: capacity(per_second), at: now }
    }

    /// Takes one request's worth; if it is not there, the time until it will be.
    ///
    /// A clock that goes back earns nothing until it is where it was. If it goes back further than a burst takes to be earned, it
    /// was wrong before, and counts from where it is.
    pub fn take(&mut self, per_second: u32, now: Micros) -> Result<(), Duration> {
        let rate = u64::from(per_second.max(1));
        if self.at.since(now) > Duration::from_secs(BURST_S) {
            self.at = now;
        }
        let elapsed_us = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(elapsed_us.saturating_mul(rate)).min(capacity(per_second));
        self.at = self.at.max(now);
        match self.level.checked_sub(REQUEST) {
            Some(left) => {
                self.level = left;
                Ok(())
            }
            None => Err(self.at.since(now) + Duration::from_micros((REQUEST - self.level).div_ceil(rate))),
        }
    }
}

fn capacity(per_second: u32) -> u64 {
    u64::from(per_second.max(1)).saturating_mul(BURST_S).saturating_mul(REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_seconds_worth_come_at_once_and_then_one_at_a_time() {
        let mut bucket = Bucket::full(2, Micros(0));
        for _ in 0..20 {
            assert_eq!(bucket.take(2, Micros(0)), Ok(()));
        }
        assert_eq!(bucket.take(2, Micros(0)), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(2, Micros(400_000)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(2, Micros(500_000)), Ok(()));
        assert!(bucket.take(2, Micros(0)).is_err());
    }

    /// A bucket from which all was taken at that time.
    fn empty(per_second: u32, now: Micros) -> Bucket {
        let mut bucket = Bucket::full(per_second, now);
        while bucket.take(per_second, now).is_ok() {}
        bucket
    }

    #[test]
    fn a_clock_that_goes_back_and_forth_earns_nothing() {
        let (now, before) = (Micros(100_000_000), Micros(91_000_000));
        let mut bucket = empty(2, now);
        for _ in 0..3 {
            assert_eq!(bucket.take(2, before), Err(Duration::from_millis(9_500)));
            assert_eq!(bucket.take(2, now), Err(Duration::from_millis(500)));
        }
        assert_eq!(bucket.take(2, Micros(100_500_000)), Ok(()));
    }

    #[test]
    fn a_clock_that_was_far_ahead_blocks_nobody() {
        let mut bucket = empty(2, Micros(86_400_000_000));
        assert_eq!(bucket.take(2, Micros(0)), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(2, Micros(500_000)), Ok(()));
    }

    proptest! {
        /// No more than the burst and the rate over the time, and what is refused succeeds after the time told, also by a clock
        /// that now and then is behind.
        #[test]
        fn the_rate_is_kept(
            rate in 1_u32..5_000,
            steps in proptest::collection::vec((0_i64..200_000, 0_i64..10_000_000, any::<bool>()), 1..400),
        ) {
            let (mut bucket, mut latest, mut taken) = (Bucket::full(rate, Micros(0)), 0, 0_u64);
            for (step, behind, is_behind) in steps {
                latest += step;
                let now = Micros(latest - if is_behind { behind } else { 0 });
                match bucket.take(rate, now) {
                    Ok(()) => taken += 1,
                    Err(wait) => {
                        let mut later = bucket;
                        prop_assert!(later.take(rate, now.plus(wait)).is_ok());
                    }
                }
            }
            let allowed = u64::from(rate) * (BURST_S * 1_000_000 + u64::try_from(latest).unwrap());
            prop_assert!(taken * 1_000_000 <= allowed, "{taken} in {latest} us");
        }
    }
}
