//! The outbox: messages to customers in the order they were written, claimed for sending and forgotten when sent.

use ports::store::{Outbox, OutboxKey, OutboxMessage, Unsent};
use protocol::parts::MAX_WAITING_MESSAGES;
use protocol::{CustomerName, Micros};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, values};

/// About how many bytes of bodies are claimed at once.
const CLAIM_BYTES: u64 = 16 << 20;
/// So many of the oldest messages are looked at in their order, which is enough unless those of customers who refuse stand
/// before all others; then customers are looked at one by one.
const OLDEST: u32 = 1_000;
/// Customers that are looked at in one claim: more than a grid has, and fewer than would keep a writer waiting for seconds.
const MAX_CUSTOMERS: u32 = 100_000;

/// Writes messages; one whose id is there already has no effect.
pub(crate) async fn write(tx: &mut Tx, messages: &[OutboxMessage]) -> Result<(), Fault> {
    let mut customers: Vec<&str> = messages.iter().map(|message| message.customer.as_str()).collect();
    customers.sort_unstable();
    customers.dedup();
    for customer in customers {
        tx.lock(Lock::Customer(customer)).await?;
    }
    let row = |message: &OutboxMessage| {
        values![
            message.id.as_str(),
            &message.customer,
            u64::try_from(message.body.len()).unwrap_or(u64::MAX),
            message.kind.as_str(),
            message.content_type.as_str(),
            message.correlation_id.clone(),
            message.traceparent.clone(),
            message.body.clone(),
        ]
    };
    tx.run_many(
        "INSERT INTO outbox (id, customer, bytes, kind, content_type, correlation_id, traceparent, body) VALUES",
        messages.iter().map(row).collect(),
        "ON CONFLICT (id) DO NOTHING",
    )
    .await?;
    Ok(())
}

/// Up to how many messages what waits for a customer is counted: one more than that at which no further parts are written.
const MAX_UNSENT: u64 = MAX_WAITING_MESSAGES + 1;

/// What waits for a customer; of more messages than [`MAX_UNSENT`] only so many are counted.
pub(crate) async fn unsent(tx: &mut Tx, customer: &CustomerName) -> Result<Unsent, Fault> {
    let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT)
        FROM (SELECT bytes FROM outbox WHERE customer = $1 LIMIT $2) AS waiting";
    let Some(row) = tx.first(sql, values![customer, MAX_UNSENT]).await? else { return Ok(Unsent::default()) };
    Ok(Unsent { messages: row.number(0)?, bytes: row.number(1)? })
}

impl SqlStore {
    pub(crate) async fn try_claim_outbox(&self, now: Micros, until: Micros, limit: u32) -> Result<Vec<Outbox>, Fault> {
        if !self.outbox_has_message().await? {
            return Ok(Vec::new());
        }
        let mut tx = self.write().await?;
        tx.lock(Lock::Outbox).await?;
        let numbers = claimable(&mut tx, now, limit).await?;
        let claims = numbers.iter().map(|number| values![*number, until]).collect();
        let claim = ") UPDATE outbox SET held_until = k.until FROM k WHERE outbox.number = k.number";
        tx.run_many("WITH k (number, until) AS (VALUES", claims, claim).await?;
        let read = ") SELECT o.number, o.id, o.customer, o.kind, o.content_type, o.correlation_id, o.traceparent, o.body
            FROM k CROSS JOIN outbox o WHERE o.number = k.number";
        let rows = tx.all_many("WITH k (number) AS (VALUES", numbers.iter().map(|n| values![*n]).collect(), read).await?;
        let mut claimed = rows.iter().map(read_message).collect::<Result<Vec<_>, Fault>>()?;
        claimed.sort_by_key(|message| message.sequence);
        tx.commit().await?;
        Ok(claimed)
    }

    /// Whether there is any message at all, asked without becoming a writer.
    async fn outbox_has_message(&self) -> Result<bool, Fault> {
        let mut tx = self.read().await?;
        Ok(tx.first("SELECT number FROM outbox ORDER BY number LIMIT 1", Vec::new()).await?.is_some())
    }

    pub(crate) async fn try_settle_outbox(&self, sent: &[OutboxKey], refused: &[OutboxKey], again: Micros) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Outbox).await?;
        let sent = sent.iter().map(|(number, id)| values![*number, id.as_str()]).collect();
        let forget = ") DELETE FROM outbox WHERE number IN (
            SELECT o.number FROM k CROSS JOIN outbox o WHERE o.number = k.number AND o.id = k.id)";
        tx.run_many("WITH k (number, id) AS (VALUES", sent, forget).await?;
        let refused = refused.iter().map(|(number, id)| values![*number, id.as_str(), again]).collect();
        let hold = ") UPDATE outbox SET held_until = k.again FROM k WHERE outbox.number = k.number AND outbox.id = k.id";
        tx.run_many("WITH k (number, id, again) AS (VALUES", refused, hold).await?;
        tx.commit().await
    }
}

/// A message by its number, with its bytes.
type Numbered = (i64, u64);

/// The oldest messages that no earlier held message of the same customer stands before.
async fn claimable(tx: &mut Tx, now: Micros, limit: u32) -> Result<Vec<i64>, Fault> {
    let mut oldest = of_oldest(tx, now, limit).await?;
    if oldest.len() < rows_of(limit) && has_more(tx).await? {
        oldest = of_each(tx, now, limit).await?;
    }
    let mut sum = 0_u64;
    let fits = |(place, (number, bytes)): (usize, Numbered)| {
        sum = sum.saturating_add(bytes);
        (sum <= CLAIM_BYTES || place == 0).then_some(number)
    };
    Ok(oldest.into_iter().enumerate().map_while(fits).collect())
}

/// Those among the [`OLDEST`].
async fn of_oldest(tx: &mut Tx, now: Micros, limit: u32) -> Result<Vec<Numbered>, Fault> {
    let sql = "WITH held (customer, number) AS (
            SELECT customer, MIN(number) FROM outbox WHERE held_until > 0 AND held_until > $1 GROUP BY customer),
        oldest (number, customer, bytes) AS (SELECT number, customer, bytes FROM outbox ORDER BY number LIMIT $2)
        SELECT o.number, o.bytes FROM oldest o LEFT JOIN held h ON h.customer = o.customer
        WHERE h.number IS NULL OR o.number < h.number ORDER BY o.number LIMIT $3";
    let rows = tx.all(sql, values![now, OLDEST, limit]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.number(1)?))).collect()
}

/// Whether there are more messages than the [`OLDEST`].
async fn has_more(tx: &mut Tx) -> Result<bool, Fault> {
    Ok(tx.first("SELECT number FROM outbox ORDER BY number LIMIT 1 OFFSET $1", values![OLDEST]).await?.is_some())
}

/// The oldest of all customers whose first message is free: each customer is found by the index, however many messages of
/// others there are.
async fn of_each(tx: &mut Tx, now: Micros, limit: u32) -> Result<Vec<Numbered>, Fault> {
    let sql = "WITH RECURSIVE waiting (customer, n) AS (
            SELECT MIN(customer), 1 FROM outbox
            UNION ALL
            SELECT (SELECT MIN(o.customer) FROM outbox o WHERE o.customer > w.customer), w.n + 1
            FROM waiting w WHERE w.customer IS NOT NULL AND w.n < $1),
        heads (customer, number, held_until) AS (
            SELECT w.customer, (SELECT o.number FROM outbox o WHERE o.customer = w.customer ORDER BY o.number LIMIT 1),
                (SELECT o.held_until FROM outbox o WHERE o.customer = w.customer ORDER BY o.number LIMIT 1)
            FROM waiting w WHERE w.customer IS NOT NULL)
        SELECT customer, number FROM heads WHERE held_until <= $2 ORDER BY number LIMIT $3";
    let heads = tx.all(sql, values![MAX_CUSTOMERS, now, limit]).await?;
    let mut oldest: Vec<Numbered> = Vec::new();
    for head in heads {
        // Of a customer whose first message is younger than all that were found, and of all after it, none is among the oldest.
        let last = oldest.get(rows_of(limit).saturating_sub(1)).map_or(i64::MAX, |(number, _)| *number);
        if head.int(1)? > last {
            break;
        }
        let sql = "SELECT number, bytes, held_until FROM outbox WHERE customer = $1 AND number < $2 ORDER BY number LIMIT $3";
        let rows = tx.all(sql, values![head.text(0)?, last, limit]).await?;
        for row in rows {
            if row.int(2)? > now.0 {
                break;
            }
            oldest.push((row.int(0)?, row.number(1)?));
        }
        oldest.sort_unstable();
        oldest.truncate(rows_of(limit));
    }
    Ok(oldest)
}

fn rows_of(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn read_message(row: &Row) -> Result<Outbox, Fault> {
    Ok(Outbox {
        sequence: row.int(0)?,
        message: OutboxMessage {
            id: row.text(1)?,
            customer: row.parsed(2)?,
            kind: row.text(3)?,
            content_type: row.text(4)?,
            correlation_id: row.opt_text(5)?,
            traceparent: row.opt_text(6)?,
            body: row.bytes(7)?,
        },
    })
}
