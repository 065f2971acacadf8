//! Builders, contract suites, test servers and the simulator: what the tests of every crate share.

pub mod broker_contract;
pub mod memory_store;
pub mod servers;
pub mod simulator;
pub mod store_contract;

pub use memory_store::MemoryStore;
