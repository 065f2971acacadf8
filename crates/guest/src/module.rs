//! Inside a module: the exports' bodies, the imports, and the allocator. The only unsafe code of this crate.
#![expect(
    unsafe_code,
    reason = "the boundary to the host is raw addresses; every address taken in is checked against the buffer handed out"
)]

use crate::arena::{Bump, PAGE_BYTES, Pages};
use crate::frame::{ResultFrame, parts_of};
use crate::{App, Item, Reduce, Shared, decode};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::sync::OnceLock;

#[link(wasm_import_module = "offpeak1")]
unsafe extern "C" {
    #[link_name = "log"]
    fn host_log(ptr: *const u8, len: usize);
    #[link_name = "progress"]
    fn host_progress(done: u32, total: u32);
    #[link_name = "fail"]
    fn host_fail(ptr: *const u8, len: usize);
    #[link_name = "blob_len"]
    fn host_blob_len(blob: u32) -> i64;
    #[link_name = "blob_read"]
    fn host_blob_read(blob: u32, offset: i64, ptr: *mut u8, len: usize) -> i32;
}

unsafe extern "C" {
    /// Set by the linker: the first address behind the stack and the data.
    static __heap_base: u8;
}

/// The number of the job's shared input among the blobs.
const SHARED: u32 = 0;

/// An app that [`export!`](crate::export!) has named.
pub trait Exported: App {
    /// Where the app is kept once it is made.
    fn running() -> &'static Running<Self>;
}

/// The app of this instance, made once by `op_init`.
pub struct Running<A>(OnceLock<A>);

impl<A> Running<A> {
    /// Nothing is running yet.
    pub const fn new() -> Self {
        Running(OnceLock::new())
    }
}

impl<A> Default for Running<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// `op_alloc`: begins a call and hands out its input buffer.
pub fn alloc<A: Exported>(len: usize) -> usize {
    let start = HEAP.with(|heap| heap.bump.begin(len, A::ARENA_BYTES, &mut Wasm));
    HEAP.with(|heap| heap.input = (start, len));
    if start == 0 {
        give_up("the app's working memory does not fit into the job's memory limit");
    }
    start
}

/// `op_init`: makes the app; its memory is kept for the life of the instance.
pub fn init<A: Exported>(ptr: usize, len: usize) -> i32 {
    std::panic::set_hook(Box::new(|panic| fail(&panic.to_string())));
    let made = decode::<A::Params>(input(ptr, len))
        .map_err(|error| format!("the job's params do not fit the app: {error}"))
        .and_then(|params| A::init(params, &Shared::default()))
        .and_then(|app| A::running().0.set(app).map_err(|_| "op_init was called twice".to_owned()));
    if let Err(reason) = &made {
        fail(reason);
    }
    drop_and_keep(made)
}

/// `op_map`: computes the items of a frame.
pub fn map<A: Exported>(ptr: usize, len: usize) -> u64 {
    let app = running::<A>();
    let items = parts_of(input(ptr, len)).unwrap_or_else(|error| panic!("{error}"));
    let mut results = ResultFrame::new(items.len());
    for item in &items {
        let result = app.map(&Item::new(item), &Shared::default());
        if let Err(reason) = &result {
            fail(reason);
        }
        results.push(&result);
    }
    drop(items);
    output(results.into_bytes())
}

/// `op_reduce`: puts the partial results of a frame together.
pub fn reduce<A: Exported + Reduce>(ptr: usize, len: usize) -> u64 {
    let app = running::<A>();
    let parts = parts_of(input(ptr, len)).unwrap_or_else(|error| panic!("{error}"));
    let result = app.reduce(&parts);
    drop(parts);
    output(result.unwrap_or_else(|reason| give_up(&reason)))
}

/// `op_finish`: turns the last partial result into the output.
pub fn finish<A: Exported + Reduce>(ptr: usize, len: usize) -> u64 {
    let result = running::<A>().finish(input(ptr, len));
    output(result.unwrap_or_else(|reason| give_up(&reason)))
}

pub(crate) fn log(line: &str) {
    // SAFETY: the host reads `len` bytes at `ptr`, which is a live string.
    unsafe { host_log(line.as_ptr(), line.len()) }
}

pub(crate) fn progress(done: u32, total: u32) {
    // SAFETY: plain numbers.
    unsafe { host_progress(done, total) }
}

pub(crate) fn blob_len() -> u64 {
    // SAFETY: plain numbers. A negative length means that there is no such blob.
    u64::try_from(unsafe { host_blob_len(SHARED) }).unwrap_or(0)
}

pub(crate) fn blob_read(offset: u64, buffer: &mut [u8]) -> usize {
    let Ok(offset) = i64::try_from(offset) else {
        return 0;
    };
    // SAFETY: the host writes at most `len` bytes at `ptr`, which is a live buffer.
    let count = unsafe { host_blob_read(SHARED, offset, buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(count).unwrap_or(0).min(buffer.len())
}

fn fail(reason: &str) {
    // SAFETY: the host reads `len` bytes at `ptr`, which is a live string.
    unsafe { host_fail(reason.as_ptr(), reason.len()) }
}

fn give_up(reason: &str) -> ! {
    fail(reason);
    std::process::abort()
}

fn running<A: Exported>() -> &'static A {
    A::running().0.get().unwrap_or_else(|| panic!("the host called the app before op_init"))
}

fn drop_and_keep(made: Result<(), String>) -> i32 {
    let code = i32::from(made.is_err());
    drop(made);
    HEAP.with(|heap| heap.bump.keep());
    code
}

/// The input of this call, which must be what `op_alloc` handed out last.
fn input(ptr: usize, len: usize) -> &'static [u8] {
    let (start, size) = HEAP.with(|heap| heap.input);
    assert!(ptr == start && len <= size && start != 0, "the input is not in the buffer of the last op_alloc");
    // SAFETY: the block at `start` has `size` bytes, was written by the host, and is not handed out again during this call.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(ptr), len) }
}

/// Hands the result to the host, which reads it before the next `op_alloc`.
///
/// A block that outlives the call (a cache in a static, say) would be overwritten by the next one, so it ends the call.
fn output(result: Vec<u8>) -> u64 {
    let mut result = result;
    if result.capacity() == 0 {
        // An empty vector has no block; give it one, so that the count below is the same for all.
        result.reserve_exact(1);
    }
    let live = HEAP.with(|heap| heap.bump.live());
    assert!(live == 1, "the app kept memory of one call for the next ({} blocks): state belongs in init", live - 1);
    let (ptr, len) = (result.as_ptr().expose_provenance(), result.len());
    std::mem::forget(result);
    pack(ptr) << 32 | pack(len)
}

fn pack(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

struct Heap {
    bump: Bump,
    input: (usize, usize),
}

/// A module has one thread, so a cell is enough; a nested use would be a defect of this file and panics.
struct OneThread(RefCell<Heap>);

// SAFETY: the target has no threads: `target_feature = "atomics"` is refused below.
unsafe impl Sync for OneThread {}

#[cfg(target_feature = "atomics")]
compile_error!("apps have one thread: build without the target feature `atomics`");

static HEAP: OneThread = OneThread(RefCell::new(Heap { bump: Bump::new(), input: (0, 0) }));

impl OneThread {
    fn with<T>(&self, f: impl FnOnce(&mut Heap) -> T) -> T {
        let mut heap = self.0.borrow_mut();
        if heap.bump.is_new() {
            heap.bump.start((&raw const __heap_base).expose_provenance());
        }
        f(&mut heap)
    }
}

struct Wasm;

impl Pages for Wasm {
    fn size(&self) -> usize {
        std::arch::wasm32::memory_size(0) * PAGE_BYTES
    }

    fn grow(&mut self, pages: usize) -> bool {
        std::arch::wasm32::memory_grow(0, pages) != usize::MAX
    }
}

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: blocks never overlap while they live: the bump pointer only moves back over a block that was given back last,
// or at the start of a call, when `output` has made sure that nothing of the call before is in use.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = HEAP.with(|heap| heap.bump.alloc(layout.size(), layout.align(), &mut Wasm));
        if start == 0 {
            fail("out of memory: the item needs more than the job's memory limit");
        }
        std::ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HEAP.with(|heap| heap.bump.dealloc(ptr.expose_provenance(), layout.size()));
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if HEAP.with(|heap| heap.bump.resize(ptr.expose_provenance(), layout.size(), size, &mut Wasm)) {
            return ptr;
        }
        // SAFETY: the caller promises a live block of `layout` and a valid new size; the alignment stays.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(ptr, moved, layout.size().min(size));
                self.dealloc(ptr, layout);
            }
            moved
        }
    }
}
