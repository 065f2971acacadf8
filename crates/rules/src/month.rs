//! Months, UTC: when one begins and ends, for budgets and for reports of usage.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use protocol::Micros;

/// A day, in the microseconds of [`Micros`].
pub const DAY_US: i64 = 86_400_000_000;
/// Years are written with four digits.
const YEARS: Range<i64> = 1970..10_000;

/// A month of a year, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i64,
    /// From 0.
    month: i64,
}

/// A text is no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a month as 2026-07")]
pub struct NoMonth;

impl Month {
    /// The month of that instant.
    pub fn of(at: Micros) -> Self {
        // The civil calendar from a count of days (Hinnant, "chrono-compatible low-level date algorithms", 2013):
        // years begin in March, so that the leap day is a year's last.
        let days = at.0.div_euclid(DAY_US) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = (from_march + 2) % 12;
        Self { year: era * 400 + year + i64::from(month < 2), month }
    }

    /// When it begins.
    pub fn begin(self) -> Micros {
        let year = self.year - i64::from(self.month < 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = (self.month + 10) % 12;
        let day_of_year = (153 * from_march + 2) / 5;
        let day = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
        Micros((era * 146_097 + day - 719_468) * DAY_US)
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self { year: self.year + i64::from(self.month == 11), month: (self.month + 1) % 12 }
    }
}

/// Reads a month as `2026-11`.
impl FromStr for Month {
    type Err = NoMonth;

    fn from_str(text: &str) -> Result<Self, NoMonth> {
        let number = |digits: &str, signs: usize| {
            let plain = digits.len() == signs && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<i64>().ok())?
        };
        let (year, month) = text.split_once('-').ok_or(NoMonth)?;
        let (year, month) = number(year, 4).zip(number(month, 2)).ok_or(NoMonth)?;
        let is_one = YEARS.contains(&year) && (1..=12).contains(&month);
        is_one.then_some(Self { year, month: month - 1 }).ok_or(NoMonth)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month + 1)
    }
}

/// Whole seconds from then until the next month begins, at least 1.
pub fn seconds_left(now: Micros) -> u64 {
    Month::of(now).next().begin().since(now).as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn months_begin_when_they_do() {
        let begin = |text: &str| text.parse::<Month>().unwrap().begin().0 / 1_000_000;
        assert_eq!(begin("1970-01"), 0);
        assert_eq!(begin("2000-03"), 951_868_800);
        assert_eq!(begin("2024-03"), 1_709_251_200);
        assert_eq!(begin("2026-11"), 1_793_491_200);
        for wrong in ["", "2026", "2026-13", "2026-00", "26-01", "2026-1", "2026-+1", "+026-02", "1969-12", "2026-11-01"] {
            assert_eq!(wrong.parse::<Month>(), Err(NoMonth), "{wrong}");
        }
        assert_eq!(seconds_left(Micros(1_793_491_200_000_000 - 1_500_000)), 2);
        assert_eq!(seconds_left(Micros(1_793_491_200_000_000)), 30 * 86_400);
    }

    proptest! {
        #[test]
        fn every_instant_is_in_its_month(at in 0_i64..200_000_000_000_000_000) {
            let month = Month::of(Micros(at));
            prop_assert!(month.begin().0 <= at && at < month.next().begin().0);
            let days = (month.next().begin().0 - month.begin().0) / DAY_US;
            prop_assert!((28..=31).contains(&days));
            prop_assert_eq!(Month::of(month.begin()), month);
            prop_assert_eq!(month.to_string().parse::<Month>(), Ok(month));
        }
    }
}
