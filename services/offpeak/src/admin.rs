//! A service's admin side as its operators ask it: has it started, is it alive, is it ready, and if not, why.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use service::probe::{self, ProbeError};

use crate::dead::plain;

/// An admin side answers from memory: one that takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// HTTP's status of an admin side that has started, is alive or ready.
const OK: u16 = 200;
/// And of one that is not.
const UNAVAILABLE: u16 = 503;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Has it come up, with tables that it can use?
    Started,
    /// Would a restart mend it?
    Alive,
    /// Can it work now?
    Ready,
}

impl Question {
    /// The word for yes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Alive => "alive",
            Self::Ready => "ready",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Started => "/startupz",
            Self::Alive => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Why not, if not.
    pub reason: Option<String>,
    /// The whole answer.
    pub report: Value,
}

/// Asks once.
pub async fn ask(address: &str, question: Question) -> Result<Health, ProbeError> {
    let answer = probe::ask(address, question.path(), PATIENCE).await?;
    let report = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let reason = if answer.status == OK { None } else { Some(why_not(answer.status, &report)) };
    Ok(Health { reason, report })
}

/// What the process is and how it is set; `None` if it does not say.
pub async fn about(address: &str) -> Result<Option<BTreeMap<String, String>>, ProbeError> {
    let answer = probe::ask(address, "/about", PATIENCE).await?;
    Ok(serde_json::from_str(&answer.body).ok())
}

/// The reasons in an answer of `/startupz`, `/livez` or `/readyz`.
fn why_not(status: u16, report: &Value) -> String {
    let mut reasons = Vec::new();
    if report["draining"] == true {
        reasons.push("draining".to_owned());
    }
    reasons.extend(report["reason"].as_str().map(ToOwned::to_owned));
    let checks = report["checks"].as_object().into_iter().flatten();
    for (name, check) in checks.filter(|(_, check)| check["ready"] == false) {
        reasons.push(format!("{name}: {}", check["reason"].as_str().unwrap_or("no reason is told")));
    }
    for stuck in report["stuck"].as_array().into_iter().flatten() {
        let (task, ms) = (stuck["task"].as_str().unwrap_or("a task"), &stuck["turn_ms"]);
        reasons.push(format!("{task} has been stuck for {ms} ms of {} allowed", stuck["max_turn_ms"]));
    }
    if reasons.is_empty() && status != UNAVAILABLE {
        reasons.push(format!("it answers with status {status}: is this an admin side of offpeak?"));
    }
    plain(&reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_reason_is_told() {
        let ready = json!({ "ready": false, "draining": true, "checks": {
            "broker": { "ready": true }, "database": { "ready": false, "reason": "connecting" } } });
        assert_eq!(why_not(503, &ready), "draining; database: connecting");
        let alive = json!({ "alive": false, "stuck": [{ "task": "dispatch", "turn_ms": 61000, "max_turn_ms": 60000 }] });
        assert_eq!(why_not(503, &alive), "dispatch has been stuck for 61000 ms of 60000 allowed");
        let started = json!({ "started": false, "reason": "database: run `offpeak migrate`" });
        assert_eq!(why_not(503, &started), "database: run `offpeak migrate`");
        assert!(why_not(404, &Value::Null).contains("status 404"));
    }
}
