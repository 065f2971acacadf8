//! The broker port twice: over RabbitMQ and in memory, with the topology as data.

pub mod limits;
pub mod memory;
pub mod topology;

pub use memory::MemoryBroker;
pub use topology::{Topology, TopologyError};
