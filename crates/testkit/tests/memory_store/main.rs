//! The store in memory passes the store's contract, and what it adds for the simulation does as it says.

mod hooks;

use std::sync::Arc;

use ports::Store;
use ports::clock::Clock;
use protocol::Micros;
use testkit::MemoryStore;
use testkit::store_contract::world::NOW;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Micros {
        NOW
    }
}

mod contract {
    use super::*;

    #[expect(clippy::unused_async, reason = "the contract opens any store, and others must wait for theirs")]
    async fn open() -> (Arc<dyn Store>, ()) {
        (Arc::new(MemoryStore::new(Arc::new(Still))), ())
    }

    testkit::store_contract_tests!(super::open);
}
