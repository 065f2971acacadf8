//! Blobs by digest, in parts of `protocol::blob::PART_BYTES`.

use async_trait::async_trait;
use protocol::Digest;

use super::StoreError;

/// The blobs' transactions.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Writes a part; a part that is there already stays as it is. When the last part is there, checks the
    /// digest over all of them: if it is another, the parts are dropped and `false` is returned.
    async fn put_part(&self, digest: Digest, size: u64, offset: u64, data: &[u8]) -> Result<bool, StoreError>;

    /// The size of a blob that is wholly there and checked.
    async fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError>;

    /// Up to `length` bytes of a whole blob from `offset`; fewer at its end.
    async fn read_blob(&self, digest: Digest, offset: u64, length: usize) -> Result<Vec<u8>, StoreError>;
}
