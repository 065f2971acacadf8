//! The words of the grid: ids, job, unit, outcome, usage; the messages and their codec. Every other crate speaks in these types.

pub mod address;
pub mod app;
pub mod blob;
pub mod codec;
pub mod contract;
pub mod customer;
pub mod digest;
pub mod frame;
pub mod head;
pub mod ids;
pub mod input;
pub mod job;
pub mod message;
pub mod money;
pub mod outcome;
pub mod parts;
pub mod problem;
pub mod quantity;
pub mod query;
pub mod quote;
pub mod reply;
mod schema;
pub mod state;
pub mod unit;
pub mod usage;

pub use codec::{CodecError, Format};
pub use digest::{Digest, OutputChain};
pub use ids::{CustomerName, HostId, JobId, MeterId, PoolName, ReplicaKey, UnitKey};
pub use message::Message;
pub use quantity::{Fuel, Micros};
/// A value of a customer's parameters or items: anything MessagePack can say.
pub use rmpv::Value;
