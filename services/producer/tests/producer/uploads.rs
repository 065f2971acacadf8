//! Uploads: parts, lists, and blobs given up.

use std::time::Duration;

use ports::store::{Sender, UploadRoom, UploadStore};
use protocol::blob::{BlobDeleted, BlobStored, BlobsListed, DeleteBlob, ListBlobs, PART_BYTES, PutBlob};
use protocol::customer::CustomerLimits;
use protocol::job::JobSpec;
use protocol::{Digest, Micros};
use tokio::time::sleep;

use crate::world::{MODULE, World, customer, numbers, one, problem};

fn list() -> ListBlobs {
    ListBlobs { after: None, limit: 100 }
}

#[tokio::test(start_paused = true)]
async fn a_blob_comes_in_parts_and_says_what_is_missing() {
    let world = World::new();
    let bytes = vec![7; PART_BYTES + 5];
    let (digest, size) = (Digest::of(&bytes), u64::try_from(bytes.len()).unwrap());
    let most = u64::try_from(PART_BYTES).unwrap();
    let last = PutBlob { digest, size, offset: most, data: bytes[PART_BYTES..].to_vec() };
    let stored: BlobStored = world.ask("acme", &last).await;
    assert_eq!(stored, BlobStored { digest, size, received: 5, whole: false });
    let listed: BlobsListed = world.ask("acme", &list()).await;
    let [blob] = &listed.blobs[..] else { panic!("{listed:?}") };
    assert_eq!((&blob.missing[..], blob.whole, listed.more), (&[(0, most)][..], false, false));
    assert_eq!((listed.stored_bytes, listed.limit_bytes), (size, CustomerLimits::default().stored_bytes));
    let first = PutBlob { digest, size, offset: 0, data: bytes[..PART_BYTES].to_vec() };
    let stored: BlobStored = world.ask("acme", &first).await;
    assert!(stored.whole && stored.received == size);
    let nobody: BlobsListed = world.ask("other", &list()).await;
    assert!(nobody.blobs.is_empty() && nobody.stored_bytes == 0);
    let deleted: BlobDeleted = world.ask("acme", &DeleteBlob { digest }).await;
    assert_eq!(deleted, BlobDeleted { digest, freed_bytes: size });
    assert!(!world.has_blob(digest).await);
}

#[tokio::test(start_paused = true)]
async fn a_part_without_correlation_has_an_effect_and_no_answer() {
    let world = World::new();
    let digest = world.upload("acme", b"bytes").await;
    assert!(world.has_blob(digest).await);
    assert_eq!(world.count("blob-put", "answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn lists_come_in_pages() {
    let world = World::new();
    for number in 0..5_u8 {
        world.upload("acme", &[number]).await;
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page: BlobsListed = world.ask("acme", &ListBlobs { after, limit: 2 }).await;
        seen.extend(page.blobs.iter().map(|blob| blob.digest));
        after = seen.last().copied();
        if !page.more {
            break;
        }
    }
    assert!(seen.len() == 5 && seen.is_sorted());
    for limit in [0, 1_001] {
        assert_eq!(world.refused("acme", &ListBlobs { after: None, limit }).await.code, "invalid-request");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_parts_are_refused() {
    let world = World::new();
    let lie = PutBlob { digest: Digest::of(b"other"), size: 5, offset: 0, data: b"bytes".to_vec() };
    assert_eq!(world.refused("acme", &lie).await.code, "blob-mismatch");
    world.limit("acme", 1, CustomerLimits { stored_bytes: 10, ..CustomerLimits::default() }).await;
    world.upload("acme", &[1; 10]).await;
    let more = PutBlob { digest: Digest::of(b"x"), size: 1, offset: 0, data: b"x".to_vec() };
    let full = world.refused("acme", &more).await;
    assert_eq!((full.code.as_str(), full.status, full.limit, full.retryable), ("storage-full", 507, Some(10), true));
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_a_job_needs_stays_and_others_blobs_are_not_told_of() {
    let world = World::new();
    let shared = world.upload("acme", b"shared").await;
    let spec = JobSpec { shared: Some(shared), ..numbers(10) };
    world.submit("acme", &spec).await;
    assert_eq!(world.refused("acme", &DeleteBlob { digest: shared }).await.code, "blob-in-use");
    assert_eq!(world.refused("other", &DeleteBlob { digest: shared }).await.code, "no-such-blob");
    assert_eq!(world.refused("acme", &DeleteBlob { digest: Digest::of(b"none") }).await.code, "no-such-blob");
    // Nor may another customer's job use it.
    world.upload("other", MODULE).await;
    let problem = world.refused("other", &spec).await;
    assert_eq!((problem.code.as_str(), problem.errors[0].pointer.as_str()), ("invalid-job", "/shared"));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_comes_again_changes_nothing() {
    let world = World::new();
    let part = PutBlob { digest: Digest::of(b"bytes"), size: 5, offset: 0, data: b"bytes".to_vec() };
    let letter = world.letter("acme", &part);
    let (first, again) = (world.send(&letter).await, world.send(&letter).await);
    assert!(one::<BlobStored>(&first).whole);
    // Its answer is the same message: while the first waits, a second is not written.
    assert_eq!(again, []);
    let listed: BlobsListed = world.ask("acme", &list()).await;
    assert_eq!(listed.stored_bytes, 5);
    let deleted: BlobDeleted = world.ask("acme", &DeleteBlob { digest: part.digest }).await;
    assert_eq!(deleted.freed_bytes, 5);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_delivered_again_leaves_what_was_sent_anew() {
    let world = World::new();
    let digest = world.upload("acme", b"bytes").await;
    let delete = world.letter("acme", &DeleteBlob { digest });
    let first = world.send(&delete).await;
    world.relay().await;
    world.upload("acme", b"bytes").await;
    let again = world.send(&delete).await;
    let deleted = BlobDeleted { digest, freed_bytes: 5 };
    assert_eq!((one::<BlobDeleted>(&first), one::<BlobDeleted>(&again)), (deleted.clone(), deleted));
    assert_eq!(first[0].id, again[0].id);
    assert!(world.has_blob(digest).await);
    world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest }).await;
    assert!(!world.has_blob(digest).await, "a new one has its effect");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_of_nothing_that_is_delivered_again_leaves_what_was_sent_since() {
    let world = World::new();
    let digest = Digest::of(b"bytes");
    let delete = world.letter("acme", &DeleteBlob { digest });
    assert_eq!(problem(&world.send(&delete).await).code, "no-such-blob");
    world.upload("acme", b"bytes").await;
    let again = problem(&world.send(&delete).await);
    assert!(again.code == "no-such-blob" && again.detail.contains("new message_id"), "{again:?}");
    assert!(world.has_blob(digest).await);
    world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest }).await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_delivered_again_after_a_deletion_is_refused() {
    let world = World::new();
    let (bytes, size) = (vec![7; PART_BYTES + 5], u64::try_from(PART_BYTES + 5).unwrap());
    let (first, last) = bytes.split_at(PART_BYTES);
    let put = |offset, data: &[u8]| PutBlob { digest: Digest::of(&bytes), size, offset, data: data.to_vec() };
    let (first, last) = (put(0, first), put(size - 5, last));
    let digest = first.digest;
    let letters = [world.letter("acme", &last), world.letter("acme", &first)];
    for letter in &letters {
        one::<BlobStored>(&world.send(letter).await);
    }
    world.ask::<_, BlobDeleted>("acme", &DeleteBlob { digest }).await;
    for (letter, offset) in letters.iter().zip([size - 5, 0]) {
        // Who wants no answer is told of a refusal all the same.
        let mut unanswered = letter.clone();
        unanswered.properties.correlation_id = None;
        for letter in [letter, &unanswered] {
            let refused = problem(&world.send(letter).await);
            assert_eq!((refused.code.as_str(), refused.status, refused.retryable), ("already-handled", 410, false));
            let told = refused.detail.contains(&format!("part at {offset} of blob {digest}"));
            assert!(told && refused.detail.contains("new message_id"), "{}", refused.detail);
        }
    }
    let listed: BlobsListed = world.ask("acme", &list()).await;
    assert!(listed.blobs.is_empty() && !world.has_blob(digest).await);
    world.ask::<_, BlobStored>("acme", &last).await;
    assert!(world.ask::<_, BlobStored>("acme", &first).await.whole, "new messages send it anew");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_left_a_week_ago_is_dropped() {
    let world = World::new();
    let days = |days: u64| Micros(world.now().0 - i64::try_from(Duration::from_hours(24 * days).as_micros()).unwrap());
    for (number, begun) in [(1, days(8)), (2, days(6))] {
        let bytes = vec![number; PART_BYTES + 1];
        let size = u64::try_from(bytes.len()).unwrap();
        let part = PutBlob { digest: Digest::of(&bytes), size, offset: 0, data: bytes[..PART_BYTES].to_vec() };
        world.store.put_own_part(Sender::of(&customer("acme")), &part, UploadRoom::of_bytes(1 << 30), begun).await.unwrap();
    }
    let whole = world.upload("acme", b"whole").await;
    sleep(Duration::from_mins(11)).await;
    let listed: BlobsListed = world.ask("acme", &list()).await;
    let left: Vec<Digest> = listed.blobs.iter().map(|blob| blob.digest).collect();
    assert!(left.len() == 2 && left.contains(&whole) && left.contains(&Digest::of(&vec![2; PART_BYTES + 1])));
    assert_eq!(listed.stored_bytes, u64::try_from(PART_BYTES).unwrap() + 1 + 5);
}
