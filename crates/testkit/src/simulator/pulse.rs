//! Whether a process lives: one that is dead or stopped reaches neither broker nor store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A process's pulse; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    dead: bool,
    stopped_until: Option<Instant>,
}

impl Pulse {
    /// The process is killed.
    pub fn kill(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dead = true;
    }

    /// The process stands still for a while, and does not know it afterwards.
    pub fn pause(&self, duration: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).stopped_until = Some(Instant::now() + duration);
    }

    /// Waits while the process stands still; never returns once it is dead.
    pub async fn beat(&self) {
        loop {
            let state = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.dead {
                std::future::pending::<()>().await;
            }
            match state.stopped_until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                Some(_) | None => return,
            }
        }
    }
}
