//! Hits: finding them in a spectrum, merging those of the same carrier, ranking the rest.

use crate::{Params, number};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::f64::consts::PI;

/// A bin that stands out of its spectrum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The carrier's frequency at `time_s`, relative to the recording's centre.
    pub frequency_hz: f64,
    /// Where the spectrum's samples begin in the recording.
    pub time_s: f64,
    /// How fast the frequency changes.
    pub drift_hz_per_s: f64,
    /// The bin's power, in units of the recording squared.
    pub power: f64,
    /// The bin's power over the mean power of the spectrum's bins.
    pub ratio: f64,
    /// The spectrum's length.
    pub fft_length: u32,
    /// How much of the recording the spectrum covers.
    pub duration_s: f64,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searched {
    /// Drift rates.
    pub drift_rates: u64,
    /// Power spectra.
    pub spectra: u64,
    /// Bins of all spectra.
    pub bins: u64,
    /// Bins above the threshold, before those of the same carrier were merged.
    pub bins_above_threshold: u64,
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
        self.searched.drift_rates += other.searched.drift_rates;
        self.searched.spectra += other.searched.spectra;
        self.searched.bins += other.searched.bins;
        self.searched.bins_above_threshold += other.searched.bins_above_threshold;
    }

    /// Keeps the strongest hit of each carrier, at most `most` in all, the strongest first.
    pub(crate) fn merge(&mut self, sample_rate: f64, threshold: f64, most: usize) {
        self.hits.sort_by(strongest_first);
        let mut kept: Vec<Hit> = Vec::new();
        for hit in &self.hits {
            if kept.len() == most {
                break;
            }
            if !kept.iter().any(|stronger| stronger.explains(hit, sample_rate, threshold)) {
                kept.push(*hit);
            }
        }
        self.hits = kept;
    }
}

impl Hit {
    /// Whether a weaker hit is only this carrier seen again: at another drift rate, in a shorter spectrum, or in a side lobe.
    fn explains(&self, weaker: &Hit, sample_rate: f64, threshold: f64) -> bool {
        let middle = weaker.time_s + 0.5 * weaker.duration_s;
        let mut apart = weaker.frequency_at(middle) - self.frequency_at(middle);
        // Frequencies of a sampled recording are a circle.
        apart -= sample_rate * guest::math::round(apart / sample_rate);
        apart.abs() <= self.reach(weaker, threshold)
    }

    fn frequency_at(&self, time: f64) -> f64 {
        self.frequency_hz + self.drift_hz_per_s * (time - self.time_s)
    }

    /// How far from this carrier its power can still lift a bin over the threshold.
    fn reach(&self, weaker: &Hit, threshold: f64) -> f64 {
        // Side lobes of an unweighted spectrum fall as 1 / (pi d)^2, d in resolutions of its duration.
        let lobes = 2.0 + guest::math::sqrt(self.ratio / threshold) / PI;
        let resolution = 1.0 / self.duration_s + 1.0 / weaker.duration_s;
        // A wrong drift rate smears the line over the difference times the duration, half to each side of the middle.
        let smear = (self.drift_hz_per_s - weaker.drift_hz_per_s).abs() * 0.5 * weaker.duration_s;
        lobes * resolution + smear
    }
}

/// The strongest first; equal ones in an order that does not depend on where they came from.
fn strongest_first(a: &Hit, b: &Hit) -> Ordering {
    let key = |hit: &Hit| {
        [-hit.ratio, hit.drift_hz_per_s.abs(), hit.drift_hz_per_s, hit.time_s, hit.frequency_hz, f64::from(hit.fft_length)]
    };
    let pairs = key(a).into_iter().zip(key(b));
    pairs.map(|(a, b)| a.total_cmp(&b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// How many bins above the threshold are kept of one drift rate; beyond twice that the weaker ones go.
const MOST_BINS: usize = 512;

/// Collects the hits of one drift rate.
pub(crate) struct Collector {
    drift: f64,
    sample_rate: f64,
    threshold: f64,
    found: Hits,
}

impl Collector {
    pub(crate) fn new(drift: f64, params: &Params) -> Self {
        let found =
            Hits { searched: Searched { drift_rates: 1, ..Searched::default() }, hits: Vec::with_capacity(2 * MOST_BINS) };
        Collector { drift, sample_rate: params.sample_rate_hz, threshold: params.threshold, found }
    }

    /// Takes the bins above the threshold from the power spectra of `batch` segments, bin by bin, each of `covered` samples.
    pub(crate) fn scan(&mut self, power: &[f32], batch: usize, covered: usize) {
        let length = power.len() / batch;
        let means = means(power, batch);
        self.found.searched.spectra += u64::try_from(batch).unwrap_or(u64::MAX);
        self.found.searched.bins += u64::try_from(power.len()).unwrap_or(u64::MAX);
        // One comparison for many bins first: hardly any has a hit.
        let lowest = means.iter().copied().fold(f64::INFINITY, f64::min) * self.threshold;
        for (block, values) in power.chunks(BLOCK).enumerate() {
            if f64::from(largest(values)) <= lowest {
                continue;
            }
            for (k, &power) in values.iter().enumerate() {
                let (bin, segment) = ((block * BLOCK + k) / batch, (block * BLOCK + k) % batch);
                let (power, mean) = (f64::from(power), means[segment]);
                if power > mean * self.threshold {
                    self.push((bin, length), (power, mean), (segment * length, covered));
                }
            }
        }
    }

    fn push(&mut self, (bin, length): (usize, usize), (power, mean): (f64, f64), (start, covered): (usize, usize)) {
        let signed = if bin < length / 2 { number(bin) } else { -number(length - bin) };
        let time_s = number(start) / self.sample_rate;
        self.found.hits.push(Hit {
            frequency_hz: signed * self.sample_rate / number(length) + self.drift * time_s,
            time_s,
            drift_hz_per_s: self.drift,
            power,
            ratio: power / mean,
            fft_length: u32::try_from(length).unwrap_or(u32::MAX),
            duration_s: number(covered) / self.sample_rate,
        });
        self.found.searched.bins_above_threshold += 1;
        if self.found.hits.len() == 2 * MOST_BINS {
            self.found.hits.sort_by(strongest_first);
            self.found.hits.truncate(MOST_BINS);
        }
    }

    pub(crate) fn into_hits(self) -> Hits {
        self.found
    }
}

/// How many bins are compared at once.
const BLOCK: usize = 256;

/// The mean of each segment's bins; added in double precision and in an order that is fixed.
fn means(power: &[f32], batch: usize) -> Vec<f64> {
    let mut sums = vec![0.0; batch];
    for bin in power.chunks_exact(batch) {
        for (sum, power) in sums.iter_mut().zip(bin) {
            *sum += f64::from(*power);
        }
    }
    let length = number(power.len() / batch);
    for sum in &mut sums {
        *sum /= length;
    }
    sums
}

/// The largest of a block, in lanes that become SIMD; powers are never less than zero.
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 4];
    let (chunks, rest) = values.as_chunks::<4>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(frequency_hz: f64, drift_hz_per_s: f64, ratio: f64) -> Hit {
        Hit { frequency_hz, time_s: 0.0, drift_hz_per_s, power: ratio, ratio, fft_length: 1024, duration_s: 10.0 }
    }

    fn merged(hits: &[Hit]) -> Vec<Hit> {
        let mut all = Hits { hits: hits.to_vec(), searched: Searched::default() };
        all.merge(1000.0, 20.0, 3);
        all.hits
    }

    #[test]
    fn one_carrier_at_several_drift_rates_is_one_hit() {
        // At a drift rate 0.1 too high the line appears half of 0.1 * 10 s lower at the start.
        let found = merged(&[hit(99.5, 0.6, 40.0), hit(100.0, 0.5, 100.0), hit(100.45, 0.4, 40.0)]);
        assert_eq!(found, [hit(100.0, 0.5, 100.0)]);
    }

    #[test]
    fn a_short_spectrum_late_in_the_recording_belongs_to_the_carrier_too() {
        let late = Hit { time_s: 9.0, duration_s: 0.5, frequency_hz: 104.7, ..hit(0.0, 0.5, 30.0) };
        assert_eq!(merged(&[late, hit(100.0, 0.5, 100.0)]).len(), 1);
    }

    #[test]
    fn carriers_apart_stay_apart_and_are_ranked() {
        let found = merged(&[
            hit(100.0, 0.5, 50.0),
            hit(200.0, 0.5, 90.0),
            hit(-499.9, 0.0, 70.0),
            hit(499.9, 0.0, 60.0),
            hit(300.0, 0.0, 30.0),
        ]);
        assert_eq!(found, [hit(200.0, 0.5, 90.0), hit(-499.9, 0.0, 70.0), hit(100.0, 0.5, 50.0)]);
    }

    #[test]
    fn bins_above_the_threshold_become_hits() {
        let params = Params {
            sample_rate_hz: 800.0,
            fft_lengths: vec![8],
            threshold: 3.0,
            square: false,
            drift_start_hz_per_s: 0.0,
            drift_step_hz_per_s: 0.0,
            max_hits: 3,
        };
        let mut found = Collector::new(0.25, &params);
        // Two segments beside each other; the second has a strong last bin.
        let mut power = [1.0; 16];
        power[15] = 9.0;
        found.scan(&power, 2, 8);
        let hits = found.into_hits();
        assert_eq!(hits.searched, Searched { drift_rates: 1, spectra: 2, bins: 16, bins_above_threshold: 1 });
        let expected = Hit {
            frequency_hz: -100.0 + 0.25 * 0.01,
            time_s: 0.01,
            power: 9.0,
            ratio: 4.5,
            fft_length: 8,
            duration_s: 0.01,
            ..hit(0.0, 0.25, 0.0)
        };
        assert_eq!(hits.hits, [expected]);
    }
}
