//! A beam under a random load, and whether it holds.

use crate::Source;
use guest::math::{exp, ln, sqrt};
use serde::Deserialize;

/// A beam on two supports with a load at its middle; load and strength are log-normal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beam {
    /// From support to support.
    pub span_m: f64,
    /// The section's resistance to bending.
    pub section_modulus_m3: f64,
    /// The load's mean.
    pub load_mean_n: f64,
    /// The load's standard deviation over its mean.
    pub load_variation: f64,
    /// The mean of the material's yield strength.
    pub strength_mean_pa: f64,
    /// Its standard deviation over its mean.
    pub strength_variation: f64,
}

/// A random quantity whose logarithm is normal.
struct LogNormal {
    middle: f64,
    spread: f64,
}

/// What all beams share.
pub(crate) struct Chance {
    stress: LogNormal,
    strength: LogNormal,
}

impl LogNormal {
    fn new(mean: f64, variation: f64) -> Self {
        let variance = ln(1.0 + variation * variation);
        LogNormal { middle: ln(mean) - 0.5 * variance, spread: sqrt(variance) }
    }

    fn at(&self, normal: f64) -> f64 {
        exp(self.middle + self.spread * normal)
    }
}

impl Beam {
    /// Checks the beam and works out what all samples share.
    pub(crate) fn chance(&self) -> Result<Chance, String> {
        let named = [
            ("span_m", self.span_m),
            ("section_modulus_m3", self.section_modulus_m3),
            ("load_mean_n", self.load_mean_n),
            ("load_variation", self.load_variation),
            ("strength_mean_pa", self.strength_mean_pa),
            ("strength_variation", self.strength_variation),
        ];
        if let Some((name, _)) = named.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(format!("params.beam.{name}: give a positive number"));
        }
        // The moment at the middle is load x span / 4, the stress moment / section modulus.
        let stress = self.load_mean_n * self.span_m / 4.0 / self.section_modulus_m3;
        Ok(Chance {
            stress: LogNormal::new(stress, self.load_variation),
            strength: LogNormal::new(self.strength_mean_pa, self.strength_variation),
        })
    }
}

impl Chance {
    /// Whether one beam fails under one load.
    pub(crate) fn fails(&self, source: Source) -> bool {
        let (load, strength) = source.normals(0);
        self.stress.at(load) > self.strength.at(strength)
    }
}
