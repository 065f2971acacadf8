//! How long claiming takes with thousands of running jobs, beside the query that took the oldest of all; measured and
//! printed, never judged: `OFFPEAK_CLAIMS_JOBS=100000 cargo test -p store --release --test store claims -- --nocapture`.

use std::time::{Duration, Instant};

use ports::store::DispatchStore as _;
use protocol::{Format, codec};
use sqlx::{AssertSqlSafe, Connection as _};
use store::SqlStore;
use testkit::store_contract::world::{NOW, at, spec};

use super::{patient, postgres, postgres_url, sqlite};

const LIMIT: u32 = 256;
const ROUNDS: u32 = 5;

/// Running jobs; each hundredth part of them is of customers with few.
#[expect(clippy::disallowed_methods, reason = "how large a measurement is, is asked for from outside")]
fn running_jobs() -> u32 {
    std::env::var("OFFPEAK_CLAIMS_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(5_000)
}

/// The oldest jobs of all, as they were claimed before customers took turns.
const OLDEST: &str = "SELECT j.id FROM jobs j
    WHERE j.state = 'running' AND j.ending IS NULL AND j.cancel_requested = 0 AND (j.deadline_at IS NULL OR j.deadline_at > 1)
        AND (j.cursor_item < j.stage_items
            OR EXISTS (SELECT 1 FROM replicas r WHERE r.job = j.id AND r.state = 'due' AND r.not_before <= 1))
        AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.job = j.id AND (l.owner = 'p' OR l.until > 1))
    ORDER BY j.id LIMIT 256";

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Statements that fill a database: how a number becomes an id, and the dialect's numbers.
fn filling(postgres: bool) -> Vec<String> {
    let (jobs, few) = (running_jobs(), running_jobs() / 100);
    let numbers = format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {jobs})");
    let hex = codec::encode("specification", &spec(10), Format::MessagePack).unwrap();
    let hex: Vec<String> = hex.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.concat();
    let (id, spec, empty) = if postgres {
        ("decode(lpad(to_hex(n), 32, '0'), 'hex')", format!("'\\x{hex}'::bytea"), "''::bytea")
    } else {
        // Ids of 16 bytes that are in the order of their numbers.
        ("CAST(printf('%016d', n) AS BLOB)", format!("X'{hex}'"), "X''")
    };
    let digest = if postgres { "decode(repeat('00', 32), 'hex')" } else { "zeroblob(32)" };
    let jobs = format!(
        "INSERT INTO jobs (id, customer, submission, submission_digest, content_type, items, brief, meter, admitted_at, stage_items,
            last_stage, chain, cursor_item)
        {numbers} SELECT {id}, CASE WHEN n % {few} = 0 THEN 'c' || CAST(n AS TEXT) ELSE 'big' END, CAST(n AS TEXT), {digest},
            'application/json', 10, {digest}, 'meter-1', 1, 10, 1, {empty}, 0 FROM n"
    );
    vec![jobs, format!("INSERT INTO job_specs (job, spec) SELECT id, {spec} FROM jobs"), "ANALYZE".to_owned()]
}

/// Cuts all but the youngest tenth of the jobs, and sends one replica of each.
fn cutting(postgres: bool) -> Vec<String> {
    let cut = running_jobs() / 10 * 9;
    let border = if postgres {
        format!("decode(lpad(to_hex({cut}), 32, '0'), 'hex')")
    } else {
        format!("CAST(printf('%016d', {cut}) AS BLOB)")
    };
    vec![
        format!("UPDATE jobs SET cursor_item = 10, next_unit = 1 WHERE id <= {border}"),
        format!(
            "INSERT INTO replicas (job, unit, replica, state, lane, deadline)
            SELECT id, 0, 0, 'sent', 0, 9000000000000000 FROM jobs WHERE id <= {border}"
        ),
        "ANALYZE".to_owned(),
    ]
}

macro_rules! measure {
    ($name:literal, $store:expr, $connection:expr, $postgres:literal) => {{
        let (store, connection): (SqlStore, _) = ($store, $connection);
        for (state, statements) in [("none cut", filling($postgres)), ("nine of ten all sent", cutting($postgres))] {
            for statement in statements {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.unwrap();
            }
            let start = now();
            for _round in 0..ROUNDS {
                assert_eq!(sqlx::query(OLDEST).fetch_all(&mut *connection).await.unwrap().len(), 256);
            }
            let oldest = (now() - start) / ROUNDS;
            let (first, again) = claims(&store).await;
            println!(
                "{}, {} running jobs of 101 customers, {state}: the oldest {oldest:?}; a claim in turn {first:?}, again {again:?}",
                $name,
                running_jobs()
            );
        }
    }};
}

/// How long a first claim takes, and the mean of those that follow and change nothing.
async fn claims(store: &SqlStore) -> (Duration, Duration) {
    store.release_jobs("p").await.unwrap();
    let start = now();
    let claimed = store.claim_jobs("p", NOW, at(30), LIMIT).await.unwrap();
    let first = now() - start;
    let customers: std::collections::BTreeSet<_> = claimed.iter().map(|job| job.customer.clone()).collect();
    assert!(customers.len() > 9, "{}", customers.len());
    let start = now();
    for _round in 0..ROUNDS {
        assert_eq!(store.claim_jobs("p", NOW, at(30), LIMIT).await.unwrap().len(), claimed.len());
    }
    (first, (now() - start) / ROUNDS)
}

#[tokio::test]
async fn claims_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), patient()).await;
    let url = format!("sqlite://{}/store.db", folder.path().display());
    let connection = &mut sqlx::SqliteConnection::connect(&url).await.unwrap();
    measure!("SQLite", store, connection, false);
}

#[tokio::test]
async fn claims_on_postgres() {
    let url = postgres_url().await;
    let store = postgres(&url).await;
    let connection = &mut sqlx::PgConnection::connect(&url).await.unwrap();
    measure!("PostgreSQL", store, connection, true);
}
