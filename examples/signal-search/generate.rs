//! Writes `recording.c64`: seeded noise with one weak carrier that drifts.
//!
//! `cargo run --release --example generate -- recording.c64`

use guest::math::{ln, sin_cos_turns, sqrt};
use std::error::Error;

const SAMPLES: u32 = 65_536;
const SAMPLE_RATE_HZ: f64 = 4_096.0;
const FREQUENCY_HZ: f64 = 812.34;
const DRIFT_HZ_PER_S: f64 = 0.4130;
/// Noise has unit power per sample, so this carrier is 27 dB below it.
const AMPLITUDE: f64 = 0.045;
const SEED: u64 = 0x2001_0F12_EA4B;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: generate FILE")?;
    let mut random = SplitMix(SEED);
    let mut bytes = Vec::new();
    for n in 0..SAMPLES {
        let t = f64::from(n) / SAMPLE_RATE_HZ;
        let (sin, cos) = sin_cos_turns(0.125 + FREQUENCY_HZ * t + 0.5 * DRIFT_HZ_PER_S * t * t);
        let (i, q) = random.normal_pair();
        for part in [i + AMPLITUDE * cos, q + AMPLITUDE * sin] {
            bytes.extend(single(part).to_le_bytes());
        }
    }
    Ok(std::fs::write(path, bytes)?)
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

    /// Two independent normal numbers of variance 1/2 (Box and Muller), so that a complex sample has unit power.
    fn normal_pair(&mut self) -> (f64, f64) {
        let radius = sqrt(-ln(self.uniform()));
        let (sin, cos) = sin_cos_turns(self.uniform());
        (radius * cos, radius * sin)
    }
}
