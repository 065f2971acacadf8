//! The simulator's parts: a skewed clock, a faulty network and database, hosts that compute, and what must hold in the end.
//!
//! They know ports, protocol and rules only; the test package composes the real services with them. All chance comes from one
//! seed, all time from tokio's paused clock, so a seed is a run.

mod app;
mod broken;
mod clock;
mod database;
mod dice;
mod ether;
mod expected;
mod holdings;
mod host;
mod line;
mod network;
mod publisher;
mod pulse;
mod trace;

pub use app::{App, METER};
pub use broken::Broken;
pub use clock::SkewedClock;
pub use database::Database;
pub use dice::Dice;
pub use ether::{Ether, Weather};
pub use expected::Expected;
pub use host::{Host, Nature};
pub use network::Network;
pub use publisher::Publisher;
pub use pulse::Pulse;
pub use trace::Trace;
