//! Redelivery: a message that was handled and is delivered again does not undo what was asked since.

use ports::store::{BlobRelease, MAX_PART_MESSAGES, NewJob, PartPut, ResultsRelease, Sender, UploadRoom};
use protocol::blob::{PART_BYTES, PutBlob};
use protocol::job::{ItemCounts, JobState};
use protocol::{CustomerName, Digest, JobId, Micros};

use super::blobs::{data, size};
use super::requests::{customer, end};
use super::uploads::part;
use super::world::{NOW, World};

/// A time before all, and one after all: when a message was handled is told by the store's own clock.
const BEFORE: Micros = Micros(0);
const AFTER: Micros = Micros(i64::MAX);
/// The bytes of a whole part.
const FULL: u64 = 1 << 20;

/// A part is there, and so many bytes of its blob, which is not whole.
fn begun(received: u64) -> PartPut {
    PartPut::Stored { received, whole: false }
}

/// A part is there, and with it all of its blob.
fn whole(received: u64) -> PartPut {
    PartPut::Stored { received, whole: true }
}

impl World {
    /// Lets a job rest or go on by a message; the state it is in.
    async fn rest(&self, job: JobId, paused: bool, message: &str) -> Option<JobState> {
        self.store.pause_job(&self.customer, job, paused, Some(message)).await.unwrap()
    }

    async fn rests(&self, job: JobId) -> bool {
        self.store.job(job).await.unwrap().unwrap().paused
    }

    /// Sends a blob of one part, in no message.
    async fn send_blob(&self, owner: &CustomerName, bytes: &[u8]) -> Digest {
        let part = part(Digest::of(bytes), bytes, 0);
        let put = self.store.put_own_part(Sender::of(owner), &part, UploadRoom::of_bytes(FULL), NOW).await.unwrap();
        assert_eq!(put, whole(part.size));
        part.digest
    }

    async fn put_by(&self, customer: &CustomerName, part: &PutBlob, message: &str) -> PartPut {
        let sender = Sender { customer, message: Some(message) };
        self.store.put_own_part(sender, part, UploadRoom::of_bytes(1 << 30), NOW).await.unwrap()
    }

    /// Sends a part of those bytes in a message.
    async fn send_by(&self, bytes: &[u8], number: usize, message: &str) -> PartPut {
        self.put_by(&self.customer, &part(Digest::of(bytes), bytes, number), message).await
    }

    /// That the customer has no blob, whole or begun.
    async fn expect_nothing(&self) {
        assert_eq!(self.store.own_blobs(&self.customer, None, 10).await.unwrap(), []);
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

/// A blob that was deleted stays away, though a message that sent it comes again; a new message sends it anew.
pub async fn a_part_that_comes_again_after_a_deletion_brings_nothing_back(world: World) {
    let (bytes, digest) = (b"bytes", Digest::of(b"bytes"));
    // The second finds the blob there, and has had its effect, too.
    for message in ["one", "one", "two", "two"] {
        assert_eq!(world.send_by(bytes, 0, message).await, whole(5));
    }
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::Released { bytes: 5 });
    for message in ["one", "two", "one"] {
        assert_eq!(world.send_by(bytes, 0, message).await, PartPut::Handled, "{message}");
    }
    world.expect_nothing().await;
    // Another customer's is another message, and so is one that sent something else.
    assert_eq!(world.put_by(&customer("other"), &part(digest, bytes, 0), "one").await, whole(5));
    assert_eq!(world.send_by(b"other bytes", 0, "one").await, whole(11));
    assert_eq!(world.send_by(bytes, 0, "three").await, whole(5));
    assert!(world.has(digest).await);
    assert_eq!(world.send_by(bytes, 0, "one").await, whole(5), "it is there");
}

/// Nor do those of several parts, whichever comes again.
pub async fn nor_do_the_parts_of_a_longer_blob(world: World) {
    let bytes = data(2 * PART_BYTES + 5);
    let (digest, released, all) = (Digest::of(&bytes), BlobRelease::Released { bytes: size(&bytes) }, whole(size(&bytes)));
    let first = begun(FULL + 5);
    let sent = [(2, "last", begun(5)), (0, "first", first), (0, "again", first), (1, "middle", all), (1, "late", all)];
    for (number, message, put) in sent {
        assert_eq!(world.send_by(&bytes, number, message).await, put, "{message}");
    }
    assert_eq!(world.give_up(digest, "one").await, released);
    for (number, message, _) in sent {
        assert_eq!(world.send_by(&bytes, number, message).await, PartPut::Handled, "{message}");
    }
    world.expect_nothing().await;
    // One id may do for all parts.
    for (number, put) in [begun(FULL), begun(2 * FULL), all].into_iter().enumerate() {
        assert_eq!(world.send_by(&bytes, number, "all").await, put);
    }
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == bytes);
    assert_eq!(world.give_up(digest, "two").await, released);
    for number in 0..3 {
        assert_eq!(world.send_by(&bytes, number, "all").await, PartPut::Handled);
    }
}

/// Nor do those of an upload that was given up before it was whole. A part that it did not have is sent for the first time.
pub async fn nor_do_those_of_an_upload_given_up_half_way(world: World) {
    let bytes = data(2 * PART_BYTES);
    for message in ["one", "two", "one"] {
        assert_eq!(world.send_by(&bytes, 0, message).await, begun(FULL));
    }
    assert_eq!(world.give_up(Digest::of(&bytes), "one").await, BlobRelease::Released { bytes: 2 * FULL });
    for message in ["one", "two"] {
        assert_eq!(world.send_by(&bytes, 0, message).await, PartPut::Handled);
    }
    world.expect_nothing().await;
    assert_eq!(world.send_by(&bytes, 1, "one").await, begun(FULL));
    assert_eq!(world.send_by(&bytes, 0, "two").await, PartPut::Handled, "though an upload is under way");
    assert_eq!(world.send_by(&bytes, 0, "three").await, whole(2 * FULL));
}

/// Messages are known as long as the blob is there that they sent, however long ago, and are handled when it is deleted.
pub async fn a_message_is_known_as_long_as_its_blob_is_there(world: World) {
    let bytes = data(PART_BYTES + 1);
    let digest = Digest::of(&bytes);
    let forget = async || world.store.forget_handled(AFTER, 100).await.unwrap();
    assert_eq!(world.send_by(&bytes, 0, "first").await, begun(FULL));
    assert_eq!(world.send_by(&bytes, 1, "last").await, whole(FULL + 1));
    // These find the part there; one more than are known.
    for n in 0..MAX_PART_MESSAGES {
        assert_eq!(world.send_by(&bytes, 0, &format!("again {n}")).await, whole(FULL + 1));
    }
    assert_eq!(forget().await, 1, "those of which it keeps enough are handled at once");
    assert_eq!(world.send_by(&bytes, 0, "further").await, whole(FULL + 1));
    world.give_up(digest, "one").await;
    for (number, message) in [(0, "first"), (1, "last"), (0, "again 0"), (0, "further")] {
        assert_eq!(world.send_by(&bytes, number, message).await, PartPut::Handled, "{message}");
    }
    world.expect_nothing().await;
    assert_eq!(world.send_by(&bytes, 0, &format!("again {}", MAX_PART_MESSAGES - 1)).await, begun(FULL));
    // Eight of the first part and a further one, one of the second, and the deletion.
    assert_eq!(forget().await, 11);
}

/// Parts of another size are other acts of their messages: what replaced an upload is not replaced by what comes again of that.
pub async fn parts_of_another_size_are_sent_once_as_well(world: World) {
    let bytes = data(PART_BYTES + 1);
    let right = part(Digest::of(&bytes), &bytes, 0);
    let longer = PutBlob { size: 3 * FULL, ..right.clone() };
    let put = async |part: &PutBlob, message: &str| world.put_by(&world.customer, part, message).await;
    assert_eq!((put(&longer, "one").await, put(&longer, "two").await), (begun(FULL), begun(FULL)));
    assert_eq!(put(&right, "one").await, begun(FULL));
    for message in ["one", "two"] {
        assert_eq!(put(&longer, message).await, PartPut::Handled, "{message}");
    }
    let blobs = world.store.own_blobs(&world.customer, None, 10).await.unwrap();
    assert_eq!((blobs.len(), blobs[0].size, blobs[0].received), (1, right.size, FULL));
    // A new message may replace it, and then what was right has come before.
    assert_eq!((put(&longer, "three").await, put(&right, "one").await), (begun(FULL), PartPut::Handled));
    assert_eq!((put(&right, "four").await, world.send_by(&bytes, 1, "one").await), (begun(FULL), whole(FULL + 1)));
    assert_eq!(put(&longer, "three").await, PartPut::Mismatch, "a whole blob has its size");
    world.give_up(right.digest, "one").await;
    assert_eq!((put(&right, "four").await, put(&longer, "three").await), (PartPut::Handled, PartPut::Handled));
    world.expect_nothing().await;
}

/// Parts that are not of their digest or that were left are dropped as if they had never come.
pub async fn dropped_parts_may_be_sent_again_by_the_same_messages(world: World) {
    let bytes = data(PART_BYTES + 1);
    let right = part(Digest::of(&bytes), &bytes, 0);
    let wrong = PutBlob { data: vec![1; PART_BYTES], ..right.clone() };
    let put = async |part: &PutBlob, message: &str| world.put_by(&world.customer, part, message).await;
    for message in ["one", "two"] {
        assert_eq!(put(&wrong, message).await, begun(FULL));
    }
    assert_eq!(world.send_by(&bytes, 1, "three").await, PartPut::Mismatch);
    world.expect_nothing().await;
    assert_eq!((put(&right, "one").await, put(&right, "two").await), (begun(FULL), begun(FULL)));
    assert_eq!(world.store.forget_uploads(AFTER, 10).await.unwrap(), 1);
    assert_eq!((put(&right, "two").await, world.send_by(&bytes, 1, "three").await), (begun(FULL), whole(FULL + 1)));
    // These have had their effect, but not the one whose part was dropped.
    world.give_up(right.digest, "one").await;
    assert_eq!((put(&right, "two").await, world.send_by(&bytes, 1, "three").await), (PartPut::Handled, PartPut::Handled));
    assert_eq!(put(&right, "one").await, begun(FULL));
}

/// Who sends a part under ever new ids while its upload is under way has the first of them known.
pub async fn each_part_knows_its_first_messages(world: World) {
    let bytes = data(PART_BYTES + 1);
    for n in 0..=MAX_PART_MESSAGES {
        assert_eq!(world.send_by(&bytes, 0, &format!("message {n}")).await, begun(FULL));
    }
    world.give_up(Digest::of(&bytes), "one").await;
    for n in 0..MAX_PART_MESSAGES {
        assert_eq!(world.send_by(&bytes, 0, &format!("message {n}")).await, PartPut::Handled);
    }
    assert_eq!(world.send_by(&bytes, 0, &format!("message {MAX_PART_MESSAGES}")).await, begun(FULL));
}

/// A customer that is removed has given up all its blobs, whole or begun.
pub async fn a_removed_customers_messages_bring_nothing_back(world: World) {
    let (short, long) = (data(7), data(PART_BYTES + 1));
    assert_eq!((world.send_by(&short, 0, "one").await, world.send_by(&long, 0, "two").await), (whole(7), begun(FULL)));
    assert!(world.store.remove_customer(&world.customer).await.unwrap());
    let again = (world.send_by(&short, 0, "one").await, world.send_by(&long, 0, "two").await);
    assert_eq!(again, (PartPut::Handled, PartPut::Handled));
    world.expect_nothing().await;
}

/// What no customer's message sends is sent as often as it is said.
pub async fn what_no_message_sends_is_sent_each_time(world: World) {
    let digest = world.send_blob(&world.customer, b"bytes").await;
    for message in ["one", "two"] {
        assert_eq!(world.give_up(digest, message).await, BlobRelease::Released { bytes: 5 });
        assert_eq!(world.send_blob(&world.customer, b"bytes").await, digest);
        assert!(world.has(digest).await);
    }
}

/// A deletion of what was not there has been answered: it deletes nothing that was sent since. The customer asks again.
pub async fn a_deletion_of_nothing_stays_refused(world: World) {
    let digest = Digest::of(b"bytes");
    let others = async |message| world.store.release_blob(&customer("other"), digest, Some(message)).await.unwrap();
    assert_eq!((world.give_up(digest, "one").await, others("two").await), (BlobRelease::Unknown, BlobRelease::Unknown));
    world.send_blob(&world.customer, b"bytes").await;
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::Unknown);
    assert!(world.has(digest).await);
    assert_eq!(world.give_up(digest, "two").await, BlobRelease::Released { bytes: 5 }, "another customer's is another message");
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::Unknown);
    // It is forgotten like what had an effect: these are two refusals and a deletion.
    assert_eq!(world.store.forget_handled(AFTER, 10).await.unwrap(), 3);
    world.send_blob(&world.customer, b"bytes").await;
    assert_eq!(world.give_up(digest, "one").await, BlobRelease::Released { bytes: 5 });
}

/// A release of results that came while the job ran does not drop them when it comes again after the end.
pub async fn a_release_before_the_end_stays_refused(world: World) {
    let (job, other) = (world.admit(10).await, world.admit(10).await);
    let release = async |job, message| world.store.release_results(&world.customer, job, message, NOW).await.unwrap();
    for message in [Some("one"), Some("one"), None] {
        assert_eq!(release(job, message).await, ResultsRelease::Running);
    }
    let theirs = world.store.release_results(&customer("other"), job, Some("two"), NOW).await.unwrap();
    assert_eq!(theirs, ResultsRelease::Unknown);
    for job in [job, other] {
        world.end(job, ItemCounts::default()).await;
    }
    assert_eq!(release(job, Some("one")).await, ResultsRelease::Running);
    assert_eq!(world.store.job(job).await.unwrap().unwrap().results_gone_at, None);
    assert_eq!(release(other, Some("one")).await, ResultsRelease::Done, "of another job it says so for the first time");
    assert_eq!((release(job, Some("two")).await, release(job, Some("two")).await), (ResultsRelease::Done, ResultsRelease::Done));
    assert_eq!(world.store.job(job).await.unwrap().unwrap().results_gone_at, Some(NOW));
    assert_eq!((release(job, Some("one")).await, release(job, None).await), (ResultsRelease::Running, ResultsRelease::Done));
}

/// A deletion of what a job needs is not kept: sent again, it is judged as it is then. After one of nothing it has a new id.
pub async fn what_had_no_effect_may_have_one_later(world: World) {
    let digest = Digest::of(b"bytes");
    assert_eq!(world.give_up(digest, "zero").await, BlobRelease::Unknown);
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
    assert_eq!(forget(AFTER, 10).await, 1);
    assert_eq!(world.send_by(b"bytes", 0, "one").await, whole(5));
    world.give_up(Digest::of(b"bytes"), "one").await;
    assert_eq!((forget(BEFORE, 10).await, world.send_by(b"bytes", 0, "one").await), (0, PartPut::Handled));
    assert_eq!((forget(AFTER, 10).await, world.send_by(b"bytes", 0, "one").await), (2, whole(5)));
}
