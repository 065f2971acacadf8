//! Builders, contract suites, test servers and the simulator: what the tests of every crate share.

pub mod servers;
