//! Properties of prices: exact sums, monotone, no overflow where a grid can come, and one rounding.

use super::*;
use proptest::prelude::*;

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn card(fuel: &str, bytes: &str) -> RateCard {
    RateCard {
        id: "test".to_owned(),
        digest: Digest::of(b"card"),
        currency: "EUR".parse().unwrap(),
        pools: BTreeMap::from([(open(), Rates::new(amount(fuel), amount(bytes)).unwrap())]),
    }
}

fn open() -> PoolName {
    PoolName::new("open").unwrap()
}

fn cost(fuel_price: &str, bytes_price: &str, fuel: u128, bytes: u128) -> String {
    card(fuel_price, bytes_price).cost(&open(), fuel, bytes).unwrap().amount.to_string()
}

#[test]
fn what_a_person_computes_by_hand() {
    assert_eq!(cost("0.025", "0.01", 0, 0), "0");
    assert_eq!(cost("0.025", "0.01", PRICED_FUEL, 0), "0.025");
    assert_eq!(cost("0.025", "0.01", 0, PRICED_BYTES), "0.01");
    assert_eq!(cost("0.025", "0.01", 4_200_000_000_000, 3 * PRICED_BYTES), "0.135");
    assert_eq!(cost("1", "0", 1, 0), "0.000000000001");
    assert_eq!(cost("0.4", "0", 1, 0), "0");
    assert_eq!(cost("0.5", "0", 1, 0), "0.000000000001");
    // Each is rounded away alone, and half a step together.
    assert_eq!(cost("0.25", "0.000268435456", 1, 1), "0.000000000001");
}

#[test]
fn a_pool_without_a_price_has_no_cost() {
    assert_eq!(card("1", "1").cost(&PoolName::new("trusted").unwrap(), 1, 1), None);
}

#[test]
fn prices_have_bounds() {
    assert!(Rates::new(MAX_PRICE, Amount(0)).is_ok());
    assert_eq!(Rates::new(Amount(MAX_PRICE.0 + 1), Amount(0)), Err(PriceError(Amount(MAX_PRICE.0 + 1))));
    assert_eq!(Rates::new(Amount(0), amount("-0.1")), Err(PriceError(amount("-0.1"))));
}

#[test]
fn a_thousand_million_of_the_largest_jobs_at_the_highest_price_are_exact() {
    let (most, jobs) = (u128::from(u64::MAX), 1_000_000_000);
    let rates = Rates::new(MAX_PRICE, MAX_PRICE).unwrap();
    let (fuel, bytes) = (most * jobs, most);
    let charge = rates.charge(fuel, bytes).unwrap();
    // 10^9 for 10^12 instructions is a thousandth for each, and 10^9 for each of 2^34 GiB less the last byte.
    let by_fuel = i128::try_from(fuel * 1_000_000_000).unwrap();
    let by_bytes = (1_i128 << 34) * MAX_PRICE.0 - 931_322_574_615;
    let step_beside = charge.rounded().unwrap().0 - by_fuel - by_bytes;
    assert!((-1..=1).contains(&step_beside), "{step_beside}");
    assert_eq!(rates.charge(u128::MAX, 0), None, "beyond all bounds is told, never wrapped");
}

proptest! {
    /// However usage is cut into rows, the sum of their charges is the charge of their sum.
    #[test]
    fn sums_are_exact(
        fuel_price in 0..=MAX_PRICE.0, bytes_price in 0..=MAX_PRICE.0,
        rows in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..20),
    ) {
        let rates = Rates::new(Amount(fuel_price), Amount(bytes_price)).unwrap();
        let (mut sum, mut fuel, mut bytes) = (Charge::default(), 0_u128, 0_u128);
        for (row_fuel, row_bytes) in rows {
            sum = sum.checked_add(rates.charge(row_fuel.into(), row_bytes.into()).unwrap()).unwrap();
            fuel += u128::from(row_fuel);
            bytes += u128::from(row_bytes);
        }
        prop_assert_eq!(rates.charge(fuel, bytes), Some(sum));
        prop_assert!(sum.parts < PARTS);
        prop_assert!(sum.rounded().is_some());
    }

    /// More never costs less, and a higher price neither.
    #[test]
    fn more_never_costs_less(
        price in 0..MAX_PRICE.0, dearer in 0..1_000_000_i128,
        fuel in any::<u64>(), bytes in any::<u64>(), more in any::<u32>(),
    ) {
        let rates = Rates::new(Amount(price), Amount(price)).unwrap();
        let dear = Rates::new(Amount((price + dearer).min(MAX_PRICE.0)), Amount(price)).unwrap();
        let (fuel, bytes, more) = (u128::from(fuel), u128::from(bytes), u128::from(more));
        let charge = rates.charge(fuel, bytes);
        prop_assert!(rates.charge(fuel + more, bytes) >= charge && rates.charge(fuel, bytes + more) >= charge);
        prop_assert!(dear.charge(fuel, bytes) >= charge);
        prop_assert!(rates.charge(fuel + more, bytes).unwrap().rounded() >= charge.unwrap().rounded());
    }

    /// Rounding is off by half a step at most.
    #[test]
    fn rounding_is_off_by_half_a_step(price in 0..1_000_000_000_000_i128, fuel in 0..1_000_000_000_000_000_u64) {
        let rates = Rates::new(Amount(price), Amount(0)).unwrap();
        let told = rates.charge(fuel.into(), 0).unwrap().rounded().unwrap().0;
        let exact = i128::from(fuel) * price;
        let lot = i128::try_from(PRICED_FUEL).unwrap();
        prop_assert!((2 * (told * lot - exact)).abs() <= lot);
    }
}
