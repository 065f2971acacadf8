//! Jobs: cancelled, paused, resumed, looked at, listed and explained.

use std::time::Duration;

use ports::store::{Admission, AdmissionStore, NewJob, OutboxMessage, StageStep};
use protocol::input::Input;
use protocol::job::{CancelJob, Certificate, ItemCounts, JobSpec, JobState, UnitSizing};
use protocol::query::{
    ExplainJob, GetJobStatus, JobExplained, JobStatus, JobsListed, ListJobs, PauseJob, ResultsState, ResumeJob,
};
use protocol::{Digest, MeterId};
use tokio::time::sleep;

use crate::workers;
use crate::world::{World, customer, nobodys, numbers};

#[tokio::test(start_paused = true)]
async fn a_job_is_cancelled_by_its_customer_only() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(10)).await;
    assert_eq!(world.refused("other", &CancelJob { job }).await.code, "no-such-job");
    assert_eq!(world.refused("acme", &CancelJob { job: nobodys() }).await.code, "no-such-job");
    // Its answer is the job's end, which the aggregator tells.
    assert_eq!(world.send(&world.letter("acme", &CancelJob { job })).await, []);
    assert!(world.store.request_cancel(&customer("acme"), job).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_comes_again_after_the_end_changes_nothing() {
    let world = World::new();
    let (_, cancelled) = world.submit("acme", &numbers(10)).await;
    sleep(Duration::from_millis(5)).await;
    let (_, completed) = world.submit("acme", &numbers(10)).await;
    let cancel = world.letter("acme", &CancelJob { job: cancelled });
    assert_eq!(world.send(&cancel).await, []);
    let digest = Digest::of(b"");
    let certificate = Certificate { items: ItemCounts::default(), items_digest: digest, output_digest: digest };
    workers::assemble(&world, cancelled, StageStep::End { state: JobState::Cancelled, certificate }).await;
    workers::end(&world, completed).await;
    assert_eq!(world.send(&cancel).await, []);
    assert_eq!(world.send(&world.letter("acme", &CancelJob { job: cancelled })).await, []);
    assert_eq!(world.refused("other", &CancelJob { job: cancelled }).await.code, "no-such-job");
    assert_eq!(world.refused("acme", &CancelJob { job: completed }).await.code, "no-such-job");
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_input_is_damaged_stops_no_other() {
    let world = World::new();
    let (_, model) = world.submit("acme", &numbers(1)).await;
    workers::end(&world, model).await;
    let blob = world.upload("acme", b"one line").await;
    let ids = ["01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000002"];
    for ((name, lines), id) in [("damaged", 5), ("sound", 1)].into_iter().zip(ids) {
        // Of the same customer, so that the damaged one is before it.
        let spec = JobSpec { input: Input::Lines { blob }, unit: UnitSizing { target_ms: 1_000, max_items: 1 }, ..numbers(1) };
        sleep(Duration::from_millis(5)).await;
        let job = NewJob {
            id: id.parse().unwrap(),
            customer: customer("acme"),
            submission: name.to_owned(),
            submission_digest: Digest::of(name.as_bytes()),
            correlation_id: None,
            content_type: "application/json".to_owned(),
            traceparent: None,
            spec,
            items: lines,
            brief: Digest::of(b"brief"),
            meter: MeterId::new("test-1").unwrap(),
            admitted_at: world.now(),
            deadline_at: None,
        };
        let reply = OutboxMessage {
            id: name.to_owned(),
            customer: customer("acme"),
            kind: String::new(),
            content_type: String::new(),
            correlation_id: None,
            traceparent: None,
            body: Vec::new(),
        };
        assert_eq!(world.store.admit(job, reply).await.unwrap(), Admission::New);
    }
    workers::start(&world, 1, |_| Duration::from_millis(10));
    world.submit("other", &numbers(10)).await;
    sleep(Duration::from_secs(30)).await;
    let valid: Vec<u64> = world.store.all_jobs().iter().map(|report| report.items.succeeded).collect();
    assert_eq!(valid.iter().sum::<u64>(), 1 + 1 + 10, "the damaged job's first line, the sound one's, and another's: {valid:?}");
}

#[tokio::test(start_paused = true)]
async fn status_is_told_to_its_customer_only() {
    let world = World::new();
    let (letter, job) = world.submit("acme", &numbers(10)).await;
    let status: JobStatus = world.ask("acme", &GetJobStatus { job }).await;
    assert_eq!((status.job, &status.message_id), (job, &letter.properties.message_id));
    assert_eq!((status.state, status.items.submitted, status.results), (JobState::Running, 10, ResultsState::Kept));
    assert_eq!((status.paused, status.cost, status.ended_at_us, status.eta_s), (false, None, None, None));
    for (name, job) in [("other", job), ("acme", nobodys())] {
        assert_eq!(world.refused(name, &GetJobStatus { job }).await.code, "no-such-job");
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_a_reduction_takes_is_not_told() {
    let world = World::new();
    workers::start(&world, 1, |_| Duration::from_secs(1));
    let (_, job) = world.submit("acme", &numbers(10)).await;
    sleep(Duration::from_mins(1)).await;
    let etas = async || {
        let status: JobStatus = world.ask("acme", &GetJobStatus { job }).await;
        (status.eta_s, world.ask::<_, JobExplained>("acme", &ExplainJob { job }).await.eta_s)
    };
    assert_eq!(etas().await, (Some(0), Some(0)), "all items are computed");
    workers::assemble(&world, job, StageStep::Next { stage_items: 1, last_stage: true }).await;
    assert_eq!(etas().await, (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_job_rests_and_goes_on() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(1_000_000)).await;
    let status: JobStatus = world.ask("acme", &PauseJob { job }).await;
    assert!(status.paused);
    assert!(world.ask::<_, JobStatus>("acme", &PauseJob { job }).await.paused);
    let diary = workers::start(&world, 1, |_| Duration::from_millis(10));
    sleep(Duration::from_secs(5)).await;
    let begun = diary.begun(protocol::Micros(0), world.now()).len();
    assert_eq!(begun, 0);
    let explained: JobExplained = world.ask("acme", &ExplainJob { job }).await;
    assert_eq!((explained.reasons[0].code.as_str(), explained.position), ("paused", None));
    assert!(!world.ask::<_, JobStatus>("acme", &ResumeJob { job }).await.paused);
    sleep(Duration::from_secs(5)).await;
    assert!(!diary.begun(protocol::Micros(0), world.now()).is_empty());
    for (name, job) in [("other", job), ("acme", nobodys())] {
        assert_eq!(world.refused(name, &PauseJob { job }).await.code, "no-such-job");
        assert_eq!(world.refused(name, &ResumeJob { job }).await.code, "no-such-job");
    }
    workers::end(&world, job).await;
    for problem in [world.refused("acme", &PauseJob { job }).await, world.refused("acme", &ResumeJob { job }).await] {
        assert_eq!(problem.code, "job-ended");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_delivered_again_does_not_undo_a_resume() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(10)).await;
    let (pause, resume) = (world.letter("acme", &PauseJob { job }), world.letter("acme", &ResumeJob { job }));
    let status = async || world.ask::<_, JobStatus>("acme", &GetJobStatus { job }).await;
    for (letter, paused) in [(&pause, true), (&pause, true), (&resume, false), (&pause, false)] {
        world.send(letter).await;
        assert_eq!(status().await.paused, paused);
    }
    assert!(world.ask::<_, JobStatus>("acme", &PauseJob { job }).await.paused, "a new one has its effect");
    world.send(&resume).await;
    assert!(status().await.paused);
}

#[tokio::test(start_paused = true)]
async fn jobs_are_listed_the_youngest_first() {
    let world = World::new();
    let mut jobs = Vec::new();
    for _ in 0..5 {
        sleep(Duration::from_millis(5)).await;
        jobs.insert(0, world.submit("acme", &numbers(1)).await.1);
    }
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page: JobsListed = world.ask("acme", &ListJobs { state: None, before, limit: 2 }).await;
        seen.extend(page.jobs.iter().map(|line| line.job));
        before = seen.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, jobs);
    let list = |state| ListJobs { state: Some(state), before: None, limit: 100 };
    assert_eq!(world.ask::<_, JobsListed>("acme", &list(JobState::Running)).await.jobs.len(), 5);
    assert!(world.ask::<_, JobsListed>("acme", &list(JobState::Cancelled)).await.jobs.is_empty());
    assert!(world.ask::<_, JobsListed>("other", &list(JobState::Running)).await.jobs.is_empty());
    assert_eq!(world.refused("acme", &ListJobs { state: None, before: None, limit: 0 }).await.code, "invalid-request");
}

#[tokio::test(start_paused = true)]
async fn a_job_is_explained() {
    let world = World::new();
    let (_, first) = world.submit("acme", &numbers(10)).await;
    sleep(Duration::from_millis(5)).await;
    let (_, job) = world.submit("acme", &JobSpec { quorum: 2, ..numbers(10) }).await;
    let explained: JobExplained = world.ask("acme", &ExplainJob { job }).await;
    let codes: Vec<&str> = explained.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["no-workers", "queued", "behind"]);
    assert_eq!((explained.position, explained.live_hosts, explained.lanes.len()), (Some(2), 0, 2));
    assert_eq!(world.ask::<_, JobExplained>("acme", &ExplainJob { job: first }).await.position, Some(1));
    workers::start(&world, 1, |_| Duration::from_hours(1));
    sleep(Duration::from_secs(1)).await;
    let explained: JobExplained = world.ask("acme", &ExplainJob { job: first }).await;
    assert_eq!((explained.reasons[0].code.as_str(), explained.live_hosts), ("computing", 2));
    assert_eq!(world.refused("other", &ExplainJob { job }).await.code, "no-such-job");
}
