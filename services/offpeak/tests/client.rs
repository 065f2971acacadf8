//! The client against the in-memory broker and SQLite, with a producer that only stores, admits and rejects.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{MemoryBroker, Topology};
use offpeak::client::{Client, ClientError, Submission};
use offpeak::exit;
use offpeak::jobfile::{self, Upload};
use ports::broker::{Broker, Delivery, Outgoing, Properties, Verdict};
use ports::clock::SystemClock;
use ports::store::{AdmissionStore, BlobStore, NewJob, OutboxMessage};
use protocol::address::{CUSTOMER_EXCHANGE, SUBMIT_QUEUE, results_queue};
use protocol::blob::PutBlob;
use protocol::codec::Format;
use protocol::job::{CancelJob, JobSpec};
use protocol::reply::{Accepted, Problem};
use protocol::{CustomerName, Digest, JobId, Message, MeterId, Micros, PoolName};
use store::{SqlStore, StoreOptions};
use uuid::Uuid;

/// Longer than anything here takes; a wait that reaches it has failed.
const BOUND: Duration = Duration::from_mins(1);

struct World {
    folder: tempfile::TempDir,
    broker: MemoryBroker,
    store: Arc<SqlStore>,
    customer: CustomerName,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("grid.db").display());
        let store = SqlStore::connect(&url, StoreOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let pools = [(PoolName::new("open").unwrap(), 1)];
        let broker = MemoryBroker::with_topology(&Topology::grid(&pools, 1));
        Self { folder, broker, store: Arc::new(store), customer: CustomerName::new("local").unwrap() }
    }

    fn client(&self) -> Client {
        Client {
            store: self.store.clone(),
            broker: Arc::new(self.broker.clone()),
            customer: self.customer.clone(),
            clock: Arc::new(SystemClock),
        }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    /// A job over a module of that size.
    fn job(&self, bytes: usize) -> jobfile::JobFile {
        let mut module = b"\0asm".to_vec();
        module.resize(bytes, 7);
        self.file("app.wasm", &module);
        let file = self.file("job.toml", b"app = \"app.wasm\"\ninput.range = [0, 10]\n");
        jobfile::read(&file).unwrap()
    }

    /// Serves submissions for ever; rejects a job if `reject`.
    async fn produce(&self, reject: bool) {
        let consumer = self.broker.consume(SUBMIT_QUEUE, 10).await.unwrap();
        loop {
            for delivery in consumer.next(10).await.unwrap() {
                self.handle(&delivery, reject).await;
                consumer.settle(&[(delivery.tag, Verdict::Ack)]).await.unwrap();
            }
        }
    }

    async fn handle(&self, delivery: &Delivery, reject: bool) {
        assert_eq!(delivery.routing_key, self.customer.as_str());
        let body = &delivery.body;
        match delivery.properties.kind.as_str() {
            PutBlob::KIND => {
                let part = PutBlob::from_bytes(body, Format::MessagePack).unwrap();
                assert_eq!(delivery.properties.message_id, format!("{}.{}", part.digest, part.offset));
                self.store.put_part(part.digest, part.size, part.offset, &part.data).await.unwrap();
            }
            JobSpec::KIND if reject => {
                let problem = Problem::new(422, "unknown-pool", "Unknown pool", "there is no such pool");
                self.reply(Problem::KIND, problem.to_bytes(Format::Json).unwrap(), delivery).await;
            }
            JobSpec::KIND => self.admit(JobSpec::from_bytes(body, Format::MessagePack).unwrap(), delivery).await,
            CancelJob::KIND => {
                let job = CancelJob::from_bytes(body, Format::MessagePack).unwrap().job;
                assert!(self.store.request_cancel(&self.customer, job).await.unwrap());
            }
            other => panic!("unexpected {other}"),
        }
    }

    async fn reply(&self, kind: &str, body: Vec<u8>, to: &Delivery) {
        let properties = Properties {
            message_id: Uuid::now_v7().to_string(),
            kind: kind.to_owned(),
            content_type: Some(if kind == Problem::KIND { "application/problem+json" } else { "application/msgpack" }.to_owned()),
            correlation_id: to.properties.correlation_id.clone(),
            ..Properties::default()
        };
        let exchange = CUSTOMER_EXCHANGE.to_owned();
        let message = Outgoing { exchange, routing_key: self.customer.to_string(), properties, body };
        self.broker.publish(vec![message], BOUND).await.unwrap();
    }

    async fn admit(&self, spec: JobSpec, delivery: &Delivery) {
        assert!(self.store.blob_size(spec.app).await.unwrap().is_some(), "the app is there before the job");
        let id = JobId(Uuid::now_v7());
        let reply = OutboxMessage {
            id: id.to_string(),
            customer: self.customer.clone(),
            kind: Accepted::KIND.to_owned(),
            content_type: "application/msgpack".to_owned(),
            correlation_id: delivery.properties.correlation_id.clone(),
            traceparent: None,
            body: Accepted { job: id, items: 10 }.to_bytes(Format::MessagePack).unwrap(),
        };
        let job = NewJob {
            id,
            customer: self.customer.clone(),
            submission: delivery.properties.message_id.clone(),
            submission_digest: Digest::of(&delivery.body),
            correlation_id: delivery.properties.correlation_id.clone(),
            content_type: "application/msgpack".to_owned(),
            traceparent: None,
            spec,
            items: 10,
            brief: Digest([3; 32]),
            meter: MeterId::new("test-1").unwrap(),
            admitted_at: Micros(1),
            deadline_at: None,
        };
        self.store.admit(job, reply).await.unwrap();
    }
}

/// Does the work while a producer serves; neither may take longer than the bound.
async fn with_producer<T>(world: &World, reject: bool, work: impl Future<Output = T>) -> T {
    let both = async {
        tokio::select! {
            done = work => done,
            () = world.produce(reject) => unreachable!("the producer serves for ever"),
        }
    };
    tokio::time::timeout(BOUND, both).await.expect("within the bound")
}

#[tokio::test]
async fn a_file_of_many_parts_arrives_and_is_not_sent_twice() {
    let world = World::new().await;
    let job = world.job((9 << 20) + 5);
    let client = world.client();
    let mut told = Vec::new();
    with_producer(&world, false, client.upload(&job.uploads, &mut |_, bytes| told.push(bytes))).await.unwrap();
    assert_eq!(told, [8 << 20, (9 << 20) + 5]);
    assert_eq!(world.store.blob_size(job.spec.app).await.unwrap(), Some((9 << 20) + 5));
    // Without a producer: there is nothing to send.
    client.upload(&job.uploads, &mut |_, _| panic!("sent again")).await.unwrap();
    assert_eq!(world.broker.depth(SUBMIT_QUEUE).await.unwrap().unwrap().ready, 0);
}

#[tokio::test]
async fn the_same_job_again_is_the_same_submission() {
    let world = World::new().await;
    let job = world.job(100);
    let submission = Submission::of_content(&job.spec).unwrap();
    let client = world.client();
    let [first, again] = with_producer(&world, false, async {
        client.upload(&job.uploads, &mut |_, _| {}).await.unwrap();
        let first = client.submit(&submission).await.unwrap();
        first.mailbox.close().await.unwrap();
        let again = client.submit(&Submission::of_content(&job.spec).unwrap()).await.unwrap();
        again.mailbox.close().await.unwrap();
        [first.job, again.job]
    })
    .await;
    assert_eq!(first, again);
    let mut other = job.spec.clone();
    other.priority = 1;
    assert_ne!(Submission::of_content(&other).unwrap().id, submission.id);
}

#[tokio::test]
async fn a_rejection_is_told_and_the_replies_to_others_stay() {
    let world = World::new().await;
    let client = world.client();
    client.broker.declare_customer(&world.customer).await.unwrap();
    let foreign = Delivery {
        tag: ports::broker::Tag { generation: 0, tag: 0 },
        routing_key: String::new(),
        redelivered: false,
        delivery_count: 0,
        properties: Properties { correlation_id: Some("someone else's".to_owned()), ..Properties::default() },
        body: Vec::new(),
    };
    world.reply(Accepted::KIND, b"x".to_vec(), &foreign).await;
    let job = world.job(100);
    let submission = Submission::with_id(&job.spec, "mine".to_owned()).unwrap();
    let Err(error) = with_producer(&world, true, client.submit(&submission)).await else { panic!("it was to be rejected") };
    assert!(matches!(error, ClientError::Rejected(_)), "{error}");
    let error = exit::Refused::or_error(error);
    assert_eq!(exit::code_of(&error), exit::REFUSED);
    assert!(exit::told(&error).contains("Unknown pool: there is no such pool"), "{}", exit::told(&error));
    let left = world.broker.consume(&results_queue(&world.customer), 10).await.unwrap();
    let left = tokio::time::timeout(BOUND, left.next(10)).await.unwrap().unwrap();
    assert_eq!(left.iter().map(|reply| reply.properties.correlation_id.as_deref()).collect::<Vec<_>>(), [Some("someone else's")]);
}

#[tokio::test]
async fn jobs_are_cancelled_by_their_customer() {
    let world = World::new().await;
    let job = world.job(100);
    let client = world.client();
    with_producer(&world, false, async {
        client.upload(&job.uploads, &mut |_, _| {}).await.unwrap();
        let specs = [1, 2].map(|priority| JobSpec { priority, ..job.spec.clone() });
        let submissions = specs.map(|spec| Submission::of_content(&spec).unwrap());
        let jobs = client.submit_all(&submissions).await.unwrap();
        assert_eq!(jobs.len(), 2);
        client.cancel(jobs[0]).await.unwrap();
        while world.broker.depth(SUBMIT_QUEUE).await.unwrap().unwrap().ready > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_broker_without_a_grid_and_a_file_that_changed_are_named() {
    let world = World::new().await;
    let job = world.job(100);
    let client = Client { broker: Arc::new(no_queues()), ..world.client() };
    let Err(error) = client.upload(&job.uploads, &mut |_, _| {}).await else { panic!("nobody takes it") };
    assert!(matches!(error, ClientError::Unroutable { .. } | ClientError::Broker { .. }), "{error}");
    let path = world.file("changed", b"other");
    let upload = Upload { role: "input", path, digest: Digest::of(b"first"), bytes: 5 };
    let Err(error) = world.client().upload(&[upload], &mut |_, _| {}).await else { panic!("it was changed") };
    assert!(error.to_string().ends_with("was changed while it was uploaded: try again"), "{error}");
    let upload = Upload { role: "input", path: Path::new("/nonexistent").to_owned(), digest: Digest::of(b"x"), bytes: 5 };
    let Err(error) = world.client().upload(&[upload], &mut |_, _| {}).await else { panic!("it is not there") };
    assert_eq!(error.to_string(), "cannot read /nonexistent");
}

fn no_queues() -> MemoryBroker {
    MemoryBroker::with_topology(&Topology { queues: Vec::new(), ..Topology::grid(&[], 1) })
}
