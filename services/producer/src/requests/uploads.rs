//! Uploads: a customer's blobs, sent in parts, listed with what is missing, and given up.

use ports::store::{BlobRelease, PartPut, Sender, UploadRoom};
use protocol::Digest;
use protocol::blob::{BlobDeleted, BlobEntry, BlobStored, BlobsListed, DeleteBlob, ListBlobs, PART_BYTES, PutBlob};
use protocol::problem::{Code, Problem};

use super::{cut, page};
use crate::Producer;
use crate::asked::{Answer, Asked, Refusal};

/// A page of blobs.
const MAX_BLOBS: u32 = 1_000;
/// A page ends after so many gaps: what it takes stays well below a message.
const MAX_GAPS: usize = 100_000;

/// Stores a part. Only one with a `correlation_id` is answered: who sends a thousand parts may want one answer, the last.
pub(super) async fn put(producer: &Producer, asked: &Asked, part: &PutBlob) -> Result<Answer, Refusal> {
    let (received, whole) = put_part(producer, asked, part).await?;
    if asked.correlation_id.is_none() {
        return Ok(Answer::new());
    }
    Ok(vec![asked.answer(&BlobStored { digest: part.digest, size: part.size, received, whole })?])
}

/// Stores bytes as a whole blob of who asks. One that is theirs already is sent all its parts as well, eight at most since they
/// came in one message, so that this message is known at each of them if it comes again after a deletion. One that nobody owns is
/// sent nothing: it would be all others' no longer.
pub(super) async fn keep(producer: &Producer, asked: &Asked, digest: Digest, bytes: &[u8]) -> Result<(), Refusal> {
    if producer.store.own_blob_size(&asked.customer, digest).await?.is_some() && !owns(producer, asked, digest).await? {
        return Ok(());
    }
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let parts: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(PART_BYTES).collect() };
    let mut offset = 0;
    for data in parts {
        let part = PutBlob { digest, size, offset, data: data.to_vec() };
        put_part(producer, asked, &part).await?;
        offset += u64::try_from(data.len()).unwrap_or(0);
    }
    Ok(())
}

/// Whether a whole blob is the customer's own.
async fn owns(producer: &Producer, asked: &Asked, digest: Digest) -> Result<bool, Refusal> {
    let listed = producer.store.own_blobs(&asked.customer, before(digest), 1).await?;
    Ok(listed.first().is_some_and(|blob| blob.digest == digest && blob.whole))
}

/// The digest before that one, after which a list begins with it; none before the first.
fn before(Digest(mut bytes): Digest) -> Option<Digest> {
    let last = bytes.iter().rposition(|byte| *byte > 0)?;
    bytes[last] -= 1;
    bytes[last + 1..].fill(u8::MAX);
    Some(Digest(bytes))
}

async fn put_part(producer: &Producer, asked: &Asked, part: &PutBlob) -> Result<(u64, bool), Refusal> {
    let room = UploadRoom::of_bytes(asked.standing.limits.stored_bytes);
    let sender = Sender { customer: &asked.customer, message: Some(&asked.message_id) };
    match producer.store.put_own_part(sender, part, room, producer.clock.now()).await? {
        PartPut::Stored { received, whole } => Ok((received, whole)),
        PartPut::Mismatch => {
            let detail = format!(
                "part at {} of blob {} ({} bytes) has a wrong offset or size, or the parts are not of that digest: send all parts again",
                part.offset, part.digest, part.size
            );
            Err(Refusal::of(Code::BlobMismatch, detail))
        }
        PartPut::Full(taken) => {
            let (limit, what) = if taken.blobs < room.blobs { (room.bytes, "bytes") } else { (room.blobs, "blobs") };
            let detail = format!(
                "you have {} blobs of {} bytes, and blob {} of {} bytes would exceed {limit} {what}: delete some",
                taken.blobs, taken.bytes, part.digest, part.size
            );
            Err(Problem::over(Code::StorageFull, limit, None, detail).into())
        }
        PartPut::Handled => {
            let detail = format!(
                "message {:?} has sent the part at {} of blob {}, which was deleted or given another size since: \
                 send it under a new message_id",
                asked.message_id, part.offset, part.digest
            );
            Err(Refusal::of(Code::AlreadyHandled, detail))
        }
    }
}

/// Lists the customer's blobs.
pub(super) async fn list(producer: &Producer, asked: &Asked, request: &ListBlobs) -> Result<Answer, Refusal> {
    let limit = page(request.limit, MAX_BLOBS)?;
    let mut blobs = producer.store.own_blobs(&asked.customer, request.after, limit.saturating_add(1)).await?;
    let mut more = cut(&mut blobs, limit);
    let fitting = fitting(&blobs);
    more |= fitting < blobs.len();
    blobs.truncate(fitting);
    let used = producer.standings.used_now(producer, &asked.customer).await?;
    let (stored_bytes, limit_bytes) = (used.stored_bytes, asked.standing.limits.stored_bytes);
    Ok(vec![asked.answer(&BlobsListed { blobs, more, stored_bytes, limit_bytes })?])
}

/// How many of the blobs have together no more gaps than a page may; at least one.
fn fitting(blobs: &[BlobEntry]) -> usize {
    let gaps = blobs.iter().scan(0, |gaps, blob| {
        *gaps += blob.missing.len();
        Some(*gaps)
    });
    gaps.take_while(|gaps| *gaps <= MAX_GAPS).count().max(1)
}

/// Gives a blob up.
pub(super) async fn delete(producer: &Producer, asked: &Asked, request: &DeleteBlob) -> Result<Answer, Refusal> {
    let digest = request.digest;
    match producer.store.release_blob(&asked.customer, digest, Some(&asked.message_id)).await? {
        BlobRelease::Released { bytes } => Ok(vec![asked.answer(&BlobDeleted { digest, freed_bytes: bytes })?]),
        BlobRelease::Unknown => {
            let detail = format!(
                "customer {} has no blob {digest}, or had none when message {:?} came first: ask again under a new message_id",
                asked.customer, asked.message_id
            );
            Err(Refusal::of(Code::NoSuchBlob, detail))
        }
        BlobRelease::InUse { job } => Err(Refusal::of(Code::BlobInUse, format!("job {job} needs blob {digest}"))),
    }
}
