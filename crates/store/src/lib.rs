//! The store over PostgreSQL and SQLite: one set of statements, one set of migrations, all traits of the port.
//!
//! Rules that keep it free of deadlocks and of double effects:
//! every writer locks the jobs it touches first, in the order of their ids; numbers of the ledger and of one customer's
//! messages are drawn under a lock that is held until the commit; every effect is fenced by a state that is checked under that lock.

mod about;
mod activity;
mod admission;
mod assemble;
mod blobs;
mod budget;
mod claim;
mod connect;
mod customers;
mod dispatch;
mod facts;
mod fault;
mod inbox;
mod job_blobs;
mod ledger;
mod load;
mod migrate;
mod outbox;
mod outputs;
mod parts;
mod promote;
mod report;
mod requests;
mod retention;
mod settle;
mod settlement;
mod specs;
mod split;
mod sql;
mod states;
mod totals;
mod turns;
mod uploads;
mod waiting;

pub use about::{About, Product};
pub use connect::{SqlStore, StoreOptions, check_url};
pub use load::{JobLoad, OutboxLoad};
pub use migrate::Schema;
pub use ports::store::StoreError;

/// Runs one transaction, again if it lost a race, and says of its fault to which operation it belongs.
macro_rules! attempt {
    ($operation:literal, $transaction:expr) => {
        $crate::attempt!($operation, $transaction, true)
    };
    ($operation:literal, $transaction:expr, $again:expr) => {{
        let mut attempt = 1;
        loop {
            match $transaction.await {
                Err(fault) if fault.is_race() && $again && attempt < $crate::connect::MAX_ATTEMPTS => attempt += 1,
                done => break done.map_err(|fault| fault.of($operation)),
            }
        }
    }};
}
pub(crate) use attempt;
