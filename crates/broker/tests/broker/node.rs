//! A `RabbitMQ` node of our own, with a vhost and the shipped policies for each test.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use broker::{RabbitBroker, RabbitSettings, Topology};
use ports::broker::{Broker, Confirm, Outgoing, Properties};
use protocol::PoolName;
use protocol::address::{WORK_EXCHANGE, work_key, work_queue};
use testkit::broker_contract::{FRAIL, FRAIL_DELIVERIES, Grid, PLAIN, PLAIN_LANES, SHARDS, SMALL, SMALL_MESSAGES};
use testkit::servers::RabbitMq;
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::RwLock;

/// Generous: only a crowded machine needs it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// Tests that reconfigure the whole node hold it for writing, all others for reading.
pub(crate) static NODE: RwLock<()> = RwLock::const_new(());

/// The node, started when first asked for.
pub(crate) fn node() -> &'static RabbitMq {
    static NODE: OnceLock<RabbitMq> = OnceLock::new();
    NODE.get_or_init(RabbitMq::start)
}

/// The shipped policies for 3.10.
pub(crate) const DEFINITIONS: &str = include_str!("../../../../deploy/rabbitmq/definitions-3.10.json");

/// A vhost with the contract's topology and policies.
pub(crate) struct Vhost {
    pub(crate) url: String,
    name: String,
}

impl Vhost {
    pub(crate) async fn new(name: &str) -> Self {
        let name = name.to_owned();
        let vhost = tokio::task::spawn_blocking(move || {
            let url = node().vhost(&name);
            let name = url.rsplit('/').next().unwrap().to_owned();
            import_policies(&name);
            Self { url, name }
        });
        let vhost = vhost.await.unwrap();
        vhost.connect("setup").ensure_topology(&topology(), true).await.unwrap();
        vhost
    }

    pub(crate) fn settings(&self, name: &str) -> RabbitSettings {
        RabbitSettings { name: name.into(), ..RabbitSettings::new(&self.url) }
    }

    pub(crate) fn connect(&self, name: &str) -> RabbitBroker {
        RabbitBroker::connect(&self.settings(name)).unwrap()
    }

    /// Ends all connections to this vhost from the broker's side.
    pub(crate) async fn cut(&self) {
        ctl(&["close_all_connections", "--vhost", &self.name, "cut by a test"]).await;
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

#[async_trait]
impl Grid for Vhost {
    async fn client(&self) -> Arc<dyn Broker> {
        Arc::new(self.connect("contract"))
    }

    async fn cut(&self) {
        Vhost::cut(self).await;
    }

    fn user(&self) -> String {
        "guest".into()
    }
}

/// The contract's topology; the in-memory broker takes the limits from it, `RabbitMQ` by policy.
pub(crate) fn topology() -> Topology {
    let pools = [(PLAIN, PLAIN_LANES), (SMALL, 1), (FRAIL, 1)].map(|(name, lanes)| (PoolName::new(name).unwrap(), lanes));
    let mut topology = Topology::grid(&pools, SHARDS);
    let small = topology.queue_mut(&work_queue(&pools[1].0, 0)).unwrap();
    small.limits.messages = SMALL_MESSAGES;
    let frail = topology.queue_mut(&work_queue(&pools[2].0, 0)).unwrap();
    frail.limits.deliveries = FRAIL_DELIVERIES;
    topology
}

/// The shipped policies for one vhost, with narrower ones for the pools that need them.
fn import_policies(vhost: &str) {
    let mut definitions: serde_json::Value = serde_json::from_str(DEFINITIONS).unwrap();
    let policies = definitions["policies"].as_array_mut().unwrap();
    let narrower: [(&str, &str, serde_json::Value); 2] =
        [(SMALL, "max-length", SMALL_MESSAGES.into()), (FRAIL, "delivery-limit", FRAIL_DELIVERIES.into())];
    for (pool, key, value) in narrower {
        let mut narrow = policies.iter().find(|policy| policy["name"] == "offpeak-work").unwrap().clone();
        narrow["name"] = pool.into();
        narrow["pattern"] = format!("^offpeak\\.work\\.{pool}\\.").into();
        narrow["priority"] = 10.into();
        narrow["definition"][key] = value;
        policies.push(narrow);
    }
    for policy in policies.iter_mut() {
        policy["vhost"] = vhost.into();
    }
    let path = std::env::temp_dir().join(format!("offpeak-definitions-{vhost}.json"));
    std::fs::write(&path, definitions.to_string()).unwrap();
    node().import_definitions(&path);
    std::fs::remove_file(&path).unwrap();
}

pub(crate) async fn ctl(args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let run = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        node().rabbitmqctl(&args)
    });
    run.await.unwrap()
}

pub(crate) fn plain(lane: u16) -> String {
    work_queue(&PoolName::new(PLAIN).unwrap(), lane)
}

pub(crate) fn work(lane: u16, id: &str) -> Outgoing {
    Outgoing {
        exchange: WORK_EXCHANGE.into(),
        routing_key: work_key(&PoolName::new(PLAIN).unwrap(), lane),
        properties: Properties { message_id: id.into(), kind: "offpeak.test.v1".into(), ..Properties::default() },
        body: id.as_bytes().to_vec(),
    }
}

pub(crate) async fn put(broker: &dyn Broker, messages: Vec<Outgoing>) {
    let count = messages.len();
    assert_eq!(broker.publish(messages, PATIENCE).await.unwrap(), vec![Confirm::Stored; count]);
}

/// Waits for a condition that only looking can tell.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not become true");
}

/// The next frame of a connection, whole: seven octets of head, the payload, and the octet that ends it.
pub(crate) async fn frame_of(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 7];
    from.read_exact(&mut frame).await?;
    let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]);
    frame.resize(7 + usize::try_from(size).unwrap() + 1, 0);
    from.read_exact(&mut frame[7..]).await?;
    Ok(frame)
}
