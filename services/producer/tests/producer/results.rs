//! Results: fetched again from any part on, until they are released.

use std::time::Duration;

use ports::store::{OutboxMessage, StageStep};
use protocol::JobId;
use protocol::frame;
use protocol::job::{Delivery, JobSpec, UnitSizing};
use protocol::query::{FetchResults, GetJobStatus, JobStatus, ReleaseResults, ResultsFetched, ResultsReleased, ResultsState};
use protocol::reply::Part;
use testkit::memory_store::StoreFault;
use tokio::time::sleep;

use crate::workers;
use crate::world::{World, nobodys, numbers, problem, read};

/// A job of ten units of one item, computed and assembled.
async fn computed(world: &World) -> JobId {
    computed_as(world, Delivery::Stored).await
}

/// The same for that delivery.
async fn computed_as(world: &World, delivery: Delivery) -> JobId {
    workers::start(world, 1, |_| Duration::from_millis(1));
    let spec = JobSpec { unit: UnitSizing { target_ms: 1_000, max_items: 1 }, delivery, ..numbers(10) };
    let (_, job) = world.submit("acme", &spec).await;
    sleep(Duration::from_secs(10)).await;
    workers::assemble(world, job, StageStep::Stay).await;
    job
}

fn parts_and_end(answers: &[OutboxMessage]) -> (Vec<Part>, ResultsFetched) {
    let (end, parts) = answers.split_last().unwrap();
    (parts.iter().map(read).collect(), read(end))
}

#[tokio::test(start_paused = true)]
async fn results_come_again_page_by_page() {
    let world = World::new();
    let job = computed(&world).await;
    let (mut next, mut items) = (Some(0), Vec::new());
    while let Some(part) = next {
        let letter = world.letter("acme", &FetchResults { job, part, limit: 4 });
        let answers = world.send(&letter).await;
        for answer in &answers {
            assert_eq!(answer.correlation_id, letter.properties.correlation_id);
        }
        let (parts, end) = parts_and_end(&answers);
        assert!(parts.len() <= 4 && usize::try_from(end.parts).unwrap() == parts.len() && !end.ended);
        for (number, got) in (part..).zip(&parts) {
            assert_eq!((got.job, got.part), (job, number));
            let outputs = frame::results(&got.output).unwrap();
            items.extend((got.first..).take(outputs.len()));
        }
        next = end.next_part;
    }
    assert_eq!(items, (0..10).collect::<Vec<_>>());
    // From any part on, and beyond the last.
    let (parts, end) = parts_and_end(&world.send(&world.letter("acme", &FetchResults { job, part: 9, limit: 100 })).await);
    assert_eq!((parts[0].part, parts.len(), end.next_part), (9, 1, None));
    let (parts, end) = parts_and_end(&world.send(&world.letter("acme", &FetchResults { job, part: 77, limit: 100 })).await);
    assert_eq!((parts.len(), end.parts, end.next_part), (0, 0, None));
}

/// Fetches from that part on; how many items each part has, where to go on, and whether the job has ended.
async fn fetched(world: &World, job: JobId, part: u32) -> (Vec<usize>, Option<u32>, bool) {
    let answers = world.send(&world.letter("acme", &FetchResults { job, part, limit: 4 })).await;
    let (parts, end) = parts_and_end(&answers);
    let items = parts.iter().map(|part| frame::results(&part.output).unwrap().len()).collect();
    (items, end.next_part, end.ended)
}

#[tokio::test(start_paused = true)]
async fn a_whole_job_has_no_parts_before_its_end_and_then_one() {
    let world = World::new();
    let job = computed_as(&world, Delivery::Whole).await;
    assert_eq!(fetched(&world, job, 0).await, (vec![], None, false));
    assert_eq!(world.ask::<_, JobStatus>("acme", &GetJobStatus { job }).await.parts, 0);
    workers::end(&world, job).await;
    assert_eq!(fetched(&world, job, 0).await, (vec![10], None, true));
    assert_eq!(world.ask::<_, JobStatus>("acme", &GetJobStatus { job }).await.parts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_whole_job_that_ends_while_it_is_fetched_is_fetched_from_its_first_part_on() {
    let world = World::new();
    let job = computed_as(&world, Delivery::Whole).await;
    let running = world.store.snapshot();
    workers::end(&world, job).await;
    let (store, ended) = (world.store.clone(), world.store.snapshot());
    for part in [0, 4] {
        world.store.restore(&running);
        let (store, ended) = (store.clone(), ended.clone());
        let mut reads = 0;
        world.store.set_fault(Some(Box::new(move |operation| {
            if operation == "read job" {
                reads += 1;
                // Before the second time that the job is read for the answer.
                if reads == 2 {
                    store.restore(&ended);
                }
            }
            StoreFault::None
        })));
        assert_eq!(fetched(&world, job, part).await, (vec![], Some(0), true));
        world.store.set_fault(None);
    }
    assert_eq!(fetched(&world, job, 0).await, (vec![10], None, true));
}

#[tokio::test(start_paused = true)]
async fn parts_wait_while_much_waits_unsent() {
    let world = World::new();
    let job = computed(&world).await;
    world.relay().await;
    world.say("acme", 9_999).await;
    assert_eq!(fetched(&world, job, 0).await, (vec![1; 4], Some(4), false));
    world.relay().await;
    world.say("acme", 10_000).await;
    assert_eq!(fetched(&world, job, 4).await, (vec![], Some(4), false));
}

#[tokio::test(start_paused = true)]
async fn only_who_owns_them_gets_results() {
    let world = World::new();
    let job = computed(&world).await;
    assert_eq!(world.refused("other", &FetchResults { job, part: 0, limit: 1 }).await.code, "no-such-job");
    assert_eq!(world.refused("other", &ReleaseResults { job }).await.code, "no-such-job");
    let fetch = FetchResults { job: nobodys(), part: 0, limit: 1 };
    assert_eq!(world.refused("acme", &fetch).await.code, "no-such-job");
    for limit in [0, 1_001] {
        assert_eq!(world.refused("acme", &FetchResults { job, part: 0, limit }).await.code, "invalid-request");
    }
}

#[tokio::test(start_paused = true)]
async fn released_results_are_gone() {
    let world = World::new();
    let job = computed(&world).await;
    let letter = world.letter("acme", &ReleaseResults { job });
    let refused = async || {
        let early = problem(&world.send(&letter).await);
        assert_eq!((early.code.as_str(), early.errors[0].pointer.as_str()), ("invalid-request", "/job"));
        assert!(early.errors[0].detail.contains("new message_id"), "{early:?}");
    };
    refused().await;
    workers::end(&world, job).await;
    // Delivered again, it is refused again: the customer asks under a new id.
    refused().await;
    let (_, end) = parts_and_end(&world.send(&world.letter("acme", &FetchResults { job, part: 0, limit: 100 })).await);
    assert!(end.ended && end.next_part.is_none());
    let status: JobStatus = world.ask("acme", &GetJobStatus { job }).await;
    assert_eq!((status.results, status.parts), (ResultsState::Kept, 10));
    assert_eq!(status.results_until_us, status.ended_at_us.map(|at| at.plus(Duration::from_hours(30 * 24))));
    for _ in 0..2 {
        assert_eq!(world.ask::<_, ResultsReleased>("acme", &ReleaseResults { job }).await.job, job);
    }
    let gone = problem(&world.send(&world.letter("acme", &FetchResults { job, part: 0, limit: 100 })).await);
    assert_eq!((gone.code.as_str(), gone.status), ("results-gone", 410));
    let status: JobStatus = world.ask("acme", &GetJobStatus { job }).await;
    assert_eq!((status.results, status.results_until_us), (ResultsState::Gone, None));
}
