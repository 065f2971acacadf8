//! Clocks of hosts: all run with tokio's, each off by its own amount.

use std::time::Duration;

use ports::Clock;
use protocol::Micros;
use tokio::time::Instant;

/// When simulations begin: 2026-01-01, in microseconds UTC.
const EPOCH: Micros = Micros(1_767_225_600_000_000);

/// A host's clock.
#[derive(Debug, Clone, Copy)]
pub struct SkewedClock {
    begun: Instant,
    ahead: Duration,
}

impl SkewedClock {
    /// A clock that is ahead of the latest one by so much, in a run that began then.
    pub fn new(begun: Instant, ahead: Duration) -> Self {
        Self { begun, ahead }
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Micros {
        EPOCH.plus(self.begun.elapsed()).plus(self.ahead)
    }
}
