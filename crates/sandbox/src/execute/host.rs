//! What a guest may reach of its host under the ABI `offpeak1`: the five imports, and the bound on its memory.

use std::sync::Arc;

use protocol::outcome::MAX_REASON_BYTES;
use wasmtime::{Caller, Extern, Linker, ResourceLimiter};

/// The module that apps import from.
pub(crate) const MODULE: &str = "offpeak1";
/// Lines kept of what a unit logs; the rest is counted.
const MAX_LOG_LINES: usize = 100;
/// Bytes kept of a line.
const MAX_LOG_LINE_BYTES: usize = 500;

/// The state behind the imports of one instance.
#[derive(Debug)]
pub(crate) struct Host {
    /// Blob 0.
    shared: Arc<Vec<u8>>,
    /// The last reason given by `fail`.
    pub(crate) reason: Option<String>,
    pub(crate) log: Log,
    pub(crate) limiter: Limiter,
}

impl Host {
    pub(crate) fn new(shared: Arc<Vec<u8>>, limiter: Limiter) -> Self {
        Self { shared, reason: None, log: Log::default(), limiter }
    }

    fn blob(&self, blob: u32) -> Option<&Arc<Vec<u8>>> {
        (blob == 0 && !self.shared.is_empty()).then_some(&self.shared)
    }
}

/// What a unit logged, within bounds.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Vec<String>,
    dropped: u64,
}

impl Log {
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() < MAX_LOG_LINES {
            self.lines.push(String::from_utf8_lossy(&line[..line.len().min(MAX_LOG_LINE_BYTES)]).into_owned());
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Takes over what another instance of the same unit logged.
    pub(crate) fn append(&mut self, other: &mut Log) {
        let room = MAX_LOG_LINES - self.lines.len();
        let taken = other.lines.len().min(room);
        let over = u64::try_from(other.lines.len() - taken).unwrap_or(u64::MAX);
        self.lines.extend(other.lines.drain(..).take(taken));
        self.dropped = self.dropped.saturating_add(over).saturating_add(std::mem::take(&mut other.dropped));
    }

    /// The lines, and how many more there were.
    pub(crate) fn into_lines(mut self) -> Vec<String> {
        if self.dropped > 0 {
            self.lines.push(format!("({} more lines were dropped)", self.dropped));
        }
        self.lines
    }
}

/// Bounds an instance's memory; growth beyond it is a trap.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    /// Set if the host itself had no memory left, which is no fault of the item.
    pub(crate) host_failure: Option<String>,
}

/// The guest wanted more memory than the job allows.
#[derive(Debug, thiserror::Error)]
#[error("memory limit of {limit} bytes")]
pub(crate) struct MemoryLimit {
    limit: usize,
}

/// The host could not provide the memory that the job allows.
#[derive(Debug, thiserror::Error)]
#[error("host has no memory left")]
struct HostMemory;

impl Limiter {
    pub(crate) fn new(memory_bytes: u64) -> Self {
        Self { memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX), host_failure: None }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes {
            return Err(wasmtime::Error::new(MemoryLimit { limit: self.memory_bytes }));
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Beyond the module's own maximum the instruction answers -1, as it does everywhere.
        let Some(cause) = error.downcast_ref::<std::io::Error>() else { return Ok(()) };
        self.host_failure = Some(format!("host memory: {cause}"));
        Err(wasmtime::Error::new(HostMemory))
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= crate::engine::MAX_TABLE_ELEMENTS)
    }
}

/// The imports.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "log", |mut caller: Caller<'_, Host>, at: u32, len: u32| {
        let (line, host) = guest_bytes(&mut caller, at, len)?;
        host.log.push(line);
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap(MODULE, "progress", |_done: u32, _total: u32| {})?;
    linker.func_wrap(MODULE, "fail", |mut caller: Caller<'_, Host>, at: u32, len: u32| {
        let (text, host) = guest_bytes(&mut caller, at, len)?;
        let text = &text[..text.len().min(MAX_REASON_BYTES)];
        host.reason = Some(String::from_utf8_lossy(text).into_owned());
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap(MODULE, "blob_len", |caller: Caller<'_, Host>, blob: u32| -> i64 {
        let len = caller.data().blob(blob).map(|bytes| bytes.len());
        len.map_or(-1, |len| i64::try_from(len).unwrap_or(i64::MAX))
    })?;
    linker.func_wrap(MODULE, "blob_read", blob_read)?;
    Ok(())
}

fn blob_read(mut caller: Caller<'_, Host>, blob: u32, offset: i64, at: u32, len: u32) -> wasmtime::Result<i32> {
    let Some(bytes) = caller.data().blob(blob).cloned() else { return Ok(-1) };
    let (room, _host) = guest_bytes(&mut caller, at, len)?;
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
    let count = rest.len().min(room.len()).min(0x7fff_ffff);
    room[..count].copy_from_slice(&rest[..count]);
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

/// A range of the guest's memory, and the state beside it; a trap if the range is not within memory.
pub(crate) fn guest_bytes<'a, T: 'static>(
    caller: &'a mut Caller<'_, T>,
    at: u32,
    len: u32,
) -> wasmtime::Result<(&'a mut [u8], &'a mut T)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("the module exports no memory"));
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    let range = range(at, len).and_then(|range| bytes.get_mut(range));
    range.map(|bytes| (bytes, state)).ok_or_else(|| wasmtime::Error::new(wasmtime::Trap::MemoryOutOfBounds))
}

/// The range of `len` bytes at `at`, if addresses here can say it.
pub(crate) fn range(at: u32, len: u32) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(at).ok()?;
    Some(start..start.checked_add(usize::try_from(len).ok()?)?)
}
