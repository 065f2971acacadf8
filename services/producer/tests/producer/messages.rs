//! Messages: how requests are read, which answers they get, and what becomes of what is no request.

use std::time::Duration;

use ports::Broker;
use ports::store::BlobStore;
use protocol::address::{Origin, SUBMIT_QUEUE};
use protocol::blob::{BlobDeleted, BlobsListed, DeleteBlob, ListBlobs};
use protocol::customer::CustomerLimits;
use protocol::job::{CancelJob, JobSpec};
use protocol::problem::{Problem, Refused};
use protocol::query::{GetJobStatus, JobStatus, PauseJob, ReleaseResults, ResumeJob};
use protocol::quote::QuoteJob;
use protocol::reply::Accepted;
use protocol::{Digest, Format, Message, Value, codec};
use tokio::time::{Instant, sleep};

use crate::workers;
use crate::world::{Letter, MODULE, TRACE, World, compressed, nobodys, numbers, one, problem, read};

fn in_json<M: Message>(mut letter: Letter, message: &M) -> Letter {
    letter.properties.content_type = Some("application/json".to_owned());
    letter.body = message.to_bytes(Format::Json).unwrap();
    letter
}

/// The letter with that body, in both formats.
fn in_both(letter: &Letter, json: &str) -> [Letter; 2] {
    let value: Value = codec::decode("test", json.as_bytes(), Format::Json).unwrap();
    [Format::Json, Format::MessagePack].map(|format| {
        let mut letter = letter.clone();
        letter.properties.content_type = Some(format.content_type().to_owned());
        letter.body = codec::encode("test", &value, format).unwrap();
        letter
    })
}

#[tokio::test(start_paused = true)]
async fn answers_are_written_as_requests_are_with_their_keys_and_trace() {
    let world = World::new();
    let status = GetJobStatus { job: nobodys() };
    for json in [false, true] {
        let mut letter = world.letter("acme", &status);
        if json {
            letter = in_json(letter, &status);
        }
        let answers = world.send(&letter).await;
        let refused: Refused = read(&answers[0]);
        assert_eq!((refused.0.status, refused.0.code.as_str()), (404, "no-such-job"));
        assert_eq!(answers[0].content_type, if json { "application/problem+json" } else { "application/msgpack" });
        assert_eq!(answers[0].correlation_id, letter.properties.correlation_id);
        assert_eq!(answers[0].traceparent.as_deref(), Some(TRACE));
    }
    let letter = in_json(world.letter("acme", &numbers(1)), &numbers(1));
    let answers = world.send(&letter).await;
    assert_eq!((read::<Problem>(&answers[0]).status, answers[0].content_type.as_str()), (422, "application/problem+json"));
    world.upload("acme", MODULE).await;
    let answers = world.send(&letter).await;
    assert_eq!((one::<Accepted>(&answers).items, answers[0].content_type.as_str()), (1, "application/json"));
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_comes_again_is_accepted_again_and_another_under_its_key_is_not() {
    let world = World::new();
    let (letter, job) = world.submit("acme", &numbers(5)).await;
    // Its answer is the same message: while the first waits, a second is not written.
    assert_eq!(world.send(&letter).await, []);
    world.relay().await;
    let again = world.send(&letter).await;
    assert_eq!(one::<Accepted>(&again), Accepted { job, items: 5 });
    let written = world.store.messages_written();
    assert_eq!(written.iter().filter(|message| message.id == again[0].id).count(), 2, "the first had that id, too");
    let mut elsewhere = letter.clone();
    elsewhere.properties.correlation_id = Some("another".to_owned());
    let other = world.send(&elsewhere).await;
    assert_eq!(one::<Accepted>(&other).job, job);
    assert_ne!(again[0].id, other[0].id);
    let mut changed = letter.clone();
    changed.body = numbers(6).to_bytes(Format::MessagePack).unwrap();
    let conflict = problem(&world.send(&changed).await);
    assert_eq!((conflict.code.as_str(), conflict.status), ("message-id-reused", 409));
    // Another customer may use the same key.
    world.upload("other", MODULE).await;
    let mut others = world.letter("other", &numbers(5));
    others.properties.message_id = letter.properties.message_id;
    assert_ne!(one::<Accepted>(&world.send(&others).await).job, job);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_again_is_told_so_again() {
    let world = World::new();
    world.limit("acme", 1, CustomerLimits { jobs: 1, ..CustomerLimits::default() }).await;
    world.submit("acme", &numbers(1)).await;
    // Under the same keys, while the first answer waits: a customer drops what has an id that it knows.
    let letter = world.letter("acme", &numbers(1));
    let (first, again) = (world.send(&letter).await, world.send(&letter).await);
    for answers in [&first, &again] {
        assert_eq!(problem(answers).code, "too-many-jobs");
        assert_eq!(answers[0].correlation_id, letter.properties.correlation_id);
    }
    assert_ne!(first[0].id, again[0].id);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_asked_again_is_answered_again() {
    let world = World::new();
    world.upload("acme", MODULE).await;
    let letter = world.letter("acme", &ListBlobs { after: None, limit: 1 });
    let (first, again) = (world.send(&letter).await, world.send(&letter).await);
    assert_eq!(one::<BlobsListed>(&first), one::<BlobsListed>(&again));
    assert_ne!(first[0].id, again[0].id);
}

#[tokio::test(start_paused = true)]
async fn a_known_submission_is_accepted_again_whatever_became_of_what_it_names() {
    let world = World::new();
    let shared = world.upload("acme", b"shared").await;
    let (letter, job) = world.submit("acme", &JobSpec { shared: Some(shared), ..numbers(5) }).await;
    workers::end(&world, job).await;
    world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest: shared }).await;
    world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest: Digest::of(MODULE) }).await;
    world.limit("acme", 1, CustomerLimits { units: 0, jobs: 0, ..CustomerLimits::default() }).await;
    world.relay().await;
    let begun = Instant::now();
    assert_eq!(one::<Accepted>(&world.send(&letter).await), Accepted { job, items: 5 });
    let mut changed = letter;
    changed.body = numbers(6).to_bytes(Format::MessagePack).unwrap();
    assert_eq!(problem(&world.send(&changed).await).code, "message-id-reused");
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_nul_in_a_property_is_parked_and_holds_nobody_up() {
    let world = World::new();
    let letter = world.letter("acme", &ListBlobs { after: None, limit: 1 });
    let nul = || "a\0b".to_owned();
    let mut letters = vec![letter; 5];
    letters[0].properties.message_id = nul();
    letters[1].properties.kind = nul();
    letters[2].properties.content_type = Some(nul());
    letters[3].properties.correlation_id = Some(nul());
    letters[4].properties.traceparent = Some(nul());
    for (number, letter) in (1..).zip(&letters) {
        world.post(letter).await;
        while world.parked().await < number {
            sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(world.store.messages_written().is_empty());
    assert_eq!(world.refused("acme", &GetJobStatus { job: nobodys() }).await.code, "no-such-job");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_is_told_once_though_it_cannot_be_parked() {
    let world = World::new();
    world.broker.fill(&Origin::Submit.queue(), true);
    let mut letter = world.letter("acme", &numbers(1));
    letter.body.pop();
    assert_eq!(problem(&world.send(&letter).await).code, "undecodable");
    sleep(Duration::from_mins(1)).await;
    assert_eq!((world.count("job-submit", "refused"), world.parked().await), (1, 0));
    assert_eq!(world.metrics.letters_lost.get(), 1);
    let submitted = world.broker.depth(SUBMIT_QUEUE).await.unwrap().unwrap();
    assert_eq!(submitted.ready, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_parked_for_now_comes_again_and_is_told_once() {
    let world = World::new();
    let mut letter = world.letter("acme", &numbers(1));
    letter.body.pop();
    world.post(&letter).await;
    world.broker.block("memory");
    sleep(Duration::from_mins(2)).await;
    assert_eq!((world.parked().await, world.store.messages_written().len()), (0, 1));
    assert!(world.count("job-submit", "refused") > 1, "it came again");
    world.broker.restore();
    sleep(Duration::from_mins(1)).await;
    assert_eq!((world.parked().await, world.store.messages_written().len()), (1, 1));
    assert_eq!(world.metrics.letters_lost.get(), 0);
    assert_eq!(world.broker.depth(SUBMIT_QUEUE).await.unwrap().unwrap().ready, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_names_no_user_is_refused_and_another_s_is_parked() {
    let world = World::new();
    let mut letter = world.letter("acme", &GetJobStatus { job: nobodys() });
    letter.properties.user_id = None;
    // Anyone can write that it was checked before.
    letter.properties.headers = vec![("offpeak-dead-user-id".to_owned(), "acme".to_owned())];
    let refused = problem(&world.send(&letter).await);
    assert_eq!((refused.status, refused.code.as_str()), (403, "user-id-required"));
    assert!(refused.detail.contains("set it to acme"), "{}", refused.detail);
    // What the operator sends again was checked.
    letter.properties.user_id = Some("operator".to_owned());
    assert_eq!(problem(&world.send(&letter).await).code, "no-such-job");
    letter.properties.user_id = Some("mallory".to_owned());
    let before = world.store.messages_written().len();
    world.post(&letter).await;
    let parked = || async { world.broker.depth(&Origin::Submit.queue()).await.unwrap().map_or(0, |depth| depth.ready) };
    while parked().await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(world.store.messages_written().len(), before, "nobody is told");
}

#[tokio::test(start_paused = true)]
async fn what_has_an_effect_needs_a_key() {
    let world = World::new();
    let (job, digest) = (nobodys(), Digest::of(b""));
    let letters = [
        world.letter("acme", &numbers(1)),
        world.letter("acme", &CancelJob { job }),
        world.letter("acme", &PauseJob { job }),
        world.letter("acme", &ResumeJob { job }),
        world.letter("acme", &ReleaseResults { job }),
        world.letter("acme", &protocol::blob::DeleteBlob { digest }),
        world.letter("acme", &protocol::app::RegisterApp { app: Some(digest), module: None }),
        world.letter("acme", &protocol::blob::PutBlob { digest, size: 0, offset: 0, data: Vec::new() }),
    ];
    for mut letter in letters {
        letter.properties.message_id = String::new();
        let problem = problem(&world.send(&letter).await);
        assert_eq!(problem.status, 422, "{}", letter.properties.kind);
        assert!(problem.detail.contains("message_id"), "{}", problem.detail);
    }
    let mut question = world.letter("acme", &ListBlobs { after: None, limit: 1 });
    question.properties.message_id = String::new();
    assert_eq!(world.send(&question).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_and_parked() {
    let world = World::new();
    let mut letters = vec![world.letter("acme", &numbers(1)); 4];
    letters[0].body.pop();
    letters[1].body.push(0);
    letters[2].properties.content_type = Some("text/plain".to_owned());
    letters[3].properties.content_encoding = Some("gzip".to_owned());
    for letter in &letters {
        let problem = problem(&world.send(letter).await);
        assert_eq!((problem.code.as_str(), problem.status), ("undecodable", 400));
    }
    assert_eq!(world.parked().await, 4);
    let mut unknown = world.letter("acme", &numbers(1));
    for kind in ["", "offpeak.job.submit.v2", Accepted::KIND] {
        unknown.properties.kind = kind.to_owned();
        assert_eq!(problem(&world.send(&unknown).await).code, "unknown-type");
    }
    assert_eq!(world.count("unknown", "refused"), 3);
    assert_eq!(world.parked().await, 7, "a later version may know them");
}

#[tokio::test(start_paused = true)]
async fn a_number_that_its_field_cannot_hold_is_a_mistake_like_any_other() {
    let world = World::new();
    let app = Digest::of(MODULE);
    let job = |field: &str, number: i64| {
        format!(r#"{{"app":"{app}","input":{{"range":{{"start":0,"end":1}}}},"pool":"open","{field}":{number}}}"#)
    };
    let submission = world.letter("acme", &numbers(1));
    let quote = world.letter("acme", &QuoteJob { job: numbers(1) });
    let list = world.letter("acme", &ListBlobs { after: None, limit: 1 });
    let wrong = [("quorum", 300), ("priority", 200), ("max_failures", 70_000), ("deadline_s", -1)];
    let of_jobs = wrong.map(|(field, number)| (&submission, job(field, number), "invalid-job", format!("/{field}")));
    let mut cases = Vec::from(of_jobs);
    cases.push((&quote, format!(r#"{{"job":{}}}"#, job("quorum", 300)), "invalid-job", "/quorum".to_owned()));
    cases.push((&list, r#"{"limit":-1}"#.to_owned(), "invalid-request", "/limit".to_owned()));
    for (letter, body, code, pointer) in &cases {
        for letter in in_both(letter, body) {
            let problem = problem(&world.send(&letter).await);
            let [mistake] = &problem.errors[..] else { panic!("{problem:?}") };
            assert_eq!((problem.code.as_str(), problem.status, &mistake.pointer), (*code, 422, pointer), "{body}");
        }
    }
    assert_eq!(world.parked().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_may_come_as_zstd() {
    let world = World::new();
    world.upload("acme", MODULE).await;
    let letter = compressed(world.letter("acme", &numbers(7)));
    assert_eq!(one::<Accepted>(&world.send(&letter).await).items, 7);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_sent_rightly_is_parked_unanswered() {
    let world = World::new();
    let mut forged = world.letter("acme", &GetJobStatus { job: nobodys() });
    forged.properties.user_id = Some("other".to_owned());
    world.post(&forged).await;
    while world.broker.depth(&Origin::Submit.queue()).await.unwrap().unwrap().ready == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(world.store.messages_written().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_store() {
    let world = World::new();
    let (_, job) = world.submit("acme", &numbers(5)).await;
    let mut left = 3;
    let plan = move |_operation: &'static str| {
        left -= 1;
        if left >= 0 { testkit::memory_store::StoreFault::FailBefore } else { testkit::memory_store::StoreFault::None }
    };
    world.store.set_fault(Some(Box::new(plan)));
    let status: JobStatus = world.ask("acme", &GetJobStatus { job }).await;
    assert_eq!(status.job, job);
    assert!(world.store.blob_size(Digest::of(MODULE)).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn every_mistake_of_a_job_is_named_at_once() {
    let world = World::new();
    let wrong = JobSpec { quorum: 0, priority: 101, deadline_s: Some(0), ..numbers(1) };
    let mut letter = world.letter("acme", &wrong);
    letter.properties.message_id = String::new();
    let problem = problem(&world.send(&letter).await);
    let pointers: Vec<&str> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["", "/quorum", "/priority", "/deadline_s"]);
}
