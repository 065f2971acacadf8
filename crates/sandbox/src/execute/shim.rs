//! A deterministic WASI preview 1: stdin, stdout, stderr, a clock that counts calls, seeded random; nothing else.

use protocol::Digest;
use wasmtime::{Caller, FuncType, Linker, Val, ValType};

use super::host::{Limiter, guest_bytes};
use super::poll::poll_oneoff;
use crate::wasi::{FUNCTIONS, MODULE, NO_RESULT};

pub(crate) const SUCCESS: i32 = 0;
const BADF: i32 = 8;
pub(crate) const INVAL: i32 = 28;
const NOSYS: i32 = 52;
const SPIPE: i32 = 70;
/// Where the clock begins, in nanoseconds of Unix time: the billionth second.
const CLOCK_START_NS: u64 = 1_000_000_000_000_000_000;
/// What each look at the clock adds.
const CLOCK_STEP_NS: u64 = 1_000;
/// Pieces of one read or write; what Linux accepts.
const MAX_PIECES: u32 = 1_024;
/// Random bytes of one call: they cost time that is not metered.
const MAX_RANDOM_BYTES: u32 = 64 << 10;
/// Bytes kept of the end of stderr, for the reason of a failure.
const STDERR_TAIL_BYTES: usize = 512;

/// The state behind the imports of one instance.
#[derive(Debug)]
pub(crate) struct Shim {
    stdin: Vec<u8>,
    read: usize,
    pub(crate) stdout: Vec<u8>,
    output_bytes: usize,
    stderr: Vec<u8>,
    pub(crate) clock_ns: u64,
    seed: Digest,
    blocks: u64,
    pub(crate) limiter: Limiter,
}

/// The program ended itself.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub(crate) struct Exit(pub(crate) u32);

impl Shim {
    pub(crate) fn new(stdin: Vec<u8>, seed: Digest, output_bytes: u32, limiter: Limiter) -> Self {
        let output_bytes = usize::try_from(output_bytes).unwrap_or(usize::MAX);
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Self { stdin, read: 0, stdout, output_bytes, stderr, clock_ns: CLOCK_START_NS, seed, blocks: 0, limiter }
    }

    /// The end of what the program wrote to stderr.
    pub(crate) fn stderr_tail(&self) -> String {
        let from = self.stderr.len().saturating_sub(STDERR_TAIL_BYTES);
        String::from_utf8_lossy(&self.stderr[from..]).trim().to_owned()
    }

    /// Bytes of stdin that are left.
    pub(crate) fn stdin_left(&self) -> usize {
        self.stdin.len() - self.read
    }

    fn tick(&mut self) -> u64 {
        self.clock_ns = self.clock_ns.saturating_add(CLOCK_STEP_NS);
        self.clock_ns
    }

    fn write(&mut self, stream: u32, bytes: &[u8]) -> wasmtime::Result<()> {
        if stream == 1 {
            let total = self.stdout.len().saturating_add(bytes.len());
            if total > self.output_bytes {
                let limit = self.output_bytes;
                return Err(wasmtime::Error::msg(format!("output of {total} bytes or more is over the limit of {limit}")));
            }
            self.stdout.extend_from_slice(bytes);
        } else {
            let from = bytes.len().saturating_sub(STDERR_TAIL_BYTES);
            self.stderr.extend_from_slice(&bytes[from..]);
            if self.stderr.len() > 4 * STDERR_TAIL_BYTES {
                self.stderr.drain(..self.stderr.len() - STDERR_TAIL_BYTES);
            }
        }
        Ok(())
    }

    fn random(&mut self, room: &mut [u8]) {
        for chunk in room.chunks_mut(32) {
            let block = Digest::of(&[self.seed.0.as_slice(), &self.blocks.to_le_bytes()].concat());
            chunk.copy_from_slice(&block.0[..chunk.len()]);
            self.blocks = self.blocks.wrapping_add(1);
        }
    }
}

pub(crate) type Guest<'a> = Caller<'a, Shim>;

/// The imports: what a program from stdin to stdout needs; the rest is there, and refuses.
pub(crate) fn link(linker: &mut Linker<Shim>) -> wasmtime::Result<()> {
    for (name, params) in FUNCTIONS.iter().copied().filter(|(name, _)| *name != NO_RESULT) {
        refuse(linker, name, params)?;
    }
    linker.allow_shadowing(true);
    linker.func_wrap(MODULE, "args_sizes_get", |guest: Guest<'_>, count: u32, bytes: u32| nothing(guest, count, bytes))?;
    linker.func_wrap(MODULE, "environ_sizes_get", |guest: Guest<'_>, count: u32, bytes: u32| nothing(guest, count, bytes))?;
    linker.func_wrap(MODULE, "args_get", |_list: u32, _bytes: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "environ_get", |_list: u32, _bytes: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    linker.func_wrap(MODULE, "clock_res_get", |mut guest: Guest<'_>, _clock: u32, at: u32| {
        put(&mut guest, at, &CLOCK_STEP_NS.to_le_bytes())
    })?;
    linker.func_wrap(MODULE, "clock_time_get", |mut guest: Guest<'_>, _clock: u32, _precision: u64, at: u32| {
        let now = guest.data_mut().tick();
        put(&mut guest, at, &now.to_le_bytes())
    })?;
    linker.func_wrap(MODULE, "random_get", |mut guest: Guest<'_>, at: u32, len: u32| {
        if len > MAX_RANDOM_BYTES {
            return Ok(INVAL);
        }
        let (room, shim) = guest_bytes(&mut guest, at, len)?;
        shim.random(room);
        wasmtime::Result::Ok(SUCCESS)
    })?;
    linker.func_wrap(MODULE, "fd_close", |fd: u32| if fd <= 2 { SUCCESS } else { BADF })?;
    linker.func_wrap(MODULE, "fd_seek", |fd: u32, _by: i64, _from: u32, _at: u32| if fd <= 2 { SPIPE } else { BADF })?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", |fd: u32, _flags: u32| if fd <= 2 { SUCCESS } else { BADF })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", fdstat_get)?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_get",
        |mut guest: Guest<'_>, fd: u32, at: u32| {
            if fd <= 2 { put(&mut guest, at, &[0; 64]) } else { Ok(BADF) }
        },
    )?;
    linker.func_wrap(MODULE, "fd_read", fd_read)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "poll_oneoff", poll_oneoff)?;
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> { Err(wasmtime::Error::new(Exit(code))) })?;
    Ok(())
}

/// A function that is there and refuses: there are no files and no sockets.
fn refuse(linker: &mut Linker<Shim>, name: &'static str, params: &str) -> wasmtime::Result<()> {
    let code = if name.starts_with("fd_") || name.starts_with("path_") { BADF } else { NOSYS };
    let params = params.chars().map(|kind| if kind == 'l' { ValType::I64 } else { ValType::I32 });
    let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
    linker.func_new(MODULE, name, ty, move |_guest, _params, results| {
        results.fill(Val::I32(code));
        Ok(())
    })?;
    Ok(())
}

/// An empty list: of arguments, of environment variables.
fn nothing(mut guest: Guest<'_>, count: u32, bytes: u32) -> wasmtime::Result<i32> {
    put(&mut guest, count, &[0; 4])?;
    put(&mut guest, bytes, &[0; 4])
}

/// The streams are no terminals and cannot seek, so that libraries buffer them.
fn fdstat_get(mut guest: Guest<'_>, fd: u32, at: u32) -> wasmtime::Result<i32> {
    const MAY_READ: u8 = 1 << 1;
    const MAY_WRITE: u8 = 1 << 6;
    let mut stat = [0; 24];
    stat[8] = match fd {
        0 => MAY_READ,
        1 | 2 => MAY_WRITE,
        _ => return Ok(BADF),
    };
    put(&mut guest, at, &stat)
}

fn fd_read(mut guest: Guest<'_>, fd: u32, list: u32, count: u32, at: u32) -> wasmtime::Result<i32> {
    if fd != 0 {
        return Ok(BADF);
    }
    let Some(pieces) = pieces(&mut guest, list, count)? else { return Ok(INVAL) };
    let mut total = 0;
    for (at, len) in pieces {
        let (room, shim) = guest_bytes(&mut guest, at, len)?;
        let copied = room.len().min(shim.stdin_left());
        room[..copied].copy_from_slice(&shim.stdin[shim.read..shim.read + copied]);
        shim.read += copied;
        total += copied;
    }
    put(&mut guest, at, &u32::try_from(total)?.to_le_bytes())
}

fn fd_write(mut guest: Guest<'_>, fd: u32, list: u32, count: u32, at: u32) -> wasmtime::Result<i32> {
    if fd != 1 && fd != 2 {
        return Ok(BADF);
    }
    let Some(pieces) = pieces(&mut guest, list, count)? else { return Ok(INVAL) };
    let mut total = 0_u32;
    for (at, len) in pieces {
        let Some(sum) = total.checked_add(len) else { return Ok(INVAL) };
        let (bytes, shim) = guest_bytes(&mut guest, at, len)?;
        shim.write(fd, bytes)?;
        total = sum;
    }
    put(&mut guest, at, &total.to_le_bytes())
}

/// The places that a read or write names; nothing if there are too many.
fn pieces(guest: &mut Guest<'_>, list: u32, count: u32) -> wasmtime::Result<Option<Vec<(u32, u32)>>> {
    if count > MAX_PIECES {
        return Ok(None);
    }
    let (bytes, _shim) = guest_bytes(guest, list, count * 8)?;
    let (pieces, _rest) = bytes.as_chunks::<8>();
    let piece = |[a0, a1, a2, a3, l0, l1, l2, l3]: &[u8; 8]| {
        (u32::from_le_bytes([*a0, *a1, *a2, *a3]), u32::from_le_bytes([*l0, *l1, *l2, *l3]))
    };
    Ok(Some(pieces.iter().map(piece).collect()))
}

/// Writes bytes into the guest.
pub(crate) fn put(guest: &mut Guest<'_>, at: u32, bytes: &[u8]) -> wasmtime::Result<i32> {
    let (room, _shim) = guest_bytes(guest, at, u32::try_from(bytes.len())?)?;
    room.copy_from_slice(bytes);
    Ok(SUCCESS)
}
