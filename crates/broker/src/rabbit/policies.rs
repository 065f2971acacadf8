//! The policies in force on the queues, from the management side: AMQP does not tell them.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::address::DEAD_EXCHANGE;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::management::{Management, ManagementError};
use crate::topology::{QueueSpec, Topology};

/// How long the management side may take to list a grid's queues.
const PATIENCE: Duration = Duration::from_secs(20);
/// A killed worker counts as a delivery for all it had prefetched; fewer would take good units for deadly ones.
const FEWEST_DELIVERIES: i64 = 10;
/// How many queues a message names.
const NAMED: usize = 3;

/// Why the policies are not known to be right.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The management side does not tell: nothing is known.
    #[error("policies cannot be read: {0}")]
    Unknown(ManagementError),
    /// Queues without what they need.
    #[error(
        "policies are missing or differ: {0}; import them with `rabbitmqctl import_definitions` from deploy/rabbitmq (definitions-3.10.json, or definitions-3.12.json from RabbitMQ 3.12 on)"
    )]
    Wrong(String),
}

/// A queue as the management side lists it.
#[derive(Deserialize)]
struct Queue {
    name: String,
    /// The one policy in force on it.
    policy: Option<String>,
}

/// A policy, likewise.
#[derive(Deserialize)]
struct Policy {
    name: String,
    definition: Map<String, Value>,
}

/// What is in force in a vhost.
pub(super) struct InForce {
    queues: BTreeMap<String, Option<String>>,
    policies: BTreeMap<String, Map<String, Value>>,
}

/// Checks what is in force on every queue of the topology.
pub(super) async fn check(management: &str, vhost: &str, topology: &Topology) -> Result<(), PolicyError> {
    let management = Management::new(management, vhost, PATIENCE).map_err(PolicyError::Unknown)?;
    let in_force = management.blocking(InForce::ask).await.map_err(PolicyError::Unknown)?;
    let wrong = in_force.wrong(topology, |_| true);
    if wrong.is_empty() { Ok(()) } else { Err(PolicyError::Wrong(first_few(&wrong))) }
}

/// Some of what is wrong, and how much more there is.
fn first_few(wrong: &[String]) -> String {
    let more = wrong.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(", and so on for {more} more") };
    let named: Vec<&str> = wrong.iter().take(NAMED).map(String::as_str).collect();
    format!("{}{more}", named.join(", "))
}

impl InForce {
    pub(super) fn ask(management: &Management) -> Result<Self, ManagementError> {
        let vhost = &management.vhost;
        // Without statistics, which are some seconds old and come late for new queues.
        let queues = format!("queues/{vhost}?disable_stats=true&enable_queue_totals=true&columns=name,policy");
        let queues: Vec<Queue> = management.get(&queues)?.value;
        let policies: Vec<Policy> = management.get(&format!("policies/{vhost}"))?.value;
        Ok(Self {
            queues: queues.into_iter().map(|queue| (queue.name, queue.policy)).collect(),
            policies: policies.into_iter().map(|policy| (policy.name, policy.definition)).collect(),
        })
    }

    /// What is wrong with the queues of the topology that are looked at, one fragment each.
    pub(super) fn wrong(&self, topology: &Topology, looked_at: impl Fn(&str) -> bool) -> Vec<String> {
        let queues = topology.queues.iter().filter(|queue| looked_at(&queue.name));
        queues.filter_map(|queue| wrong(queue, self.on(&queue.name))).collect()
    }

    /// The queues there are.
    pub(super) fn queues(&self) -> impl Iterator<Item = &String> {
        self.queues.keys()
    }

    /// A number in the policy on a queue.
    pub(super) fn number(&self, queue: &str, key: &str) -> Option<u64> {
        self.on(queue)?.get(key)?.as_u64()
    }

    /// The definition of the policy on a queue.
    fn on(&self, queue: &str) -> Option<&Map<String, Value>> {
        self.policies.get(self.queues.get(queue)?.as_ref()?)
    }
}

/// What is wrong with one queue, as a fragment.
fn wrong(queue: &QueueSpec, policy: Option<&Map<String, Value>>) -> Option<String> {
    let Some(policy) = policy else { return Some(format!("queue {} has no policy", queue.name)) };
    let mut needed = vec![("overflow", "reject-publish")];
    if let Some(origin) = queue.dead {
        needed.push(("dead-letter-exchange", DEAD_EXCHANGE));
        needed.push(("dead-letter-routing-key", origin.key()));
        needed.push(("dead-letter-strategy", "at-least-once"));
    }
    let differs = needed.into_iter().filter(|(key, value)| policy.get(*key).and_then(Value::as_str) != Some(value));
    let mut lacks: Vec<String> = differs.map(|(key, value)| format!("{key}={value}")).collect();
    // How much they hold is the operator's choice, but they must have a bound.
    let number = |key: &str| policy.get(key).and_then(Value::as_i64).unwrap_or(-1);
    lacks.extend(["max-length", "max-length-bytes"].into_iter().filter(|key| number(key) < 1).map(str::to_owned));
    if number("delivery-limit") < FEWEST_DELIVERIES {
        lacks.push(format!("delivery-limit of {FEWEST_DELIVERIES} or more"));
    }
    (!lacks.is_empty()).then(|| format!("queue {} lacks {}", queue.name, lacks.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_none_or_leads_nowhere_is_told_without_its_password() {
        let topology = Topology::grid(&[], 1);
        for url in ["ann:s3cret@host", "amqp://ann:s3cret@host", "http://ann:s3cret@"] {
            let error = check(url, "/", &topology).await.unwrap_err();
            assert!(matches!(error, PolicyError::Unknown(ManagementError::Url)), "{url}: {error}");
        }
        let error = check("http://ann:s3cret@127.0.0.1:1/", "/", &topology).await.unwrap_err().to_string();
        assert!(error.contains("http://127.0.0.1:1") && !error.contains("s3cret"), "{error}");
    }
}
