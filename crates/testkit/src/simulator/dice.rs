//! Chance from a seed: the same on every machine and in every version, so that a kept seed stays the run it was.

/// A generator of numbers (`SplitMix64`: Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The dice of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` to before `end`; `from` if that is none.
    pub fn between(&mut self, from: u64, end: u64) -> u64 {
        from + self.roll() % end.saturating_sub(from).max(1)
    }

    /// Whether something happens that happens so often in a thousand times.
    pub fn happens(&mut self, per_mille: u64) -> bool {
        self.between(0, 1_000) < per_mille
    }

    /// Puts the things in any order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let bound = u64::try_from(last).unwrap_or(u64::MAX);
            let other = usize::try_from(self.between(0, bound + 1)).unwrap_or(last);
            things.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rolls_of_a_seed_never_change() {
        let mut dice = Dice::new(7);
        assert_eq!([dice.between(0, 100), dice.between(0, 100), dice.between(5, 5)], [87, 4, 5]);
        let mut things = [1, 2, 3, 4, 5];
        dice.shuffle(&mut things);
        let mut sorted = things;
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3, 4, 5]);
    }
}
