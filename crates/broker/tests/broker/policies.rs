//! The shipped policies say what the in-memory broker applies.

use broker::Topology;
use broker::topology::{QueueSpec, customer};
use protocol::{CustomerName, PoolName};
use serde_json::Value;

use crate::node::DEFINITIONS;

const NEWER: &str = include_str!("../../../../deploy/rabbitmq/definitions-3.12.json");

fn policies(definitions: &str) -> Vec<Value> {
    let definitions: Value = serde_json::from_str(definitions).unwrap();
    definitions["policies"].as_array().unwrap().clone()
}

/// Our patterns are literal: a beginning, or with `$` all of the name.
fn matches(pattern: &str, name: &str) -> bool {
    let literal = pattern.trim_start_matches('^').replace("\\.", ".");
    literal.strip_suffix('$').map_or_else(|| name.starts_with(&literal), |whole| name == whole)
}

fn assert_policy(queue: &QueueSpec, policies: &[Value]) {
    let matching: Vec<&Value> =
        policies.iter().filter(|policy| matches(policy["pattern"].as_str().unwrap(), &queue.name)).collect();
    assert_eq!(matching.len(), 1, "one policy for {}", queue.name);
    let definition = &matching[0]["definition"];
    assert_eq!(definition["max-length"], queue.limits.messages, "{}", queue.name);
    assert_eq!(definition["max-length-bytes"], queue.limits.bytes, "{}", queue.name);
    assert_eq!(definition["delivery-limit"], queue.limits.deliveries, "{}", queue.name);
    assert_eq!(definition["overflow"], "reject-publish", "{}", queue.name);
    assert_eq!(definition["dead-letter-routing-key"].as_str(), queue.dead.map(protocol::address::Origin::key));
    let strategy = queue.dead.map(|_| "at-least-once");
    assert_eq!(definition["dead-letter-strategy"].as_str(), strategy, "{}", queue.name);
}

#[test]
fn policies_and_limits_agree() {
    let mut topology = Topology::grid(&[(PoolName::new("open").unwrap(), 2)], 2);
    topology.queues.push(customer(&CustomerName::new("acme").unwrap()));
    for definitions in [DEFINITIONS, NEWER] {
        let policies = policies(definitions);
        for queue in &topology.queues {
            assert_policy(queue, &policies);
        }
    }
}

#[test]
fn generations_differ_only_in_what_policies_apply_to() {
    let (mut old, mut new) = (policies(DEFINITIONS), policies(NEWER));
    assert_eq!(old.len(), new.len());
    for policy in old.iter_mut().chain(&mut new) {
        policy["apply-to"] = Value::Null;
    }
    assert_eq!(old, new);
    assert!(policies(DEFINITIONS).iter().all(|policy| policy["apply-to"] == "queues"));
}
