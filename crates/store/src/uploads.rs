//! Uploads: which blobs are whose, and parts on their way to a blob. What a customer sends is its own until it is whole
//! and of its digest; only then its bytes become the blob's (see [`crate::promote`]).

use async_trait::async_trait;
use ports::store::{BlobRelease, PartPut, Sender, StoreError, UploadRoom, UploadStore};
use protocol::blob::{BlobEntry, PutBlob};
use protocol::{CustomerName, Digest, Micros};

use crate::blobs::{PART, is_part, part_data, parts, whole_size};
use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::inbox::{self, Effect};
use crate::sql::{Lock, Row, Tx, values};
use crate::{attempt, customers, job_blobs, promote};

/// How many gaps of an upload are listed at most.
const MAX_GAPS: usize = 1_000;
/// How many digests are read at once when all of a customer's blobs are given up.
const PAGE_DIGESTS: u32 = 1_000;

#[async_trait]
impl UploadStore for SqlStore {
    async fn put_own_part(
        &self,
        sender: Sender<'_>,
        part: &PutBlob,
        room: UploadRoom,
        now: Micros,
    ) -> Result<PartPut, StoreError> {
        let alone = parts(part.size) == 1;
        if !is_part(part.size, part.offset, &part.data) || (alone && Digest::of(&part.data) != part.digest) {
            return Ok(PartPut::Mismatch);
        }
        match attempt!("put part of an upload", self.try_put_own_part(sender, part, room, now))? {
            Noted::Answered(answer) => Ok(answer),
            Noted::Complete(upload) => self.finish(upload, &effect_of(sender, part)).await,
        }
    }

    async fn own_blob_size(&self, customer: &CustomerName, digest: Digest) -> Result<Option<u64>, StoreError> {
        attempt!("read size of an own blob", self.try_own_blob_size(customer, digest))
    }

    async fn own_blobs(&self, customer: &CustomerName, after: Option<Digest>, limit: u32) -> Result<Vec<BlobEntry>, StoreError> {
        attempt!("read own blobs", self.try_own_blobs(customer, after, limit))
    }

    async fn release_blob(
        &self,
        customer: &CustomerName,
        digest: Digest,
        message: Option<&str>,
    ) -> Result<BlobRelease, StoreError> {
        attempt!("note old jobs", self.note_old_jobs())?;
        attempt!("release blob", self.try_release_blob(customer, digest, message))
    }

    async fn forget_uploads(&self, before: Micros, limit: u32) -> Result<u32, StoreError> {
        let mut forgotten = 0;
        for upload in attempt!("find old uploads", self.try_old_uploads(before, limit))? {
            forgotten += u32::from(attempt!("forget upload", self.try_forget_upload(&upload))?);
        }
        Ok(forgotten)
    }

    async fn forget_handled(&self, before: Micros, limit: u32) -> Result<u32, StoreError> {
        attempt!("forget handled messages", self.try_forget_handled(before, limit))
    }
}

/// An upload's row.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// Tells it from one of the same customer and digest that was given up before.
    pub(crate) number: i64,
    pub(crate) customer: CustomerName,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) received: u64,
    pub(crate) whole: bool,
    pub(crate) begun_at: Micros,
}

/// The columns of [`read_upload`].
const UPLOAD: &str = "SELECT number, customer, digest, size, received, whole, begun_at FROM uploads";

fn read_upload(row: &Row) -> Result<Upload, Fault> {
    Ok(Upload {
        number: row.int(0)?,
        customer: row.parsed(1)?,
        digest: row.digest(2)?,
        size: row.number(3)?,
        received: row.number(4)?,
        whole: row.flag(5)?,
        begun_at: row.time(6)?,
    })
}

/// What came of a part.
enum Noted {
    Answered(PartPut),
    /// All bytes of the upload are there, and must be checked.
    Complete(Upload),
}

impl SqlStore {
    async fn try_put_own_part(&self, sender: Sender<'_>, part: &PutBlob, room: UploadRoom, now: Micros) -> Result<Noted, Fault> {
        let Sender { customer, message } = sender;
        let effect = effect_of(sender, part);
        let mut tx = self.write().await?;
        lock(&mut tx, customer, part.digest).await?;
        let found = find(&mut tx, customer, part.digest).await?;
        if let Some(whole) = found.as_ref().filter(|upload| upload.whole) {
            if whole.size != part.size {
                return Ok(Noted::Answered(PartPut::Mismatch));
            }
            if !inbox::keep(&mut tx, whole, part.offset, message).await? {
                inbox::note(&mut tx, &effect, 0, self.clock.now()).await?;
            }
            tx.commit().await?;
            return Ok(Noted::Answered(received(whole)));
        }
        let sent = is_sent(&mut tx, found.as_ref(), part).await?;
        if !sent && inbox::freed(&mut tx, &effect).await?.is_some() {
            return Ok(Noted::Answered(PartPut::Handled));
        }
        let mut upload = match found {
            Some(upload) if upload.size == part.size => upload,
            // None, or one of another size: as only one of the two sizes can be right, the last that was said counts, and not
            // one that was said before and is delivered again.
            before => {
                let taken = customers::taken(&mut tx, customer).await?;
                if !room.holds(taken.with(part.size, before.as_ref().map(|before| before.size))) {
                    return Ok(Noted::Answered(PartPut::Full(taken)));
                }
                if let Some(before) = &before {
                    inbox::note_parts(&mut tx, before, self.clock.now()).await?;
                    drop_upload(&mut tx, before).await?;
                }
                begin(&mut tx, customer, part, now).await?
            }
        };
        if !sent {
            write_part(&mut tx, &mut upload, part).await?;
        }
        inbox::keep(&mut tx, &upload, part.offset, message).await?;
        if upload.received < upload.size {
            tx.commit().await?;
            return Ok(Noted::Answered(received(&upload)));
        }
        if parts(upload.size) > 1 {
            tx.commit().await?;
            return Ok(Noted::Complete(upload));
        }
        // Its digest is known already.
        promote::begin(&mut tx, &upload).await?;
        promote::move_parts(&mut tx, &upload, 0).await?;
        let upload = promote::end(&mut tx, upload, None).await?;
        tx.commit().await?;
        Ok(Noted::Answered(upload.map_or(PartPut::Mismatch, |upload| received(&upload))))
    }

    async fn try_own_blob_size(&self, customer: &CustomerName, digest: Digest) -> Result<Option<u64>, Fault> {
        own_size(&mut self.read().await?, customer, digest).await
    }

    async fn try_own_blobs(&self, customer: &CustomerName, after: Option<Digest>, limit: u32) -> Result<Vec<BlobEntry>, Fault> {
        let mut tx = self.read().await?;
        let after = after.map_or_else(Vec::new, |digest| digest.0.to_vec());
        let sql = format!("{UPLOAD} WHERE customer = $1 AND digest > $2 ORDER BY digest LIMIT $3");
        let rows = tx.composed(sql, values![customer, after, limit]).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let upload = read_upload(row)?;
            let missing = if upload.whole { Vec::new() } else { gaps(&mut tx, &upload).await? };
            let Upload { digest, size, received, whole, begun_at, .. } = upload;
            entries.push(BlobEntry { digest, size, received, whole, missing, begun_at_us: begun_at });
        }
        Ok(entries)
    }

    async fn try_release_blob(
        &self,
        customer: &CustomerName,
        digest: Digest,
        message: Option<&str>,
    ) -> Result<BlobRelease, Fault> {
        let mut tx = self.write().await?;
        lock(&mut tx, customer, digest).await?;
        let effect = Effect { customer, message, act: format!("delete {digest}") };
        if let Some(bytes) = inbox::freed(&mut tx, &effect).await? {
            return Ok(BlobRelease::Released { bytes });
        }
        let refused = effect.refused();
        if inbox::freed(&mut tx, &refused).await?.is_some() {
            return Ok(BlobRelease::Unknown);
        }
        let Some(upload) = find(&mut tx, customer, digest).await? else {
            inbox::note(&mut tx, &refused, 0, self.clock.now()).await?;
            tx.commit().await?;
            return Ok(BlobRelease::Unknown);
        };
        if upload.whole
            && let Some(job) = job_blobs::user(&mut tx, customer, digest).await?
        {
            return Ok(BlobRelease::InUse { job });
        }
        let now = self.clock.now();
        inbox::note_parts(&mut tx, &upload, now).await?;
        drop_upload(&mut tx, &upload).await?;
        inbox::note(&mut tx, &effect, upload.size, now).await?;
        tx.commit().await?;
        Ok(BlobRelease::Released { bytes: upload.size })
    }

    /// Gives up all blobs of a customer, each in a transaction of its own so that other writers come between; `false` once
    /// a job of it needs one.
    pub(crate) async fn release_all(&self, customer: &CustomerName) -> Result<bool, StoreError> {
        attempt!("note old jobs", self.note_old_jobs())?;
        let mut after = None;
        loop {
            let page = attempt!("read digests of own blobs", self.try_own_digests(customer, after))?;
            let Some(last) = page.last() else { return Ok(true) };
            after = Some(*last);
            for digest in page {
                match attempt!("release blob", self.try_release_blob(customer, digest, None))? {
                    BlobRelease::InUse { .. } => return Ok(false),
                    BlobRelease::Released { .. } | BlobRelease::Unknown => {}
                }
            }
        }
    }

    async fn try_own_digests(&self, customer: &CustomerName, after: Option<Digest>) -> Result<Vec<Digest>, Fault> {
        let mut tx = self.read().await?;
        let after = after.map_or_else(Vec::new, |digest| digest.0.to_vec());
        let sql = "SELECT digest FROM uploads WHERE customer = $1 AND digest > $2 ORDER BY digest LIMIT $3";
        tx.all(sql, values![customer, after, PAGE_DIGESTS]).await?.iter().map(|row| row.digest(0)).collect()
    }

    async fn try_old_uploads(&self, before: Micros, limit: u32) -> Result<Vec<Upload>, Fault> {
        let mut tx = self.read().await?;
        let sql = format!("{UPLOAD} WHERE whole = 0 AND begun_at < $1 ORDER BY begun_at, number LIMIT $2");
        tx.composed(sql, values![before, limit]).await?.iter().map(read_upload).collect()
    }

    /// Drops an upload that is not whole; whether it was still there.
    pub(crate) async fn try_forget_upload(&self, upload: &Upload) -> Result<bool, Fault> {
        let mut tx = self.write().await?;
        lock(&mut tx, &upload.customer, upload.digest).await?;
        let found = find(&mut tx, &upload.customer, upload.digest).await?;
        let Some(found) = found.filter(|found| found.number == upload.number && !found.whole) else { return Ok(false) };
        drop_upload(&mut tx, &found).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// The size of a whole blob that the customer may use.
pub(crate) async fn own_size(tx: &mut Tx, customer: &CustomerName, digest: Digest) -> Result<Option<u64>, Fault> {
    let sql = "SELECT b.size FROM blobs b WHERE b.digest = $2 AND b.whole = 1 AND (
        EXISTS (SELECT 1 FROM uploads u WHERE u.customer = $1 AND u.digest = b.digest AND u.whole = 1)
        OR (b.kept = 1 AND NOT EXISTS (
            SELECT 1 FROM uploads u WHERE u.digest = b.digest AND u.size = b.size AND u.whole = 1)))";
    tx.first(sql, values![customer, digest]).await?.map(|row| row.number(0)).transpose()
}

/// The locks of whoever changes an upload, in this order.
pub(crate) async fn lock(tx: &mut Tx, customer: &CustomerName, digest: Digest) -> Result<(), Fault> {
    tx.lock(Lock::Uploads(customer.as_str())).await?;
    tx.lock(Lock::Blob(digest)).await
}

pub(crate) async fn find(tx: &mut Tx, customer: &CustomerName, digest: Digest) -> Result<Option<Upload>, Fault> {
    let rows = tx.composed(format!("{UPLOAD} WHERE customer = $1 AND digest = $2"), values![customer, digest]).await?;
    rows.first().map(read_upload).transpose()
}

/// Whether a whole blob has just these bytes at their place. Others are kept as the customer's own and refused once all of
/// the upload is there, as they are if nobody has the blob: an earlier answer would tell what others have.
async fn is_there(tx: &mut Tx, part: &PutBlob) -> Result<bool, Fault> {
    if whole_size(tx, part.digest).await? != Some(part.size) {
        return Ok(false);
    }
    let stored = part_data(tx, part.digest, part.size, part.offset).await?;
    Ok(stored.as_ref() == Some(&part.data))
}

fn effect_of<'a>(sender: Sender<'a>, part: &PutBlob) -> Effect<'a> {
    let Sender { customer, message } = sender;
    Effect { customer, message, act: inbox::put(part.digest, part.size, part.offset) }
}

async fn begin(tx: &mut Tx, customer: &CustomerName, part: &PutBlob, now: Micros) -> Result<Upload, Fault> {
    let insert = "INSERT INTO uploads (customer, digest, size, begun_at) VALUES ($1, $2, $3, $4)";
    tx.run(insert, values![customer, part.digest, part.size, now]).await?;
    let begun = find(tx, customer, part.digest).await?;
    begun.ok_or_else(|| Fault::data("an upload that was just begun is gone"))
}

/// Whether that part was sent to the upload under way, which is of its size.
async fn is_sent(tx: &mut Tx, found: Option<&Upload>, part: &PutBlob) -> Result<bool, Fault> {
    let Some(upload) = found.filter(|upload| upload.size == part.size) else { return Ok(false) };
    let sql = "SELECT CAST(1 AS BIGINT) FROM upload_parts WHERE upload = $1 AND start = $2";
    Ok(tx.first(sql, values![upload.number, part.offset]).await?.is_some())
}

/// Writes a part that was not sent before.
async fn write_part(tx: &mut Tx, upload: &mut Upload, part: &PutBlob) -> Result<(), Fault> {
    let data = (!is_there(tx, part).await?).then(|| part.data.clone());
    let write = "INSERT INTO upload_parts (upload, start, data) VALUES ($1, $2, $3)";
    tx.run(write, values![upload.number, part.offset, data]).await?;
    let length = u64::try_from(part.data.len()).unwrap_or(u64::MAX);
    tx.run("UPDATE uploads SET received = received + $2 WHERE number = $1", values![upload.number, length]).await?;
    upload.received = upload.received.saturating_add(length);
    Ok(())
}

/// Deletes what is kept of an upload's parts apart from the blob's.
pub(crate) async fn delete_parts(tx: &mut Tx, upload: &Upload) -> Result<(), Fault> {
    tx.run("DELETE FROM upload_parts WHERE upload = $1", values![upload.number]).await?;
    Ok(())
}

/// How far an upload is.
pub(crate) fn received(upload: &Upload) -> PartPut {
    PartPut::Stored { received: upload.received, whole: upload.whole }
}

/// Where parts of an upload are missing: offset and length of each gap, the first [`MAX_GAPS`].
async fn gaps(tx: &mut Tx, upload: &Upload) -> Result<Vec<(u64, u64)>, Fault> {
    let rows = tx.all("SELECT start FROM upload_parts WHERE upload = $1 ORDER BY start", values![upload.number]).await?;
    let mut gaps = Vec::new();
    let mut next = 0;
    for start in rows.iter().map(|row| row.number::<u64>(0)).chain([Ok(upload.size)]) {
        let start = start?;
        if start > next && gaps.len() < MAX_GAPS {
            gaps.push((next, start - next));
        }
        next = start.saturating_add(PART);
    }
    Ok(gaps)
}

/// Forgets an upload and which messages sent it, and drops the blob's bytes if nobody needs them any more.
async fn drop_upload(tx: &mut Tx, upload: &Upload) -> Result<(), Fault> {
    delete_parts(tx, upload).await?;
    tx.run("DELETE FROM part_messages WHERE upload = $1", values![upload.number]).await?;
    tx.run("DELETE FROM uploads WHERE number = $1", values![upload.number]).await?;
    let blob = values![upload.digest, upload.size];
    let kept = tx.all_locked("SELECT kept FROM blobs WHERE digest = $1 AND size = $2", blob.clone()).await?;
    let Some(kept) = kept.first() else { return Ok(()) };
    // One that is begun counts: parts of it may be noted only because the bytes are here.
    let others = "SELECT number FROM uploads WHERE digest = $1 AND size = $2 LIMIT 1";
    let artefact = "SELECT CAST(1 AS BIGINT) FROM apps WHERE artefact = $1 LIMIT 1";
    let needed = kept.flag(0)?
        || tx.first(others, blob.clone()).await?.is_some()
        || tx.first(artefact, values![upload.digest]).await?.is_some()
        || job_blobs::is_needed(tx, upload.digest).await?;
    if !needed {
        tx.run("DELETE FROM blob_parts WHERE digest = $1 AND size = $2", blob.clone()).await?;
        tx.run("DELETE FROM blobs WHERE digest = $1 AND size = $2", blob).await?;
    }
    Ok(())
}
