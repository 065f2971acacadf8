//! The client against the in-memory broker and SQLite, with a producer that only stores, admits and rejects.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use broker::{MemoryBroker, Topology};
use offpeak::client::{Client, ClientError, Submission};
use offpeak::exit;
use offpeak::jobfile::{self, Upload};
use ports::broker::{Broker, Delivery, Outgoing, Properties, Verdict};
use ports::clock::SystemClock;
use ports::store::{AdmissionStore, BlobStore, NewJob, OutboxMessage, ReportStore};
use protocol::address::{CUSTOMER_EXCHANGE, SUBMIT_QUEUE, results_queue};
use protocol::blob::{BlobStored, PutBlob};
use protocol::codec::Format;
use protocol::job::JobSpec;
use protocol::problem::{Code, Problem, Refused};
use protocol::reply::Accepted;
use protocol::{CustomerName, Digest, JobId, Message, MeterId, Micros, PoolName};
use store::{SqlStore, StoreOptions};
use uuid::Uuid;

/// Longer than anything here takes; a wait that reaches it has failed.
const BOUND: Duration = Duration::from_mins(15);

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
            user_id: None,
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

    /// Serves submissions for ever; refuses all if `reject`.
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
        let (body, asked) = (&delivery.body, &delivery.properties);
        match delivery.properties.kind.as_str() {
            PutBlob::KIND => {
                let PutBlob { digest, size, offset, data } = PutBlob::from_bytes(body, Format::MessagePack).unwrap();
                assert_eq!(Uuid::parse_str(&asked.message_id).unwrap().get_version_num(), 7, "each part has an id of its own");
                assert_eq!(asked.correlation_id.is_some(), offset == 0, "the first part asks for an answer");
                if offset == 0 && reject {
                    let problem = Refused(Problem::new(Code::StorageFull, "your blobs take 7 bytes"));
                    self.reply(Refused::KIND, problem.to_bytes(Format::Json).unwrap(), asked).await;
                }
                if reject {
                    return;
                }
                self.store.put_part(digest, size, offset, &data).await.unwrap();
                if offset == 0 {
                    let stored = BlobStored { digest, size, received: 0, whole: false };
                    self.reply(BlobStored::KIND, stored.to_bytes(Format::MessagePack).unwrap(), asked).await;
                }
            }
            JobSpec::KIND if reject => {
                let problem = Problem::new(Code::InvalidJob, "there is no such pool");
                self.reply(Problem::KIND, problem.to_bytes(Format::Json).unwrap(), asked).await;
            }
            JobSpec::KIND => self.admit(JobSpec::from_bytes(body, Format::MessagePack).unwrap(), delivery).await,
            other => panic!("unexpected {other}"),
        }
    }

    async fn reply(&self, kind: &str, body: Vec<u8>, to: &Properties) {
        let properties = Properties {
            message_id: Uuid::now_v7().to_string(),
            kind: kind.to_owned(),
            content_type: Some(
                if [Problem::KIND, Refused::KIND].contains(&kind) { "application/problem+json" } else { "application/msgpack" }
                    .to_owned(),
            ),
            correlation_id: to.correlation_id.clone(),
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
    let foreign = Properties { correlation_id: Some("someone else's".to_owned()), ..Properties::default() };
    world.reply(Accepted::KIND, b"x".to_vec(), &foreign).await;
    let job = world.job(100);
    let submission = Submission::with_id(&job.spec, "mine".to_owned()).unwrap();
    let Err(error) = with_producer(&world, true, client.submit(&submission)).await else { panic!("it was to be rejected") };
    assert!(matches!(error, ClientError::Rejected(_)), "{error}");
    let error = exit::Refused::or_error(error);
    assert_eq!(exit::code_of(&error), exit::REFUSED);
    assert!(exit::told(&error).contains("Job is not valid: there is no such pool"), "{}", exit::told(&error));
    let left = world.broker.consume(&results_queue(&world.customer), 10).await.unwrap();
    let left = tokio::time::timeout(BOUND, left.next(10)).await.unwrap().unwrap();
    assert_eq!(left.iter().map(|reply| reply.properties.correlation_id.as_deref()).collect::<Vec<_>>(), [Some("someone else's")]);
}

#[tokio::test]
async fn an_id_that_another_job_has_is_refused_whoever_tells_of_that_job() {
    let world = World::new().await;
    let job = world.job(100);
    let client = world.client();
    let of = |priority| Submission::with_id(&JobSpec { priority, ..job.spec.clone() }, "mine".to_owned()).unwrap();
    with_producer(&world, false, async {
        client.upload(&job.uploads, &mut |_, _| {}).await.unwrap();
        let first = client.submit(&of(0)).await.unwrap();
        first.mailbox.close().await.unwrap();
        // Again and again, since the store and a reply that was left in the queue race.
        for _ in 0..5 {
            let left = Properties { correlation_id: Some("mine".to_owned()), ..Properties::default() };
            let body = Accepted { job: first.job, items: 10 }.to_bytes(Format::MessagePack).unwrap();
            world.reply(Accepted::KIND, body, &left).await;
            let Err(error) = client.submit(&of(1)).await else { panic!("its id is another job's") };
            let ClientError::Rejected(problem) = &error else { panic!("{error}") };
            assert_eq!(problem.code, "message-id-reused");
            assert!(problem.detail.contains(&format!("was used for job {} with another body", first.job)), "{problem}");
            assert_eq!(exit::code_of(&exit::Refused::or_error(error)), exit::REFUSED);
            assert_eq!(client.submit(&of(0)).await.unwrap().job, first.job);
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_the_grid_refuses_ends_with_the_refusal_and_not_with_the_file() {
    let world = World::new().await;
    let job = world.job(20 << 20);
    let client = world.client();
    let taken = &mut |_: &Upload, bytes| panic!("{bytes} bytes were sent and taken");
    let Err(error) = with_producer(&world, true, client.upload(&job.uploads, taken)).await else { panic!("it was refused") };
    let error = exit::Refused::or_error(error);
    assert_eq!(exit::code_of(&error), exit::UNAVAILABLE);
    assert!(exit::told(&error).contains("your blobs take 7 bytes"), "{}", exit::told(&error));
}

#[tokio::test]
async fn jobs_rest_and_go_on_without_a_broker() {
    let world = World::new().await;
    let job = world.job(100);
    let client = world.client();
    let admitted = with_producer(&world, false, async {
        client.upload(&job.uploads, &mut |_, _| {}).await.unwrap();
        client.submit(&Submission::of_content(&job.spec).unwrap()).await.unwrap()
    })
    .await;
    let id = admitted.job;
    let rests = format!("job {id} rests: 0 replicas that were sent before are still computed\n");
    let goes_on = format!("job {id} goes on\n");
    for (command, paused, told) in [("pause", true, &rests), ("pause", true, &rests), ("resume", false, &goes_on)] {
        let mut offpeak = Command::new(env!("CARGO_BIN_EXE_offpeak"));
        offpeak.args([command, &id.to_string(), "--data"]).arg(world.folder.path());
        let done = offpeak.env_remove("OFFPEAK__AMQP__URL").env_remove("OFFPEAK__DATABASE__URL").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(String::from_utf8(done.stdout).unwrap(), *told);
        assert_eq!(world.store.job(id).await.unwrap().unwrap().paused, paused);
    }
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
