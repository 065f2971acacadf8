//! Users, customers and their queues as RabbitMQ's definitions: what its management side takes one by one, and imports as a file.

use protocol::CustomerName;
use protocol::address::{CUSTOMER_EXCHANGE, SUBMIT_EXCHANGE};
use serde_json::{Map, Value, json};

use super::password::{ALGORITHM, PasswordHash};
use crate::topology::{self, ExchangeKind, ExchangeSpec, QueueSpec, Topology};
use crate::users::{self, UserLimits, UserSpec};

/// Definitions of users alone.
pub fn of_users(vhost: &str, specs: &[UserSpec]) -> Value {
    let none = PasswordHash::default();
    let permission = |user: &UserSpec| {
        let rights = &user.rights;
        json!({
            "user": user.name, "vhost": vhost, "configure": rights.configure, "write": rights.write, "read": rights.read,
        })
    };
    let topics = specs.iter().flat_map(|user| {
        let of_user = |topic: &users::TopicRight| {
            json!({
                "user": user.name, "vhost": vhost, "exchange": topic.exchange, "write": topic.write, "read": topic.read,
            })
        };
        user.topics.iter().map(of_user)
    });
    json!({
        "users": specs.iter().map(|spec| named(&spec.name, user(spec, &none))).collect::<Vec<_>>(),
        "permissions": specs.iter().map(permission).collect::<Vec<_>>(),
        "topic_permissions": topics.collect::<Vec<_>>(),
    })
}

/// Definitions of a customer with all that it needs to submit and to read: its user, the two exchanges, its queue, bound.
pub fn of_customer(vhost: &str, name: &CustomerName, limits: UserLimits, hash: &PasswordHash) -> Value {
    let spec = users::customer(name, limits);
    let mut all = of_users(vhost, std::slice::from_ref(&spec));
    all["users"] = json!([named(&spec.name, user(&spec, hash))]);
    let results = topology::customer(name);
    let in_vhost = |name: &str, mut object: Value| {
        object["vhost"] = json!(vhost);
        named(name, object)
    };
    let exchanges = customers_exchanges().into_iter().map(|spec| in_vhost(&spec.name, exchange(&spec)));
    all["exchanges"] = exchanges.collect();
    all["queues"] = json!([in_vhost(&results.name, queue(&results))]);
    all["bindings"] = json!([{
        "source": results.exchange, "vhost": vhost, "destination": results.name, "destination_type": "queue",
        "routing_key": results.key, "arguments": {},
    }]);
    all
}

/// The exchanges that a customer touches, as the grid's topology has them.
pub(super) fn customers_exchanges() -> Vec<ExchangeSpec> {
    let ours = |exchange: &ExchangeSpec| [SUBMIT_EXCHANGE, CUSTOMER_EXCHANGE].contains(&exchange.name.as_str());
    Topology::grid(&[], 1).exchanges.into_iter().filter(ours).collect()
}

/// A user without its name.
pub(super) fn user(spec: &UserSpec, hash: &PasswordHash) -> Value {
    let mut user = json!({ "password_hash": hash.0, "hashing_algorithm": ALGORITHM, "tags": spec.tags });
    if let Some(UserLimits { connections, channels }) = spec.limits {
        user["limits"] = json!({ "max-connections": connections, "max-channels": channels });
    }
    user
}

/// An exchange without its name and vhost.
pub(super) fn exchange(spec: &ExchangeSpec) -> Value {
    let kind = match spec.kind {
        ExchangeKind::Topic => "topic",
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
    };
    json!({ "type": kind, "durable": true, "auto_delete": false, "internal": false, "arguments": {} })
}

/// A queue without its name and vhost: only what can never change, since limits come by policy.
pub(super) fn queue(spec: &QueueSpec) -> Value {
    let mut arguments = Map::from_iter([("x-queue-type".to_owned(), json!("quorum"))]);
    if spec.single_active {
        arguments.insert("x-single-active-consumer".to_owned(), json!(true));
    }
    json!({ "durable": true, "auto_delete": false, "arguments": arguments })
}

fn named(name: &str, mut object: Value) -> Value {
    object["name"] = json!(name);
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_comes_with_everything_it_needs_and_no_password_in_the_clear() {
        let password = crate::rabbit::Password::given("correct horse").unwrap();
        let (name, hash) = (CustomerName::new("acme").unwrap(), password.hash().unwrap());
        let all = of_customer("/", &name, UserLimits { connections: 3, channels: 4 }, &hash);
        assert_eq!(all["users"][0]["password_hash"], hash.0);
        assert_eq!(all["users"][0]["limits"], json!({ "max-connections": 3, "max-channels": 4 }));
        assert_eq!(all["queues"][0]["name"], "offpeak.customer.acme.results");
        assert_eq!(all["bindings"][0]["routing_key"], "acme");
        let exchanges: Vec<_> = all["exchanges"].as_array().unwrap().iter().map(|one| (&one["name"], &one["type"])).collect();
        assert_eq!(exchanges, [(&json!("offpeak.submit"), &json!("topic")), (&json!("offpeak.customer"), &json!("direct"))]);
        assert!(!all.to_string().contains("correct"));
    }
}
