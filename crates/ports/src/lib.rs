//! What the services need from outside, as small traits: broker, store, sandbox, clock. Adapters implement them, services see only them.

pub mod broker;
pub mod clock;
pub mod dead;
pub mod sandbox;
pub mod store;

pub use broker::{Broker, Consumer};
pub use clock::Clock;
pub use sandbox::{Execute, Publish};
pub use store::{AdmissionStore, BlobStore, DispatchStore, ReportStore, SettlementStore, Store};
