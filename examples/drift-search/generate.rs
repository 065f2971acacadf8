//! Writes `spectrum.f32`: a dynamic spectrum of seeded noise with two signals that drift.
//!
//! `cargo run --release --example generate -- spectrum.f32`

use guest::math::ln;
use std::error::Error;

const CHANNELS: u32 = 4_096;
const TIMES: u32 = 32;
/// Start channel, channels from the first to the last time step, power over the noise's mean.
const SIGNALS: [(u32, i32, f64); 2] = [(1_200, 203, 1.3), (3_001, -88, 1.0)];
/// Each power is the mean of so many spectra, as a receiver makes it.
const SPECTRA: u32 = 8;
const SEED: u64 = 0x1974_00A5_A0D1;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: generate FILE")?;
    let mut random = SplitMix(SEED);
    let mut bytes = Vec::new();
    for time in 0..TIMES {
        for channel in 0..CHANNELS {
            let noise = (0..SPECTRA).map(|_| -ln(random.uniform())).sum::<f64>() / f64::from(SPECTRA);
            let signal: f64 = SIGNALS.iter().map(|&(start, drift, power)| power * share(start, drift, time, channel)).sum();
            bytes.extend(single(noise + signal).to_le_bytes());
        }
    }
    Ok(std::fs::write(path, bytes)?)
}

/// How much of a signal's power falls into a channel: it lies between two, the nearer has more.
fn share(start: u32, drift: i32, time: u32, channel: u32) -> f64 {
    let place = f64::from(start) + f64::from(drift) * f64::from(time) / f64::from(TIMES - 1);
    (1.0 - (place - f64::from(channel)).abs()).max(0.0)
}

#[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "rounding is meant; there is no other conversion")]
fn single(x: f64) -> f32 {
    x as f32
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, neither included.
    fn uniform(&mut self) -> f64 {
        f64::from_bits(0x3ff0_0000_0000_0000 | (self.next() >> 12)) - (1.0 - f64::EPSILON / 2.0)
    }
}
