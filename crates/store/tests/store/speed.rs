//! How fast the hot path is beside a bare insert, measured and printed, never judged:
//! `cargo test -p store --release --test store speed -- --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ports::Store;
use store::StoreOptions;
use testkit::store_contract::World;
use testkit::store_contract::world::{at, cut};

use super::{postgres, sqlite};

const UNITS: u32 = 2_000;
const BATCH: u32 = 200;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Dispatches, sends and settles all units of a job; how long each step took in sum.
async fn hot_path(store: Arc<dyn Store>) -> [Duration; 3] {
    let world = World::new(store);
    let job = world.admit(u64::from(UNITS)).await;
    let mut times = [Duration::ZERO; 3];
    for first in (0..UNITS).step_by(usize::try_from(BATCH).unwrap()) {
        let borders: Vec<u64> = (u64::from(first)..=u64::from(first + BATCH)).collect();
        let step = cut(job, 0, first, &borders, &[0]);
        let units: Vec<_> = step.cuts.iter().map(|unit| unit.key).collect();
        let replicas: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
        let start = now();
        assert!(world.store.dispatch(step).await.unwrap());
        let dispatched = now();
        world.store.mark_sent(&replicas, at(60)).await.unwrap();
        let sent = now();
        world.settle_valid(&units).await;
        let settled = now();
        times[0] += dispatched - start;
        times[1] += sent - dispatched;
        times[2] += settled - sent;
    }
    times
}

/// The text of one bare insert of a batch of rows, with the places each database reads fastest.
fn bare_insert(numbered: bool) -> String {
    let place = |n: u32| if numbered { format!("${n}") } else { "?".to_owned() };
    let row = |n: u32| format!("({}, {}, {}, {})", place(n * 4 + 1), place(n * 4 + 2), place(n * 4 + 3), place(n * 4 + 4));
    let rows: Vec<String> = (0..BATCH).map(row).collect();
    format!("INSERT INTO bare (job, unit, first_item, end_item) VALUES {}", rows.join(", "))
}

macro_rules! bare {
    ($connection:expr, $bytes:literal) => {{
        let create = concat!(
            "CREATE TABLE bare (job ",
            $bytes,
            ", unit BIGINT, first_item BIGINT, end_item BIGINT, PRIMARY KEY (job, unit))"
        );
        sqlx::query(create).execute($connection).await.unwrap();
        let sql = bare_insert($bytes == "BYTEA");
        let start = now();
        for first in (0..UNITS).step_by(usize::try_from(BATCH).unwrap()) {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql.clone()));
            for n in first..first + BATCH {
                query = query.bind(vec![7_u8; 16]).bind(i64::from(n)).bind(i64::from(n)).bind(i64::from(n));
            }
            query.execute($connection).await.unwrap();
        }
        now() - start
    }};
}

fn report(name: &str, bare: Duration, [dispatch, send, settle]: [Duration; 3]) {
    let rate = |time: Duration| f64::from(UNITS) / time.as_secs_f64();
    let all = dispatch + send + settle;
    println!("{name}: {UNITS} units in batches of {BATCH}, units/s:");
    println!(
        "  dispatch {:.0}, mark sent {:.0}, settle {:.0}, all three {:.0}",
        rate(dispatch),
        rate(send),
        rate(settle),
        rate(all)
    );
    println!(
        "  bare multi-row insert {:.0} rows/s; it is {:.1} times all three",
        rate(bare),
        all.as_secs_f64() / bare.as_secs_f64()
    );
}

#[tokio::test]
async fn speed() {
    use sqlx::Connection as _;
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), StoreOptions::default()).await;
    let url = format!("sqlite://{}/store.db", folder.path().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("PRAGMA synchronous = FULL").execute(&mut connection).await.unwrap();
    let bare = bare!(&mut connection, "BLOB");
    report("SQLite (synced)", bare, hot_path(Arc::new(store)).await);
    let server =
        tokio::task::spawn_blocking(|| testkit::servers::Postgres::start(testkit::servers::Durability::Synced)).await.unwrap();
    let url = server.address().fresh_database();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let bare = bare!(&mut connection, "BYTEA");
    report("PostgreSQL (synced)", bare, hot_path(Arc::new(postgres(&url).await)).await);
}
