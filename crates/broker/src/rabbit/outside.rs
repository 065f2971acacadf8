//! What the management side says of a broker and of the grid on it.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::address::{OUTCOMES_EXCHANGE, WORK_EXCHANGE};
use serde::Deserialize;

use super::management::{Answer, Management, ManagementError};
use super::policies::InForce;
use super::settings::{RabbitSettings, Target};
use crate::topology::Topology;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// The broker's version.
    pub version: String,
    /// The time by its clock, as HTTP's `Date` header says it.
    pub date: Option<String>,
    /// The nodes of its cluster.
    pub nodes: Vec<Node>,
    /// What is wrong with the policies in force, one fragment for each queue.
    pub policies: Vec<String>,
    /// The least consumer timeout that a policy sets on a queue of the grid, in milliseconds.
    pub consumer_timeout_ms: Option<u64>,
    /// Bindings that are not there, one fragment each.
    pub unbound: Vec<String>,
    /// Queues of work and outcomes that are not of this topology.
    pub strangers: Vec<String>,
}

/// A node; what a node that is down does not tell is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub running: bool,
    /// Whether it has too little memory, and so takes no messages.
    #[serde(rename = "mem_alarm")]
    pub memory_alarm: bool,
    /// Whether it has too little disk, likewise.
    #[serde(rename = "disk_free_alarm")]
    pub disk_alarm: bool,
    /// Free bytes on its disk.
    pub disk_free: u64,
    /// The bytes below which it has too little.
    pub disk_free_limit: u64,
    /// Its plugins.
    #[serde(rename = "enabled_plugins")]
    pub plugins: Vec<String>,
    /// Nodes it has lost sight of.
    pub partitions: Vec<String>,
}

#[derive(Deserialize)]
struct Overview {
    rabbitmq_version: String,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Binding {
    source: String,
    destination: String,
    routing_key: String,
}

/// Asks about the grid of that topology in the vhost of the settings' URL; `patience` is for each of five answers.
pub async fn look(
    settings: &RabbitSettings,
    management: &str,
    topology: &Topology,
    patience: Duration,
) -> Result<Outside, ManagementError> {
    // A broker's URL that cannot be read is told where the broker is asked.
    let vhost = Target::new(settings).map_or_else(|_| "/".to_owned(), |target| target.uri.vhost);
    let (management, topology) = (Management::new(management, &vhost, patience)?, topology.clone());
    management.blocking(move |management| ask(management, &topology)).await
}

/// Asks for the nodes only.
pub async fn nodes(management: &str, patience: Duration) -> Result<Vec<Node>, ManagementError> {
    Management::new(management, "/", patience)?.blocking(|management| Ok(management.get("nodes")?.value)).await
}

fn ask(management: &Management, topology: &Topology) -> Result<Outside, ManagementError> {
    let Answer { value: Overview { rabbitmq_version: version }, date } = management.get("overview")?;
    let nodes: Vec<Node> = management.get("nodes")?.value;
    let in_force = InForce::ask(management)?;
    let bindings: Vec<Binding> = management.get(&format!("bindings/{}", management.vhost))?.value;
    let bindings: BTreeSet<Binding> = bindings.into_iter().collect();
    let names: BTreeSet<&str> = topology.queues.iter().map(|queue| queue.name.as_str()).collect();
    let there = |name: &str| in_force.queues().any(|queue| queue == name);
    let unbound = topology.queues.iter().filter(|queue| there(&queue.name)).filter(|queue| {
        let (source, destination) = (queue.exchange.to_owned(), queue.name.clone());
        !bindings.contains(&Binding { source, destination, routing_key: queue.key.clone() })
    });
    let unbound = unbound.map(|queue| format!("queue {} to exchange {} by key {}", queue.name, queue.exchange, queue.key));
    let ours = |name: &str| [WORK_EXCHANGE, OUTCOMES_EXCHANGE].iter().any(|start| is_below(name, start));
    let strangers = in_force.queues().filter(|name| ours(name) && !names.contains(name.as_str()));
    let timeouts = names.iter().filter_map(|name| in_force.number(name, "consumer-timeout"));
    Ok(Outside {
        version,
        date,
        nodes,
        // A queue that is missing is told as such.
        policies: in_force.wrong(topology, there),
        consumer_timeout_ms: timeouts.min(),
        unbound: unbound.collect(),
        strangers: strangers.cloned().collect(),
    })
}

fn is_below(name: &str, start: &str) -> bool {
    name.strip_prefix(start).is_some_and(|rest| rest.starts_with('.'))
}
