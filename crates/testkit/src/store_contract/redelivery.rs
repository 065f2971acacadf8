//! Redelivery: a message that was handled and is delivered again does not undo what was asked since.

use ports::store::{BlobRelease, NewJob, PartPut, UploadRoom};
use protocol::blob::PutBlob;
use protocol::job::{ItemCounts, JobState};
use protocol::{CustomerName, Digest, JobId, Micros};

use super::requests::{customer, end};
use super::world::{NOW, World};

/// A time before all, and one after all: when a message was handled is told by the store's own clock.
const BEFORE: Micros = Micros(0);
const AFTER: Micros = Micros(i64::MAX);

impl World {
    /// Lets a job rest or go on by a message; the state it is in.
    async fn rest(&self, job: JobId, paused: bool, message: &str) -> Option<JobState> {
        self.store.pause_job(&self.customer, job, paused, Some(message)).await.unwrap()
    }

    async fn rests(&self, job: JobId) -> bool {
        self.store.job(job).await.unwrap().unwrap().paused
    }

    /// Sends a blob of one part.
    async fn send_blob(&self, owner: &CustomerName, bytes: &[u8]) -> Digest {
        let (digest, size) = (Digest::of(bytes), u64::try_from(bytes.len()).unwrap());
        let part = PutBlob { digest, size, offset: 0, data: bytes.to_vec() };
        let put = self.store.put_own_part(owner, &part, UploadRoom::of_bytes(1 << 20), NOW).await.unwrap();
        assert_eq!(put, PartPut::Stored { received: size, whole: true });
        digest
    }

    async fn give_up(&self, digest: Digest, message: &str) -> BlobRelease {
        self.store.release_blob(&self.customer, digest, Some(message)).await.unwrap()
    }

    async fn has(&self, digest: Digest) -> bool {
        self.store.own_blob_size(&self.customer, digest).await.unwrap().is_some()
    }
}

/// A job that was resumed goes on, though the message that paused it comes again; and the other way round.
pub async fn a_pause_that_comes_again_does_not_undo_a_resume(world: World) {
    let job = world.admit(10).await;
    let running = Some(JobState::Running);
    assert_eq!((world.rest(job, true, "one").await, world.rests(job).await), (running, true));
    assert_eq!((world.rest(job, true, "one").await, world.rests(job).await), (running, true));
    assert_eq!((world.rest(job, false, "two").await, world.rests(job).await), (running, false));
    assert_eq!((world.rest(job, true, "one").await, world.rests(job).await), (running, false));
    assert_eq!((world.rest(job, true, "three").await, world.rests(job).await), (running, true));
    assert_eq!((world.rest(job, false, "two").await, world.rests(job).await), (running, true));
    // One that changes nothing when it is handled has had its effect, too.
    assert_eq!((world.rest(job, true, "four").await, world.rests(job).await), (running, true));
    assert_eq!((world.rest(job, false, "five").await, world.rests(job).await), (running, false));
    assert_eq!((world.rest(job, true, "four").await, world.rests(job).await), (running, false));
    world.assemble(job, 10, end(JobState::Cancelled)).await;
    assert_eq!(world.rest(job, true, "one").await, Some(JobState::Cancelled));
}

/// A blob that was deleted and sent anew stays, though the message that deleted it comes again; that is answered alike.
pub async fn a_deletion_that_comes_again_leaves_what_was_sent_anew(world: World) {
    let digest = world.send_blob(&world.customer, b"bytes").await;
    let released = BlobRelease::Released { bytes: 5 };
    assert_eq!(world.give_up(digest, "one").await, released);
    assert!(!world.has(digest).await);
    assert_eq!(world.give_up(digest, "one").await, released, "as the first time, though nothing is left");
    world.send_blob(&world.customer, b"bytes").await;
    assert_eq!(world.give_up(digest, "one").await, released);
    assert!(world.has(digest).await);
    assert_eq!(world.give_up(digest, "two").await, released);
    assert!(!world.has(digest).await);
    assert_eq!(world.give_up(digest, "three").await, BlobRelease::Unknown);
}

/// Two customers may use one id, and one customer may use it for two things.
pub async fn a_message_is_known_by_its_customer_and_what_it_does(world: World) {
    let (job, other) = (world.admit(10).await, world.admit(10).await);
    assert_eq!(world.rest(job, true, "one").await, Some(JobState::Running));
    assert_eq!(world.rest(other, true, "one").await, Some(JobState::Running));
    assert_eq!(world.rest(job, false, "one").await, Some(JobState::Running));
    assert_eq!((world.rests(job).await, world.rests(other).await), (false, true));
    let theirs = world.admit_job(NewJob { customer: customer("other"), ..world.job(10) }).await;
    world.store.pause_job(&customer("other"), theirs, true, Some("one")).await.unwrap();
    assert!(world.rests(theirs).await);
    let (first, second) = (world.send_blob(&world.customer, b"1").await, world.send_blob(&world.customer, b"22").await);
    world.send_blob(&customer("other"), b"1").await;
    assert_eq!(world.give_up(first, "one").await, BlobRelease::Released { bytes: 1 });
    assert_eq!(world.give_up(second, "one").await, BlobRelease::Released { bytes: 2 });
    let others = world.store.release_blob(&customer("other"), first, Some("one")).await.unwrap();
    assert_eq!(others, BlobRelease::Released { bytes: 1 });
    assert_eq!(world.store.own_blob_size(&customer("other"), first).await.unwrap(), None);
}

/// A part has no key: clients name parts by their digest and offset, and send a blob again that was deleted.
pub async fn a_part_that_comes_again_after_a_deletion_is_sent_anew(world: World) {
    let digest = world.send_blob(&world.customer, b"bytes").await;
    for message in ["one", "two"] {
        assert_eq!(world.give_up(digest, message).await, BlobRelease::Released { bytes: 5 });
        assert_eq!(world.send_blob(&world.customer, b"bytes").await, digest);
        assert!(world.has(digest).await);
    }
}

/// What was refused is not kept: sent again, it is judged as it is then.
pub async fn what_had_no_effect_may_have_one_later(world: World) {
    let digest = Digest::of(b"bytes");
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::Unknown);
    world.send_blob(&world.customer, b"bytes").await;
    let mut job = world.job(1);
    job.spec.shared = Some(digest);
    let job = world.admit_job(job).await;
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::InUse { job });
    world.end(job, ItemCounts::default()).await;
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::Released { bytes: 5 });
}

/// Messages that were handled are kept for a while, and then forgotten, some at a time.
pub async fn handled_messages_are_forgotten(world: World) {
    let forget = async |before, limit| world.store.forget_handled(before, limit).await.unwrap();
    assert_eq!(forget(AFTER, 10).await, 0);
    let job = world.admit(10).await;
    for message in ["one", "two", "three"] {
        world.rest(job, true, message).await;
        world.rest(job, true, message).await;
    }
    world.store.pause_job(&world.customer, job, false, None).await.unwrap();
    assert_eq!(forget(BEFORE, 10).await, 0);
    world.rest(job, true, "one").await;
    assert!(!world.rests(job).await, "it is not forgotten");
    assert_eq!((forget(AFTER, 2).await, forget(AFTER, 2).await, forget(AFTER, 2).await), (2, 1, 0));
    world.rest(job, true, "one").await;
    assert!(world.rests(job).await, "nobody knows it any more");
}
