//! The worker's settings.

use serde::Deserialize;

/// How the worker works; the key names are the configuration file's.
#[derive(Debug, Clone, Deserialize)]
pub struct WorkerSettings {
    /// On shutdown, what computes is given so long to finish before it is handed back.
    pub drain_timeout_ms: u64,
    /// A message delivered more often has killed its workers and is given up.
    pub max_deliveries: u32,
}
