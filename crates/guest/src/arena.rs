//! The allocator's bookkeeping: a bump pointer that every call starts from the same place.
//!
//! Memory that a call allocates is given back as a whole when the next call begins, so the fuel of an item cannot depend
//! on what ran before it in the same instance.

/// The unit in which WebAssembly memory grows.
pub(crate) const PAGE_BYTES: usize = 64 << 10;

/// The strictest alignment a SIMD type needs; input buffers start on it.
const INPUT_ALIGN: usize = 16;

/// Memory as the bump pointer sees it: addresses only, so that it can be tested without a module.
pub(crate) trait Pages {
    /// The current size of memory in bytes.
    fn size(&self) -> usize;
    /// Grows by whole pages (zero is allowed) and says whether that was possible.
    fn grow(&mut self, pages: usize) -> bool;
}

/// The bump pointer.
#[derive(Debug)]
pub(crate) struct Bump {
    next: usize,
    limit: usize,
    /// Where a call's memory begins: behind everything that `op_init` made; zero before.
    mark: usize,
    /// Blocks of the current call that have not been given back.
    live: usize,
}

impl Bump {
    pub(crate) const fn new() -> Self {
        Bump { next: 0, limit: 0, mark: 0, live: 0 }
    }

    /// Whether anything has been handed out yet.
    pub(crate) fn is_new(&self) -> bool {
        self.next == 0
    }

    /// Sets where the heap begins.
    pub(crate) fn start(&mut self, base: usize) {
        self.next = base;
        self.limit = base;
    }

    /// Hands out a block, or zero when memory cannot grow.
    pub(crate) fn alloc(&mut self, size: usize, align: usize, pages: &mut impl Pages) -> usize {
        let Some(start) = self.next.checked_next_multiple_of(align) else {
            return 0;
        };
        let Some(end) = start.checked_add(size) else {
            return 0;
        };
        if end > self.limit && !self.extend(end, pages) {
            return 0;
        }
        self.next = end;
        self.live += 1;
        start
    }

    /// Takes a block back; its memory is used again at once only if it is the last one.
    pub(crate) fn dealloc(&mut self, start: usize, size: usize) {
        // A block that `op_init` made stays where it is: the mark protects it.
        if start < self.mark {
            return;
        }
        self.live = self.live.saturating_sub(1);
        if start + size == self.next {
            self.next = start;
        }
    }

    /// Changes the size of the last block in place and says whether that was possible.
    pub(crate) fn resize(&mut self, start: usize, old: usize, new: usize, pages: &mut impl Pages) -> bool {
        if start < self.mark || start + old != self.next {
            return false;
        }
        let Some(end) = start.checked_add(new) else {
            return false;
        };
        if end > self.limit && !self.extend(end, pages) {
            return false;
        }
        self.next = end;
        true
    }

    /// Begins a call: forgets the last call's memory and hands out the input buffer, with `reserve` bytes ready behind it.
    pub(crate) fn begin(&mut self, input: usize, reserve: usize, pages: &mut impl Pages) -> usize {
        if self.mark != 0 {
            self.next = self.mark;
            self.live = 0;
        }
        let start = self.next.next_multiple_of(INPUT_ALIGN);
        let Some(end) = start.checked_add(input) else {
            return 0;
        };
        let Some(reserved) = end.checked_add(reserve) else {
            return 0;
        };
        if !self.extend(reserved, pages) {
            return 0;
        }
        self.next = end;
        start
    }

    /// Ends `op_init`: what it made stays for the life of the instance.
    pub(crate) fn keep(&mut self) {
        self.mark = self.next;
        self.live = 0;
    }

    /// How many blocks of this call are still in use.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Moves the limit to a page's end behind `end`.
    ///
    /// Every call that needs this runs the same instructions, whether an earlier call has grown memory already or not:
    /// then it grows by no page.
    #[cold]
    fn extend(&mut self, end: usize, pages: &mut impl Pages) -> bool {
        let Some(limit) = end.checked_next_multiple_of(PAGE_BYTES) else {
            return false;
        };
        let missing = limit.saturating_sub(pages.size()) / PAGE_BYTES;
        let grown = pages.grow(missing);
        if grown {
            self.limit = limit;
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory {
        pages: usize,
        most: usize,
        grows: Vec<usize>,
    }

    impl Pages for Memory {
        fn size(&self) -> usize {
            self.pages * PAGE_BYTES
        }
        fn grow(&mut self, pages: usize) -> bool {
            self.grows.push(pages);
            let fits = self.pages + pages <= self.most;
            if fits {
                self.pages += pages;
            }
            fits
        }
    }

    fn memory() -> Memory {
        Memory { pages: 2, most: 10, grows: Vec::new() }
    }

    #[test]
    fn every_call_starts_from_the_same_place() {
        let (mut bump, mut memory) = (Bump::new(), memory());
        assert!(bump.is_new());
        bump.start(1000);
        let params = bump.begin(10, 0, &mut memory);
        assert_eq!(params, 1008);
        let table = bump.alloc(100, 8, &mut memory);
        assert_eq!(table, 1024);
        bump.keep();
        let first = bump.begin(5, PAGE_BYTES, &mut memory);
        assert_eq!(first, 1136);
        let block = bump.alloc(PAGE_BYTES * 3, 8, &mut memory);
        assert_eq!(bump.live(), 1);
        let grows = memory.grows.len();
        assert_eq!(bump.begin(5, PAGE_BYTES, &mut memory), first);
        assert_eq!(bump.live(), 0);
        assert_eq!(bump.alloc(PAGE_BYTES * 3, 8, &mut memory), block);
        // The second call asked for growth as often as the first, by no page.
        assert_eq!(memory.grows[grows..], [0, 0]);
    }

    #[test]
    fn the_last_block_is_given_back_and_resized_in_place() {
        let (mut bump, mut memory) = (Bump::new(), memory());
        bump.start(64);
        let first = bump.alloc(16, 8, &mut memory);
        let second = bump.alloc(16, 8, &mut memory);
        assert!(!bump.resize(first, 16, 32, &mut memory));
        assert!(bump.resize(second, 16, 32, &mut memory));
        bump.dealloc(second, 32);
        assert_eq!(bump.alloc(8, 8, &mut memory), second);
        bump.dealloc(first, 16);
        assert_eq!(bump.live(), 1);
    }

    #[test]
    fn what_init_made_is_never_moved_in_place_nor_counted() {
        let (mut bump, mut memory) = (Bump::new(), memory());
        bump.start(64);
        let kept = bump.alloc(16, 8, &mut memory);
        bump.keep();
        assert!(!bump.resize(kept, 16, 8, &mut memory));
        bump.dealloc(kept, 16);
        assert_eq!(bump.live(), 0);
        assert_eq!(bump.alloc(16, 8, &mut memory), kept + 16);
    }

    #[test]
    fn a_memory_that_cannot_grow_gives_nothing() {
        let (mut bump, mut memory) = (Bump::new(), memory());
        bump.start(64);
        assert_eq!(bump.alloc(PAGE_BYTES * 10, 8, &mut memory), 0);
        assert_eq!(bump.alloc(usize::MAX, 8, &mut memory), 0);
        assert_eq!(bump.begin(usize::MAX - 200, 100, &mut memory), 0);
        assert_ne!(bump.alloc(PAGE_BYTES, 8, &mut memory), 0);
    }
}
