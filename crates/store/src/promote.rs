//! How a complete upload becomes the blob: its digest is checked over all parts, then they are moved, some at a time so
//! that other writers come between, and only then the blob is whole.

use ports::store::{PartPut, StoreError};
use protocol::digest::DigestWriter;

use crate::attempt;
use crate::blobs::{PART, parts, whole_size};
use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::inbox::{self, Effect};
use crate::sql::{Tx, values};
use crate::uploads::{self, Upload, received};

/// How many parts are moved in one transaction: 16 MiB are written in well under a second.
const PAGE_PARTS: u64 = 16;

impl SqlStore {
    /// Checks a complete upload and makes it whole, or drops it if its bytes are others. One that its customer gave up meanwhile
    /// is neither: the part that completed it has had that effect.
    pub(crate) async fn finish(&self, upload: Upload, effect: &Effect<'_>) -> Result<PartPut, StoreError> {
        let right = attempt!("check upload", self.try_check(&upload))?;
        let attempt = if right { attempt!("begin to move an upload", self.try_begin(&upload))? } else { None };
        if attempt.is_some() {
            let mut from = 0;
            while from < upload.size {
                attempt!("move parts of an upload", self.try_move(&upload, from))?;
                from += PAGE_PARTS * PART;
            }
            if let Some(whole) = attempt!("end an upload", self.try_end(&upload, attempt))? {
                return Ok(received(&whole));
            }
        }
        let dropped = attempt!("drop upload", self.try_forget_upload(&upload))?;
        let given_up = !dropped && attempt!("look for a handled message", self.try_is_handled(effect))?;
        Ok(if given_up { PartPut::Handled } else { PartPut::Mismatch })
    }

    async fn try_is_handled(&self, effect: &Effect<'_>) -> Result<bool, Fault> {
        Ok(inbox::freed(&mut self.read().await?, effect).await?.is_some())
    }

    /// Whether an upload's parts are of its digest. Each that was only noted equals the blob's.
    async fn try_check(&self, upload: &Upload) -> Result<bool, Fault> {
        let mut tx = self.read().await?;
        let all_noted = "SELECT COUNT(data) FROM upload_parts WHERE upload = $1";
        let unlike = tx.first(all_noted, values![upload.number]).await?.map_or(Ok(0), |row| row.int(0))?;
        if unlike == 0 && whole_size(&mut tx, upload.digest).await? == Some(upload.size) {
            return Ok(true);
        }
        let mut writer = DigestWriter::default();
        for part in 0..parts(upload.size) {
            writer.update(&own_data(&mut tx, upload, part * PART).await?.unwrap_or_default());
        }
        Ok(writer.finish() == upload.digest)
    }

    async fn try_begin(&self, upload: &Upload) -> Result<Option<i64>, Fault> {
        let mut tx = self.write().await?;
        uploads::lock(&mut tx, &upload.customer, upload.digest).await?;
        let attempt = begin(&mut tx, upload).await?;
        tx.commit().await?;
        Ok(attempt)
    }

    async fn try_move(&self, upload: &Upload, from: u64) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        uploads::lock(&mut tx, &upload.customer, upload.digest).await?;
        move_parts(&mut tx, upload, from).await?;
        tx.commit().await
    }

    async fn try_end(&self, upload: &Upload, attempt: Option<i64>) -> Result<Option<Upload>, Fault> {
        let mut tx = self.write().await?;
        uploads::lock(&mut tx, &upload.customer, upload.digest).await?;
        let ended = end(&mut tx, upload.clone(), attempt).await?;
        tx.commit().await?;
        Ok(ended)
    }
}

/// The bytes of a part: the customer's own, or the blob's that they equal.
async fn own_data(tx: &mut Tx, upload: &Upload, start: u64) -> Result<Option<Vec<u8>>, Fault> {
    let sql = "SELECT COALESCE(o.data, b.data) FROM upload_parts o
        LEFT JOIN blob_parts b ON o.data IS NULL AND b.digest = $3 AND b.size = $4 AND b.start = o.start
        WHERE o.upload = $1 AND o.start = $2";
    let row = tx.first(sql, values![upload.number, start, upload.digest, upload.size]).await?;
    Ok(row.map(|row| row.opt_bytes(0)).transpose()?.flatten())
}

/// Makes place for the blob, unless the upload was given up. The number tells whether the blob's parts were dropped
/// meanwhile (an older service does so with parts of its own that are wrong).
pub(crate) async fn begin(tx: &mut Tx, upload: &Upload) -> Result<Option<i64>, Fault> {
    let make =
        "INSERT INTO blobs (digest, size, kept) SELECT digest, size, 0 FROM uploads WHERE number = $1 ON CONFLICT DO NOTHING";
    tx.run(make, values![upload.number]).await?;
    let sql = "SELECT b.attempt FROM uploads u JOIN blobs b ON b.digest = u.digest AND b.size = u.size WHERE u.number = $1";
    tx.first(sql, values![upload.number]).await?.map(|row| row.int(0)).transpose()
}

/// Moves a page of parts to the blob. What lies there unchecked is replaced by what was checked.
pub(crate) async fn move_parts(tx: &mut Tx, upload: &Upload, from: u64) -> Result<(), Fault> {
    let until = from.saturating_add(PAGE_PARTS * PART);
    let copy = "INSERT INTO blob_parts (digest, size, start, data)
        SELECT $1, $2, o.start, o.data FROM upload_parts o
        WHERE o.upload = $3 AND o.start >= $4 AND o.start < $5 AND o.data IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = $1 AND b.size = $2 AND b.whole = 1)
        ON CONFLICT (digest, size, start) DO UPDATE SET data = excluded.data";
    tx.run(copy, values![upload.digest, upload.size, upload.number, from, until]).await?;
    let note = "UPDATE upload_parts SET data = NULL WHERE upload = $1 AND start >= $2 AND start < $3";
    tx.run(note, values![upload.number, from, until]).await?;
    Ok(())
}

/// The blob is whole, and the customer's; `None` if the upload was given up meanwhile, or the blob's parts were dropped. The
/// messages that sent it stay with it until it is given up.
pub(crate) async fn end(tx: &mut Tx, upload: Upload, attempt: Option<i64>) -> Result<Option<Upload>, Fault> {
    let found = uploads::find(tx, &upload.customer, upload.digest).await?;
    if found.is_none_or(|found| found.number != upload.number) {
        return Ok(None);
    }
    if whole_size(tx, upload.digest).await? != Some(upload.size) && !make_whole(tx, &upload, attempt).await? {
        return Ok(None);
    }
    uploads::delete_parts(tx, &upload).await?;
    tx.run("UPDATE uploads SET whole = 1 WHERE number = $1", values![upload.number]).await?;
    Ok(Some(Upload { whole: true, ..upload }))
}

async fn make_whole(tx: &mut Tx, upload: &Upload, attempt: Option<i64>) -> Result<bool, Fault> {
    let Upload { digest, size, .. } = *upload;
    let count = "SELECT COUNT(*) FROM blob_parts WHERE digest = $1 AND size = $2";
    let there = tx.first(count, values![digest, size]).await?.map_or(Ok(0), |row| row.number::<u64>(0))?;
    let whole = "UPDATE blobs SET whole = 1, parts = $3 WHERE digest = $1 AND size = $2 AND attempt = COALESCE($4, attempt)";
    Ok(there == parts(size) && tx.run(whole, values![digest, size, there, attempt]).await? > 0)
}
