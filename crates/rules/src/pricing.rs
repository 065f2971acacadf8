//! Prices: what metered work costs by a rate card, exactly; rounded once, where an amount leaves the grid.

use std::collections::BTreeMap;

use protocol::money::{Amount, Currency, Money};
use protocol::{Digest, PoolName};

/// Metered instructions that a price is for.
pub const PRICED_FUEL: u128 = 1_000_000_000_000;
/// Bytes that a price is for: one GiB.
pub const PRICED_BYTES: u128 = 1 << 30;
/// The highest price, 10^9 of a currency: beyond it is a slip of the pen, and up to it no sum that a grid can meter overflows.
pub const MAX_PRICE: Amount = Amount(1_000_000_000 * 1_000_000_000_000);

/// In how many parts an amount's smallest step is counted: the least that both [`PRICED_FUEL`] and [`PRICED_BYTES`] divide.
const PARTS: u128 = PRICED_FUEL << 18;

/// What metered work costs; nothing in it changes once it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateCard {
    /// Its name.
    pub id: String,
    /// The digest of the file that it was read from: two cards of one name are told apart.
    pub digest: Digest,
    /// What it is in.
    pub currency: Currency,
    /// The prices of each pool.
    pub pools: BTreeMap<PoolName, Rates>,
}

/// The prices of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// In steps of 10^-12, like an amount.
    fuel: u128,
    bytes: u128,
}

/// A price below zero or above [`MAX_PRICE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("price {0} is not from 0 to 1000000000")]
pub struct PriceError(pub Amount);

/// What work costs, not rounded: sums of charges are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Charge {
    /// Steps of 10^-12.
    steps: u128,
    /// Less than one step, in [`PARTS`].
    parts: u128,
}

impl RateCard {
    /// What so much fuel and so many bytes cost in a pool. `None` if the card has no price for it, or the sum is beyond all bounds.
    pub fn charge(&self, pool: &PoolName, fuel: u128, bytes: u128) -> Option<Charge> {
        self.pools.get(pool)?.charge(fuel, bytes)
    }

    /// The same as an amount for a person, rounded here and only here, to 10^-12, halves up. A bill adds up charges instead.
    pub fn cost(&self, pool: &PoolName, fuel: u128, bytes: u128) -> Option<Money> {
        let amount = self.charge(pool, fuel, bytes)?.rounded()?;
        Some(Money { amount, currency: self.currency })
    }
}

impl Rates {
    /// The prices of [`PRICED_FUEL`] and of [`PRICED_BYTES`].
    pub fn new(fuel: Amount, bytes: Amount) -> Result<Self, PriceError> {
        Ok(Self { fuel: price(fuel)?, bytes: price(bytes)? })
    }

    /// What so much fuel and so many bytes cost; `None` beyond all bounds.
    pub fn charge(&self, fuel: u128, bytes: u128) -> Option<Charge> {
        Charge::of(fuel, self.fuel, PRICED_FUEL)?.checked_add(Charge::of(bytes, self.bytes, PRICED_BYTES)?)
    }
}

fn price(amount: Amount) -> Result<u128, PriceError> {
    let steps = u128::try_from(amount.0).ok().filter(|_| amount <= MAX_PRICE);
    steps.ok_or(PriceError(amount))
}

impl Charge {
    /// `count` at a price for `lot` of them. What is left of the last lot is multiplied apart, so that nothing overflows on the
    /// way: it is below 10^12, and a price below 10^22.
    fn of(count: u128, price: u128, lot: u128) -> Option<Self> {
        let (lots, left) = (count / lot, count % lot);
        let left = left * price;
        let steps = lots.checked_mul(price)?.checked_add(left / lot)?;
        Some(Self { steps, parts: left % lot * (PARTS / lot) })
    }

    /// The sum; `None` beyond all bounds.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let parts = self.parts + other.parts;
        let steps = self.steps.checked_add(other.steps)?.checked_add(parts / PARTS)?;
        Some(Self { steps, parts: parts % PARTS })
    }

    /// To an amount's steps, halves up; `None` beyond what an amount holds.
    pub fn rounded(self) -> Option<Amount> {
        let steps = self.steps.checked_add(u128::from(self.parts >= PARTS / 2))?;
        i128::try_from(steps).ok().map(Amount)
    }
}

#[cfg(test)]
mod tests;
