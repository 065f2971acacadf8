//! The present instant, and instants as people read them.

use jiff::Timestamp;
use ports::Clock as _;
use ports::clock::SystemClock;
use protocol::Micros;

/// The present, for commands that look once; what decides by time is given a clock.
pub fn now() -> Micros {
    SystemClock.now()
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
    fn instants_read_as_rfc_3339() {
        assert_eq!(instant(Micros(1_769_904_000_000_000)), "2026-02-01T00:00:00Z");
    }
}
