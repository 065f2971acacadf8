//! Lazy splitting: the next unit of a job is cut from its cursor when there is room for it, never before.

use std::ops::Range;

/// The items of the next unit: from the cursor on, as many as sizing says; `None` at the stage's end.
pub fn next_range(cursor: u64, stage_items: u64, size: u64) -> Option<Range<u64>> {
    (cursor < stage_items).then(|| cursor..cursor.saturating_add(size.max(1)).min(stage_items))
}

/// Where a unit that was too large is cut in two; `None` if it has one item only.
pub fn middle(first: u64, end: u64) -> Option<u64> {
    let items = end.checked_sub(first)?;
    (items > 1).then(|| first + items / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn units_tile_the_stage(stage_items in 0_u64..10_000, sizes in proptest::collection::vec(0_u64..700, 1..40)) {
            let mut cursor = 0;
            let mut sizes = sizes.iter().cycle();
            while let Some(range) = next_range(cursor, stage_items, *sizes.next().unwrap()) {
                prop_assert_eq!(range.start, cursor);
                prop_assert!(!range.is_empty());
                cursor = range.end;
            }
            prop_assert_eq!(cursor, stage_items);
        }

        #[test]
        fn halves_are_never_empty(first: u64, items in 0_u64..1_000) {
            let end = first.saturating_add(items);
            match middle(first, end) {
                Some(middle) => prop_assert!(first < middle && middle < end),
                None => prop_assert!(end - first <= 1),
            }
        }
    }
}
