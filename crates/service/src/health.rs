//! Whether the process is ready for work and whether it is alive, as told by its parts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// Named conditions that must all hold before the process takes work.
///
/// A check starts as not ready. Readiness may depend on the broker or the store: not being ready only takes the
/// process out of rotation. Liveness must not, because a failed liveness check restarts the process.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<ReadinessState>>,
}

#[derive(Debug, Default)]
struct ReadinessState {
    draining: bool,
    checks: BTreeMap<&'static str, CheckReport>,
}

/// One check of a [`Readiness`], held by the part that knows.
#[derive(Debug, Clone)]
pub struct ReadyCheck {
    name: &'static str,
    state: Arc<Mutex<ReadinessState>>,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadinessReport {
    /// Every check is ready and the process is not draining.
    pub ready: bool,
    /// The process is finishing what it has and takes nothing new.
    pub draining: bool,
    /// Each check by its name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// The state of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Whether it holds.
    pub ready: bool,
    /// Why not, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// A readiness without checks, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check, not ready until it is told so; the same name twice is the same check.
    pub fn check(&self, name: &'static str) -> ReadyCheck {
        let waiting = CheckReport { ready: false, reason: Some("starting".to_owned()) };
        lock(&self.state).checks.entry(name).or_insert(waiting);
        ReadyCheck { name, state: Arc::clone(&self.state) }
    }

    /// Says that the process is draining; there is no way back.
    pub fn drain(&self) {
        lock(&self.state).draining = true;
    }

    /// The state of every check.
    pub fn report(&self) -> ReadinessReport {
        let state = lock(&self.state);
        ReadinessReport {
            ready: !state.draining && state.checks.values().all(|check| check.ready),
            draining: state.draining,
            checks: state.checks.clone(),
        }
    }
}

impl ReadyCheck {
    /// The condition holds.
    pub fn ready(&self) {
        self.set(CheckReport { ready: true, reason: None });
    }

    /// The condition does not hold, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(CheckReport { ready: false, reason: Some(reason.into()) });
    }

    /// Whether it holds.
    pub fn is_ready(&self) -> bool {
        lock(&self.state).checks.get(self.name).is_some_and(|check| check.ready)
    }

    fn set(&self, report: CheckReport) {
        let previous = lock(&self.state).checks.insert(self.name, report.clone());
        if previous.is_some_and(|previous| previous.ready == report.ready) {
            return;
        }
        match report.reason {
            None => tracing::info!(check = self.name, "readiness: {} is ready", self.name),
            Some(reason) => {
                tracing::warn!(check = self.name, "readiness: {} is not ready: {reason}", self.name);
            }
        }
    }
}

/// The heartbeats of the loops that must keep turning.
///
/// A loop registers with the longest silence that is still healthy and beats at every turn, also while it waits for a
/// broker or store that is down: only a loop that is stuck inside this process may fail liveness.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    beats: Arc<Mutex<BTreeMap<&'static str, Beat>>>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    last: Instant,
    max_silence: Duration,
}

/// One loop's heartbeat; dropping it ends the watch, because the loop has ended in an orderly way.
#[derive(Debug)]
pub struct Heartbeat {
    name: &'static str,
    beats: Arc<Mutex<BTreeMap<&'static str, Beat>>>,
}

/// A loop that has been silent for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// The loop.
    pub name: &'static str,
    /// For how many milliseconds it has been silent.
    pub silent_ms: u128,
    /// How many are allowed.
    pub max_silence_ms: u128,
}

impl Liveness {
    /// A liveness without heartbeats: alive as long as it can answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a loop from now on.
    pub fn heartbeat(&self, name: &'static str, max_silence: Duration) -> Heartbeat {
        let beat = Beat { last: Instant::now(), max_silence };
        lock(&self.beats).insert(name, beat);
        Heartbeat { name, beats: Arc::clone(&self.beats) }
    }

    /// The loops that have been silent for too long.
    pub fn silent(&self) -> Vec<Silent> {
        let now = Instant::now();
        lock(&self.beats)
            .iter()
            .filter(|(_, beat)| now - beat.last > beat.max_silence)
            .map(|(name, beat)| Silent {
                name,
                silent_ms: (now - beat.last).as_millis(),
                max_silence_ms: beat.max_silence.as_millis(),
            })
            .collect()
    }
}

impl Heartbeat {
    /// The loop has turned once more.
    pub fn beat(&self) {
        if let Some(beat) = lock(&self.beats).get_mut(self.name) {
            beat.last = Instant::now();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        lock(&self.beats).remove(self.name);
    }
}

/// A panic while the lock was held leaves plain values behind, so the lock stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_check_is_and_never_while_draining() {
        let readiness = Readiness::new();
        let broker = readiness.check("broker");
        let store = readiness.check("store");
        assert!(!readiness.report().ready);
        assert_eq!(readiness.report().checks["broker"].reason.as_deref(), Some("starting"));
        broker.ready();
        assert!(!readiness.report().ready);
        store.ready();
        assert!(readiness.report().ready);
        broker.not_ready("connection blocked: memory alarm");
        let report = readiness.report();
        assert!(!report.ready && report.checks["store"].ready);
        broker.ready();
        readiness.drain();
        assert!(!readiness.report().ready && readiness.report().draining);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stops_beating_is_named() {
        let liveness = Liveness::new();
        let dispatch = liveness.heartbeat("dispatch", Duration::from_secs(10));
        let relay = liveness.heartbeat("relay", Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(11)).await;
        let silent = liveness.silent();
        assert_eq!(silent.len(), 1);
        assert_eq!((silent[0].name, silent[0].max_silence_ms), ("dispatch", 10_000));
        dispatch.beat();
        assert!(liveness.silent().is_empty());
        tokio::time::advance(Duration::from_secs(40)).await;
        drop(relay);
        assert_eq!(liveness.silent().len(), 1, "a loop that ended is not watched");
    }
}
