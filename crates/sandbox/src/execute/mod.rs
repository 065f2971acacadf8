//! The executing half: units run in fresh instances, in child processes or in this one.

mod app;
mod child;
mod clock;
mod command;
mod failure;
mod host;
mod in_process;
mod loaded;
mod messages;
mod poll;
mod pool;
mod remote;
mod shim;
mod unit;

use ports::sandbox::Program;

pub use child::executor_main;
pub use in_process::InProcess;
pub use pool::{ExecutorPool, ExecutorSettings};

/// Why there is no executor.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine cannot be set up on this host.
    #[error("engine cannot be set up: {reason}")]
    Engine {
        /// Why.
        reason: String,
    },
    /// The pool of executors cannot be made.
    #[error("pool of executors cannot be made: {reason}")]
    Pool {
        /// Why.
        reason: String,
    },
}

/// Passes on what an app logged.
fn log(program: &Program, lines: &[String]) {
    for line in lines {
        tracing::debug!(brief = %program.brief, customer = %program.customer, "app: {line}");
    }
}
