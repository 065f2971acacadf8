//! Why an item failed, in words for the customer.

use protocol::outcome::bounded_reason;
use wasmtime::Trap;

use super::host::MemoryLimit;

/// Why a call into an instance did not come back well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The item's own doing.
    Item(String),
    /// The host could not provide what the job allows.
    Host(String),
}

/// The reason of a poisoned item: what stopped it, and what it said before.
pub(crate) fn poison(error: &wasmtime::Error, said: Option<String>, budget: u64) -> String {
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => format!("out of fuel after {budget}"),
        Some(Trap::UnreachableCodeReached) => "trap: unreachable".to_owned(),
        Some(trap) => format!("trap: {}", trap.to_string().trim_start_matches("wasm trap: ")),
        None => match error.downcast_ref::<MemoryLimit>() {
            Some(limit) => limit.to_string(),
            None => format!("{error:#}"),
        },
    };
    bounded_reason(match said {
        Some(said) if !said.is_empty() => format!("{what}: {said}"),
        _ => what,
    })
}
