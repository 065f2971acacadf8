//! What a customer may use at most, as it is typed: numbers, sizes, fuel.

use broker::users::UserLimits;
use clap::Args;

/// What a customer may use at most; what is not named stays as it is, or is the default of a new customer.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitValues {
    /// Connections at a time; the broker refuses more [default of a new customer: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(UserLimits::MAX_CONNECTIONS)))]
    pub max_connections: Option<u32>,
    /// Channels at a time, over all its connections [default of a new customer: 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(UserLimits::MAX_CHANNELS)))]
    pub max_channels: Option<u32>,
    /// Its weight in the fair share: with 3 it gets three times as much as one with 1 [default of a new customer: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub weight: Option<u32>,
    /// Jobs that have not ended
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Units with the broker or a worker at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub units: Option<u32>,
    /// Bytes of its uploads; also as 500MB, 20GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub stored_bytes: Option<u64>,
    /// Fuel of a month (UTC): its budget; "none" has no end
    #[arg(long, value_name = "FUEL", value_parser = fuel)]
    pub fuel_per_month: Option<FuelLimit>,
    /// Requests a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_second: Option<u32>,
    /// Bytes of one message; also as 1MiB
    #[arg(long, value_name = "SIZE", value_parser = message_size)]
    pub message_bytes: Option<u32>,
}

/// A budget, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuelLimit(pub Option<protocol::Fuel>);

/// What sizes are written in.
const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

fn size(text: &str) -> Result<u64, String> {
    let (digits, factor) = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((text, 1));
    let bytes = digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    // A database's integers have a sign.
    let bytes = bytes.filter(|bytes| *bytes > 0 && i64::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| "write a size as 500000, 500MB or 20GiB".to_owned())
}

fn message_size(text: &str) -> Result<u32, String> {
    let most = protocol::codec::MAX_BODY_BYTES;
    let bytes = size(text)?;
    let fits = usize::try_from(bytes).is_ok_and(|bytes| bytes <= most);
    u32::try_from(bytes).ok().filter(|_| fits).ok_or_else(|| format!("a message has {most} bytes at most"))
}

fn fuel(text: &str) -> Result<FuelLimit, String> {
    if text == "none" {
        return Ok(FuelLimit(None));
    }
    let fuel = text.parse().ok().and_then(|number| protocol::Fuel::new(number).ok());
    fuel.map(|fuel| FuelLimit(Some(fuel))).ok_or_else(|| "write fuel as a whole number, or none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_fuel_are_read() {
        assert_eq!([size("7"), size("20GiB"), size("5MB")], [Ok(7), Ok(20 << 30), Ok(5_000_000)]);
        assert!(["", "0", "x", "1XB", "99999999TiB", "-1"].iter().all(|bad| size(bad).is_err()));
        assert_eq!(message_size("8MiB"), Ok(8 << 20));
        assert!(message_size("9MiB").is_err());
        assert_eq!(fuel("none"), Ok(FuelLimit(None)));
        assert_eq!(fuel("12").unwrap().0.unwrap().get(), 12);
        assert!(fuel("much").is_err());
    }
}
