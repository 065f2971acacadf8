//! The trace of a run: every event in order, as a digest to compare runs by and, if wanted, as text.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// FNV-1a, 64 bits.
const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0100_0000_01B3;

/// The events of a run so far.
#[derive(Debug)]
pub struct Trace {
    begun: Instant,
    print: bool,
    digest: Mutex<(u64, u64)>,
}

impl Trace {
    /// An empty trace; with `print`, each event is printed as it comes.
    pub fn new(print: bool) -> Self {
        Self { begun: Instant::now(), print, digest: Mutex::new((OFFSET, 0)) }
    }

    /// Notes an event.
    #[expect(clippy::print_stdout, reason = "a printed trace is for the person who asked for it")]
    pub fn note(&self, event: impl Display) {
        let line = format!("{:>9.3} {event}", self.begun.elapsed().as_secs_f64());
        if self.print {
            println!("{line}");
        }
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        digest.0 = line.bytes().fold(digest.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        digest.1 += 1;
    }

    /// The digest of all events so far, and their number.
    pub fn digest(&self) -> (u64, u64) {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
