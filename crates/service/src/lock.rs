//! Locking what a panic cannot spoil.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic while the lock was held leaves plain values behind, so the lock stays usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
