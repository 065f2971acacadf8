//! Builders, contract suites, test servers and the simulator: what the tests of every crate share.

pub mod broker_contract;
pub mod servers;
pub mod simulator;
pub mod store_contract;
