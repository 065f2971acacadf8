//! How many items the next unit gets: small at first, then grown toward a target duration by what was measured.

use protocol::Fuel;
use protocol::job::UnitSizing;

/// What was measured of a job's current stage so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Items of valid units.
    pub items: u64,
    /// Valid units.
    pub units: u64,
    /// Their fuel.
    pub fuel: Fuel,
    /// Their computing time.
    pub compute_us: u64,
    /// Their output bytes.
    pub output_bytes: u64,
}

/// The first units have so many items: enough to measure by, little to lose.
const FIRST_ITEMS: u64 = 4;
/// A unit is at most so many times larger than the mean so far: one odd measurement must not make a monster.
const MAX_GROWTH: u64 = 8;
/// Outputs of one unit are aimed at a fraction of a message.
const TARGET_OUTPUT_BYTES: u64 = 2 << 20;
/// The fuel that a second takes on a machine that has not been measured.
const ASSUMED_FUEL_PER_S: u64 = 1_000_000_000;
/// What a unit takes beside its computing, to be cut, carried, begun and recorded: so that no-op units are not for nothing.
const HANDLING_US: u64 = 1_000;
/// By fuel a job is charged at most so many times more or less than by its measured time.
const MAX_MISLED: u64 = 4;

/// How many items the next unit should have: at least one, at most the job's own bound.
///
/// Duration is fuel over the measured rate of fuel: fuel per item is exact, and only the rate is a machine's.
pub fn next_unit_items(measured: &Measured, sizing: &UnitSizing) -> u64 {
    let max = u64::from(sizing.max_items).max(1);
    if measured.items == 0 || measured.units == 0 {
        return FIRST_ITEMS.min(max);
    }
    let grown = (measured.items / measured.units).saturating_add(1).saturating_mul(MAX_GROWTH);
    let by_time = items_in(u64::from(sizing.target_ms), measured);
    let by_output =
        if measured.output_bytes == 0 { max } else { ratio(TARGET_OUTPUT_BYTES, measured.items, measured.output_bytes) };
    grown.min(by_time).min(by_output).clamp(1, max)
}

/// The mean computing time of a unit so far, in milliseconds; `None` before anything is measured.
pub fn mean_unit_ms(measured: &Measured) -> Option<u64> {
    measured.compute_us.checked_div(measured.units).map(|us| us / 1_000)
}

/// The expected computing time of so many items, in microseconds.
pub fn expected_us(items: u64, measured: &Measured) -> u64 {
    if measured.items == 0 { 1_000 } else { ratio(items, measured.compute_us, measured.items).max(1) }
}

/// What so many items of a job are charged in the fair share of its pool, in microseconds of a mean machine's computing.
///
/// Fuel per item is exact and is what customers pay for, so that jobs of one app are charged alike once they are measured,
/// whatever their own few measurements of time say; a pool's rate of fuel makes it time. Where an app's fuel says little about
/// its time, its own measured time bounds the charge. A job of which nothing is measured is charged the handling
/// only, so that the first units of a newcomer go soon.
pub fn charge_us(items: u64, measured: &Measured, pool: &Measured) -> u64 {
    let computing = if measured.items == 0 {
        0
    } else {
        let fuel = ratio(items, measured.fuel.get(), measured.items);
        let by_time = expected_us(items, measured);
        let least = by_time / MAX_MISLED;
        ratio(fuel, pool.compute_us, pool.fuel.get()).clamp(least, by_time.saturating_mul(MAX_MISLED))
    };
    computing.saturating_add(HANDLING_US)
}

/// What was measured of all these together.
pub fn sum(all: impl Iterator<Item = Measured>) -> Measured {
    all.fold(Measured::default(), |sum, one| Measured {
        items: sum.items.saturating_add(one.items),
        units: sum.units.saturating_add(one.units),
        fuel: Fuel::new(sum.fuel.get().saturating_add(one.fuel.get())).unwrap_or(Fuel::MAX),
        compute_us: sum.compute_us.saturating_add(one.compute_us),
        output_bytes: sum.output_bytes.saturating_add(one.output_bytes),
    })
}

fn items_in(target_ms: u64, measured: &Measured) -> u64 {
    let fuel = measured.fuel.get().max(1);
    let rate_per_s = if measured.compute_us == 0 { ASSUMED_FUEL_PER_S } else { ratio(fuel, 1_000_000, measured.compute_us) };
    let target_fuel = ratio(target_ms, rate_per_s.max(1), 1_000);
    ratio(target_fuel, measured.items, fuel)
}

/// `a * b / c` without overflow on the way, stopping at the largest number.
fn ratio(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measured(items: u64, units: u64, fuel: u64, compute_us: u64) -> Measured {
        Measured { items, units, fuel: Fuel::new(fuel).unwrap(), compute_us, output_bytes: 0 }
    }

    #[test]
    fn units_grow_to_the_target_and_stay_there() {
        let sizing = UnitSizing { target_ms: 1_000, max_items: 1_000_000 };
        // Items of 1 ms and 1,000,000 fuel each: a thousand of them make the target.
        let mut so_far = Measured::default();
        let mut sizes = Vec::new();
        for _ in 0..40 {
            let items = next_unit_items(&so_far, &sizing);
            sizes.push(items);
            so_far = measured(
                so_far.items + items,
                so_far.units + 1,
                (so_far.items + items) * 1_000_000,
                (so_far.items + items) * 1_000,
            );
        }
        assert_eq!(sizes[0], FIRST_ITEMS);
        assert!(sizes.windows(2).all(|pair| pair[1] >= pair[0]), "{sizes:?}");
        assert!((900..=1_100).contains(sizes.last().unwrap()), "{sizes:?}");
    }

    #[test]
    fn jobs_of_one_app_are_charged_alike_whatever_their_times_were() {
        // The second job's few units met a busy machine.
        let (known, new) = (measured(100, 100, 200_000, 200_000), measured(3, 3, 6_000, 15_000));
        let pool = sum([known, new].into_iter());
        assert_eq!(charge_us(1, &known, &pool), charge_us(1, &new, &pool));
        assert_eq!(charge_us(1, &Measured::default(), &Measured::default()), HANDLING_US);
        assert_eq!(charge_us(7, &Measured::default(), &pool), HANDLING_US);
    }

    #[test]
    fn fuel_that_says_little_about_time_does_not_hide_it() {
        let (waits, counts) = (measured(100, 100, 100, 500_000), measured(100, 100, 1_000_000, 500_000));
        let pool = sum([waits, counts].into_iter());
        assert_eq!(charge_us(1, &waits, &pool), 1_250 + HANDLING_US);
        assert_eq!(charge_us(1, &counts, &pool), 9_999 + HANDLING_US);
    }

    proptest! {
        #[test]
        fn a_unit_is_within_its_bounds(items: u64, units: u64, fuel in 0..=Fuel::MAX.get(), us: u64, output_bytes: u64, target_ms: u32, max_items in 1_u32..) {
            let mut so_far = measured(items, units, fuel, us);
            so_far.output_bytes = output_bytes;
            let size = next_unit_items(&so_far, &UnitSizing { target_ms, max_items });
            prop_assert!((1..=u64::from(max_items)).contains(&size));
        }
    }
}
