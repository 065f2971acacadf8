//! Damage: what meets rows that cannot be used is parked, and all others are served.

use std::time::Duration;

use ports::broker::{Broker, Confirm, Consumer, Delivery, Outgoing, Properties, Verdict};
use ports::dead::DeadLetter;
use ports::store::{BlobStore, DispatchStore, ReportStore};
use protocol::address::{FETCH_EXCHANGE, Origin};
use protocol::blob::{BlobPart, BlobsListed, GetBlob, ListBlobs};
use protocol::query::{GetJobStatus, JobStatus, PauseJob};
use protocol::{Digest, Format, HostId, Message};
use testkit::memory_store::{FaultPlan, StoreFault};
use tokio::time::{sleep, timeout};

use crate::workers;
use crate::world::{MODULE, World, nobodys, numbers, read};

/// Nothing here takes long, and no time passes but in waits.
const LIMIT: Duration = Duration::from_mins(2);

/// Whatever does that meets damage.
fn damaged(what: &'static str) -> FaultPlan {
    Box::new(move |operation| if operation == what { StoreFault::Corrupt } else { StoreFault::None })
}

fn host() -> HostId {
    HostId::new("host-1").unwrap()
}

async fn publish(world: &World, message: Outgoing) {
    assert_eq!(world.broker.publish(vec![message], LIMIT).await.unwrap(), [Confirm::Stored]);
}

/// A worker's own queue.
async fn inbox(world: &World) -> Box<dyn Consumer> {
    let queue = world.broker.declare_worker_queue(&host()).await.unwrap();
    world.broker.consume(&queue, 1).await.unwrap()
}

/// Asks for a blob as a worker does, under that type.
async fn ask(world: &World, kind: &str, digest: Digest) {
    let get = GetBlob { digest, offset: 0, host: host() };
    let properties = Properties { message_id: "get".to_owned(), kind: kind.to_owned(), ..Properties::default() };
    let (exchange, routing_key) = (FETCH_EXCHANGE.to_owned(), "get".to_owned());
    publish(world, Outgoing { exchange, routing_key, properties, body: get.to_bytes(Format::MessagePack).unwrap() }).await;
}

async fn next(consumer: &dyn Consumer) -> Delivery {
    let delivery = timeout(LIMIT, consumer.next(1)).await.unwrap().unwrap().remove(0);
    consumer.settle(&[(delivery.tag, Verdict::Ack)]).await.unwrap();
    delivery
}

async fn part(consumer: &dyn Consumer) -> BlobPart {
    BlobPart::from_bytes(&next(consumer).await.body, Format::MessagePack).unwrap()
}

/// Takes the next letter of an origin.
async fn letter(world: &World, origin: Origin) -> (Delivery, DeadLetter) {
    let consumer = world.broker.consume(&origin.queue(), 1).await.unwrap();
    let delivery = next(consumer.as_ref()).await;
    let letter = DeadLetter::of(origin, &delivery);
    (delivery, letter)
}

async fn letters(world: &World, origin: Origin) -> u32 {
    world.broker.depth(&origin.queue()).await.unwrap().unwrap().ready
}

async fn until_parked(world: &World, count: u32) {
    let parked = async {
        while world.parked().await < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, parked).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_blob_is_as_good_as_missing_and_others_are_handed_out() {
    let world = World::new();
    let worker = inbox(&world).await;
    let blobs = [b"first", b"other"].map(|data| (Digest::of(data), data));
    for (digest, data) in blobs {
        world.store.put_part(digest, 5, 0, data).await.unwrap();
    }
    let [(first, _), (other, data)] = blobs;
    world.store.set_fault(Some(damaged("read blob")));
    // Each unit that needs it asks.
    for _ in 0..2 {
        ask(&world, GetBlob::KIND, first).await;
        assert_eq!(part(worker.as_ref()).await, BlobPart { digest: first, offset: 0, size: None, data: Vec::new() });
    }
    world.store.set_fault(None);
    ask(&world, GetBlob::KIND, other).await;
    assert_eq!(part(worker.as_ref()).await.data, data);
    assert_eq!(letters(&world, Origin::Fetch).await, 1);
    let (delivery, parked) = letter(&world, Origin::Fetch).await;
    let cause = format!("blob {first} is damaged, and as good as missing: read blob: database is not as expected");
    assert!(parked.cause.starts_with(&cause), "{parked:?}");
    // Sent again too soon, it is parked again.
    world.store.set_fault(Some(damaged("read blob")));
    publish(&world, parked.replay(delivery).unwrap()).await;
    assert_eq!(part(worker.as_ref()).await.size, None);
    assert_eq!(letter(&world, Origin::Fetch).await.1.attempts, 2);
    world.store.set_fault(None);
    ask(&world, GetBlob::KIND, first).await;
    assert_eq!(part(worker.as_ref()).await.data, b"first");
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_blob_under_another_type_is_parked_and_one_without_a_type_is_answered() {
    let world = World::new();
    let worker = inbox(&world).await;
    let digest = Digest::of(b"blob");
    world.store.put_part(digest, 4, 0, b"blob").await.unwrap();
    ask(&world, "offpeak.blob.get.v2", digest).await;
    ask(&world, "", digest).await;
    assert_eq!(part(worker.as_ref()).await.data, b"blob");
    let (_, parked) = letter(&world, Origin::Fetch).await;
    assert!(parked.cause.contains("it came under type \"offpeak.blob.get.v2\""), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_that_meet_damage_are_parked_and_done_once_it_is_mended() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(5)).await;
    world.store.set_fault(Some(damaged("pause job")));
    // More than are under way at once.
    for _ in 0..40 {
        world.post(&world.letter("acme", &PauseJob { job })).await;
    }
    let listed: BlobsListed = world.ask("acme", &ListBlobs { after: None, limit: 1 }).await;
    assert_eq!(listed.blobs.len(), 1);
    until_parked(&world, 40).await;
    world.store.set_fault(None);
    let written = world.store.messages_written().len();
    let (delivery, parked) = letter(&world, Origin::Submit).await;
    let cause = "it cannot be done until the database is mended: pause job: database is not as expected";
    assert!(parked.cause.starts_with(cause), "{parked:?}");
    let mut again = parked.replay(delivery).unwrap();
    again.properties.user_id = Some("operator".to_owned());
    publish(&world, again).await;
    let answered = async {
        while world.store.messages_written().len() == written {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, answered).await.unwrap();
    assert!(read::<JobStatus>(&world.store.messages_written()[written]).paused);
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_meets_damage_is_parked_and_failed() {
    let world = World::new();
    world.upload("acme", MODULE).await;
    // A known one is looked for, its blobs are looked for, its app is published.
    for (count, what) in (1..).zip(["find submission", "read size of an own blob", "read blob"]) {
        world.store.set_fault(Some(damaged(what)));
        world.post(&world.letter("acme", &numbers(1))).await;
        until_parked(&world, count).await;
        assert_eq!(world.metrics.submissions.with_label_values(&["failed"]).get(), u64::from(count), "the grid's fault");
    }
    assert_eq!(world.metrics.submission_seconds.get_sample_count(), 0, "none has an answer");
    assert!(world.store.messages_written().is_empty());
}

#[tokio::test(start_paused = true)]
async fn damage_at_either_end_of_a_request_holds_nobody_up() {
    for what in ["read customer", "read job", "write replies"] {
        let world = World::new();
        world.store.set_fault(Some(damaged(what)));
        world.post(&world.letter("acme", &GetJobStatus { job: nobodys() })).await;
        until_parked(&world, 1).await;
        assert!(world.store.messages_written().is_empty(), "{what}");
        world.store.set_fault(None);
        assert_eq!(world.refused("acme", &GetJobStatus { job: nobodys() }).await.code, "no-such-job");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_not_as_expected_whatever_it_is_asked_is_waited_for() {
    let world = World::new();
    // Three attempts, each with a look at whether it is all of the database.
    let mut left = 6;
    let plan = move |operation: &'static str| {
        let counts = ["read customer", "read blob size"].contains(&operation);
        left -= i32::from(counts);
        if counts && left >= 0 { StoreFault::Corrupt } else { StoreFault::None }
    };
    world.store.set_fault(Some(Box::new(plan)));
    assert_eq!(world.refused("acme", &GetJobStatus { job: nobodys() }).await.code, "no-such-job");
    assert_eq!(world.parked().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_due_replicas_cannot_be_read_keeps_no_other_waiting() {
    let world = World::new();
    let (_, bad) = world.submit("acme", &numbers(10)).await;
    assert!(world.store.dispatch(testkit::store_contract::world::cut(bad, 0, 0, &[0, 10], &[0])).await.unwrap());
    world.store.set_fault(Some(damaged("read due replicas")));
    workers::start(&world, 1, |_| Duration::from_secs(1));
    let (_, good) = world.submit("other", &numbers(10)).await;
    sleep(Duration::from_mins(1)).await;
    let done = async |job| world.store.job(job).await.unwrap().unwrap().items.succeeded;
    assert_eq!((done(bad).await, done(good).await), (0, 10));
    world.store.set_fault(None);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(done(bad).await, 10);
}
