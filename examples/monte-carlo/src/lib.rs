//! The price of two options and the failure probability of a beam, by seeded random numbers.
//!
//! One item is a block of paths, its index the place in the stream of random numbers; so any number of workers and any
//! slicing of items give the same bits. Reduction puts means and spreads together over a tree fixed by the item's index;
//! the output has each estimate with its standard error.

mod beam;
mod moments;
mod normal;
mod option;
mod philox;

pub use beam::Beam;
pub use moments::{Estimate, Moments};
pub use option::Market;

use guest::{App, Item, Reduce, Shared};
use serde::{Deserialize, Serialize};

/// Beyond this an item computes for hours.
const MOST_PATHS: u32 = 1 << 24;

/// The job file's `[params]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Another seed, other random numbers.
    pub seed: u64,
    /// Paths (and beams) of one item.
    pub paths_per_item: u32,
    /// The options' market.
    pub market: Market,
    /// The beam and its load.
    pub beam: Beam,
}

/// What is known after some paths: the result of an item and of a reduction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    european_call: Moments,
    asian_call: Moments,
    geometric_asian_call: Moments,
    beam_failure: Moments,
}

/// The job's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimates {
    /// The call on the price at maturity; Black and Scholes have a formula for it.
    pub european_call: Estimate,
    /// The call on the arithmetic mean of the prices; nobody has a formula for it.
    pub asian_call: Estimate,
    /// The call on the geometric mean of the prices; it has a formula, and so checks the one above.
    pub geometric_asian_call: Estimate,
    /// The probability that the load's stress exceeds the beam's strength.
    pub beam_failure: Estimate,
}

/// The app.
pub struct MonteCarlo {
    params: Params,
    option: option::Walk,
    beam: beam::Chance,
}

/// Where a random number is used: paths and beams draw from streams of their own.
#[derive(Clone, Copy)]
enum Stream {
    Prices,
    Beams,
}

/// The random numbers of one path.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    key: [u32; 2],
    path: [u32; 2],
    stream: u32,
}

impl Source {
    fn new(seed: u64, path: u64, stream: Stream) -> Self {
        let stream = match stream {
            Stream::Prices => 0,
            Stream::Beams => 1,
        };
        Source { key: philox::halves(seed), path: philox::halves(path), stream }
    }

    /// The normal numbers of an even step and of the one behind it.
    pub(crate) fn normals(&self, pair: u32) -> (f64, f64) {
        let words = philox::philox([pair, self.stream, self.path[0], self.path[1]], self.key);
        let (first, second) = philox::uniforms(words);
        (normal::quantile(first), normal::quantile(second))
    }
}

impl App for MonteCarlo {
    const ARENA_BYTES: usize = 1 << 20;
    type Params = Params;

    fn init(params: Params, _shared: &Shared) -> Result<Self, String> {
        if !(1..=MOST_PATHS).contains(&params.paths_per_item) {
            return Err(format!("params.paths_per_item: give a number from 1 to {MOST_PATHS}"));
        }
        let (option, beam) = (params.market.walk()?, params.beam.chance()?);
        Ok(MonteCarlo { params, option, beam })
    }

    fn map(&self, item: &Item<'_>, _shared: &Shared) -> Result<Vec<u8>, String> {
        guest::encode(&self.block(item.index()?)?)
    }
}

impl Reduce for MonteCarlo {
    fn reduce(&self, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut all = Sums::default();
        for part in parts {
            let part: Sums = guest::decode(part)?;
            all.european_call.join(&part.european_call);
            all.asian_call.join(&part.asian_call);
            all.geometric_asian_call.join(&part.geometric_asian_call);
            all.beam_failure.join(&part.beam_failure);
        }
        guest::encode(&all)
    }

    fn finish(&self, part: &[u8]) -> Result<Vec<u8>, String> {
        let all: Sums = guest::decode(part)?;
        guest::encode(&Estimates {
            european_call: all.european_call.estimate(),
            asian_call: all.asian_call.estimate(),
            geometric_asian_call: all.geometric_asian_call.estimate(),
            beam_failure: all.beam_failure.estimate(),
        })
    }
}

impl MonteCarlo {
    /// Computes the paths of one block.
    fn block(&self, index: u64) -> Result<Sums, String> {
        let paths = u64::from(self.params.paths_per_item);
        let first = index.checked_mul(paths).filter(|first| first.checked_add(paths).is_some());
        let first = first.ok_or_else(|| format!("item {index}: its paths have no numbers below 2^64"))?;
        let mut sums = Sums::default();
        for path in first..first + paths {
            let payoff = self.option.path(Source::new(self.params.seed, path, Stream::Prices));
            sums.european_call.push(payoff.european);
            sums.asian_call.push(payoff.asian);
            sums.geometric_asian_call.push(payoff.geometric_asian);
            let fails = self.beam.fails(Source::new(self.params.seed, path, Stream::Beams));
            sums.beam_failure.push(if fails { 1.0 } else { 0.0 });
        }
        Ok(sums)
    }
}

guest::export!(MonteCarlo, reduce, output = "msgpack");
