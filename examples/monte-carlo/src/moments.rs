//! Mean and spread of many samples, put together from parts.

use serde::{Deserialize, Serialize};

/// Count, mean and sum of squared distances from the mean: what can be put together without loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Samples.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The sum of their squared distances from it.
    pub squares: f64,
}

/// A number and how far it may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean of the samples.
    pub estimate: f64,
    /// The standard deviation of that mean.
    pub standard_error: f64,
    /// How many samples there were.
    pub samples: u64,
}

impl Moments {
    /// Takes one sample in (Welford 1962).
    pub(crate) fn push(&mut self, sample: f64) {
        self.count += 1;
        let distance = sample - self.mean;
        self.mean += distance / float(self.count);
        self.squares += distance * (sample - self.mean);
    }

    /// Puts two parts together (Chan, Golub and LeVeque 1979); the order of parts is part of the result's bits.
    pub(crate) fn join(&mut self, other: &Moments) {
        if other.count == 0 {
            return;
        }
        let (ours, theirs) = (float(self.count), float(other.count));
        let all = ours + theirs;
        let distance = other.mean - self.mean;
        self.count += other.count;
        self.mean += distance * (theirs / all);
        self.squares += other.squares + distance * distance * (ours * theirs / all);
    }

    pub(crate) fn estimate(&self) -> Estimate {
        let count = float(self.count);
        let variance = if self.count > 1 { self.squares / (count - 1.0) } else { 0.0 };
        Estimate { estimate: self.mean, standard_error: guest::math::sqrt(variance / count), samples: self.count }
    }
}

/// A count as a float; no job has 2^53 samples.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "exact below 2^53; there is no other conversion")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[f64]) -> Moments {
        let mut moments = Moments::default();
        for sample in samples {
            moments.push(*sample);
        }
        moments
    }

    #[test]
    fn mean_and_error_are_those_of_the_textbook() {
        let estimate = of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).estimate();
        assert_eq!((estimate.estimate, estimate.samples), (5.0, 8));
        assert!((estimate.standard_error - (32.0_f64 / 7.0 / 8.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn parts_give_the_whole() {
        let samples: Vec<f64> = (0..100).map(|n| f64::from(n * n % 37)).collect();
        let whole = of(&samples);
        let mut parts = Moments::default();
        parts.join(&Moments::default());
        for chunk in samples.chunks(7) {
            parts.join(&of(chunk));
        }
        assert_eq!(parts.count, whole.count);
        assert!((parts.mean - whole.mean).abs() < 1e-12 && (parts.squares - whole.squares).abs() < 1e-9);
    }
}
