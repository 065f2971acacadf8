//! The tests' vocabulary: a producer, customers who ask it, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::MemoryBroker;
use broker::topology::Topology;
use ports::broker::{Confirm, Outgoing, Properties};
use ports::sandbox::{Inspection, PublishError, Published};
use ports::store::{BlobStore, CustomerStore, OutboxMessage, RequestStore, SettlementStore};
use ports::{Broker, Clock, Publish};
use producer::{PoolSettings, Producer, ProducerMetrics, ProducerSettings, Standings};
use protocol::address::{Origin, SUBMIT_EXCHANGE};
use protocol::blob::PutBlob;
use protocol::customer::{CustomerLimits, CustomerRecord};
use protocol::input::Input;
use protocol::job::{Delivery, EntryKind, JobSpec, Limits, UnitSizing};
use protocol::message::KINDS;
use protocol::problem::{Problem, Refused};
use protocol::reply::Accepted;
use protocol::{CustomerName, Digest, Format, JobId, Message, MeterId, Micros, PoolName, Value};
use rules::pricing::RateCard;
use service::{Metrics, Readiness, Scope};
use testkit::MemoryStore;
use testkit::simulator::{Database, Dice, Ether, Pulse, SkewedClock, Trace};
use tokio::time::{Instant, sleep};

/// How long the world may take to do anything: time is at rest, so it passes at once.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// The module of an app that every customer here has.
pub(crate) const MODULE: &[u8] = b"\0asm an app";
/// How long a module that begins with "slow" is compiled.
pub(crate) const SLOW: Duration = Duration::from_mins(1);
/// A W3C trace.
pub(crate) const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A producer with a broker and a store of its own.
pub(crate) struct World {
    pub(crate) broker: MemoryBroker,
    pub(crate) store: MemoryStore,
    /// How slow the producer's connection to the store is: not at all, until a test says otherwise.
    pub(crate) ether: Arc<Ether>,
    pub(crate) clock: Arc<SkewedClock>,
    pub(crate) metrics: ProducerMetrics,
    pub(crate) settings: ProducerSettings,
    scope: Scope,
    asked: std::sync::atomic::AtomicU32,
}

/// A request as it is sent.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) customer: CustomerName,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn customer(name: &str) -> CustomerName {
    CustomerName::new(name).unwrap()
}

pub(crate) fn pool() -> PoolName {
    PoolName::new("open").unwrap()
}

impl World {
    /// A world with two lanes and no workers, whose producer runs.
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// The same with prices.
    pub(crate) fn with(rates: Option<Arc<RateCard>>) -> Self {
        let clock = Arc::new(SkewedClock::new(Instant::now(), Duration::ZERO));
        let metrics = Metrics::new("test", "0").unwrap();
        let world = Self {
            broker: MemoryBroker::with_topology(&Topology::grid(&[(pool(), 2)], 1)),
            store: MemoryStore::new(clock.clone()),
            ether: Ether::new(Dice::new(1), Trace::new(false)),
            clock,
            metrics: ProducerMetrics::new(&metrics).unwrap(),
            settings: ProducerSettings {
                lease_ms: 60_000,
                max_unit_ms: 600_000,
                replica_deadline_ms: 3_600_000,
                idle_ms: 20,
                require_user_id: true,
                operator: "operator".to_owned(),
                pools: BTreeMap::from([(pool(), PoolSettings { lanes: 2 })]),
                shards: 1,
                rates,
                results_days: 30,
            },
            scope: Scope::new(),
            asked: std::sync::atomic::AtomicU32::new(0),
        };
        world.producer().start(&world.scope);
        world
    }

    fn producer(&self) -> Producer {
        Producer {
            name: "producer-1".to_owned(),
            broker: Arc::new(self.broker.clone()),
            store: Arc::new(Database::new(Arc::new(self.store.clone()), Arc::clone(&self.ether), Pulse::default(), None)),
            publish: Arc::new(Compiler),
            generation: "1".to_owned(),
            clock: self.clock.clone(),
            settings: Arc::new(self.settings.clone()),
            metrics: self.metrics.clone(),
            standings: Standings::default(),
            ready: Readiness::new().check("admission"),
        }
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Sets what a customer may use.
    pub(crate) async fn limit(&self, name: &str, weight: u32, limits: CustomerLimits) {
        let record = CustomerRecord { name: customer(name), weight, limits, created_at: self.now() };
        self.store.put_customer(record).await.unwrap();
        sleep(Duration::from_secs(2)).await;
    }

    /// A request in MessagePack with keys of its own.
    pub(crate) fn letter<M: Message>(&self, name: &str, message: &M) -> Letter {
        let number = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let properties = Properties {
            message_id: format!("request {number}"),
            kind: M::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            correlation_id: Some(format!("about {number}")),
            user_id: Some(name.to_owned()),
            traceparent: Some(TRACE.to_owned()),
            ..Properties::default()
        };
        Letter { customer: customer(name), properties, body: message.to_bytes(Format::MessagePack).unwrap() }
    }

    /// Sends without waiting.
    pub(crate) async fn post(&self, letter: &Letter) {
        let message = Outgoing {
            exchange: SUBMIT_EXCHANGE.to_owned(),
            routing_key: letter.customer.to_string(),
            properties: letter.properties.clone(),
            body: letter.body.clone(),
        };
        let confirms = self.broker.publish(vec![message], PATIENCE).await.unwrap();
        assert_eq!(confirms, [Confirm::Stored]);
    }

    /// Sends and waits until it is done with; the messages written since, to whomever.
    pub(crate) async fn send(&self, letter: &Letter) -> Vec<OutboxMessage> {
        let (written, done) = (self.store.messages_written().len(), self.done());
        self.post(letter).await;
        let begun = Instant::now();
        while self.done() == done {
            assert!(begun.elapsed() < PATIENCE, "{:?} is not done with", letter.properties);
            sleep(LOOK).await;
        }
        sleep(LOOK).await;
        let messages = self.store.messages_written();
        messages[written..].iter().map(|message| OutboxMessage::clone(message)).collect()
    }

    /// Requests that were done with, in whatever way.
    fn done(&self) -> u64 {
        let label = |kind: &&str| kind.trim_start_matches("offpeak.").trim_end_matches(".v1").replace('.', "-");
        let kinds = KINDS.iter().map(label).chain(["unknown".to_owned()]);
        let count = |kind: String| ["answered", "refused", "dropped"].map(|result| self.count(&kind, result));
        kinds.flat_map(count).sum()
    }

    /// How many requests ended so.
    pub(crate) fn count(&self, kind: &str, result: &str) -> u64 {
        self.metrics.requests.with_label_values(&[kind, result]).get()
    }

    /// Asks and reads the one answer.
    pub(crate) async fn ask<M: Message, A: Message>(&self, name: &str, message: &M) -> A {
        one(&self.send(&self.letter(name, message)).await)
    }

    /// Asks what is refused.
    pub(crate) async fn refused<M: Message>(&self, name: &str, message: &M) -> Problem {
        problem(&self.send(&self.letter(name, message)).await)
    }

    /// Uploads bytes as a customer's blob of one part.
    pub(crate) async fn upload(&self, name: &str, data: &[u8]) -> Digest {
        let digest = Digest::of(data);
        let part = PutBlob { digest, size: u64::try_from(data.len()).unwrap(), offset: 0, data: data.to_vec() };
        let mut letter = self.letter(name, &part);
        letter.properties.correlation_id = None;
        assert_eq!(self.send(&letter).await, []);
        digest
    }

    /// Submits a job; its letter and its id.
    pub(crate) async fn submit(&self, name: &str, spec: &JobSpec) -> (Letter, JobId) {
        self.upload(name, MODULE).await;
        let letter = self.letter(name, spec);
        let accepted: Accepted = one(&self.send(&letter).await);
        (letter, accepted.job)
    }

    /// Says something to a customer that it does not read.
    pub(crate) async fn say(&self, name: &str, messages: usize) {
        let message = |number| OutboxMessage {
            id: format!("unread {number}"),
            customer: customer(name),
            kind: Accepted::KIND.to_owned(),
            content_type: Format::Json.content_type().to_owned(),
            correlation_id: None,
            traceparent: None,
            body: Vec::new(),
        };
        self.store.reply_all((0..messages).map(message).collect()).await.unwrap();
        sleep(Duration::from_secs(2)).await;
    }

    /// Sends all that waits: nobody is said to be told anything twice after this because it still waits.
    pub(crate) async fn relay(&self) {
        loop {
            let claimed = self.store.claim_outbox(self.now(), self.now(), 1_000).await.unwrap();
            let sent: Vec<_> = claimed.iter().map(ports::store::Outbox::key).collect();
            if sent.is_empty() {
                return;
            }
            self.store.settle_outbox(&sent, &[], self.now()).await.unwrap();
        }
    }

    /// How many messages of customers are parked as dead letters.
    pub(crate) async fn parked(&self) -> u32 {
        self.broker.depth(&Origin::Submit.queue()).await.unwrap().map_or(0, |depth| depth.ready)
    }

    /// Whether the store has a blob, whoever's.
    pub(crate) async fn has_blob(&self, digest: Digest) -> bool {
        self.store.blob_size(digest).await.unwrap().is_some()
    }
}

/// The letter with its body as zstd: one raw block, as the smallest of writers makes it.
pub(crate) fn compressed(mut letter: Letter) -> Letter {
    let body = std::mem::take(&mut letter.body);
    let size = u32::try_from(body.len()).unwrap();
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    letter.body = [&head[..], &size.to_le_bytes(), &(size << 3 | 1).to_le_bytes()[..3], &body].concat();
    letter.properties.content_encoding = Some("zstd".to_owned());
    letter
}

/// A job of so many numbers.
pub(crate) fn numbers(items: u64) -> JobSpec {
    JobSpec {
        app: Digest::of(MODULE),
        input: Input::Range { start: 0, end: items },
        shared: None,
        params: Value::Map(Vec::new()),
        pool: pool(),
        quorum: 1,
        priority: 0,
        deadline_s: None,
        budget_fuel: None,
        max_failures: 3,
        limits: Limits::default(),
        unit: UnitSizing::default(),
        reduce: false,
        delivery: Delivery::Stored,
    }
}

/// A job id that nobody has.
pub(crate) fn nobodys() -> JobId {
    "01890000-0000-7000-8000-000000000000".parse().unwrap()
}

/// The one answer there is.
pub(crate) fn one<A: Message>(answers: &[OutboxMessage]) -> A {
    let [answer] = answers else { panic!("{} answers: {:?}", answers.len(), kinds(answers)) };
    read(answer)
}

/// A message's body.
pub(crate) fn read<A: Message>(answer: &OutboxMessage) -> A {
    let format = Format::from_content_type(Some(&answer.content_type)).unwrap();
    assert_eq!(answer.kind, A::KIND, "{:?}", rmpv_text(answer));
    A::from_bytes(&answer.body, format).unwrap()
}

/// The one problem there is.
pub(crate) fn problem(answers: &[OutboxMessage]) -> Problem {
    let [answer] = answers else { panic!("{} answers: {:?}", answers.len(), kinds(answers)) };
    if answer.kind == Problem::KIND { read(answer) } else { read::<Refused>(answer).0 }
}

fn kinds(answers: &[OutboxMessage]) -> Vec<&str> {
    answers.iter().map(|answer| answer.kind.as_str()).collect()
}

fn rmpv_text(answer: &OutboxMessage) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Takes any module for an app, but those that say otherwise.
struct Compiler;

#[async_trait]
impl Publish for Compiler {
    async fn publish(&self, module: &[u8]) -> Result<Published, PublishError> {
        if module.starts_with(b"bad") {
            return Err(PublishError::Rejected { reasons: vec!["it is bad".to_owned(), "very bad".to_owned()] });
        }
        if module.starts_with(b"away") {
            return Err(PublishError::Unavailable { reason: "out of memory".to_owned() });
        }
        if module.starts_with(b"slow") {
            sleep(SLOW).await;
        }
        let artefact = [module, b", compiled"].concat();
        Ok(Published {
            app: Digest::of(module),
            digest: Digest::of(&artefact),
            artefact,
            entry: EntryKind::Offpeak1,
            meter: MeterId::new("test-1").unwrap(),
            reduces: false,
            manifest: Some("name = \"test\"".to_owned()),
        })
    }

    fn inspect(&self, _module: &[u8]) -> Inspection {
        let (imports, exports, reasons) = (Vec::new(), Vec::new(), Vec::new());
        Inspection { imports, exports, entry: Some(EntryKind::Offpeak1), manifest: None, reasons }
    }
}
