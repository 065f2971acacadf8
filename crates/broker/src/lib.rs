//! The broker port twice: over RabbitMQ and in memory, with the topology as data.

pub mod limits;
pub mod memory;
pub mod rabbit;
pub mod topology;
pub mod users;

pub use memory::MemoryBroker;
pub use rabbit::{RabbitBroker, RabbitSettings};
pub use topology::{Topology, TopologyError};
