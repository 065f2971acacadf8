//! A job's budget of fuel: what is under way is reserved at the most that it can be metered, so that the end of it is exact.

use protocol::Fuel;
use protocol::job::Limits;

/// A budget, and what counts against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: Fuel,
    per_item: Fuel,
    spent: Fuel,
    open_items: u64,
}

impl Budget {
    /// The budget of a job that has one. `spent` is what was metered; `open_items` are the items of its units that are cut and not
    /// decided, of which none is metered above its limit. Both must be of one moment, or what settles between them is in neither.
    pub fn of(limit: Option<Fuel>, limits: &Limits, spent: Fuel, open_items: u64) -> Option<Self> {
        limit.map(|limit| Self { limit, per_item: limits.fuel_per_item, spent, open_items })
    }

    /// The most that is metered of what is under way.
    pub fn reserved(&self) -> u128 {
        u128::from(self.per_item.get()) * u128::from(self.open_items)
    }

    /// How many further items may be cut into units.
    pub fn room(&self) -> u64 {
        let taken = u128::from(self.spent.get()).saturating_add(self.reserved());
        let left = u128::from(self.limit.get()).saturating_sub(taken);
        u64::try_from(left / u128::from(self.per_item.get().max(1))).unwrap_or(u64::MAX)
    }

    /// Takes so many further items.
    pub fn cut(&mut self, items: u64) {
        self.open_items = self.open_items.saturating_add(items);
    }

    /// Whether it suffices for no further item, whatever becomes of what is under way: there is nothing of that.
    pub fn is_exhausted(&self) -> bool {
        self.open_items == 0 && self.room() == 0
    }

    /// Whether it is kept (invariant I7).
    pub(crate) fn holds(&self) -> bool {
        u128::from(self.spent.get()).saturating_add(self.reserved()) <= self.limit.get().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fuel(count: u64) -> Fuel {
        Fuel::new(count).unwrap()
    }

    fn budget(limit: u64, spent: u64, open_items: u64) -> Budget {
        let limits = Limits { fuel_per_item: fuel(10), ..Limits::default() };
        Budget::of(Some(fuel(limit)), &limits, fuel(spent), open_items).unwrap()
    }

    #[test]
    fn what_is_under_way_counts_at_its_limit() {
        assert_eq!(Budget::of(None, &Limits::default(), Fuel::MAX, u64::MAX), None);
        assert_eq!((budget(100, 0, 0).room(), budget(100, 0, 4).room(), budget(100, 61, 0).room()), (10, 6, 3));
        assert_eq!((budget(100, 60, 4).room(), budget(100, 91, 0).room(), budget(100, 200, 0).room()), (0, 0, 0));
        let most = budget(1, u64::MAX >> 1, u64::MAX);
        assert_eq!((most.room(), most.holds()), (0, false));
    }

    #[test]
    fn it_is_exhausted_only_when_nothing_is_under_way() {
        assert!(!budget(100, 0, 10).is_exhausted(), "what is under way may take less");
        assert!(budget(100, 91, 0).is_exhausted() && !budget(100, 90, 0).is_exhausted());
    }

    proptest! {
        /// Whatever is cut within the room and settled at any fuel up to its limit, the budget is kept, and the job gets to an end.
        #[test]
        fn it_is_never_exceeded(limit in 10_u64..2_000, steps in proptest::collection::vec((any::<bool>(), 0_u64..9, 0_u64..=10), 1..200)) {
            let (mut so_far, mut open) = (budget(limit, 0, 0), Vec::new());
            for (cuts, items, each) in steps {
                let items = items.min(so_far.room());
                if cuts && items > 0 {
                    so_far.cut(items);
                    open.push(items);
                } else if let Some(items) = open.pop() {
                    so_far = budget(limit, so_far.spent.get() + items * each, so_far.open_items - items);
                }
                prop_assert!(so_far.holds());
                prop_assert!(so_far.room() > 0 || so_far.open_items > 0 || so_far.is_exhausted());
            }
        }
    }
}
