//! Limits: each that is exceeded is told with its size and when to try again.

use std::time::Duration;

use ports::store::{OutboxMessage, ReportStore, Sender, UploadRoom, UploadStore};
use protocol::blob::{ListBlobs, PART_BYTES, PutBlob};
use protocol::customer::CustomerLimits;
use protocol::input::Input;
use protocol::job::{CancelJob, JobSpec, Limits, UnitSizing};
use protocol::query::{ExplainJob, FetchResults, GetJobStatus, JobExplained, JobStatus, PauseJob};
use protocol::reply::Accepted;
use protocol::{CustomerName, Digest, Fuel, Micros};
use testkit::memory_store::StoreFault;
use testkit::simulator::Weather;
use tokio::time::{Instant, sleep};

use crate::workers;
use crate::world::{MODULE, SLOW, World, compressed, customer, nobodys, numbers, one, problem, read};

fn limits() -> CustomerLimits {
    CustomerLimits::default()
}

#[tokio::test(start_paused = true)]
async fn a_message_has_a_largest_size() {
    let world = World::new();
    world.limit("acme", 1, CustomerLimits { message_bytes: 100, ..limits() }).await;
    let large = world.refused("acme", &PutBlob { digest: Digest::of(b""), size: 0, offset: 0, data: vec![0; 101] }).await;
    assert_eq!((large.code.as_str(), large.status, large.limit), ("message-too-large", 413, Some(100)));
    assert!(!large.retryable);
    // A customer without a record has the limits of all.
    assert_eq!(world.refused("other", &GetJobStatus { job: nobodys() }).await.code, "no-such-job");
}

#[tokio::test(start_paused = true)]
async fn ten_seconds_of_requests_may_come_at_once() {
    let world = World::new();
    world.limit("acme", 1, CustomerLimits { requests_per_second: 2, ..limits() }).await;
    let list = ListBlobs { after: None, limit: 1 };
    let mut answers: Vec<OutboxMessage> = Vec::new();
    for _ in 0..25 {
        answers.extend(world.send(&world.letter("acme", &list)).await);
    }
    let refused = answers.iter().filter(|answer| answer.kind == "offpeak.request.refused.v1").count();
    assert!((3..=5).contains(&refused), "{refused}");
    let slow = problem(&answers[24..]);
    assert_eq!((slow.code.as_str(), slow.status, slow.limit, slow.retry_after_s), ("rate-exceeded", 429, Some(2), Some(1)));
    // Parts of blobs do not count, nor do other customers.
    world.upload("acme", b"bytes").await;
    assert_eq!(world.refused("other", &GetJobStatus { job: nobodys() }).await.code, "no-such-job");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.refused("acme", &GetJobStatus { job: nobodys() }).await.code, "no-such-job");
}

#[tokio::test(start_paused = true)]
async fn unfinished_jobs_are_counted_and_a_known_submission_is_accepted_all_the_same() {
    let world = World::new();
    world.limit("acme", 1, CustomerLimits { jobs: 2, ..limits() }).await;
    let (first, job) = world.submit("acme", &numbers(1)).await;
    // A job with mistakes takes no place.
    assert_eq!(world.refused("acme", &JobSpec { quorum: 0, ..numbers(1) }).await.code, "invalid-job");
    world.submit("acme", &numbers(1)).await;
    let third = world.letter("acme", &numbers(1));
    let many = problem(&world.send(&third).await);
    assert_eq!((many.code.as_str(), many.status, many.limit, many.retryable), ("too-many-jobs", 429, Some(2), true));
    world.relay().await;
    assert_eq!(one::<Accepted>(&world.send(&first).await).job, job);
    workers::end(&world, job).await;
    assert_eq!(one::<Accepted>(&world.send(&third).await).items, 1);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_come_at_once_do_not_exceed_the_limit() {
    let world = World::new();
    world.limit("acme", 1, CustomerLimits { jobs: 3, ..limits() }).await;
    world.upload("acme", MODULE).await;
    for _ in 0..20 {
        world.post(&world.letter("acme", &numbers(1))).await;
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.store.all_jobs().len(), 3);
    assert_eq!((world.count("job-submit", "answered"), world.count("job-submit", "refused")), (3, 17));
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_refuses_jobs_and_holds_those_there_are() {
    let world = World::new();
    let budget = |fuel| CustomerLimits { fuel_per_month: Some(Fuel::new(fuel).unwrap()), ..limits() };
    world.limit("acme", 1, budget(50_000)).await;
    let diary = workers::start(&world, 1, |_| Duration::from_millis(10));
    let (first, job) = world.submit("acme", &numbers(1_000_000)).await;
    sleep(Duration::from_mins(1)).await;
    let spent = world.refused("acme", &numbers(1)).await;
    assert_eq!((spent.code.as_str(), spent.status, spent.limit), ("budget-spent", 402, Some(50_000)));
    assert!(spent.retry_after_s.is_some_and(|seconds| seconds > 86_400));
    world.relay().await;
    assert_eq!(one::<Accepted>(&world.send(&first).await).job, job);
    let explained: JobExplained = world.ask("acme", &ExplainJob { job }).await;
    assert_eq!((explained.reasons[0].code.as_str(), explained.position), ("budget-spent", None));
    let held_from = world.now();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(diary.begun(held_from, world.now()), []);
    world.limit("acme", 1, budget(100_000_000)).await;
    sleep(Duration::from_secs(5)).await;
    assert!(!diary.begun(held_from, world.now()).is_empty());
    assert_eq!(world.ask::<_, Accepted>("acme", &numbers(1)).await.items, 1);
}

#[tokio::test(start_paused = true)]
async fn a_jobs_own_budget_is_kept_by_what_is_cut() {
    let world = World::new();
    let fuel = |count| Fuel::new(count).unwrap();
    // An item is metered by its 10,000 microseconds, and may take twice as much.
    let item = |who: &CustomerName| if who.as_str() == "slow" { Duration::from_mins(1) } else { Duration::from_millis(10) };
    workers::start(&world, 2, item);
    let limits = Limits { fuel_per_item: fuel(20_000), ..Limits::default() };
    let spec = JobSpec { budget_fuel: Some(fuel(19_999)), limits, ..numbers(1_000) };
    let small = world.refused("acme", &spec).await;
    assert_eq!((small.code.as_str(), small.errors[0].pointer.as_str()), ("invalid-job", "/budget_fuel"));
    let (_, job) = world.submit("acme", &JobSpec { budget_fuel: Some(fuel(505_000)), ..spec.clone() }).await;
    for _ in 0..200 {
        sleep(Duration::from_millis(50)).await;
        let report = world.store.job(job).await.unwrap().unwrap();
        assert!(report.usage.fuel.get() + 20_000 * report.units.open_items <= 505_000, "{report:?}");
    }
    let status: JobStatus = world.ask("acme", &GetJobStatus { job }).await;
    assert_eq!((status.usage.fuel, status.units_open, status.budget_fuel), (fuel(490_000), 0, Some(fuel(505_000))));
    // It is in no other job's way.
    let (_, other) = world.submit("acme", &JobSpec { priority: -1, ..numbers(10) }).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.store.job(other).await.unwrap().unwrap().items.succeeded, 10);
    let (_, reserved) = world.submit("slow", &JobSpec { budget_fuel: Some(fuel(80_000)), ..spec }).await;
    sleep(Duration::from_secs(1)).await;
    let explained: JobExplained = world.ask("slow", &ExplainJob { job: reserved }).await;
    assert_eq!((explained.reasons[0].code.as_str(), explained.position), ("budget-reserved", None));
}

#[tokio::test(start_paused = true)]
async fn units_in_flight_are_bounded_and_the_others_use_the_rest() {
    let world = World::new();
    world.limit("acme", 1, CustomerLimits { units: 3, ..limits() }).await;
    let took = Duration::from_secs(1);
    let diary = workers::start(&world, 8, |_| Duration::from_secs(1));
    let spec = JobSpec { unit: UnitSizing { max_items: 1, ..UnitSizing::default() }, ..numbers(1_000) };
    for name in ["acme", "other"] {
        world.submit(name, &spec).await;
    }
    let from = world.now();
    sleep(took * 20).await;
    let begun = diary.begun(from, world.now());
    let at_once = |name: &str| {
        let whose = customer(name);
        let times: Vec<Micros> = begun.iter().filter(|(_, owner, _)| *owner == whose).map(|(at, _, _)| *at).collect();
        let busy = |at: &Micros| times.iter().filter(|other| *other <= at && other.plus(took) > *at).count();
        (times.len(), times.iter().map(busy).max().unwrap_or(0))
    };
    let ((done, most), (others_done, others_most)) = (at_once("acme"), at_once("other"));
    assert!((1..=3).contains(&most) && done > 10, "{done} units, {most} at once");
    assert!(others_most > 3 && others_done > done, "{others_done} units, {others_most} at once");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_not_answered_but_may_stop_its_jobs() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(1_000_000)).await;
    let (_, other) = world.submit("acme", &numbers(1_000_000)).await;
    world.say("acme", 10_001).await;
    assert_eq!(world.send(&world.letter("acme", &numbers(1))).await, []);
    assert_eq!(world.send(&world.letter("acme", &GetJobStatus { job })).await, []);
    assert_eq!((world.count("job-submit", "dropped"), world.count("job-status", "dropped")), (1, 1));
    assert_eq!(world.send(&world.letter("acme", &PauseJob { job })).await, []);
    assert_eq!(world.send(&world.letter("acme", &CancelJob { job: other })).await, []);
    assert!(world.store.all_jobs().iter().any(|report| report.id == job && report.paused));
    assert_eq!(world.store.all_jobs().len(), 2);
    // Others are answered as ever.
    let (_, others) = world.submit("other", &numbers(1)).await;
    assert_eq!(world.ask::<_, JobStatus>("other", &GetJobStatus { job: others }).await.job, others);
}

#[tokio::test(start_paused = true)]
async fn fetches_that_hang_hold_up_nobody_else() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(10)).await;
    let plan =
        |operation: &'static str| if operation == "read numbered outputs" { StoreFault::FailBefore } else { StoreFault::None };
    world.store.set_fault(Some(Box::new(plan)));
    for _ in 0..40 {
        world.post(&world.letter("acme", &FetchResults { job, part: 0, limit: 1 })).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.count("job-fetch", "refused"), 36, "four of them are tried again, and the others told");
    let (messages, begun) = (world.store.messages_written(), Instant::now());
    let many = problem(&[OutboxMessage::clone(messages.last().unwrap())]);
    assert_eq!((many.code.as_str(), many.retryable, many.retry_after_s), ("rate-exceeded", true, Some(1)));
    world.submit("other", &numbers(1)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    world.store.set_fault(None);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.count("job-fetch", "answered"), 4);
}

#[tokio::test(start_paused = true)]
async fn apps_that_take_long_to_compile_hold_up_nobody_else() {
    let world = World::new();
    let mut letters = Vec::new();
    for number in 0..40_u8 {
        let module = [b"slow".as_slice(), &[number]].concat();
        let spec = JobSpec { app: world.upload("acme", &module).await, ..numbers(1) };
        // As large as they may be, as far as can be known before they are read.
        letters.push(compressed(world.letter("acme", &spec)));
    }
    world.upload("other", MODULE).await;
    letters.push(compressed(world.letter("other", &numbers(1))));
    for letter in &letters {
        world.post(letter).await;
    }
    sleep(Duration::from_secs(5)).await;
    let told = world.store.messages_written();
    assert_eq!((told.len(), world.count("job-submit", "refused")), (25, 24));
    for message in told {
        if message.customer == customer("other") {
            assert_eq!(read::<Accepted>(&message).items, 1);
        } else {
            let many = problem(&[OutboxMessage::clone(&message)]);
            assert_eq!((many.code.as_str(), many.retryable, many.limit), ("rate-exceeded", true, Some(16)));
        }
    }
    sleep(SLOW * 2).await;
    assert_eq!(world.count("job-submit", "answered"), 17, "the sixteen that were compiled are jobs");
}

#[tokio::test(start_paused = true)]
async fn jobs_whose_lines_are_counted_in_a_large_blob_hold_up_nobody_else() {
    let world = World::new();
    world.submit("acme", &numbers(1)).await;
    world.upload("other", MODULE).await;
    let text = [vec![b'a'; PART_BYTES - 1], b"\n".to_vec()].concat().repeat(17);
    let (blob, size) = (Digest::of(&text), u64::try_from(text.len()).unwrap());
    for (number, part) in (0_u64..).zip(text.chunks(PART_BYTES)) {
        let part = PutBlob { digest: blob, size, offset: number << 20, data: part.to_vec() };
        let (acme, room) = (customer("acme"), UploadRoom::of_bytes(1 << 30));
        world.store.put_own_part(Sender::of(&acme), &part, room, world.now()).await.unwrap();
    }
    // From now on a transaction takes up to 0.4 s, and so the blob's 18 much longer than the few before them.
    world.ether.set(Weather { latency_ms: 200, ..Weather::default() });
    let spec = JobSpec { input: Input::Lines { blob }, ..numbers(1) };
    for _ in 0..40 {
        world.post(&world.letter("acme", &spec)).await;
    }
    world.post(&world.letter("other", &numbers(1))).await;
    let (begun, submitted) = (Instant::now(), 1 + 40 + 1);
    while world.count("job-submit", "answered") + world.count("job-submit", "refused") < submitted {
        assert!(begun.elapsed() < Duration::from_mins(1), "they are not done with");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let told = world.store.messages_written();
    let others: Vec<_> = told.iter().filter(|message| message.customer == customer("other")).collect();
    let [answer] = &others[..] else { panic!("{} answers", others.len()) };
    assert_eq!(read::<Accepted>(answer).items, 1);
    let many: Vec<_> = told.iter().filter(|message| message.kind == "offpeak.job.rejected.v1").collect();
    assert!(many.len() >= 28, "four of the first 32 are counted: {} are told that they are too many", many.len());
    for message in many {
        let many = problem(&[OutboxMessage::clone(message)]);
        assert_eq!((many.code.as_str(), many.retryable, many.limit), ("rate-exceeded", true, Some(4)));
    }
    // When those are done there is a place again.
    assert_eq!(world.ask::<_, Accepted>("acme", &spec).await.items, 17);
}

#[tokio::test(start_paused = true)]
async fn submissions_that_wait_for_blobs_hold_up_nobody_else() {
    let world = World::new();
    let late = b"an app that comes late";
    let spec = JobSpec { app: Digest::of(late), ..numbers(1) };
    for _ in 0..6 {
        world.post(&compressed(world.letter("acme", &spec))).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.count("job-submit", "refused"), 2);
    for message in world.store.messages_written() {
        let many = problem(&[OutboxMessage::clone(&message)]);
        assert_eq!((many.code.as_str(), many.retry_after_s), ("rate-exceeded", Some(1)));
    }
    let begun = Instant::now();
    world.upload("other", MODULE).await;
    let letter = compressed(world.letter("other", &numbers(1)));
    assert_eq!(one::<Accepted>(&world.send(&letter).await).items, 1);
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for {:?}", begun.elapsed());
    let part = PutBlob { digest: Digest::of(late), size: 22, offset: 0, data: late.to_vec() };
    world.post(&world.letter("acme", &part)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.count("job-submit", "answered"), 5, "the four that waited are jobs");
    // What does not come is missing after a while.
    let missing = world.refused("acme", &JobSpec { app: Digest::of(b"never"), ..numbers(1) }).await;
    assert_eq!((missing.code.as_str(), missing.errors[0].pointer.as_str()), ("invalid-job", "/app"));
}
