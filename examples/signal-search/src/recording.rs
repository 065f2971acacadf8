//! The recording: complex samples, and their product with a chirp.

use guest::math::sin_cos_turns;

/// Complex samples, real and imaginary parts apart (so that loops over them become SIMD).
pub(crate) struct Recording {
    re: Vec<f32>,
    im: Vec<f32>,
    count: u32,
}

/// A recording from which a drift has been removed.
pub(crate) struct Dechirped {
    pub(crate) re: Vec<f32>,
    pub(crate) im: Vec<f32>,
}

impl Recording {
    /// Reads little-endian `f32` pairs, and squares them if asked.
    pub(crate) fn read(bytes: &[u8], square: bool) -> Result<Self, String> {
        let (samples, rest) = bytes.as_chunks::<8>();
        if samples.is_empty() || !rest.is_empty() {
            return Err(format!("shared: {} bytes are no recording (8 bytes per complex sample)", bytes.len()));
        }
        let count = u32::try_from(samples.len()).map_err(|error| format!("shared: too long a recording: {error}"))?;
        let (mut re, mut im) = (Vec::with_capacity(samples.len()), Vec::with_capacity(samples.len()));
        for &[a, b, c, d, e, f, g, h] in samples {
            let (i, q) = (f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]));
            re.push(if square { i * i - q * q } else { i });
            im.push(if square { 2.0 * i * q } else { q });
        }
        if re.iter().chain(&im).any(|part| !part.is_finite()) {
            return Err("shared: the recording has samples that are no numbers".to_owned());
        }
        Ok(Recording { re, im, count })
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.re.len()
    }

    /// Multiplies by exp(-i pi drift t²), which turns a carrier of that drift into one of a constant frequency: the one it
    /// has at the start of the recording.
    pub(crate) fn dechirp(&self, drift: f64, sample_rate: f64) -> Dechirped {
        let half_turns = -0.5 * drift / (sample_rate * sample_rate);
        let (mut re, mut im) = (Vec::with_capacity(self.re.len()), Vec::with_capacity(self.im.len()));
        for ((n, &i), &q) in (0..self.count).zip(&self.re).zip(&self.im) {
            let n = f64::from(n);
            let (sin, cos) = sin_cos_turns(half_turns * (n * n));
            let (i, q) = (f64::from(i), f64::from(q));
            re.push(single(i * cos - q * sin));
            im.push(single(i * sin + q * cos));
        }
        Dechirped { re, im }
    }
}

/// Rounds to `f32`: the noise of a recording is far above that step, and half the bytes are twice the speed.
#[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "rounding is meant; there is no other conversion")]
pub(crate) fn single(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(samples: &[(f32, f32)]) -> Vec<u8> {
        samples.iter().flat_map(|(i, q)| [i.to_le_bytes(), q.to_le_bytes()].concat()).collect()
    }

    #[test]
    fn samples_are_read_and_squared() {
        let bytes = bytes(&[(1.0, 2.0), (3.0, -1.0)]);
        let plain = Recording::read(&bytes, false).unwrap();
        assert_eq!((plain.re, plain.im), (vec![1.0, 3.0], vec![2.0, -1.0]));
        let squared = Recording::read(&bytes, true).unwrap();
        assert_eq!((squared.re, squared.im), (vec![-3.0, 8.0], vec![4.0, -6.0]));
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert!(Recording::read(&[], false).is_err());
        assert!(Recording::read(&[0; 12], false).is_err());
        assert!(Recording::read(&bytes(&[(f32::NAN, 0.0)]), false).is_err());
    }

    #[test]
    fn dechirping_stops_a_drift() {
        let rate = 100.0;
        let chirp: Vec<_> = (0..1000)
            .map(|n| {
                let t = f64::from(n) / rate;
                let (sin, cos) = sin_cos_turns(5.0 * t + 0.5 * 0.7 * t * t);
                (single(cos), single(sin))
            })
            .collect();
        let still = Recording::read(&bytes(&chirp), false).unwrap().dechirp(0.7, rate);
        for (n, (i, q)) in (0..1000).zip(still.re.iter().zip(&still.im)) {
            let (sin, cos) = sin_cos_turns(5.0 * f64::from(n) / rate);
            assert!((f64::from(*i) - cos).abs() < 1e-6 && (f64::from(*q) - sin).abs() < 1e-6, "sample {n}");
        }
    }
}
