//! The time that a unit has been computing, without its pauses; measured here because this is the edge.

use std::time::{Duration, Instant};

/// Counts the time between pauses.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    since: Option<Instant>,
    before: Duration,
}

impl Stopwatch {
    /// Begins to count.
    pub(crate) fn start() -> Self {
        Self { since: Some(now()), before: Duration::ZERO }
    }

    /// Stops counting.
    pub(crate) fn pause(&mut self) {
        self.before = self.elapsed();
        self.since = None;
    }

    /// Goes on.
    pub(crate) fn resume(&mut self) {
        self.before = self.elapsed();
        self.since = Some(now());
    }

    /// What has been counted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the executor is the edge: it bounds and reports wall time, and decides nothing by it"
)]
fn now() -> Instant {
    Instant::now()
}
