//! Composes the grid: settings, store, broker, sandbox and services; in one process, or each service by itself.

mod embedded;
mod open;
mod serve;
mod settings;

pub use embedded::{Grid, Options};
pub use open::{compiler_main, database_url, executor_main, migrate, open_broker, open_store, publisher};
pub use serve::{Kind, service_main};
