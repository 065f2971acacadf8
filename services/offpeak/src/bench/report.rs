//! What was measured, for people and for programs.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// So many in that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rate {
    pub(super) count: u64,
    pub(super) elapsed: Duration,
}

impl Rate {
    /// A second's worth, in tenths.
    fn tenths(self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.count) * 10_000_000 / micros).unwrap_or(u64::MAX)
    }

    /// How large a part of the other this is, in thousandths.
    pub(super) fn permille_of(self, other: Self) -> u64 {
        self.tenths().saturating_mul(1_000) / other.tenths().max(1)
    }

    fn text(self) -> String {
        let tenths = self.tenths();
        let whole = crate::terminal::grouped(&(tenths / 10));
        if tenths < 1_000 { format!("{whole}.{}", tenths % 10) } else { whole }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tenths = self.tenths();
        let number: f64 = format!("{}.{}", tenths / 10, tenths % 10).parse().unwrap_or(f64::MAX);
        serializer.serialize_f64(number)
    }
}

/// Rates of one kind of load, a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct LoadRates {
    /// Jobs admitted.
    #[serde(rename = "submit_jobs_per_second")]
    pub(super) submit_jobs: Rate,
    /// Units cut and handed to the broker, from the first submission to the last unit.
    #[serde(rename = "dispatch_units_per_second")]
    pub(super) dispatch_units: Rate,
    /// Units found valid and metered, likewise.
    #[serde(rename = "settle_units_per_second")]
    pub(super) settle_units: Rate,
    /// Items computed, likewise.
    #[serde(rename = "settle_items_per_second")]
    pub(super) settle_items: Rate,
    /// Items read back from the store.
    #[serde(rename = "read_items_per_second")]
    pub(super) read_items: Rate,
}

/// Latencies of one-item jobs, from submission to the reply that it is completed; microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    pub(super) samples: usize,
    pub(super) p50_us: u128,
    pub(super) p90_us: u128,
    pub(super) p99_us: u128,
    pub(super) max_us: u128,
}

impl Latency {
    /// Of at least one sample; by the nearest rank.
    pub(super) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort();
        let rank = |percent: usize| {
            let at = (samples.len() * percent).div_ceil(100).saturating_sub(1);
            samples.get(at).map_or(0, Duration::as_micros)
        };
        Self { samples: samples.len(), p50_us: rank(50), p90_us: rank(90), p99_us: rank(99), max_us: rank(100) }
    }
}

/// The raw relay over the same broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Relay {
    /// Messages that went both hops.
    #[serde(rename = "messages_per_second")]
    pub(super) messages: Rate,
    /// Size of the first hop's message: a unit.
    pub(super) first_bytes: usize,
    /// Size of the second hop's message: an outcome.
    pub(super) second_bytes: usize,
    /// The grid's settled units a second, of these.
    pub(super) grid_permille: u64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) broker: &'static str,
    pub(super) database: &'static str,
    pub(super) workers: usize,
    /// Jobs of units with one item that does nothing.
    pub(super) noop_units: LoadRates,
    /// One job of tiny items.
    pub(super) tiny_items: LoadRates,
    pub(super) latency: Latency,
    pub(super) relay: Option<Relay>,
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { broker, database, workers, noop_units, tiny_items, latency, relay } = self;
        let row =
            |name: &str, rate: fn(&LoadRates) -> Rate| vec![name.to_owned(), rate(noop_units).text(), rate(tiny_items).text()];
        let rows = [
            row("submit, jobs/s", |rates| rates.submit_jobs),
            row("dispatch, units/s", |rates| rates.dispatch_units),
            row("settle, units/s", |rates| rates.settle_units),
            row("settle, items/s", |rates| rates.settle_items),
            row("read back, items/s", |rates| rates.read_items),
        ];
        let head = format!("broker {broker}, database {database}, {workers} units at a time\n\n");
        let table = crate::terminal::table(&["", "no-op units", "tiny items"], &rows);
        let millis = |micros: u128| format!("{}.{:01} ms", micros / 1_000, micros % 1_000 / 100);
        let Latency { samples, p50_us, p90_us, p99_us, max_us } = *latency;
        let quantiles = [("p50", p50_us), ("p90", p90_us), ("p99", p99_us), ("max", max_us)];
        let latencies: Vec<String> = quantiles.iter().map(|(name, micros)| format!("{name} {}", millis(*micros))).collect();
        let mut text =
            format!("{head}{table}\none-item job, submitted to completed ({samples} samples): {}\n", latencies.join(", "));
        if let Some(Relay { messages, first_bytes, second_bytes, grid_permille }) = relay {
            let percent = format!("{}.{} %", grid_permille / 10, grid_permille % 10);
            let line = format!(
                "raw two-hop relay: {} messages/s ({first_bytes} and {second_bytes} bytes); the grid settles {percent} of that\n",
                messages.text()
            );
            text.push_str(&line);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_percentiles_are_as_counted() {
        let rate = Rate { count: 3, elapsed: Duration::from_secs(2) };
        assert_eq!((rate.text().as_str(), serde_json::to_string(&rate).unwrap().as_str()), ("1.5", "1.5"));
        let fast = Rate { count: 3_000, elapsed: Duration::from_secs(2) };
        assert_eq!((fast.text().as_str(), rate.permille_of(fast)), ("1,500", 1));
        let latency = Latency::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!((latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us), (100_000, 180_000, 198_000, 200_000));
        assert_eq!(Latency::of(vec![Duration::from_millis(7)]).p50_us, 7_000);
    }
}
