//! Jittered exponential back-off: bounded delays, unbounded patience.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Quick enough that a restarted broker is used at once.
const FIRST: Duration = Duration::from_millis(100);
/// Long enough that a thousand workers do not hammer a broker that comes up.
const LONGEST: Duration = Duration::from_secs(10);
/// What lasted this long was healthy, and its loss is retried quickly.
const HEALTHY: Duration = Duration::from_secs(30);

/// Delays between attempts at one thing.
pub(super) struct Backoff {
    delay: Duration,
    since: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { delay: FIRST, since: Instant::now() }
    }

    /// Notes that the thing works now.
    pub(super) fn started(&mut self) {
        self.since = Instant::now();
    }

    /// Waits before the next attempt: between half the delay and all of it, which doubles each time.
    pub(super) async fn wait(&mut self) {
        if self.since.elapsed() >= HEALTHY {
            self.delay = FIRST;
        }
        sleep(self.delay.mul_f64(rand::random_range(0.5..=1.0))).await;
        self.delay = (self.delay * 2).min(LONGEST);
        self.since = Instant::now();
    }
}
