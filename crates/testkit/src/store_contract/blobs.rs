//! Blobs: parts in any order, whole only if the digest is right.

use protocol::Digest;
use protocol::blob::{MAX_BLOB_BYTES, PART_BYTES};

use super::world::World;

/// Data of so many bytes that differs from part to part.
pub(super) fn data(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from((n / 1_000 + n % 7) % 251).unwrap()).collect()
}

pub(super) fn size(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap()
}

impl World {
    async fn put(&self, digest: Digest, data: &[u8], part: usize) -> bool {
        let start = part * PART_BYTES;
        let end = data.len().min(start + PART_BYTES);
        let offset = u64::try_from(start).unwrap();
        self.store.put_part(digest, size(data), offset, &data[start..end]).await.unwrap()
    }
}

/// Parts come in any order and twice; the blob is there with its last.
pub async fn parts_in_any_order(world: World) {
    let data = data(2 * PART_BYTES + 5);
    let digest = Digest::of(&data);
    for part in [2, 0, 2, 0] {
        assert!(world.put(digest, &data, part).await);
        assert_eq!(world.store.blob_size(digest).await.unwrap(), None);
        assert!(world.store.read_blob(digest, 0, 10).await.unwrap().is_empty());
    }
    for part in [1, 1, 0] {
        assert!(world.put(digest, &data, part).await);
        assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(size(&data)));
    }
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == data);
    assert_eq!(world.store.blob_size(Digest::of(b"other")).await.unwrap(), None);
}

/// If the digest is another, all parts are dropped and the blob may be sent again; a wrong size is in nobody's way.
pub async fn a_wrong_digest_is_dropped(world: World) {
    let right = data(PART_BYTES + 1);
    let digest = Digest::of(&right);
    let wrong = vec![1; PART_BYTES + 1];
    assert!(world.put(digest, &wrong, 0).await);
    assert!(!world.put(digest, &wrong, 1).await);
    assert_eq!(world.store.blob_size(digest).await.unwrap(), None);
    assert!(!world.store.put_part(digest, 1, 0, b"x").await.unwrap());
    assert!(world.put(digest, &right, 0).await && world.put(digest, &right, 1).await);
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(size(&right)));
    assert!(!world.store.put_part(digest, 1, 0, b"x").await.unwrap());
    assert!(world.store.read_blob(digest, 0, usize::MAX).await.unwrap() == right);
}

/// A part must begin at a multiple of the part's size and be as long as the blob's size says.
pub async fn bad_shapes_are_refused(world: World) {
    let digest = Digest::of(b"abc");
    for (size, offset, bytes) in [(3, 1, 3), (3, 0, 2), (3, 0, 4), (0, 0, 1), (MAX_BLOB_BYTES + 1, 0, PART_BYTES)] {
        assert!(!world.store.put_part(digest, size, offset, &data(bytes)).await.unwrap(), "{size} {offset} {bytes}");
    }
    assert!(world.store.put_part(digest, 3, 0, b"abc").await.unwrap());
}

/// The blob without bytes has one empty part.
pub async fn the_empty_blob(world: World) {
    let digest = Digest::of(b"");
    assert_eq!(world.store.blob_size(digest).await.unwrap(), None);
    for _twice in 0..2 {
        assert!(world.store.put_part(digest, 0, 0, b"").await.unwrap());
    }
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(0));
    assert!(world.store.read_blob(digest, 0, 10).await.unwrap().is_empty());
    assert!(!world.store.put_part(Digest::of(b"x"), 0, 0, b"").await.unwrap());
}

/// Any range is read, across parts and up to the end.
pub async fn reading_ranges(world: World) {
    let data = data(2 * PART_BYTES + 100);
    let digest = Digest::of(&data);
    for part in 0..3 {
        assert!(world.put(digest, &data, part).await);
    }
    let ends =
        [(0, 1), (PART_BYTES - 1, 2), (PART_BYTES, PART_BYTES), (5, 2 * PART_BYTES), (2 * PART_BYTES + 99, 50), (data.len(), 1)];
    for (offset, length) in ends {
        let read = world.store.read_blob(digest, u64::try_from(offset).unwrap(), length).await.unwrap();
        assert!(read == data[offset..data.len().min(offset + length)], "{offset} {length}");
    }
    assert!(world.store.read_blob(digest, u64::MAX, usize::MAX).await.unwrap().is_empty());
}

/// The same parts from two senders at the same time are one blob.
pub async fn parts_at_the_same_time(world: World) {
    let data = data(3 * PART_BYTES);
    let digest = Digest::of(&data);
    let forward = async {
        for part in 0..3 {
            assert!(world.put(digest, &data, part).await);
        }
    };
    let backward = async {
        for part in [2, 1, 0] {
            assert!(world.put(digest, &data, part).await);
        }
    };
    tokio::join!(forward, backward);
    assert_eq!(world.store.blob_size(digest).await.unwrap(), Some(size(&data)));
}
