//! Blobs in parts, whole only once the digest over all parts was checked.

use async_trait::async_trait;
use ports::store::{BlobStore, StoreError};
use protocol::Digest;
use protocol::blob::{MAX_BLOB_BYTES, PART_BYTES};
use protocol::digest::DigestWriter;

use crate::attempt;
use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Lock, Tx, values};

/// A part's size as a count of bytes.
pub(crate) const PART: u64 = 1 << 20;
const _: () = assert!(PART_BYTES == 1 << 20, "PART and PART_BYTES differ");

#[async_trait]
impl BlobStore for SqlStore {
    async fn put_part(&self, digest: Digest, size: u64, offset: u64, data: &[u8]) -> Result<bool, StoreError> {
        if !is_part(size, offset, data) {
            return Ok(false);
        }
        match attempt!("put blob part", self.try_put_part(digest, size, offset, data))? {
            Kept::Partly | Kept::Whole => Ok(true),
            Kept::Unchecked { attempt } => {
                let right = attempt!("check blob", self.try_digest(digest, size))? == digest;
                attempt!("settle blob", self.try_settle_blob(digest, size, attempt, right))?;
                Ok(right)
            }
        }
    }

    async fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        attempt!("read blob size", self.try_blob_size(digest))
    }

    async fn read_blob(&self, digest: Digest, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        attempt!("read blob", self.try_read_blob(digest, offset, length))
    }
}

/// How much of a blob is there after a part was put.
enum Kept {
    Partly,
    /// All of it, and its digest must be checked; the number tells this set of parts from one that was dropped before.
    Unchecked {
        attempt: i64,
    },
    Whole,
}

/// Whether this is a part of a blob of that size.
pub(crate) fn is_part(size: u64, offset: u64, data: &[u8]) -> bool {
    let inside = offset < size || (size == 0 && offset == 0);
    let expected = size.saturating_sub(offset).min(PART);
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    size <= MAX_BLOB_BYTES && offset.is_multiple_of(PART) && inside && length == expected
}

/// How many parts a blob of that size has; the empty one has an empty part.
pub(crate) fn parts(size: u64) -> u64 {
    size.div_ceil(PART).max(1)
}

impl SqlStore {
    async fn try_put_part(&self, digest: Digest, size: u64, offset: u64, data: &[u8]) -> Result<Kept, Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Blob(digest)).await?;
        let key = values![digest, size];
        tx.run("INSERT INTO blobs (digest, size) VALUES ($1, $2) ON CONFLICT DO NOTHING", key.clone()).await?;
        let blob =
            tx.all_locked("SELECT whole, parts, attempt, kept FROM blobs WHERE digest = $1 AND size = $2", key.clone()).await?;
        let blob = blob.first().ok_or_else(|| Fault::data("a blob that was there is gone"))?;
        if !blob.flag(3)? {
            // A customer sent the same bytes; now the grid needs them, whatever the customer does with its blob.
            tx.run("UPDATE blobs SET kept = 1 WHERE digest = $1 AND size = $2", key.clone()).await?;
        }
        if blob.flag(0)? {
            tx.commit().await?;
            return Ok(Kept::Whole);
        }
        let insert = "INSERT INTO blob_parts (digest, size, start, data) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let new = tx.run(insert, values![digest, size, offset, data.to_vec()]).await?;
        let there = blob.number::<u64>(1)? + new;
        let attempt = blob.int(2)?;
        let count = "UPDATE blobs SET parts = $3 WHERE digest = $1 AND size = $2";
        tx.run(count, values![digest, size, there]).await?;
        tx.commit().await?;
        Ok(if there < parts(size) { Kept::Partly } else { Kept::Unchecked { attempt } })
    }

    /// The digest over a blob's parts, one at a time.
    async fn try_digest(&self, digest: Digest, size: u64) -> Result<Digest, Fault> {
        let mut tx = self.read().await?;
        let mut writer = DigestWriter::default();
        for part in 0..parts(size) {
            writer.update(&part_data(&mut tx, digest, size, part * PART).await?.unwrap_or_default());
        }
        Ok(writer.finish())
    }

    /// Marks a blob as whole, or drops its parts; unless another has dropped them meanwhile.
    async fn try_settle_blob(&self, digest: Digest, size: u64, attempt: i64, right: bool) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        let key = values![digest, size, attempt];
        if right {
            tx.run("UPDATE blobs SET whole = 1 WHERE digest = $1 AND size = $2 AND attempt = $3", key).await?;
        } else {
            let drop = "UPDATE blobs SET parts = 0, attempt = attempt + 1
                WHERE digest = $1 AND size = $2 AND attempt = $3 AND whole = 0";
            if tx.run(drop, key).await? > 0 {
                tx.run("DELETE FROM blob_parts WHERE digest = $1 AND size = $2", values![digest, size]).await?;
            }
        }
        tx.commit().await
    }

    async fn try_blob_size(&self, digest: Digest) -> Result<Option<u64>, Fault> {
        whole_size(&mut self.read().await?, digest).await
    }

    async fn try_read_blob(&self, digest: Digest, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let mut tx = self.read().await?;
        let Some(size) = whole_size(&mut tx, digest).await? else { return Ok(Vec::new()) };
        let end = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX)).min(size);
        let mut bytes = Vec::new();
        let mut start = offset - offset % PART;
        while start < end {
            let part = part_data(&mut tx, digest, size, start).await?;
            let part = part.ok_or_else(|| Fault::data(format!("blob {digest} has no part at {start}")))?;
            let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(part.len());
            bytes.extend_from_slice(&part[within(offset)..within(end)]);
            start += PART;
        }
        Ok(bytes)
    }
}

pub(crate) async fn whole_size(tx: &mut Tx, digest: Digest) -> Result<Option<u64>, Fault> {
    let row = tx.first("SELECT size FROM blobs WHERE digest = $1 AND whole = 1", values![digest]).await?;
    row.map(|row| row.number(0)).transpose()
}

pub(crate) async fn part_data(tx: &mut Tx, digest: Digest, size: u64, start: u64) -> Result<Option<Vec<u8>>, Fault> {
    let sql = "SELECT data FROM blob_parts WHERE digest = $1 AND size = $2 AND start = $3";
    tx.first(sql, values![digest, size, start]).await?.map(|row| row.bytes(0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_parts_at_their_places_are_parts() {
        let full = vec![0; PART_BYTES];
        assert!(is_part(0, 0, &[]) && is_part(1, 0, &[0]) && is_part(PART + 1, 0, &full) && is_part(PART + 1, PART, &[0]));
        assert!(!is_part(0, 0, &[0]) && !is_part(1, 0, &[]) && !is_part(2, 1, &[0]) && !is_part(PART, PART, &[]));
        assert!(!is_part(PART + 1, 0, &full[1..]) && !is_part(MAX_BLOB_BYTES + 1, 0, &full) && is_part(MAX_BLOB_BYTES, 0, &full));
    }
}
