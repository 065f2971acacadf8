//! Hits: lines that stand out of the noise, and which of them are the same signal.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A line that stands out of the noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The channel at the first time step.
    pub start_channel: u32,
    /// Channels from the first to the last time step.
    pub drift_steps: i32,
    /// Standard deviations above the median.
    pub snr: f64,
    /// The sum along the line.
    pub power: f64,
    /// The frequency at the first time step.
    pub frequency_mhz: f64,
    /// How fast the frequency changes.
    pub drift_hz_per_s: f64,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searched {
    /// Blocks of slopes.
    pub blocks: u64,
    /// Lines.
    pub lines: u64,
}

/// Hits, the strongest first, and what was looked at to find them: the result of an item, of a reduction and of the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hits {
    /// The hits.
    pub hits: Vec<Hit>,
    /// What was looked at.
    pub searched: Searched,
}

impl Hits {
    /// Appends the hits of another part of the search.
    pub(crate) fn add(&mut self, other: Hits) {
        self.hits.extend(other.hits);
        self.searched.blocks += other.searched.blocks;
        self.searched.lines += other.searched.lines;
    }

    /// Keeps the strongest line of each signal, at most `most` in all, the strongest first.
    pub(crate) fn merge(&mut self, guard: u32, most: u32) {
        self.hits.sort_by(strongest_first);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut kept: Vec<Hit> = Vec::new();
        for hit in &self.hits {
            if kept.len() == most {
                break;
            }
            if !kept.iter().any(|stronger| stronger.explains(hit, guard)) {
                kept.push(*hit);
            }
        }
        self.hits = kept;
    }
}

impl Hit {
    /// Whether a weaker line has its power from this signal: the lines cross, or come close at either end.
    fn explains(&self, weaker: &Hit, guard: u32) -> bool {
        let start = i64::from(weaker.start_channel) - i64::from(self.start_channel);
        let end = start + i64::from(weaker.drift_steps) - i64::from(self.drift_steps);
        let crosses = (start < 0) != (end < 0);
        crosses || start.abs().min(end.abs()) <= i64::from(guard)
    }
}

/// The strongest first; of equal ones the least drift, then the lowest channel.
fn strongest_first(a: &Hit, b: &Hit) -> Ordering {
    let key = |hit: &Hit| (hit.drift_steps.abs(), hit.drift_steps, hit.start_channel);
    b.snr.total_cmp(&a.snr).then_with(|| key(a).cmp(&key(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(start_channel: u32, drift_steps: i32, snr: f64) -> Hit {
        Hit { start_channel, drift_steps, snr, power: snr, frequency_mhz: 0.0, drift_hz_per_s: 0.0 }
    }

    #[test]
    fn lines_that_meet_are_one_signal() {
        let mut all = Hits {
            // Crosses; starts at the same place; ends near; is the same line from another block; is elsewhere.
            hits: vec![
                hit(95, 30, 20.0),
                hit(100, 40, 20.0),
                hit(85, 33, 20.0),
                hit(100, 20, 50.0),
                hit(100, 20, 50.0),
                hit(130, 20, 30.0),
            ],
            searched: Searched::default(),
        };
        all.merge(4, 10);
        assert_eq!(all.hits, [hit(100, 20, 50.0), hit(130, 20, 30.0)]);
    }

    #[test]
    fn the_strongest_are_kept() {
        let mut all = Hits { hits: vec![hit(10, 0, 1.0), hit(30, 0, 3.0), hit(50, 0, 2.0)], searched: Searched::default() };
        all.merge(4, 2);
        assert_eq!(all.hits, [hit(30, 0, 3.0), hit(50, 0, 2.0)]);
    }
}
