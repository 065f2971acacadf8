//! Blobs in parts, whole only once the digest over all parts was checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use ports::store::{BlobStore, StoreError};
use protocol::Digest;
use protocol::blob::{MAX_BLOB_BYTES, PART_BYTES};
use protocol::digest::DigestWriter;

use super::MemoryStore;

/// A part's size as a count of bytes.
pub(super) const PART: u64 = 1 << 20;
const _: () = assert!(PART_BYTES == 1 << 20, "PART and PART_BYTES differ");

/// Parts by where they begin.
pub(super) type Parts = BTreeMap<u64, Arc<[u8]>>;

/// All blobs.
#[derive(Clone, Default)]
pub(super) struct Blobs {
    /// The parts of blobs, by digest and the size that was said.
    parts: BTreeMap<(Digest, u64), Parts>,
    /// The sizes of blobs that are wholly there and checked.
    whole: BTreeMap<Digest, u64>,
    /// What the grid itself wrote.
    kept: BTreeSet<(Digest, u64)>,
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put_part(&self, digest: Digest, size: u64, offset: u64, data: &[u8]) -> Result<bool, StoreError> {
        if !is_part(size, offset, data) {
            return Ok(false);
        }
        self.run("put blob part", |state| Ok(state.blobs.put(digest, size, offset, data)))
    }

    async fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.run("read blob size", |state| Ok(state.blobs.whole.get(&digest).copied()))
    }

    async fn read_blob(&self, digest: Digest, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        self.run("read blob", |state| Ok(state.blobs.read(digest, offset, length)))
    }
}

/// Whether this is a part of a blob of that size.
pub(super) fn is_part(size: u64, offset: u64, data: &[u8]) -> bool {
    let inside = offset < size || (size == 0 && offset == 0);
    let expected = size.saturating_sub(offset).min(PART);
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    size <= MAX_BLOB_BYTES && offset.is_multiple_of(PART) && inside && length == expected
}

impl Blobs {
    /// Keeps a part, and checks the digest with the last; `false` if it is another.
    fn put(&mut self, digest: Digest, size: u64, offset: u64, data: &[u8]) -> bool {
        self.kept.insert((digest, size));
        if self.whole.get(&digest) == Some(&size) {
            return true;
        }
        let parts = self.parts.entry((digest, size)).or_default();
        parts.entry(offset).or_insert_with(|| data.into());
        let there = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        if there < size.div_ceil(PART).max(1) {
            return true;
        }
        let mut writer = DigestWriter::default();
        for part in parts.values() {
            writer.update(part);
        }
        let right = writer.finish() == digest;
        if right {
            self.whole.insert(digest, size);
        } else {
            self.parts.remove(&(digest, size));
        }
        right
    }

    /// The size of a whole blob.
    pub(super) fn size(&self, digest: Digest) -> Option<u64> {
        self.whole.get(&digest).copied()
    }

    /// Whether the grid itself wrote it.
    pub(super) fn is_kept(&self, digest: Digest, size: u64) -> bool {
        self.kept.contains(&(digest, size))
    }

    /// The part that begins there.
    pub(super) fn part(&self, digest: Digest, size: u64, offset: u64) -> Option<&Arc<[u8]>> {
        self.parts.get(&(digest, size))?.get(&offset)
    }

    /// Takes parts that were checked.
    pub(super) fn adopt(&mut self, digest: Digest, size: u64, parts: Parts) {
        self.parts.insert((digest, size), parts);
        self.whole.insert(digest, size);
    }

    /// Drops a whole blob.
    pub(super) fn drop(&mut self, digest: Digest, size: u64) {
        self.parts.remove(&(digest, size));
        self.whole.remove(&digest);
    }

    fn read(&self, digest: Digest, offset: u64, length: usize) -> Vec<u8> {
        let Some(parts) = self.whole.get(&digest).and_then(|size| self.parts.get(&(digest, *size))) else { return Vec::new() };
        let end = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let mut bytes = Vec::new();
        for (start, part) in parts.range(offset - offset % PART..).take_while(|(start, _)| **start < end) {
            let within = |at: u64| usize::try_from(at.saturating_sub(*start)).unwrap_or(usize::MAX).min(part.len());
            bytes.extend_from_slice(&part[within(offset)..within(end)]);
        }
        bytes
    }
}
