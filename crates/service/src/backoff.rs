//! How long to wait before the next try: bounded exponential back-off with jitter.

use std::time::Duration;

/// Doublings after which the delay is at its bound for any sensible first delay; keeps the arithmetic in range.
const MAX_DOUBLINGS: u32 = 30;

/// A bounded exponential back-off.
///
/// Each delay lies between half and the whole of `first * 2^n`, at most `max`: half is kept so that a retry storm
/// thins out for certain, half is random so that processes that failed together do not return together
/// ("equal jitter" in Brooker, *Exponential Backoff And Jitter*, AWS 2015).
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off that begins at `first` and never exceeds `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first: first.min(max), max, failures: 0 }
    }

    /// The delay before the next try; `random` yields a number from 0 to 1 (anything else counts as the nearer end).
    pub fn next_delay(&mut self, random: impl FnOnce() -> f64) -> Duration {
        let doublings = self.failures.min(MAX_DOUBLINGS);
        let whole = self.first.saturating_mul(1 << doublings).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let random = random();
        let share = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        whole / 2 + (whole / 2).mul_f64(share)
    }

    /// How many delays were handed out.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn it_doubles_up_to_its_bound() {
        let mut backoff = Backoff::new(FIRST, MAX);
        let delays: Vec<_> = (0..9).map(|_| backoff.next_delay(|| 1.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.failures(), 9);
    }

    #[test]
    fn jitter_keeps_at_least_half() {
        for random in [0.0, 0.25, 1.0, -3.0, 7.0, f64::NAN] {
            let delay = Backoff::new(FIRST, MAX).next_delay(|| random);
            assert!((FIRST / 2..=FIRST).contains(&delay), "{random} gave {delay:?}");
        }
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let mut backoff = Backoff::new(Duration::from_hours(1), Duration::MAX);
        for _ in 0..100 {
            backoff.next_delay(|| 0.5);
        }
        assert_eq!(backoff.failures(), 100);
    }
}
