//! The policies in force on the queues, from the management side: AMQP does not tell them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::address::DEAD_EXCHANGE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::topology::{QueueSpec, Topology};

/// How long the management side may take to list a grid's queues.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest list that is read: some hundred thousand queues by name.
const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;
/// A killed worker counts as a delivery for all it had prefetched; fewer would take good units for deadly ones.
const FEWEST_DELIVERIES: i64 = 10;
/// How many queues a message names.
const NAMED: usize = 3;

/// Why the policies are not known to be right.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The management URL cannot be used; its text is not repeated, since it holds a password.
    #[error("management URL is not valid; write http://user:password@host:15672, or https://…")]
    Url,
    /// The management side was not there or did not answer as it should; nothing is known.
    #[error("policies cannot be read from {address}: {reason}")]
    Unread {
        /// Where it was looked for, without user and password.
        address: String,
        /// What went wrong.
        reason: String,
    },
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
struct InForce {
    queues: BTreeMap<String, Option<String>>,
    policies: BTreeMap<String, Map<String, Value>>,
}

/// Checks what is in force on every queue of the topology.
pub(super) async fn check(management: &str, vhost: &str, topology: &Topology) -> Result<(), PolicyError> {
    let base: Uri = management.parse().ok().filter(is_web).ok_or(PolicyError::Url)?;
    let address = format!("{}://{}", base.scheme_str().unwrap_or("http"), base.authority().map_or("", host));
    let unread = |reason: String| PolicyError::Unread { address, reason };
    let vhost: String = vhost.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let management = management.trim_end_matches('/').to_owned();
    let asked = tokio::task::spawn_blocking(move || InForce::ask(&format!("{management}/api"), &vhost)).await;
    let in_force = asked.map_err(|error| error.to_string()).flatten().map_err(unread)?;
    let wrong: Vec<String> = topology.queues.iter().filter_map(|queue| wrong(queue, in_force.on(&queue.name))).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(", and so on for {more} more") };
    let named: Vec<String> = wrong.into_iter().take(NAMED).collect();
    Err(PolicyError::Wrong(format!("{}{more}", named.join(", "))))
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

fn host(authority: &ureq::http::uri::Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

impl InForce {
    fn ask(api: &str, vhost: &str) -> Result<Self, String> {
        // The certificates trusted are the same as for `amqps`.
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).tls_config(tls).build().new_agent();
        // Without statistics, which are some seconds old and come late for new queues.
        let queues = format!("{api}/queues/{vhost}?disable_stats=true&enable_queue_totals=true&columns=name,policy");
        let queues: Vec<Queue> = list(&agent, &queues)?;
        let policies: Vec<Policy> = list(&agent, &format!("{api}/policies/{vhost}"))?;
        Ok(Self {
            queues: queues.into_iter().map(|queue| (queue.name, queue.policy)).collect(),
            policies: policies.into_iter().map(|policy| (policy.name, policy.definition)).collect(),
        })
    }

    /// The definition of the policy on a queue.
    fn on(&self, queue: &str) -> Option<&Map<String, Value>> {
        self.policies.get(self.queues.get(queue)?.as_ref()?)
    }
}

fn list<T: DeserializeOwned>(agent: &ureq::Agent, url: &str) -> Result<Vec<T>, String> {
    let answer = agent.get(url).call().map_err(|error| reason(&error))?;
    let body = answer.into_body().into_with_config().limit(MAX_LIST_BYTES).read_to_vec().map_err(|error| reason(&error))?;
    serde_json::from_slice(&body).map_err(|error| format!("its answer is not understood: {error}"))
}

/// An error in words, with what can be done; never with the URL.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; what is left says what it is by itself")]
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(status @ (401 | 403)) => {
            format!("status {status}: the user needs the tag monitoring (rabbitmqctl set_user_tags) and rights in the vhost")
        }
        ureq::Error::BadUri(_) => "the URL is not one".to_owned(),
        other => other.to_string(),
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
            assert!(matches!(error, PolicyError::Url), "{url}: {error}");
        }
        let error = check("http://ann:s3cret@127.0.0.1:1/", "/", &topology).await.unwrap_err().to_string();
        assert!(error.contains("http://127.0.0.1:1") && !error.contains("s3cret"), "{error}");
    }
}
