//! What every process of the grid needs and knows no job: settings, logs, metrics, admin HTTP, a shutdown scope.
//!
//! A `main.rs` is a list built from these parts:
//!
//! 1. [`settings::load`] gives one typed value, or every mistake at once;
//! 2. [`telemetry::init`] sends logs to stderr, as JSON or for people;
//! 3. [`Scope`] owns every task; [`signals::run`] joins it and turns SIGTERM into a drain, a second one into an abort;
//! 4. [`metrics::Metrics`], [`health`] and [`liveness`] feed [`admin::run`], the HTTP side that operations look at.
//!
//! Nothing here imports another crate of the workspace.

pub mod admin;
pub mod backoff;
pub mod health;
pub mod liveness;
mod lock;
pub mod metrics;
pub mod patience;
pub mod probe;
pub mod scope;
pub mod seen;
pub mod settings;
pub mod signals;
pub mod telemetry;
mod told;

pub use backoff::Backoff;
pub use health::{Readiness, ReadyCheck, Startup};
pub use liveness::Liveness;
pub use metrics::Metrics;
pub use scope::{Ended, Scope, ScopeError};
pub use seen::Seen;
pub use tokio_util::sync::CancellationToken;
pub use told::told;
