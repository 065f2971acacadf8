//! Searches a radio recording for carriers that drift in frequency, as SETI@home did.
//!
//! The shared input is a complex-baseband recording (little-endian `f32` pairs I, Q). One item is one drift rate: the
//! recording is multiplied by the opposite chirp, so that a carrier with that drift becomes a single line, and power
//! spectra of several lengths are searched for bins that stand out of the noise. Reduction merges what belongs to the
//! same carrier and ranks what is left.

mod fft;
mod hits;
mod recording;

pub use hits::{Hit, Hits, Searched};

use fft::{Fft, Spectra};
use guest::{App, Item, Reduce, Shared};
use hits::Collector;
use recording::Recording;
use serde::Deserialize;

/// Shorter spectra say nothing that longer ones do not.
const SHORTEST_FFT: u32 = 8;
/// SETI@home's longest was 2^17; more than this would not fit into a worker's memory several times over.
const LONGEST_FFT: u32 = 1 << 20;
/// As many spectra per drift rate as there are lengths from the shortest to the longest.
const MOST_LENGTHS: usize = 18;
/// Results are partial results of a reduction, so they must stay small.
const MOST_HITS: u32 = 1_000;

/// The job file's `[params]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Complex samples per second.
    pub sample_rate_hz: f64,
    /// Lengths of the spectra; powers of two. One that is longer than the recording pads it with zeros.
    pub fft_lengths: Vec<u32>,
    /// A bin counts as a hit when its power is more than this times the mean of its spectrum.
    pub threshold: f64,
    /// Squares the samples first: this recovers the carrier of a binary phase-shift signal, at twice frequency and drift.
    #[serde(default)]
    pub square: bool,
    /// The drift rate of item 0, if the input is a `range`.
    #[serde(default)]
    pub drift_start_hz_per_s: f64,
    /// From one item of a `range` to the next.
    #[serde(default)]
    pub drift_step_hz_per_s: f64,
    /// How many carriers are reported at most, the strongest first.
    #[serde(default = "default_max_hits")]
    pub max_hits: u32,
}

fn default_max_hits() -> u32 {
    32
}

/// An item of a `grid` input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    drift_hz_per_s: f64,
}

/// The app: a recording, ready to be searched at any drift rate.
pub struct SignalSearch {
    params: Params,
    recording: Recording,
    fft: Fft,
    lengths: Vec<usize>,
    max_hits: usize,
}

impl App for SignalSearch {
    const ARENA_BYTES: usize = 8 << 20;
    type Params = Params;

    fn init(params: Params, shared: &Shared) -> Result<Self, String> {
        check(&params)?;
        let recording = Recording::read(&shared.to_vec()?, params.square)?;
        let longest = params.fft_lengths.iter().copied().max().unwrap_or(SHORTEST_FFT);
        let lengths = params.fft_lengths.iter().map(|n| index(*n)).collect();
        let max_hits = index(params.max_hits);
        Ok(SignalSearch { fft: Fft::new(longest), params, recording, lengths, max_hits })
    }

    fn map(&self, item: &Item<'_>, _shared: &Shared) -> Result<Vec<u8>, String> {
        guest::encode(&self.search(self.drift_of(item)?))
    }
}

impl Reduce for SignalSearch {
    fn reduce(&self, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut all = Hits::default();
        for part in parts {
            all.add(guest::decode(part)?);
        }
        all.merge(self.params.sample_rate_hz, self.params.threshold, self.max_hits);
        guest::encode(&all)
    }
}

impl SignalSearch {
    /// Searches the recording at one drift rate.
    pub fn search(&self, drift: f64) -> Hits {
        let dechirped = self.recording.dechirp(drift, self.params.sample_rate_hz);
        let samples = self.recording.len();
        let mut spectra = Spectra::new(self.fft.longest().max(samples));
        let mut found = Collector::new(drift, &self.params);
        for &length in &self.lengths {
            // A recording shorter than the spectrum is padded with zeros; a rest shorter than it is left out.
            let batch = (samples / length).max(1);
            let power = spectra.power(&self.fft, &dechirped, length, batch);
            found.scan(power, batch, length.min(samples));
        }
        let mut hits = found.into_hits();
        hits.merge(self.params.sample_rate_hz, self.params.threshold, self.max_hits);
        hits
    }

    fn drift_of(&self, item: &Item<'_>) -> Result<f64, String> {
        let drift = match item.index() {
            Ok(index) => {
                let index = u32::try_from(index).map_err(|_| format!("item {index}: a range may have 2^32 drift rates"))?;
                self.params.drift_start_hz_per_s + f64::from(index) * self.params.drift_step_hz_per_s
            }
            Err(_) => item.get::<Point>()?.drift_hz_per_s,
        };
        if drift.is_finite() { Ok(drift) } else { Err("the drift rate is not a finite number".to_owned()) }
    }
}

/// A 32-bit number as an index; every target of this app has at least 32 bits.
pub(crate) fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// An index as a number to compute with; a recording has fewer than 2^32 samples.
pub(crate) fn number(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}

fn check(params: &Params) -> Result<(), String> {
    let lengths = &params.fft_lengths;
    let wrong = lengths.iter().find(|n| !n.is_power_of_two() || !(SHORTEST_FFT..=LONGEST_FFT).contains(*n));
    if let Some(length) = wrong {
        return Err(format!("params.fft_lengths: {length} is not a power of two between {SHORTEST_FFT} and {LONGEST_FFT}"));
    }
    if lengths.is_empty() || lengths.len() > MOST_LENGTHS {
        return Err(format!("params.fft_lengths: give 1 to {MOST_LENGTHS} lengths, not {}", lengths.len()));
    }
    if !(params.sample_rate_hz.is_finite() && params.sample_rate_hz > 0.0) {
        return Err("params.sample_rate_hz: give a positive number".to_owned());
    }
    if !(params.threshold.is_finite() && params.threshold >= 1.0) {
        return Err("params.threshold: give a number of at least 1 (times the mean power)".to_owned());
    }
    if !(1..=MOST_HITS).contains(&params.max_hits) {
        return Err(format!("params.max_hits: give a number from 1 to {MOST_HITS}"));
    }
    Ok(())
}

guest::export!(SignalSearch, reduce, output = "msgpack");
