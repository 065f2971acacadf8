//! Room: what bounds the memory of the requests under way.

use ports::broker::Delivery;
use protocol::Message;
use protocol::codec::MAX_BODY_BYTES;
use protocol::job::JobSpec;
use protocol::query::FetchResults;
use protocol::quote::QuoteJob;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Jobs read at once, by the size of their bodies: one of many tiny values takes a hundred times as much memory.
const READ_KIB: usize = 16 << 10;
/// Requests for results at once: each holds outputs of about 16 MiB, and parts as many.
const FETCHES: usize = 2;

/// The places there are.
pub(crate) struct Room {
    bodies: Semaphore,
    fetches: Semaphore,
}

/// The places that a request holds.
pub(crate) struct Held<'a> {
    _fetches: Option<SemaphorePermit<'a>>,
    _bodies: Option<SemaphorePermit<'a>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { bodies: Semaphore::new(READ_KIB), fetches: Semaphore::new(FETCHES) }
    }
}

impl Room {
    /// Waits until there is room for what that message becomes when it is read and done.
    pub(crate) async fn hold(&self, delivery: &Delivery) -> Held<'_> {
        let fetches = u32::from(is_fetch(delivery));
        // In this order, so that who waits for others' fetches holds no room of submissions. Neither is ever closed.
        let fetches = self.fetches.acquire_many(fetches).await.ok();
        Held { _fetches: fetches, _bodies: self.bodies.acquire_many(body_kib(delivery)).await.ok() }
    }
}

/// Whether a message asks for results.
pub(crate) fn is_fetch(delivery: &Delivery) -> bool {
    delivery.properties.kind == FetchResults::KIND
}

/// KiB of jobs to be read. Parts of blobs are bytes and stay what they are; of what is compressed the size is not known.
fn body_kib(delivery: &Delivery) -> u32 {
    let kind = delivery.properties.kind.as_str();
    let bytes = if delivery.properties.content_encoding.is_some() {
        MAX_BODY_BYTES
    } else if kind == JobSpec::KIND || kind == QuoteJob::KIND {
        delivery.body.len()
    } else {
        0
    };
    u32::try_from(bytes.div_ceil(1 << 10).min(READ_KIB)).unwrap_or(0)
}
