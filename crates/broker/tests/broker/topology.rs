//! Declaring and checking the topology: what differs, is missing or forbidden is refused with a way out.

use broker::rabbit::PolicyError;
use broker::topology::{ExchangeKind, TopologyError};
use broker::{MemoryBroker, RabbitBroker, RabbitSettings, Topology};
use protocol::PoolName;

use crate::node::{NODE, Vhost, ctl, node, topology};

fn other() -> Topology {
    Topology::grid(&[(PoolName::new("plain").unwrap(), 1), (PoolName::new("more").unwrap(), 1)], 1)
}

fn with_another_queue() -> Topology {
    let mut topology = topology();
    let outcomes = topology.queue_mut("offpeak.outcomes.0").unwrap();
    outcomes.single_active = false;
    topology
}

fn with_another_exchange() -> Topology {
    let mut topology = topology();
    topology.exchanges[0].kind = ExchangeKind::Fanout;
    topology
}

fn assert_differs(result: Result<(), TopologyError>, object: &str, way_out: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, TopologyError::Differs { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(object) && text.contains(way_out), "{text}");
}

fn assert_missing(result: Result<(), TopologyError>, object: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, TopologyError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains(object), "{error}");
}

#[test]
fn the_broker_in_memory_ensures_its_topology() {
    let broker = MemoryBroker::new();
    assert_missing(broker.ensure_topology(&topology(), false), "offpeak.submit");
    broker.ensure_topology(&topology(), true).unwrap();
    broker.ensure_topology(&topology(), true).unwrap();
    broker.ensure_topology(&topology(), false).unwrap();
    assert_missing(broker.ensure_topology(&other(), false), "offpeak.work.more.0");
    assert_differs(broker.ensure_topology(&with_another_queue(), true), "offpeak.outcomes.0", "delete");
    assert_differs(broker.ensure_topology(&with_another_exchange(), true), "offpeak.submit", "delete");
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_ensures_its_topology() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("topology").await;
    let broker = vhost.connect("topology");
    broker.ensure_topology(&topology(), true).await.unwrap();
    broker.ensure_topology(&topology(), false).await.unwrap();
    assert_missing(broker.ensure_topology(&other(), false).await, "offpeak.work.more.0");
    assert_differs(broker.ensure_topology(&with_another_queue(), true).await, "offpeak.outcomes.0", "x-single-active-consumer");
    assert_differs(broker.ensure_topology(&with_another_exchange(), true).await, "offpeak.submit", "type");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told_so() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("rights").await;
    ctl(&["add_user", "poor", "poor"]).await;
    ctl(&["set_permissions", "-p", vhost.name(), "poor", "^$", ".*", ".*"]).await;
    let url = vhost.url.replace("guest:guest@", "poor:poor@");
    assert_ne!(url, vhost.url, "{}", node().url());
    let broker = RabbitBroker::connect(&RabbitSettings::new(url)).unwrap();
    let error = broker.ensure_topology(&other(), true).await.unwrap_err();
    assert!(matches!(error, TopologyError::Forbidden { .. }), "{error:?}");
    assert!(error.to_string().contains("set_permissions"), "{error}");
    broker.ensure_topology(&topology(), false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_in_force_are_checked_on_the_management_side() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("policies").await;
    let broker = vhost.connect("policies");
    let management = node().address().management_url();
    let shipped = Topology::grid(&[(PoolName::new("plain").unwrap(), 2)], 1);
    broker.check_policies(&management, &shipped).await.unwrap();

    ctl(&["clear_policy", "-p", vhost.name(), "offpeak-fetch"]).await;
    let over = r#"{"overflow":"drop-head","max-length":5,"max-length-bytes":500,"delivery-limit":3}"#;
    ctl(&["set_policy", "-p", vhost.name(), "--priority", "5", "own", "^offpeak\\.submit$", over]).await;
    let error = broker.check_policies(&management, &shipped).await.unwrap_err();
    assert!(matches!(error, PolicyError::Wrong(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "queue offpeak.submit lacks overflow=reject-publish dead-letter-exchange=offpeak.dead",
        "delivery-limit of 10",
        "queue offpeak.fetch has no policy",
        "rabbitmqctl import_definitions",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("offpeak.work"), "{text}");

    let stranger = management.replace("guest:guest@", "nobody:s3cret@");
    let error = broker.check_policies(&stranger, &shipped).await.unwrap_err();
    assert!(matches!(error, PolicyError::Unknown(_)), "{error:?}");
    assert!(error.to_string().contains("401") && !error.to_string().contains("s3cret"), "{error}");
}
