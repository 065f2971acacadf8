//! Waiting, for programs that sleep: the clock jumps to the earliest deadline, and streams are always ready.

use super::host::guest_bytes;
use super::shim::{Guest, INVAL, SUCCESS, put};

/// Events that one call may wait for.
const MAX_EVENTS: u32 = 64;
const SUBSCRIPTION_BYTES: u32 = 48;
const CLOCK: u8 = 0;
const READ: u8 = 1;
const ABSOLUTE: u8 = 1;

struct Subscription {
    user: [u8; 8],
    kind: u8,
    /// When a clock is due; now for a stream.
    due_ns: u64,
}

/// WASI's `poll_oneoff`.
pub(crate) fn poll_oneoff(mut guest: Guest<'_>, subscriptions: u32, events: u32, count: u32, at: u32) -> wasmtime::Result<i32> {
    if count == 0 || count > MAX_EVENTS {
        return Ok(INVAL);
    }
    let (bytes, shim) = guest_bytes(&mut guest, subscriptions, count * SUBSCRIPTION_BYTES)?;
    let (entries, _rest) = bytes.as_chunks::<48>();
    let waiting: Vec<_> = entries.iter().map(|entry| subscription(entry, shim.clock_ns)).collect();
    let earliest = waiting.iter().map(|waiting| waiting.due_ns).min().unwrap_or(shim.clock_ns);
    shim.clock_ns = shim.clock_ns.max(earliest);
    let left = shim.stdin_left();
    let mut ready = Vec::new();
    for waiting in waiting.iter().filter(|waiting| waiting.due_ns <= earliest) {
        ready.extend(event(waiting, left));
    }
    let happened = u32::try_from(ready.len() / 32)?;
    put(&mut guest, events, &ready)?;
    put(&mut guest, at, &happened.to_le_bytes())?;
    Ok(SUCCESS)
}

fn subscription(entry: &[u8; 48], now_ns: u64) -> Subscription {
    let mut user = [0; 8];
    user.copy_from_slice(&entry[..8]);
    let mut timeout = [0; 8];
    timeout.copy_from_slice(&entry[24..32]);
    let timeout = u64::from_le_bytes(timeout);
    let kind = entry[8];
    let due_ns = match (kind, entry[40] & ABSOLUTE) {
        (CLOCK, 0) => now_ns.saturating_add(timeout),
        (CLOCK, _) => timeout.max(now_ns),
        _ => now_ns,
    };
    Subscription { user, kind, due_ns }
}

fn event(waiting: &Subscription, stdin_left: usize) -> [u8; 32] {
    let mut event = [0; 32];
    event[..8].copy_from_slice(&waiting.user);
    event[10] = waiting.kind;
    if waiting.kind == READ {
        event[16..24].copy_from_slice(&u64::try_from(stdin_left).unwrap_or(u64::MAX).to_le_bytes());
    }
    event
}
