//! Numbers as a narrow column holds them: rates, quantities, times.

/// How many a second, to the next whole number below.
pub fn per_s(count: u128, elapsed_us: u128) -> u64 {
    u64::try_from(count.saturating_mul(1_000_000) / elapsed_us.max(1)).unwrap_or(u64::MAX)
}

/// The part of a whole in so many pieces, full only when all is done; nothing is a full whole.
pub fn share(part: u64, whole: u64, pieces: u64) -> u64 {
    let share = u128::from(part) * u128::from(pieces) / u128::from(whole.max(1));
    if whole == 0 { pieces } else { u64::try_from(share).unwrap_or(pieces).min(pieces) }
}

/// Tenths as a number with one digit behind the point, while it is small.
pub fn tenths(tenths: u64) -> String {
    if tenths < 1_000 { format!("{}.{}", tenths / 10, tenths % 10) } else { short(tenths / 10) }
}

/// A number in at most six signs: 999, 12.3k, 4.56G.
pub fn short(number: u64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    let mut scaled = number;
    let mut rest = 0;
    for suffix in ["k", "M", "G", "T", "P", "E"] {
        (scaled, rest) = (scaled / 1_000, scaled % 1_000);
        if scaled < 1_000 {
            return match scaled {
                0..10 => format!("{scaled}.{:02}{suffix}", rest / 10),
                10..100 => format!("{scaled}.{}{suffix}", rest / 100),
                _ => format!("{scaled}{suffix}"),
            };
        }
    }
    format!("{scaled}.{rest}Z")
}

/// Seconds as people say them, the two largest units.
pub fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        assert_eq!([0, 9_999, 10_000, 12_345, 123_456, 1_234_567].map(short), ["0", "9999", "10.0k", "12.3k", "123k", "1.23M"]);
        assert_eq!([4_560_000_000, u64::MAX].map(short), ["4.56G", "18.4E"]);
        assert_eq!([5, 123, 9_999, 999_999].map(tenths), ["0.5", "12.3", "999", "99.9k"]);
        assert_eq!([0, 59, 61, 3_661, 90_000].map(time), ["0s", "59s", "1m01s", "1h01m", "1d01h"]);
    }

    #[test]
    fn shares_and_rates_do_not_overflow() {
        assert_eq!(
            [share(0, 0, 100), share(999, 1_000, 100), share(u64::MAX, u64::MAX, 100), share(9, 3, 10)],
            [100, 99, 100, 10]
        );
        assert_eq!([per_s(5, 10_000_000), per_s(u128::MAX, 1), per_s(7, 0)], [0, u64::MAX, 7_000_000]);
    }
}
