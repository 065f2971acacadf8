//! Whether the process has started and is ready for work, as told by its parts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::lock::lock;

/// Named conditions that must all hold before the process takes work.
///
/// A check starts as not ready. Readiness may depend on the broker or the store: not being ready only takes the
/// process out of rotation. [Liveness](crate::liveness) must not, because a failed liveness check restarts the process.
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

/// Whether the process has started; once it has, it says so for ever.
///
/// A startup check that goes on failing restarts the process, so only what its operator has to change may hold it up:
/// whoever waits for something that is merely away has started.
#[derive(Debug, Clone)]
pub struct Startup {
    state: Arc<Mutex<StartupReport>>,
}

/// What `/startupz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartupReport {
    /// Whether it has.
    pub started: bool,
    /// What holds it up, when it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Default for Startup {
    fn default() -> Self {
        Self::new()
    }
}

impl Startup {
    /// A startup that has not ended.
    pub fn new() -> Self {
        let starting = StartupReport { started: false, reason: Some("starting".to_owned()) };
        Self { state: Arc::new(Mutex::new(starting)) }
    }

    /// It has started; there is no way back.
    pub fn started(&self) {
        *lock(&self.state) = StartupReport { started: true, reason: None };
    }

    /// What holds it up, unless it has started before.
    pub fn held_up(&self, reason: impl Into<String>) {
        let mut state = lock(&self.state);
        if !state.started {
            state.reason = Some(reason.into());
        }
    }

    /// Whether it has started.
    pub fn report(&self) -> StartupReport {
        lock(&self.state).clone()
    }
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

    #[test]
    fn what_has_started_stays_so() {
        let startup = Startup::new();
        assert_eq!(startup.report(), StartupReport { started: false, reason: Some("starting".to_owned()) });
        startup.held_up("the tables are missing");
        assert_eq!(startup.report().reason.as_deref(), Some("the tables are missing"));
        startup.started();
        startup.held_up("the tables are gone");
        assert_eq!(startup.report(), StartupReport { started: true, reason: None });
    }
}
