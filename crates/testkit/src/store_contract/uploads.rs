//! Uploads: who may use a blob, and how long its bytes stay.

use ports::store::{AppRecord, AppVerdict, BlobRelease, NewJob, PartPut, Sender, UploadRoom};
use protocol::blob::{PART_BYTES, PutBlob};
use protocol::input::Input;
use protocol::job::{EntryKind, ItemCounts};
use protocol::{CustomerName, Digest, Micros};

use super::blobs::{data, size};
use super::world::{NOW, World, at, meter};

const PLENTY: u64 = 1 << 40;

fn name(name: &str) -> CustomerName {
    CustomerName::new(name).unwrap()
}

/// Refused beside one blob of so many bytes.
fn full(bytes: u64) -> PartPut {
    PartPut::Full(UploadRoom { bytes, blobs: 1 })
}

/// A part of those bytes, under that digest.
pub(super) fn part(digest: Digest, data: &[u8], part: usize) -> PutBlob {
    let start = part * PART_BYTES;
    let end = data.len().min(start + PART_BYTES);
    PutBlob { digest, size: size(data), offset: u64::try_from(start).unwrap(), data: data[start..end].to_vec() }
}

impl World {
    async fn put_own(&self, customer: &str, of: &[u8], number: usize) -> PartPut {
        self.put_part(customer, &part(Digest::of(of), of, number)).await
    }

    async fn put_part(&self, customer: &str, part: &PutBlob) -> PartPut {
        self.put_within(customer, part, PLENTY, NOW).await
    }

    async fn put_within(&self, customer: &str, part: &PutBlob, bytes: u64, now: Micros) -> PartPut {
        self.store.put_own_part(Sender::of(&name(customer)), part, UploadRoom::of_bytes(bytes), now).await.unwrap()
    }

    /// Sends all parts of a blob.
    async fn send(&self, customer: &str, of: &[u8]) -> Digest {
        let digest = Digest::of(of);
        let count = of.len().div_ceil(PART_BYTES).max(1);
        for number in 0..count {
            let put = self.put_own(customer, of, number).await;
            let sent = size(of).min(u64::try_from((number + 1) * PART_BYTES).unwrap());
            assert_eq!(put, PartPut::Stored { received: sent, whole: number + 1 == count });
        }
        assert_eq!(self.own_size(customer, digest).await, Some(size(of)));
        digest
    }

    async fn own_size(&self, customer: &str, digest: Digest) -> Option<u64> {
        self.store.own_blob_size(&name(customer), digest).await.unwrap()
    }

    async fn release(&self, customer: &str, digest: Digest) -> BlobRelease {
        self.store.release_blob(&name(customer), digest, None).await.unwrap()
    }

    async fn stored(&self, customer: &str) -> u64 {
        self.store.customer_use(&name(customer), NOW).await.unwrap().stored_bytes
    }
}

/// Parts come in any order and twice; the customer's blob is there with its last.
pub async fn a_customers_parts_in_any_order(world: World) {
    let data = data(2 * PART_BYTES + 5);
    let digest = Digest::of(&data);
    let full = u64::try_from(PART_BYTES).unwrap();
    for (number, received) in [(2, 5), (0, full + 5), (2, full + 5), (0, full + 5)] {
        assert_eq!(world.put_own("acme", &data, number).await, PartPut::Stored { received, whole: false });
        assert_eq!((world.own_size("acme", digest).await, world.store.blob_size(digest).await.unwrap()), (None, None));
    }
    for number in [1, 1, 0] {
        assert_eq!(world.put_own("acme", &data, number).await, PartPut::Stored { received: size(&data), whole: true });
        assert_eq!(world.own_size("acme", digest).await, Some(size(&data)));
    }
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == data);
    assert_eq!(world.stored("acme").await, size(&data));
}

/// Who knows a digest has nothing; who has sent every byte may use the blob.
pub async fn another_customer_must_send_it_too(world: World) {
    let data = data(2 * PART_BYTES);
    let digest = world.send("acme", &data).await;
    assert_eq!(world.own_size("other", digest).await, None);
    let half = u64::try_from(PART_BYTES).unwrap();
    assert_eq!(world.put_own("other", &data, 0).await, PartPut::Stored { received: half, whole: false });
    assert_eq!(world.own_size("other", digest).await, None);
    // Its owner goes meanwhile: the bytes of which parts were noted stay, and are nobody's who has not sent them all.
    assert_eq!(world.release("acme", digest).await, BlobRelease::Released { bytes: 2 * half });
    assert_eq!((world.own_size("other", digest).await, world.own_size("acme", digest).await), (None, None));
    assert_eq!(world.put_own("other", &data, 1).await, PartPut::Stored { received: 2 * half, whole: true });
    assert_eq!(world.own_size("other", digest).await, Some(2 * half));
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == data);
}

/// Who sends parts under another customer's digest, with guessed bytes or a guessed size, is answered as if nobody had it.
pub async fn the_answers_do_not_tell_what_others_have(world: World) {
    let data = data(2 * PART_BYTES + 1);
    let digest = Digest::of(&data);
    let full = u64::try_from(PART_BYTES).unwrap();
    let last = PutBlob { data: vec![data[2 * PART_BYTES] ^ 1], ..part(digest, &data, 2) };
    let first = PutBlob { data: vec![9; PART_BYTES], ..part(digest, &data, 0) };
    let short = PutBlob { digest, size: full + 1, offset: 0, data: data[..PART_BYTES].to_vec() };
    let long = PutBlob { size: size(&data) + 1, ..short.clone() };
    let ask = async |round: &str| {
        let mut answers = Vec::new();
        for (n, guess) in [&last, &first, &short, &long].into_iter().enumerate() {
            let customer = format!("{round}{n}");
            answers.push((world.put_part(&customer, guess).await, world.stored(&customer).await));
            answers.push((world.put_own(&customer, &data, 1).await, world.stored(&customer).await));
        }
        // All parts, of which one is wrong.
        for number in 0..3 {
            let guess = if number == 2 { last.clone() } else { part(digest, &data, number) };
            answers.push((world.put_part(round, &guess).await, world.stored(round).await));
        }
        answers
    };
    let alone = ask("before").await;
    world.send("acme", &data).await;
    assert_eq!(ask("after").await, alone);
    assert_eq!(alone.last().unwrap(), &(PartPut::Mismatch, 0));
    assert_eq!((world.own_size("after", digest).await, world.own_size("acme", digest).await), (None, Some(size(&data))));
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == data);
    world.send("after", &data).await;
}

/// A customer that sends wrong bytes under a digest is in nobody's way.
pub async fn nobody_spoils_what_another_sends(world: World) {
    let data = data(PART_BYTES + 7);
    let digest = Digest::of(&data);
    let wrong = PutBlob { data: vec![9; PART_BYTES], ..part(digest, &data, 0) };
    let begun = PartPut::Stored { received: u64::try_from(PART_BYTES).unwrap(), whole: false };
    assert_eq!(world.put_part("bad", &wrong).await, begun);
    let short = PutBlob { digest, size: 3, offset: 0, data: b"abc".to_vec() };
    assert_eq!(world.put_part("worse", &short).await, PartPut::Mismatch);
    world.send("acme", &data).await;
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == data);
    assert_eq!(world.put_own("bad", &data, 1).await, PartPut::Mismatch);
    assert_eq!((world.own_size("bad", digest).await, world.stored("bad").await), (None, 0));
    world.send("bad", &data).await;
}

/// If the digest is another, all of the upload is dropped and may begin again; bad shapes are refused.
pub async fn a_wrong_upload_is_dropped(world: World) {
    let right = data(PART_BYTES + 1);
    let digest = Digest::of(&right);
    let wrong = vec![1; PART_BYTES + 1];
    let received = u64::try_from(PART_BYTES).unwrap();
    assert_eq!(world.put_part("acme", &part(digest, &wrong, 0)).await, PartPut::Stored { received, whole: false });
    assert_eq!(world.put_part("acme", &part(digest, &wrong, 1)).await, PartPut::Mismatch);
    assert_eq!((world.own_size("acme", digest).await, world.stored("acme").await), (None, 0));
    assert_eq!(world.store.own_blobs(&name("acme"), None, 10).await.unwrap(), []);
    for (offset, bytes) in [(1, PART_BYTES), (0, 5), (received, 2)] {
        let bad = PutBlob { digest, size: size(&right), offset, data: vec![0; bytes] };
        assert_eq!(world.put_part("acme", &bad).await, PartPut::Mismatch, "{offset} {bytes}");
    }
    world.send("acme", &right).await;
}

/// An upload that was begun with another size begins anew with the part at hand; a whole one has its size.
pub async fn a_wrong_size_is_mended_by_sending_all_again(world: World) {
    let right = data(PART_BYTES + 1);
    let digest = Digest::of(&right);
    let received = u64::try_from(PART_BYTES).unwrap();
    let wrong = PutBlob { size: 3 * received, ..part(digest, &right, 0) };
    assert_eq!(world.put_part("acme", &wrong).await, PartPut::Stored { received, whole: false });
    // One that does not fit leaves it as it was.
    let smaller = PutBlob { size: 2 * received, ..wrong.clone() };
    let put = async |limit| world.put_within("acme", &smaller, limit, at(7)).await;
    assert_eq!(put(2 * received - 1).await, full(3 * received));
    assert_eq!(world.stored("acme").await, 3 * received);
    assert_eq!(put(2 * received).await, PartPut::Stored { received, whole: false });
    let blobs = world.store.own_blobs(&name("acme"), None, 10).await.unwrap();
    assert_eq!((blobs[0].size, blobs[0].received, blobs[0].begun_at_us), (2 * received, received, at(7)));
    world.send("acme", &right).await;
    assert_eq!(world.put_part("acme", &wrong).await, PartPut::Mismatch);
    assert_eq!((world.own_size("acme", digest).await, world.stored("acme").await), (Some(size(&right)), size(&right)));
}

/// An upload counts whole from its first part on; further parts of it are welcome even if the limit is lowered.
pub async fn the_limit_counts_what_is_begun(world: World) {
    let (long, other) = (data(2 * PART_BYTES), data(5_000));
    let put = async |part: PutBlob, limit| world.put_within("acme", &part, limit, NOW).await;
    let digest = Digest::of(&long);
    assert_eq!(put(part(digest, &long, 0), size(&long) - 1).await, PartPut::Full(UploadRoom::default()));
    assert!(matches!(put(part(digest, &long, 0), size(&long)).await, PartPut::Stored { whole: false, .. }));
    assert_eq!(world.stored("acme").await, size(&long));
    let small = part(Digest::of(&other), &other, 0);
    assert_eq!(put(small.clone(), size(&long) + 4_999).await, full(size(&long)));
    assert!(matches!(put(part(digest, &long, 1), 0).await, PartPut::Stored { whole: true, .. }));
    assert!(matches!(put(part(digest, &long, 1), 0).await, PartPut::Stored { whole: true, .. }), "nothing is added");
    assert!(matches!(put(small, size(&long) + 5_000).await, PartPut::Stored { whole: true, .. }));
    assert_eq!(world.stored("acme").await, size(&long) + 5_000);
    assert_eq!(world.stored("other").await, 0);
}

/// Of two blobs that do not fit together, whose parts come at the same time, one is refused.
pub async fn two_parts_do_not_pass_the_limit_together(world: World) {
    for round in 0..10_u8 {
        let customer = format!("c{round}");
        let put = async |byte| {
            let bytes = vec![byte; 6_000];
            let part = part(Digest::of(&bytes), &bytes, 0);
            world.put_within(&customer, &part, 10_000, NOW).await
        };
        let (a, b) = tokio::join!(put(2 * round), put(2 * round + 1));
        let full = [a, b].iter().filter(|put| **put == full(6_000)).count();
        assert_eq!(full, 1, "{a:?} {b:?}");
    }
}

/// Blobs that nobody owns (of before, the grid's own) are for all, until somebody owns them.
pub async fn what_nobody_owns_is_for_all(world: World) {
    let bytes = data(10);
    let digest = Digest::of(&bytes);
    assert!(world.store.put_part(digest, 10, 0, &bytes).await.unwrap());
    assert_eq!((world.own_size("acme", digest).await, world.own_size("other", digest).await), (Some(10), Some(10)));
    world.send("acme", &bytes).await;
    assert_eq!((world.own_size("acme", digest).await, world.own_size("other", digest).await), (Some(10), None));
    assert_eq!(world.release("acme", digest).await, BlobRelease::Released { bytes: 10 });
    assert_eq!((world.own_size("acme", digest).await, world.own_size("other", digest).await), (Some(10), Some(10)));
}

/// What is missing of an upload is told, so that it can be resumed.
pub async fn missing_parts_are_listed(world: World) {
    let data = data(6 * PART_BYTES + 5);
    let digest = Digest::of(&data);
    for number in [1, 2, 6] {
        world.put_own("acme", &data, number).await;
    }
    let full = u64::try_from(PART_BYTES).unwrap();
    let blobs = world.store.own_blobs(&name("acme"), None, 10).await.unwrap();
    let [entry] = &blobs[..] else { panic!("{blobs:?}") };
    assert_eq!((entry.digest, entry.size, entry.received, entry.whole), (digest, size(&data), 2 * full + 5, false));
    assert_eq!(entry.missing, [(0, full), (3 * full, 3 * full)]);
    assert_eq!(entry.begun_at_us, NOW);
    for number in [0, 3, 4, 5] {
        world.put_own("acme", &data, number).await;
    }
    let blobs = world.store.own_blobs(&name("acme"), None, 10).await.unwrap();
    assert_eq!((blobs[0].received, blobs[0].whole, blobs[0].missing.len()), (size(&data), true, 0));
}

/// A customer's blobs, and no other's, are listed in the order of their digests.
pub async fn own_blobs_come_in_pages(world: World) {
    let mut own = Vec::new();
    for byte in 0..5_u8 {
        own.push(world.send("acme", &[byte]).await);
        world.send("other", &[byte, byte]).await;
    }
    own.sort();
    let page = async |after, limit| {
        let blobs = world.store.own_blobs(&name("acme"), after, limit).await.unwrap();
        blobs.into_iter().map(|entry| entry.digest).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 3).await, own[..3]);
    assert_eq!(page(Some(own[2]), 3).await, own[3..]);
    assert_eq!(page(Some(own[4]), 3).await, []);
}

/// Two customers with the same blob know nothing of each other; the bytes go with the last of them.
pub async fn owners_are_independent(world: World) {
    for bytes in [data(PART_BYTES + 3), data(30)] {
        let digest = world.send("acme", &bytes).await;
        world.send("other", &bytes).await;
        let released = BlobRelease::Released { bytes: size(&bytes) };
        assert_eq!(world.release("acme", digest).await, released);
        assert_eq!(world.release("acme", digest).await, BlobRelease::Unknown);
        assert_eq!((world.own_size("acme", digest).await, world.stored("acme").await), (None, 0));
        assert_eq!((world.own_size("other", digest).await, world.stored("other").await), (Some(size(&bytes)), size(&bytes)));
        assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == bytes);
        assert_eq!(world.release("other", digest).await, released);
        assert_eq!(world.store.blob_size(digest).await.unwrap(), None);
        assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap().is_empty());
        world.send("acme", &bytes).await;
        assert_eq!(world.release("acme", digest).await, released);
    }
}

/// What a job needs that has not ended is not given up by its customer, and does not go when another gives it up.
pub async fn a_blob_in_use_stays(world: World) {
    for (n, bytes) in [b"one", b"two", b"inp"].into_iter().enumerate() {
        let digest = world.send("acme", bytes).await;
        world.send("other", bytes).await;
        let mut job = world.job(1);
        match n {
            0 => job.spec.app = digest,
            1 => job.spec.shared = Some(digest),
            _ => job.spec.input = Input::Lines { blob: digest },
        }
        let job = world.admit_job(job).await;
        let stranger = NewJob { customer: name("stranger"), brief: digest, ..world.job(1) };
        let stranger = world.admit_job(stranger).await;
        let released = BlobRelease::Released { bytes: 3 };
        assert_eq!(world.release("acme", digest).await, BlobRelease::InUse { job });
        assert_eq!(world.release("other", digest).await, released);
        world.end(job, ItemCounts::default()).await;
        assert_eq!(world.release("acme", digest).await, released);
        assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(3), "the stranger's job needs it");
        assert_eq!(world.own_size("acme", digest).await, None);
        world.end(stranger, ItemCounts::default()).await;
        world.send("acme", bytes).await;
        assert_eq!(world.release("acme", digest).await, released);
        assert_eq!(world.store.blob_size(digest).await.unwrap(), None);
    }
}

/// An upload may have the bytes of what the grid wrote, before it or after; that stays in any case.
pub async fn what_the_grid_wrote_stays(world: World) {
    let bytes = data(20);
    let digest = Digest::of(&bytes);
    assert!(world.store.put_part(digest, 20, 0, &bytes).await.unwrap());
    world.send("acme", &bytes).await;
    world.release("acme", digest).await;
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(20));

    let bytes = data(21);
    let digest = world.send("acme", &bytes).await;
    assert!(world.store.put_part(digest, 21, 0, &bytes).await.unwrap());
    world.release("acme", digest).await;
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(21));

    // What is found is not written again.
    let digest = world.send("acme", &data(22)).await;
    let verdict =
        AppVerdict::Accepted { artefact: digest, entry: EntryKind::Command, meter: meter(), reduces: false, manifest: None };
    world.store.record_app(AppRecord { app: Digest::of(b"app"), verdict }, "g1").await.unwrap();
    world.release("acme", digest).await;
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(22));

    let digest = world.send("acme", &data(23)).await;
    world.admit_job(NewJob { customer: name("other"), brief: digest, ..world.job(1) }).await;
    world.release("acme", digest).await;
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(23));
}

/// Uploads that are not whole are forgotten after a while, and their bytes no longer count.
pub async fn old_uploads_are_forgotten(world: World) {
    let whole = data(10);
    world.send("acme", &whole).await;
    let mut begun = Vec::new();
    for n in 0..4 {
        let bytes = data(2 * PART_BYTES + n);
        let part = part(Digest::of(&bytes), &bytes, 0);
        let now = Micros(NOW.0 + i64::try_from(n).unwrap());
        assert!(matches!(world.put_within("acme", &part, PLENTY, now).await, PartPut::Stored { .. }));
        begun.push(part);
    }
    let forget = async |before, limit| world.store.forget_uploads(before, limit).await.unwrap();
    assert_eq!(forget(NOW, 10).await, 0);
    assert_eq!(forget(Micros(NOW.0 + 3), 2).await, 2);
    assert_eq!(forget(Micros(NOW.0 + 3), 2).await, 1);
    assert_eq!(forget(Micros(NOW.0 + 3), 2).await, 0);
    assert_eq!(world.stored("acme").await, 10 + begun[3].size);
    assert_eq!(world.release("acme", begun[0].digest).await, BlobRelease::Unknown);
    assert_eq!(world.release("acme", begun[3].digest).await, BlobRelease::Released { bytes: begun[3].size });
    assert_eq!(forget(at(1_000), 10).await, 0, "a whole blob stays");
    assert_eq!(world.stored("acme").await, 10);
}

/// The same parts that arrive twice at the same time, and at two customers, are one blob.
pub async fn the_same_part_at_the_same_time(world: World) {
    let bytes = data(3 * PART_BYTES);
    let digest = Digest::of(&bytes);
    let send = async |customer: &str, order: [usize; 3]| {
        for number in order {
            let put = world.put_own(customer, &bytes, number).await;
            assert!(matches!(put, PartPut::Stored { .. }), "{put:?}");
        }
    };
    tokio::join!(send("acme", [0, 1, 2]), send("acme", [2, 1, 0]), send("other", [0, 1, 2]), send("third", [1, 0, 2]));
    for customer in ["acme", "other", "third"] {
        assert_eq!((world.own_size(customer, digest).await, world.stored(customer).await), (Some(size(&bytes)), size(&bytes)));
    }
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == bytes);
}

/// A blob of one part, or of none, is whole at once; another's bytes under its digest are refused.
pub async fn one_part_is_a_blob(world: World) {
    for bytes in [data(0), data(1), data(PART_BYTES)] {
        let digest = Digest::of(&bytes);
        if !bytes.is_empty() {
            let wrong = PutBlob { data: vec![8; bytes.len()], ..part(digest, &bytes, 0) };
            assert_eq!(world.put_part("acme", &wrong).await, PartPut::Mismatch);
        }
        for _twice in 0..2 {
            assert_eq!(world.send("acme", &bytes).await, digest);
        }
        world.send("other", &bytes).await;
        assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == bytes);
    }
}
