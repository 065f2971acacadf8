//! Searches a dynamic spectrum for narrow signals that drift in frequency, with the Taylor tree.
//!
//! The shared input is a dynamic spectrum: power by time and channel. A signal that drifts is a slanted line in it. One
//! item is one block of slopes: the spectrum is sheared by a whole number of channels per time step, and the Taylor tree
//! sums it along all lines with slopes from there to one channel per time step more. Reduction keeps the strongest line of
//! each signal.
//!
//! J. H. Taylor, "A sensitive method for detecting dispersed radio emission", A&A Supplement 15, 1974.

mod hits;
mod spectrum;
mod tree;

pub use hits::{Hit, Hits, Searched};

use guest::{App, Item, Reduce, Shared};
use serde::Deserialize;
use spectrum::Spectrum;
use tree::Tree;

/// Steeper slopes than this many channels per time step are another search.
const STEEPEST_BLOCK: i32 = 10_000;
/// Results are partial results of a reduction, so they must stay small.
const MOST_HITS: u32 = 1_000;

/// The job file's `[params]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Channels of the spectrum; the number of time steps, a power of two, follows from the size of the shared input.
    pub channels: u32,
    /// Frequency of channel 0.
    pub fch1_mhz: f64,
    /// From one channel to the next; may be negative.
    pub foff_mhz: f64,
    /// From one time step to the next.
    pub tsamp_s: f64,
    /// A line counts as a hit when its sum is this many standard deviations above the median of all channels' sums.
    pub snr: f64,
    /// The median of the channels' sums over time, if known; else it is taken from the spectrum.
    pub median: Option<f64>,
    /// The standard deviation of the channels' sums, if known; else it is taken from the spectrum.
    pub std: Option<f64>,
    /// The block of slopes of item 0, if the input is a `range`.
    #[serde(default)]
    pub first_block: i32,
    /// Lines of a weaker hit that come as close to a stronger one are taken for the same signal.
    #[serde(default = "default_guard")]
    pub guard_channels: u32,
    /// How many signals are reported at most, the strongest first.
    #[serde(default = "default_max_hits")]
    pub max_hits: u32,
}

fn default_guard() -> u32 {
    4
}

fn default_max_hits() -> u32 {
    32
}

/// An item of a `grid` input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    block: i32,
}

/// The app: a spectrum, ready to be searched at any block of slopes.
pub struct DriftSearch {
    params: Params,
    spectrum: Spectrum,
    median: f64,
    std: f64,
}

impl App for DriftSearch {
    type Params = Params;

    fn init(params: Params, shared: &Shared) -> Result<Self, String> {
        check(&params)?;
        let spectrum = Spectrum::read(&shared.to_vec()?, params.channels)?;
        let (median, std) = match (params.median, params.std) {
            (Some(median), Some(std)) => (median, std),
            (None, None) => spectrum.noise(),
            _ => return Err("params: give both median and std, or neither".to_owned()),
        };
        if !(median.is_finite() && std.is_finite() && std > 0.0) {
            return Err(format!("the noise has median {median} and deviation {std}: no signal can be told from it"));
        }
        Ok(DriftSearch { params, spectrum, median, std })
    }

    fn map(&self, item: &Item<'_>, _shared: &Shared) -> Result<Vec<u8>, String> {
        guest::encode(&self.search(self.block_of(item)?))
    }
}

impl Reduce for DriftSearch {
    fn reduce(&self, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut all = Hits::default();
        for part in parts {
            all.add(guest::decode(part)?);
        }
        all.merge(self.params.guard_channels, self.params.max_hits);
        guest::encode(&all)
    }
}

impl DriftSearch {
    /// Searches all lines whose slope is between `block` and `block + 1` channels per time step.
    pub fn search(&self, block: i32) -> Hits {
        let tree = Tree::sum(&self.spectrum, block);
        let mut found = Hits { hits: Vec::new(), searched: Searched { blocks: 1, lines: 0 } };
        for start in 0..self.params.channels {
            // Of the lines from one channel only the strongest can be a signal's.
            let mut best: Option<(i32, f32)> = None;
            for (drift, sum) in tree.lines_from(start) {
                found.searched.lines += 1;
                if best.is_none_or(|(_, most)| sum > most) {
                    best = Some((drift, sum));
                }
            }
            if let Some((drift, sum)) = best {
                let snr = (f64::from(sum) - self.median) / self.std;
                if snr > self.params.snr {
                    found.hits.push(self.hit(start, drift, f64::from(sum), snr));
                }
            }
        }
        found.merge(self.params.guard_channels, self.params.max_hits);
        found
    }

    fn hit(&self, start_channel: u32, drift_steps: i32, power: f64, snr: f64) -> Hit {
        let duration_s = f64::from(self.spectrum.times() - 1) * self.params.tsamp_s;
        Hit {
            start_channel,
            drift_steps,
            snr,
            power,
            frequency_mhz: self.params.fch1_mhz + f64::from(start_channel) * self.params.foff_mhz,
            drift_hz_per_s: f64::from(drift_steps) * self.params.foff_mhz * 1e6 / duration_s,
        }
    }

    fn block_of(&self, item: &Item<'_>) -> Result<i32, String> {
        let block = match item.index() {
            Ok(index) => i32::try_from(index).ok().and_then(|index| index.checked_add(self.params.first_block)),
            Err(_) => Some(item.get::<Point>()?.block),
        };
        block
            .filter(|block| (-STEEPEST_BLOCK..=STEEPEST_BLOCK).contains(block))
            .ok_or_else(|| format!("the block of slopes is not between -{STEEPEST_BLOCK} and {STEEPEST_BLOCK}"))
    }
}

fn check(params: &Params) -> Result<(), String> {
    let positive = |name: &str, value: f64| {
        if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("params.{name}: give a positive number")) }
    };
    positive("fch1_mhz", params.fch1_mhz)?;
    positive("foff_mhz (without its sign)", params.foff_mhz.abs())?;
    positive("tsamp_s", params.tsamp_s)?;
    positive("snr", params.snr)?;
    if !(1..=MOST_HITS).contains(&params.max_hits) {
        return Err(format!("params.max_hits: give a number from 1 to {MOST_HITS}"));
    }
    Ok(())
}

guest::export!(DriftSearch, reduce, output = "msgpack");
