//! How long a claim of the outbox takes behind the messages of many customers who refuse, beside the query that passed over
//! all of them; measured and printed, never judged:
//! `OFFPEAK_OUTBOX_ROWS=1000000 cargo test -p store --release --test store outbox -- --nocapture`.

use std::time::{Duration, Instant};

use ports::store::{Outbox, SettlementStore as _};
use sqlx::{AssertSqlSafe, Connection as _};
use store::SqlStore;
use testkit::store_contract::world::{NOW, at};

use super::{patient, postgres, postgres_url, sqlite};

const ROUNDS: u32 = 3;
/// Customers who refuse, and one who takes its messages.
const REFUSING: u32 = 100;
/// What that one waits for.
const WAITING: usize = 50;

#[expect(clippy::disallowed_methods, reason = "how large a measurement is, is asked for from outside")]
fn rows() -> u32 {
    std::env::var("OFFPEAK_OUTBOX_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(5_000)
}

/// As messages were claimed before customers were looked at one by one.
const ALL: &str = "WITH held (customer, number) AS (
        SELECT customer, MIN(number) FROM outbox WHERE held_until > 0 AND held_until > 1 GROUP BY customer)
    SELECT o.number, o.bytes FROM outbox o LEFT JOIN held h ON h.customer = o.customer
    WHERE h.number IS NULL OR o.number < h.number ORDER BY o.number LIMIT 200";

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Statements that fill the outbox; of each customer who refuses, the first message is held.
fn filling() -> Vec<String> {
    let rows = rows();
    let columns = "INSERT INTO outbox (id, customer, held_until, bytes, kind, content_type, body)";
    let numbers = |count| format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})");
    let body = "500, 'offpeak.job.part.v1', 'application/json', CAST('' AS BYTES)";
    vec![
        format!(
            "{columns} {} SELECT 'm' || CAST(n AS TEXT), 'c' || CAST(n % {REFUSING} AS TEXT),
                CASE WHEN n <= {REFUSING} THEN 9000000000000000 ELSE 0 END, {body} FROM n",
            numbers(rows)
        ),
        format!(
            "{columns} {} SELECT 'w' || CAST(n AS TEXT), 'reader', 0, {body} FROM n",
            numbers(u32::try_from(WAITING).unwrap())
        ),
        "ANALYZE".to_owned(),
    ]
}

macro_rules! measure {
    ($name:literal, $store:expr, $connection:expr, $bytes:literal) => {{
        let (store, connection): (SqlStore, _) = ($store, $connection);
        for statement in filling() {
            let statement = statement.replace("BYTES", $bytes);
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.unwrap();
        }
        let start = now();
        for _round in 0..ROUNDS {
            assert_eq!(sqlx::query(ALL).fetch_all(&mut *connection).await.unwrap().len(), WAITING);
        }
        let all = (now() - start) / ROUNDS;
        let claim = claims(&store).await;
        let ratio = all.as_secs_f64() / claim.as_secs_f64();
        println!(
            "{}, {} messages of {REFUSING} customers who refuse: passing over all {all:?}; a claim {claim:?} ({ratio:.1} times as fast)",
            $name,
            rows()
        );
    }};
}

/// The mean of claims of all that can be claimed, each of which is given back.
async fn claims(store: &SqlStore) -> Duration {
    let mut took = Duration::ZERO;
    for _round in 0..ROUNDS {
        let start = now();
        let claimed = store.claim_outbox(NOW, at(20), 200).await.unwrap();
        took += now() - start;
        assert_eq!(claimed.len(), WAITING);
        let refused: Vec<_> = claimed.iter().map(Outbox::key).collect();
        store.settle_outbox(&[], &refused, NOW).await.unwrap();
    }
    took / ROUNDS
}

#[tokio::test]
async fn outbox_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), patient()).await;
    let url = format!("sqlite://{}/store.db", folder.path().display());
    let connection = &mut sqlx::SqliteConnection::connect(&url).await.unwrap();
    measure!("SQLite", store, connection, "BLOB");
}

#[tokio::test]
async fn outbox_on_postgres() {
    let url = postgres_url().await;
    let store = postgres(&url).await;
    let connection = &mut sqlx::PgConnection::connect(&url).await.unwrap();
    measure!("PostgreSQL", store, connection, "BYTEA");
}
