//! Reads from the management side who is a customer and what it has.

use std::collections::BTreeMap;

use protocol::CustomerName;
use protocol::address::{CUSTOMER_EXCHANGE, results_queue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::account::{Account, AccountQueue, AccountUser};
use super::management::{Management, ManagementError};
use crate::users::{self, Rights, TopicRight};

/// Every customer that has a user or a queue, by name.
pub(super) fn all(management: &Management) -> Result<Vec<Account>, ManagementError> {
    let census = Census::read(management)?;
    let named = census.customers();
    Ok(census.accounts(named))
}

/// One customer.
pub(super) fn one(management: &Management, name: CustomerName) -> Result<Account, ManagementError> {
    let found = Census::read(management)?.accounts(vec![name.clone()]).pop();
    Ok(found.unwrap_or_else(|| Account::none(name)))
}

#[derive(Deserialize)]
struct User {
    name: String,
    #[serde(default)]
    password_hash: String,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct OfUser<T> {
    user: String,
    #[serde(flatten)]
    given: T,
}

#[derive(Deserialize)]
struct Limits {
    value: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Queue {
    name: String,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    arguments: BTreeMap<String, Value>,
    #[serde(default)]
    messages: u64,
}

#[derive(Deserialize)]
struct Binding {
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
}

/// All that a vhost's customers can be read from.
struct Census {
    users: Vec<User>,
    rights: Vec<OfUser<Rights>>,
    topics: Vec<OfUser<TopicRight>>,
    limits: Vec<OfUser<Limits>>,
    queues: Vec<Queue>,
    bindings: Vec<Binding>,
}

impl Census {
    fn read(management: &Management) -> Result<Self, ManagementError> {
        let vhost = &management.vhost;
        let columns = "columns=name,durable,arguments,messages";
        Ok(Self {
            users: list(management, "users", "users")?,
            rights: list(management, "permissions", &format!("vhosts/{vhost}/permissions"))?,
            topics: list(management, "topic permissions", &format!("vhosts/{vhost}/topic-permissions"))?,
            limits: list(management, "limits", "user-limits")?,
            // Without statistics, which are some seconds old and come late for new queues.
            queues: list(management, "queues", &format!("queues/{vhost}?disable_stats=true&enable_queue_totals=true&{columns}"))?,
            bindings: list(management, "bindings", &format!("bindings/{vhost}"))?,
        })
    }

    /// Users whose rights name their own results or their own key, or that may submit and nothing else, and owners of results
    /// queues.
    fn customers(&self) -> Vec<CustomerName> {
        let by_rights = self.rights.iter().filter(|of| users::has_customers_rights(&of.user, &of.given));
        let by_topic = self.topics.iter().filter(|of| users::has_customers_key(&of.user, &of.given));
        let named = by_rights.map(|of| &of.user).chain(by_topic.map(|of| &of.user));
        let named = named.filter_map(|name| CustomerName::new(name.clone()).ok());
        let owners = self.queues.iter().filter_map(|queue| owner(&queue.name));
        let mut customers: Vec<CustomerName> = named.chain(owners).collect();
        customers.sort();
        customers.dedup();
        customers
    }

    fn accounts(self, customers: Vec<CustomerName>) -> Vec<Account> {
        let named = customers.into_iter().map(|name| (name.to_string(), Account::none(name)));
        let mut accounts: BTreeMap<String, Account> = named.collect();
        for User { name, password_hash, tags } in self.users {
            if let Some(account) = accounts.get_mut(&name) {
                account.user = Some(AccountUser { has_password: !password_hash.is_empty(), tags });
            }
        }
        for OfUser { user, given } in self.rights {
            if let Some(account) = accounts.get_mut(&user) {
                account.rights = Some(given);
            }
        }
        for OfUser { user, given } in self.topics {
            if let Some(account) = accounts.get_mut(&user) {
                account.topics.push(given);
            }
        }
        for OfUser { user, given: Limits { value } } in self.limits {
            if let Some(account) = accounts.get_mut(&user) {
                account.max_connections = value.get("max-connections").copied();
                account.max_channels = value.get("max-channels").copied();
            }
        }
        let mut bound: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for binding in self.bindings.into_iter().filter(|binding| binding.destination_type == "queue") {
            // Every queue is bound to the exchange without a name.
            if !binding.source.is_empty() {
                bound.entry(binding.destination).or_default().push((binding.source, binding.routing_key));
            }
        }
        for queue in self.queues {
            let Some(account) = owner(&queue.name).and_then(|name| accounts.get_mut(name.as_str())) else { continue };
            let is_quorum = queue.arguments.get("x-queue-type").is_some_and(|kind| kind == "quorum");
            let bindings = bound.remove(&queue.name).unwrap_or_default();
            account.queue = Some(AccountQueue { fit: queue.durable && is_quorum, messages: queue.messages, bindings });
        }
        accounts.into_values().collect()
    }
}

fn list<T: DeserializeOwned>(management: &Management, what: &str, path: &str) -> Result<Vec<T>, ManagementError> {
    let what = format!("reading {what}");
    let none = || management.none(&what, "there is no such virtual host: name another, or make it with rabbitmqctl add_vhost");
    management.find(&what, path)?.ok_or_else(none)
}

/// Whose results a queue holds.
fn owner(queue: &str) -> Option<CustomerName> {
    let name = queue.strip_prefix(CUSTOMER_EXCHANGE)?.strip_prefix('.')?.strip_suffix(".results")?;
    CustomerName::new(name).ok().filter(|name| results_queue(name) == queue)
}
