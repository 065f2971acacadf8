//! Composes the grid: settings, store, broker, sandbox and services; in one process, or each service by itself.

#[cfg(feature = "compiler")]
mod compile;
#[cfg(feature = "compiler")]
mod embedded;
mod open;
mod serve;
mod settings;
mod terms;

#[cfg(feature = "compiler")]
pub use compile::{compiler_main, publisher};
#[cfg(feature = "compiler")]
pub use embedded::{Grid, Options};
pub use open::{cores, database_url, executor_main, migrate, open_broker, open_store};
#[cfg(feature = "compiler")]
pub(crate) use open::{no_file, topology};
#[cfg(feature = "compiler")]
pub use serve::producer_main;
pub use serve::{aggregator_main, worker_main};
#[cfg(feature = "compiler")]
pub(crate) use settings::MAX_LANES;
pub(crate) use settings::Settings;
#[cfg(feature = "compiler")]
pub(crate) use terms::Terms;
