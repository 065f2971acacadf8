//! Months and instants of UTC, as billing counts and people read them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use protocol::Micros;

/// A billing period: one UTC month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    first: Date,
}

impl Month {
    /// From its first instant to before the next month's.
    pub fn bounds(self) -> Option<(Micros, Micros)> {
        let next = self.first.checked_add(1.month()).ok()?;
        Some((start_of(self.first)?, start_of(next)?))
    }
}

fn start_of(day: Date) -> Option<Micros> {
    day.to_zoned(TimeZone::UTC).ok().map(|start| Micros(start.timestamp().as_microsecond()))
}

impl FromStr for Month {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (year, month) = text.split_once('-')?;
            let plain = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            let (year, month) = (plain(year, 4).then(|| year.parse().ok())??, plain(month, 2).then(|| month.parse().ok())??);
            let first = Date::new(year, month, 1).ok().filter(|first| *first >= date(1970, 1, 1))?;
            let month = Self { first };
            month.bounds().map(|_| month)
        };
        parse().ok_or_else(|| "write a month as 2026-07".to_owned())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

/// The first instant of the month (UTC) that an instant lies in.
pub fn begin_of_month(at: Micros) -> Micros {
    let date = Timestamp::from_microsecond(at.0).ok().map(|stamp| stamp.to_zoned(TimeZone::UTC).date());
    date.and_then(|date| start_of(date.first_of_month())).unwrap_or(at)
}

/// An instant as RFC 3339 text, to the second.
pub fn instant(micros: Micros) -> String {
    let stamp = Timestamp::from_microsecond(micros.0).ok().and_then(|stamp| stamp.round(jiff::Unit::Second).ok());
    stamp.map_or_else(|| format!("{} us", micros.0), |stamp| stamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_half_open_in_utc() {
        let month: Month = "2026-02".parse().unwrap();
        // From `date -u -d 2026-02-01 +%s` and `date -u -d 2026-03-01 +%s`.
        assert_eq!(month.bounds(), Some((Micros(1_769_904_000_000_000), Micros(1_772_323_200_000_000))));
        assert_eq!(month.to_string(), "2026-02");
        let december: Month = "2025-12".parse().unwrap();
        assert_eq!(december.bounds().unwrap().1, "2026-01".parse::<Month>().unwrap().bounds().unwrap().0);
        for bad in ["", "2026", "2026-13", "2026-00", "2026-2", "26-02", "2026-02-01", "1969-12", "+026-02", "9999-12x"] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_read_as_rfc_3339() {
        assert_eq!(instant(Micros(1_769_904_000_000_000)), "2026-02-01T00:00:00Z");
    }

    #[test]
    fn a_month_begins_on_its_first_day() {
        let at = |text: &str| Micros(text.parse::<Timestamp>().unwrap().as_microsecond());
        assert_eq!(begin_of_month(at("2026-07-31T23:59:59.999Z")), at("2026-07-01T00:00:00Z"));
        assert_eq!(begin_of_month(at("2026-08-01T00:00:00Z")), at("2026-08-01T00:00:00Z"));
    }
}
