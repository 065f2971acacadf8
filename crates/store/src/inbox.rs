//! The inbox: which messages of customers had their effect, so that one that is delivered again has none.

use ports::store::MAX_PART_MESSAGES;
use protocol::{CustomerName, Digest, Micros};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Tx, values};
use crate::uploads::Upload;

/// What a message does that is done once.
pub(crate) struct Effect<'a> {
    pub(crate) customer: &'a CustomerName,
    /// The message's id; none where no customer's message asks for it.
    pub(crate) message: Option<&'a str>,
    /// What it does, and to what.
    pub(crate) act: String,
}

impl Effect<'_> {
    /// That it was refused, which is noted where what was asked since must not be undone by the same message.
    pub(crate) fn refused(&self) -> Self {
        Self { act: format!("refuse {}", self.act), ..*self }
    }
}

/// Notes an effect in its own transaction; `false` if its message had it before. What no message asks for is done each time.
pub(crate) async fn note(tx: &mut Tx, effect: &Effect<'_>, freed: u64, now: Micros) -> Result<bool, Fault> {
    let Some(message) = effect.message else { return Ok(true) };
    let sql = "INSERT INTO handled (customer, message_id, act, handled_at, freed) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING";
    Ok(tx.run(sql, values![effect.customer, message, effect.act.as_str(), now, freed]).await? > 0)
}

/// What an effect freed, if its message had it before.
pub(crate) async fn freed(tx: &mut Tx, effect: &Effect<'_>) -> Result<Option<u64>, Fault> {
    let Some(message) = effect.message else { return Ok(None) };
    let sql = "SELECT freed FROM handled WHERE customer = $1 AND message_id = $2 AND act = $3";
    tx.first(sql, values![effect.customer, message, effect.act.as_str()]).await?.map(|row| row.number(0)).transpose()
}

/// What a message does that sends a part of a blob.
pub(crate) fn put(digest: Digest, size: u64, offset: u64) -> String {
    format!("{}{offset}", puts(digest, size))
}

/// How that begins, for all parts of a blob.
fn puts(digest: Digest, size: u64) -> String {
    format!("put {digest} {size} ")
}

/// Keeps which message sent a part of an upload, whole or not, of the first [`MAX_PART_MESSAGES`]: it is handled only when the
/// upload is given up, since parts that are not of their digest may be sent again by the same messages. Whether it is among them.
pub(crate) async fn keep(tx: &mut Tx, upload: &Upload, start: u64, message: Option<&str>) -> Result<bool, Fault> {
    let Some(message) = message else { return Ok(true) };
    let most = u64::try_from(MAX_PART_MESSAGES).unwrap_or(u64::MAX);
    let sql = "INSERT INTO part_messages (upload, start, message)
        SELECT $1, $2, $3 WHERE (SELECT COUNT(*) FROM part_messages WHERE upload = $1 AND start = $2) < $4
        ON CONFLICT DO NOTHING";
    if tx.run(sql, values![upload.number, start, message, most]).await? > 0 {
        return Ok(true);
    }
    let kept = "SELECT CAST(1 AS BIGINT) FROM part_messages WHERE upload = $1 AND start = $2 AND message = $3";
    Ok(tx.first(kept, values![upload.number, start, message]).await?.is_some())
}

/// Notes all messages that sent parts of an upload, which is given up: some thousands at most, eight for each of 1,024 parts.
pub(crate) async fn note_parts(tx: &mut Tx, upload: &Upload, now: Micros) -> Result<(), Fault> {
    let sql = "INSERT INTO handled (customer, message_id, act, handled_at)
        SELECT $2, message, $3 || CAST(start AS TEXT), $4 FROM part_messages WHERE upload = $1
        ON CONFLICT DO NOTHING";
    tx.run(sql, values![upload.number, &upload.customer, puts(upload.digest, upload.size), now]).await?;
    Ok(())
}

impl SqlStore {
    pub(crate) async fn try_forget_handled(&self, before: Micros, limit: u32) -> Result<u32, Fault> {
        let mut tx = self.write().await?;
        let sql = "DELETE FROM handled WHERE (customer, message_id, act) IN (
            SELECT customer, message_id, act FROM handled WHERE handled_at < $1 ORDER BY handled_at LIMIT $2)";
        let mut forgotten = tx.run(sql, values![before, limit]).await?;
        if forgotten == 0 {
            // A service of the version before drops an upload without those that sent its parts.
            let sql = "DELETE FROM part_messages WHERE (upload, start, message) IN (
                SELECT upload, start, message FROM part_messages p
                WHERE NOT EXISTS (SELECT 1 FROM uploads u WHERE u.number = p.upload) LIMIT $1)";
            forgotten = tx.run(sql, values![limit]).await?;
        }
        tx.commit().await?;
        Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}
