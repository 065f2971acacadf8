//! Judges the services that were named: alive, ready, of this version, and set alike.

use std::collections::BTreeMap;

use super::{Finding, Level};
use crate::admin::{self, Health, Question};
use crate::exit;

const ABOUT: &str = "services";

/// What a service answered.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its admin side.
    pub address: String,
    /// Whether it is alive, whether ready, and what it says of itself; or why it does not answer.
    pub answer: Result<(Health, Health, BTreeMap<String, String>), String>,
}

/// Asks a service.
pub async fn ask(address: String) -> Service {
    let questions = async {
        let alive = admin::ask(&address, Question::Alive).await?;
        let ready = admin::ask(&address, Question::Ready).await?;
        Ok((alive, ready, admin::about(&address).await?.unwrap_or_default()))
    };
    let answer: Result<_, service::probe::ProbeError> = questions.await;
    Service { answer: answer.map_err(|error| exit::told(&error.into())), address }
}

/// Judges services against the settings at hand.
pub fn judge(services: &[Service], shared: &BTreeMap<&'static str, String>, version: &str) -> Vec<Finding> {
    if services.is_empty() {
        let says = "none is named, so whether they are alive, ready, of one version and set alike is not checked";
        let cure = "name their admin sides, each with --admin HOST:PORT";
        return vec![Finding::bad(Level::Unchecked, ABOUT, says, cure)];
    }
    services.iter().flat_map(|service| of_one(service, shared, version)).collect()
}

fn of_one(service: &Service, shared: &BTreeMap<&'static str, String>, version: &str) -> Vec<Finding> {
    let address = &service.address;
    let (alive, ready, about) = match &service.answer {
        Ok(answer) => answer,
        Err(reason) => {
            let cure =
                "see that it runs, and that its admin.address is reached from here: 127.0.0.1 is only from its own machine";
            return vec![Finding::bad(Level::Wrong, ABOUT, reason.clone(), cure)];
        }
    };
    let name = about.get("service").map_or_else(|| address.clone(), |name| format!("{name} at {address}"));
    let mut findings = Vec::new();
    if let Some(reason) = &alive.reason {
        let cure = "restart it, and keep its log from before: it is stuck";
        findings.push(Finding::bad(Level::Wrong, ABOUT, format!("{name} is not alive: {reason}"), cure));
    }
    if let Some(reason) = &ready.reason {
        let cure = "mend what it names; it goes on by itself then, a restart does not help";
        findings.push(Finding::bad(Level::Wrong, ABOUT, format!("{name} is not ready: {reason}"), cure));
    }
    if let Some(other) = about.get("version").filter(|other| *other != version) {
        let says = format!("{name} is version {other}, this one is {version}");
        let cure = "while an upgrade is under way that is as it should be; else give all the same version";
        findings.push(Finding::bad(Level::Warning, ABOUT, says, cure));
    }
    for (key, ours) in shared {
        if let Some(theirs) = about.get(*key).filter(|theirs| *theirs != ours) {
            let says = format!("{name} has {key} = {theirs}, the settings here say {ours}");
            let cure =
                format!("give {key} the same value everywhere, here with --config or the environment, and restart what differs");
            findings.push(Finding::bad(Level::Wrong, "settings", says, cure));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::well(ABOUT, format!("{name} is alive, ready, and set as it is here")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn found(change: impl FnOnce(&mut Health, &mut Health, &mut BTreeMap<String, String>)) -> Vec<(Level, &'static str)> {
        let health = Health { reason: None, report: Value::Null };
        let about = [("service", "producer"), ("version", "1.0"), ("grid.shards", "4")];
        let about = about.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut answer = (health.clone(), health, BTreeMap::from(about));
        change(&mut answer.0, &mut answer.1, &mut answer.2);
        let service = Service { address: "host:1".to_owned(), answer: Ok(answer) };
        let shared = BTreeMap::from([("grid.shards", "4".to_owned())]);
        judge(&[service], &shared, "1.0").into_iter().map(|found| (found.level, found.about)).collect()
    }

    #[test]
    fn each_fault_of_a_service_is_told() {
        assert_eq!(found(|_, _, _| {}), [(Level::Well, "services")]);
        assert_eq!(found(|alive, _, _| alive.reason = Some("stuck".to_owned())), [(Level::Wrong, "services")]);
        assert_eq!(found(|_, ready, _| ready.reason = Some("broker".to_owned())), [(Level::Wrong, "services")]);
        let other = |key: &'static str| {
            move |_: &mut Health, _: &mut Health, about: &mut BTreeMap<String, String>| {
                about.insert(key.to_owned(), "9".to_owned());
            }
        };
        assert_eq!(found(other("version")), [(Level::Warning, "services")]);
        assert_eq!(found(other("grid.shards")), [(Level::Wrong, "settings")]);
        let none = judge(&[], &BTreeMap::new(), "1.0");
        assert_eq!(none[0].level, Level::Unchecked);
        let gone = Service { address: "host:1".to_owned(), answer: Err("host:1 cannot be reached".to_owned()) };
        assert_eq!(judge(&[gone], &BTreeMap::new(), "1.0")[0].level, Level::Wrong);
    }
}
