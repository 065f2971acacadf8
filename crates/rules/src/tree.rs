//! The reduction tree, fixed by item index, so that floating-point sums do not depend on how work was cut or scheduled.

use std::ops::Range;

/// How many partial results one node reduces.
pub const FAN_IN: u64 = 64;

/// How many nodes reduce so many items.
pub fn nodes_above(items: u64) -> u64 {
    items.div_ceil(FAN_IN)
}

/// The items of the stage below that a range of nodes reduces, out of `items_below`.
pub fn children(nodes: &Range<u64>, items_below: u64) -> Range<u64> {
    let first = nodes.start.saturating_mul(FAN_IN).min(items_below);
    let end = nodes.end.saturating_mul(FAN_IN).min(items_below);
    first..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_item_has_one_parent_and_the_tree_ends(items in 1_u64..u64::MAX / 2) {
            let (mut below, mut stages) = (items, 0);
            loop {
                let nodes = nodes_above(below);
                prop_assert_eq!(children(&(0..nodes), below), 0..below);
                let last = children(&(nodes - 1..nodes), below);
                prop_assert!(!last.is_empty() && last.end - last.start <= FAN_IN);
                below = nodes;
                stages += 1;
                if nodes == 1 { break; }
            }
            prop_assert!(stages <= 11);
        }
    }
}
