//! Uploads: which blobs are whose. A customer may use a blob only if it has itself sent every byte of it.

use async_trait::async_trait;
use protocol::blob::{BlobEntry, MAX_BLOBS, PutBlob};
use protocol::{CustomerName, Digest, Micros};

use super::StoreError;

/// What a customer's blobs take, or may take, those begun counted whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadRoom {
    /// Their bytes.
    pub bytes: u64,
    /// How many they are.
    pub blobs: u64,
}

impl UploadRoom {
    /// So many bytes, and as many blobs as any customer may have.
    pub fn of_bytes(bytes: u64) -> Self {
        Self { bytes, blobs: MAX_BLOBS }
    }

    /// What is taken when a blob of that size takes the place of another, or of none.
    #[must_use]
    pub fn with(self, size: u64, instead_of: Option<u64>) -> Self {
        let bytes = self.bytes.saturating_sub(instead_of.unwrap_or(0)).saturating_add(size);
        Self { bytes, blobs: self.blobs.saturating_add(u64::from(instead_of.is_none())) }
    }

    /// Whether so much is in this room.
    pub fn holds(self, taken: Self) -> bool {
        taken.bytes <= self.bytes && taken.blobs <= self.blobs
    }
}

/// Of a part of an upload so many messages that sent it are known, the first: who sends it ever again under new ids would else
/// have a row for each.
pub const MAX_PART_MESSAGES: usize = 8;

/// Who sends a part, and in which message.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The customer, whose the blob will be.
    pub customer: &'a CustomerName,
    /// The message's id; none where no customer's message asks for it.
    pub message: Option<&'a str>,
}

impl<'a> Sender<'a> {
    /// A customer, in no message of it: such a part is written as often as it is sent.
    pub fn of(customer: &'a CustomerName) -> Self {
        Self { customer, message: None }
    }
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartPut {
    /// It is there; so many bytes of the blob are now, and whether that is all of it.
    Stored {
        /// Bytes that this customer has sent of it.
        received: u64,
        /// Whether it is whole and of its digest.
        whole: bool,
    },
    /// Its offset or size is wrong, or the parts are not of that digest; if all were there they are dropped.
    Mismatch,
    /// The customer's blobs would take more than they may; what they take.
    Full(UploadRoom),
    /// Its message had its effect before, and what that brought was given up since: nothing is written.
    Handled,
}

/// What became of a blob that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobRelease {
    /// It is no longer the customer's, and its bytes are gone if it is nobody's.
    Released {
        /// Its size.
        bytes: u64,
    },
    /// The customer has no such blob.
    Unknown,
    /// A job of the customer that has not ended needs it.
    InUse {
        /// The job.
        job: protocol::JobId,
    },
}

/// The uploads' transactions.
#[async_trait]
pub trait UploadStore: Send + Sync {
    /// Writes a part of a customer's blob, if its blobs then take at most that room. A part that comes again
    /// changes nothing; one with another size begins the upload anew, unless that is whole. What else is in the store
    /// changes no answer, or it would tell who has which bytes.
    ///
    /// A message, by its id, sends a part once: delivered again when the blob was given up, whole or begun, it brings nothing
    /// back ([`PartPut::Handled`]). It is known as long as its upload is there, whole or not, and then until
    /// [`Self::forget_handled`] forgets it; of each part the first [`MAX_PART_MESSAGES`] are. The size belongs to what it does:
    /// one whose upload was replaced by a part of another size is handled, and does not replace that again. What is dropped
    /// otherwise (parts that are not of their digest, or that were left) the same messages may send again.
    async fn put_own_part(
        &self,
        sender: Sender<'_>,
        part: &PutBlob,
        room: UploadRoom,
        now: Micros,
    ) -> Result<PartPut, StoreError>;

    /// The size of a whole blob that the customer may use: one that it has sent, or that nobody owns.
    async fn own_blob_size(&self, customer: &CustomerName, digest: Digest) -> Result<Option<u64>, StoreError>;

    /// The customer's blobs in the order of their digests, those after `after`, at most `limit`.
    async fn own_blobs(&self, customer: &CustomerName, after: Option<Digest>, limit: u32) -> Result<Vec<BlobEntry>, StoreError>;

    /// Gives a customer's blob up, unless a job of it that has not ended needs it.
    ///
    /// A customer's message, by its id, does so once: delivered again it is answered as the first time, and a blob that was
    /// sent anew meanwhile stays, also where there was none the first time. Where a job needed it, it is judged anew.
    async fn release_blob(
        &self,
        customer: &CustomerName,
        digest: Digest,
        message: Option<&str>,
    ) -> Result<BlobRelease, StoreError>;

    /// Drops up to `limit` uploads that began before a time and are not whole. Returns how many.
    async fn forget_uploads(&self, before: Micros, limit: u32) -> Result<u32, StoreError>;

    /// Forgets up to `limit` messages that had their effect before a time, of those that have it once: such as brought a blob or
    /// gave it up, or had a job rest or go on. Where there are none, of those that sent parts of an upload which a service of the
    /// version before dropped without them. Returns how many; they would have it again.
    async fn forget_handled(&self, before: Micros, limit: u32) -> Result<u32, StoreError>;
}
