//! The customers of a broker over its management side: reads what they have, and gives and takes it.

use std::time::Duration;

use protocol::CustomerName;
use protocol::address::results_queue;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Account;
use super::management::{Management, ManagementError};
use super::password::PasswordHash;
use super::{census, definitions};
use crate::topology;
use crate::users::{self, Rights, UserLimits, UserSpec};

/// The customers in one vhost of a broker; each step may be taken again without harm.
#[derive(Clone)]
pub struct Accounts {
    management: Management,
}

impl Accounts {
    /// Checks the URL, such as `http://user:password@host:15672`; asks nothing yet. `patience` is for each answer.
    pub fn new(url: &str, vhost: &str, patience: Duration) -> Result<Self, ManagementError> {
        Ok(Self { management: Management::new(url, vhost, patience)? })
    }

    /// Every customer that has a user or a queue, by name.
    pub async fn all(&self) -> Result<Vec<Account>, ManagementError> {
        self.management.clone().blocking(census::all).await
    }

    /// One customer; of whom the broker knows nothing that is said.
    pub async fn find(&self, name: &CustomerName) -> Result<Account, ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| census::one(management, name)).await
    }

    /// Gives a customer all but a password, so that it has all of it before anyone comes in: user, rights, limits, queue.
    pub async fn provision(&self, name: &CustomerName, limits: UserLimits) -> Result<(), ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| provision(management, &name, limits)).await
    }

    /// Sets the password, or with an empty hash takes it away; connections that are open stay so.
    pub async fn set_password(&self, name: &CustomerName, hash: PasswordHash) -> Result<(), ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| set_password(management, &name, &hash)).await
    }

    /// Sets how many connections and channels it may have; those that are open stay so.
    pub async fn set_limits(&self, name: &CustomerName, limits: UserLimits) -> Result<(), ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| set_limits(management, &name, limits)).await
    }

    /// Closes the customer's connections, which are told the reason; how many there were.
    pub async fn close_connections(&self, name: &CustomerName, reason: &'static str) -> Result<usize, ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| close_connections(management, &name, reason)).await
    }

    /// How many connections the customer has open.
    pub async fn open_connections(&self, name: &CustomerName) -> Result<usize, ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| open_connections(management, &name)).await
    }

    /// Whether results are ready to be read, asked of the queue itself; nothing without a queue.
    pub async fn has_unread(&self, name: &CustomerName) -> Result<bool, ManagementError> {
        let name = name.clone();
        self.management.clone().blocking(move |management| has_unread(management, &name)).await
    }

    /// Removes the user with its rights, upon which the broker closes its connections; whether it was there.
    pub async fn remove_user(&self, name: &CustomerName) -> Result<bool, ManagementError> {
        let (what, path) = (format!("removing user {name}"), user_path(name));
        self.management.clone().blocking(move |management| management.delete(&what, &path, "customer is removed")).await
    }

    /// Removes the results queue with what is in it; whether it was there.
    pub async fn remove_queue(&self, name: &CustomerName) -> Result<bool, ManagementError> {
        let queue = results_queue(name);
        let (what, path) = (format!("removing queue {queue}"), in_vhost(&self.management, "queues", &queue));
        self.management.clone().blocking(move |management| management.delete(&what, &path, "customer is removed")).await
    }
}

fn in_vhost(management: &Management, kind: &str, name: &str) -> String {
    format!("{kind}/{}/{}", management.vhost, Management::in_path(name))
}

fn user_path(name: &CustomerName) -> String {
    format!("users/{}", Management::in_path(name.as_str()))
}

/// In an order in which no step leaves more open than the one before: a new user has no password until all of it is there, and
/// its topic permission, without which it could submit under every name, comes before the right to submit at all.
fn provision(management: &Management, name: &CustomerName, limits: UserLimits) -> Result<(), ManagementError> {
    let spec = users::customer(name, limits);
    for exchange in definitions::customers_exchanges() {
        let path = in_vhost(management, "exchanges", &exchange.name);
        management.put(&format!("declaring exchange {}", exchange.name), &path, &definitions::exchange(&exchange))?;
    }
    if find_user(management, name)?.is_none() {
        let none = definitions::user(&spec, &PasswordHash::default());
        management.put(&format!("making user {name}"), &user_path(name), &none)?;
    }
    set_limits(management, name, limits)?;
    set_rights(management, &spec)?;
    let queue = topology::customer(name);
    let path = in_vhost(management, "queues", &queue.name);
    management.put(&format!("declaring queue {}", queue.name), &path, &definitions::queue(&queue))?;
    let ends = format!("{}/e/{}/q/{}", management.vhost, Management::in_path(queue.exchange), Management::in_path(&queue.name));
    let key = json!({ "routing_key": queue.key, "arguments": {} });
    management.post(&format!("binding queue {}", queue.name), &format!("bindings/{ends}"), &key).map(drop)
}

fn set_rights(management: &Management, spec: &UserSpec) -> Result<(), ManagementError> {
    for topic in &spec.topics {
        let path = in_vhost(management, "topic-permissions", &spec.name);
        let body = json!({ "exchange": topic.exchange, "write": topic.write, "read": topic.read });
        management.put(&format!("setting the topic permission of {}", spec.name), &path, &body)?;
    }
    let Rights { configure, write, read } = &spec.rights;
    let path = in_vhost(management, "permissions", &spec.name);
    let body = json!({ "configure": configure, "write": write, "read": read });
    management.put(&format!("setting the permissions of {}", spec.name), &path, &body)
}

fn set_limits(management: &Management, name: &CustomerName, limits: UserLimits) -> Result<(), ManagementError> {
    for (kind, limit) in [("max-connections", limits.connections), ("max-channels", limits.channels)] {
        let path = format!("user-limits/{}/{kind}", Management::in_path(name.as_str()));
        management.put(&format!("setting {kind} of {name}"), &path, &json!({ "value": limit }))?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    tags: Value,
}

fn find_user(management: &Management, name: &CustomerName) -> Result<Option<User>, ManagementError> {
    management.find(&format!("looking for user {name}"), &user_path(name))
}

/// With the tags it has: a user is always set whole.
fn set_password(management: &Management, name: &CustomerName, hash: &PasswordHash) -> Result<(), ManagementError> {
    let mut user = definitions::user(&users::customer(name, UserLimits::CUSTOMER), hash);
    if let Some(found) = find_user(management, name)? {
        user["tags"] = found.tags;
    }
    // Limits are left as they are.
    if let Some(user) = user.as_object_mut() {
        user.remove("limits");
    }
    management.put(&format!("setting the password of {name}"), &user_path(name), &user)
}

fn close_connections(management: &Management, name: &CustomerName, reason: &str) -> Result<usize, ManagementError> {
    let open = open_connections(management, name)?;
    // Also when none is listed: what connected a moment ago is closed as well.
    management.delete(&format!("closing the connections of {name}"), &connections_path(name), reason)?;
    Ok(open)
}

fn open_connections(management: &Management, name: &CustomerName) -> Result<usize, ManagementError> {
    let open: Option<Vec<Value>> = management.find(&format!("looking for connections of {name}"), &connections_path(name))?;
    Ok(open.map_or(0, |open| open.len()))
}

fn connections_path(name: &CustomerName) -> String {
    format!("connections/username/{}", Management::in_path(name.as_str()))
}

/// Reads one message and gives it back: what the statistics say is some seconds old.
fn has_unread(management: &Management, name: &CustomerName) -> Result<bool, ManagementError> {
    let queue = results_queue(name);
    let path = in_vhost(management, "queues", &queue);
    if management.find::<Value>(&format!("looking for queue {queue}"), &path)?.is_none() {
        return Ok(false);
    }
    let one = json!({ "count": 1, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 1 });
    let read = management.post(&format!("looking into queue {queue}"), &format!("{path}/get"), &one)?;
    Ok(read.as_array().is_some_and(|messages| !messages.is_empty()))
}
