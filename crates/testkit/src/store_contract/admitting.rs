//! Admission: a submission becomes a job once, whatever arrives twice.

use ports::store::{Admission, AppRecord, AppVerdict, BlobRelease, NewJob, PartPut, Sender, UploadRoom};
use protocol::blob::PutBlob;
use protocol::head::JobHead;
use protocol::job::{EntryKind, ItemCounts, JobState};
use protocol::{CustomerName, Digest, JobId};
use uuid::Uuid;

use super::world::{NOW, World, at, meter};

/// The same submission under another id, as a producer makes it that does not know the first.
fn again(job: &NewJob) -> NewJob {
    NewJob { id: JobId(Uuid::now_v7()), ..job.clone() }
}

/// A second arrival is known, and the reply is written with the first only.
pub async fn admits_once(world: World) {
    let job = world.job(10);
    let id = world.admit_job(job.clone()).await;
    let known = Admission::Known { job: id, items: 10 };
    assert_eq!(world.store.admit(again(&job), world.message("second")).await.unwrap(), known);
    assert_eq!(world.store.admit(job.clone(), world.message("third")).await.unwrap(), known);
    let ids: Vec<_> = world.claim_messages(NOW, 10).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [format!("accepted {id}")]);
    let report = world.store.job(id).await.unwrap().unwrap();
    assert_eq!((report.state, report.items.submitted, report.spec), (JobState::Running, 10, JobHead::from(&job.spec)));
    assert_eq!(world.store.submitted(id).await.unwrap().as_ref(), Some(&job.spec));
    assert_eq!(world.store.submitted(JobId(Uuid::nil())).await.unwrap(), None);
    assert_eq!(world.store.job_of_submission(&world.customer, &job.submission).await.unwrap(), Some(id));
    assert_eq!(world.store.job_of_submission(&world.customer, "other").await.unwrap(), None);
    let admitted = async |submission: &str, digest| world.store.admitted(&world.customer, submission, digest).await.unwrap();
    assert_eq!(admitted(&job.submission, job.submission_digest).await, Some(known));
    assert_eq!(admitted(&job.submission, Digest::of(b"other")).await, Some(Admission::Conflict { job: id }));
    assert_eq!(admitted("other", job.submission_digest).await, None);
}

/// A job is admitted only with blobs that its customer may use at that moment; a known one is known all the same.
pub async fn a_job_whose_blob_is_gone_is_not_admitted(world: World) {
    world.keep_app().await;
    let bytes = b"shared";
    let shared = Digest::of(bytes);
    let part = PutBlob { digest: shared, size: 6, offset: 0, data: bytes.to_vec() };
    let put = async |customer: &CustomerName| {
        let put = world.store.put_own_part(Sender::of(customer), &part, UploadRoom::of_bytes(100), NOW).await.unwrap();
        assert_eq!(put, PartPut::Stored { received: 6, whole: true });
    };
    let mut job = world.job(10);
    job.spec.shared = Some(shared);
    let gone = Admission::NoBlob { digest: shared };
    assert_eq!(world.store.admit(job.clone(), world.message("none")).await.unwrap(), gone);
    put(&CustomerName::new("other").unwrap()).await;
    assert_eq!(world.store.admit(job.clone(), world.message("another's")).await.unwrap(), gone);
    assert!(world.store.jobs(None, 10).await.unwrap().is_empty() && world.claim_messages(NOW, 10).await.is_empty());
    put(&world.customer).await;
    let id = world.admit_job(job.clone()).await;
    assert_eq!(world.store.release_blob(&world.customer, shared, None).await.unwrap(), BlobRelease::InUse { job: id });
    world.end(id, ItemCounts::default()).await;
    assert!(matches!(world.store.release_blob(&world.customer, shared, None).await.unwrap(), BlobRelease::Released { .. }));
    let known = Admission::Known { job: id, items: 10 };
    assert_eq!(world.store.admit(again(&job), world.message("again")).await.unwrap(), known);
}

/// Of a job that is submitted while its blob is given up, either the job is refused or the blob stays.
pub async fn a_blob_is_not_given_up_under_a_job_being_admitted(world: World) {
    world.keep_app().await;
    for round in 0..20_u8 {
        let bytes = vec![round; 3];
        let digest = Digest::of(&bytes);
        let part = PutBlob { digest, size: 3, offset: 0, data: bytes };
        world.store.put_own_part(Sender::of(&world.customer), &part, UploadRoom::of_bytes(100), NOW).await.unwrap();
        let mut job = world.job(10);
        job.spec.shared = Some(digest);
        let (id, reply) = (job.id, world.message(&format!("accepted {}", job.id)));
        let (admitted, released) =
            tokio::join!(world.store.admit(job, reply), world.store.release_blob(&world.customer, digest, None));
        let there = world.store.own_blob_size(&world.customer, digest).await.unwrap();
        match (admitted.unwrap(), released.unwrap()) {
            (Admission::New, BlobRelease::InUse { job }) => assert_eq!((job, there), (id, Some(3))),
            (Admission::NoBlob { digest: named }, BlobRelease::Released { bytes: 3 }) => {
                assert_eq!((named, there), (digest, None));
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
}

/// The same `message_id` with another body is refused; another customer may use it.
pub async fn a_changed_submission_conflicts(world: World) {
    let job = world.job(10);
    let id = world.admit_job(job.clone()).await;
    let changed = NewJob { submission_digest: Digest::of(b"other"), ..again(&job) };
    let answer = world.store.admit(changed, world.message("reply")).await.unwrap();
    assert_eq!(answer, Admission::Conflict { job: id });
    let other = NewJob { customer: CustomerName::new("other").unwrap(), ..again(&job) };
    assert_eq!(world.store.admit(other, world.message("reply")).await.unwrap(), Admission::New);
}

/// Two producers that get the same submission at the same time make one job.
pub async fn two_producers_admit_one_job(world: World) {
    world.keep_app().await;
    for round in 0..10 {
        let (job, second) = (world.job(5), again(&world.job(5)));
        let second = NewJob { submission: job.submission.clone(), submission_digest: job.submission_digest, ..second };
        let (one, two) = (world.message(&format!("one {round}")), world.message(&format!("two {round}")));
        let (a, b) = tokio::join!(world.store.admit(job, one), world.store.admit(second, two));
        let new = [a.unwrap(), b.unwrap()].iter().filter(|answer| **answer == Admission::New).count();
        assert_eq!(new, 1);
    }
    assert_eq!(world.store.jobs(None, 100).await.unwrap().len(), 10);
    assert_eq!(world.claim_messages(NOW, 100).await.len(), 10);
}

/// The publisher's first verdict on an app stays, for each generation of the compiler.
pub async fn apps_are_recorded_once(world: World) {
    let (app, bad) = (Digest::of(b"app"), Digest::of(b"bad"));
    assert_eq!(world.store.app(app, "g1").await.unwrap(), None);
    let accepted = |artefact: &[u8]| AppRecord {
        app,
        verdict: AppVerdict::Accepted {
            artefact: Digest::of(artefact),
            entry: EntryKind::Command,
            meter: meter(),
            reduces: true,
            manifest: Some("{}".to_owned()),
        },
    };
    let rejected =
        AppRecord { app: bad, verdict: AppVerdict::Rejected { reasons: vec!["no memory".to_owned(), "é".to_owned()] } };
    for artefact in [b"one", b"two"] {
        world.store.record_app(accepted(artefact), "g1").await.unwrap();
        world.store.record_app(rejected.clone(), "g1").await.unwrap();
    }
    assert_eq!(world.store.app(app, "g1").await.unwrap(), Some(accepted(b"one")));
    assert_eq!(world.store.app(bad, "g1").await.unwrap(), Some(rejected));
    assert_eq!(world.store.app(app, "g2").await.unwrap(), None);
}

/// Only its customer cancels a job, and only while it runs.
pub async fn cancel_is_for_the_customers_running_jobs(world: World) {
    let job = world.admit(3).await;
    let stranger = CustomerName::new("stranger").unwrap();
    assert!(!world.store.request_cancel(&stranger, job).await.unwrap());
    assert!(!world.store.request_cancel(&world.customer, JobId(Uuid::now_v7())).await.unwrap());
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), []);
    for _twice in 0..2 {
        assert!(world.store.request_cancel(&world.customer, job).await.unwrap());
    }
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
    assert!(world.claim("producer", NOW).await.is_empty());
    world.end(job, ItemCounts { submitted: 3, cancelled: 3, ..Default::default() }).await;
    assert!(!world.store.request_cancel(&world.customer, job).await.unwrap());
}

/// A job without items has nothing to dispatch and is found by assembling.
pub async fn an_empty_job_is_assembled(world: World) {
    let job = world.admit(0).await;
    assert!(world.claim("producer", NOW).await.is_empty());
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
    world.end(job, ItemCounts::default()).await;
    assert_eq!(world.store.jobs_to_assemble(at(1), 10).await.unwrap(), []);
}

/// A reply needs no job.
pub async fn replies_alone(world: World) {
    for _twice in 0..2 {
        world.store.reply_all(vec![world.message("rejected")]).await.unwrap();
    }
    let claimed = world.store.claim_outbox(NOW, at(1), 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].message, world.message("rejected"));
}
