//! The inbox: which messages of customers had their effect, so that one that is delivered again has none.

use protocol::{CustomerName, Micros};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Tx, values};

/// What a message does that is done once.
pub(crate) struct Effect<'a> {
    pub(crate) customer: &'a CustomerName,
    /// The message's id; none where no customer's message asks for it.
    pub(crate) message: Option<&'a str>,
    /// What it does, and to what.
    pub(crate) act: String,
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

impl SqlStore {
    pub(crate) async fn try_forget_handled(&self, before: Micros, limit: u32) -> Result<u32, Fault> {
        let mut tx = self.write().await?;
        let sql = "DELETE FROM handled WHERE (customer, message_id, act) IN (
            SELECT customer, message_id, act FROM handled WHERE handled_at < $1 ORDER BY handled_at LIMIT $2)";
        let forgotten = tx.run(sql, values![before, limit]).await?;
        tx.commit().await?;
        Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}
