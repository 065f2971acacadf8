//! What the author of an app links: traits, exports and deterministic helpers for the ABI `offpeak1`.
//!
//! An app implements [`App`] (and [`Reduce`] where partial results are put together), and names itself to [`export!`]:
//!
//! ```
//! use guest::{App, Item, NoParams, Shared};
//!
//! /// Squares a number; the item is the index of a `range` input.
//! struct Square;
//!
//! impl App for Square {
//!     type Params = NoParams;
//!     fn init(_: NoParams, _shared: &Shared) -> Result<Self, String> {
//!         Ok(Square)
//!     }
//!     fn map(&self, item: &Item<'_>, _shared: &Shared) -> Result<Vec<u8>, String> {
//!         let n = item.index()?;
//!         guest::encode(&(n * n))
//!     }
//! }
//!
//! guest::export!(Square, output = "msgpack");
//! ```
//!
//! An app is deterministic by construction: it sees no clock, no network and no random source, and the fuel of an item
//! does not depend on the items before it, because all memory that a call allocates is given back when the call ends.

pub mod math;

mod app;
#[cfg(any(target_arch = "wasm32", test))]
mod arena;
mod codec;
mod frame;
mod item;
mod manifest;
mod shared;

#[doc(hidden)]
pub mod abi;

pub use app::{App, NoParams, Reduce};
pub use codec::{decode, encode};
pub use frame::{FrameError, frame_of, parts_of};
pub use item::Item;
pub use manifest::{manifest_bytes, manifest_len};
pub use shared::Shared;

/// Writes one line to the log of the unit; it is kept for the job's owner and never part of a result.
pub fn log(line: &str) {
    abi::log(line);
}

/// Says how much of the current item is done; only shown to people.
pub fn progress(done: u32, total: u32) {
    abi::progress(done, total);
}
