//! Durations as people write them: `2h30m`, `90s`, `1d`.

/// Seconds of a text such as `1d2h30m15s`: numbers with units, each unit once, larger units first.
pub fn seconds(text: &str) -> Option<u64> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next()?;
        let (_, length) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*length)?)?;
        rest = tail.get(unit.len_utf8()..)?.trim_start();
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [("90s", 90), ("2h30m", 9_000), ("1d", 86_400), ("1d 1s", 86_401), (" 5m ", 300)] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "0s", "5", "m", "5x", "5m2h", "1h1h", "-5s", "1.5h", "99999999999999999999d", "5é"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
