//! The sandbox over wasmtime, in two halves: publishing apps (with the compiler) and executing units (without).

mod confine;
mod engine;
#[cfg(feature = "execute")]
mod execute;
mod process;
#[cfg(feature = "publish")]
mod publish;
pub mod wasi;
mod wire;

pub use engine::generation;
#[cfg(feature = "execute")]
pub use execute::{ExecutorPool, ExecutorSettings, InProcess, StartError, executor_main};
#[cfg(feature = "publish")]
pub use publish::{Compiler, PublishSettings, Publisher, compiler_main, inspect};
