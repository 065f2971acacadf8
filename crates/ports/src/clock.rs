//! The time, as an argument: services never ask the machine for it themselves.

use protocol::Micros;

/// Tells the time; the simulation tells its own.
pub trait Clock: Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Micros;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the edge at which the clock is read")]
    fn now(&self) -> Micros {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Micros(0).plus(since)
    }
}
