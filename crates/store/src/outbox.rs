//! The outbox: messages to customers in the order they were written, claimed for sending and forgotten when sent.

use ports::store::{Outbox, OutboxMessage};
use protocol::Micros;

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, values};

/// About how many bytes of bodies are claimed at once.
const CLAIM_BYTES: u64 = 16 << 20;

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

    pub(crate) async fn try_settle_outbox(&self, sent: &[i64], refused: &[i64], again: Micros) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Outbox).await?;
        let sent = sent.iter().map(|number| values![*number]).collect();
        tx.run_many("DELETE FROM outbox WHERE number IN (VALUES", sent, ")").await?;
        let refused = refused.iter().map(|number| values![*number, again]).collect();
        let hold = ") UPDATE outbox SET held_until = k.again FROM k WHERE outbox.number = k.number";
        tx.run_many("WITH k (number, again) AS (VALUES", refused, hold).await?;
        tx.commit().await
    }
}

/// The oldest messages that no earlier held message of the same customer stands before.
async fn claimable(tx: &mut Tx, now: Micros, limit: u32) -> Result<Vec<i64>, Fault> {
    // Held messages are few (claimed or refused), so the first of each customer is found at once.
    let sql = "WITH held (customer, number) AS (
            SELECT customer, MIN(number) FROM outbox WHERE held_until > 0 AND held_until > $1 GROUP BY customer)
        SELECT o.number, o.bytes FROM outbox o LEFT JOIN held h ON h.customer = o.customer
        WHERE h.number IS NULL OR o.number < h.number ORDER BY o.number LIMIT $2";
    let rows = tx.all(sql, values![now, limit]).await?;
    let mut numbers = Vec::new();
    let mut sum = 0_u64;
    for row in &rows {
        sum = sum.saturating_add(row.number(1)?);
        if sum > CLAIM_BYTES && !numbers.is_empty() {
            break;
        }
        numbers.push(row.int(0)?);
    }
    Ok(numbers)
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
