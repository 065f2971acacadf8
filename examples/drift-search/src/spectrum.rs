//! The dynamic spectrum: power by time and channel, and its noise.

/// The normal distribution's standard deviation over its median absolute deviation.
const DEVIATION_PER_MEDIAN: f64 = 1.482_602_218_505_602;

/// More time steps than this do not fit into the tree's memory at any useful number of channels.
const MOST_TIMES: usize = 1 << 14;

/// Power by time and channel, all channels of a time step beside each other.
pub(crate) struct Spectrum {
    power: Vec<f32>,
    channels: usize,
    times: u32,
}

impl Spectrum {
    /// Reads little-endian `f32`, time step by time step.
    pub(crate) fn read(bytes: &[u8], channels: u32) -> Result<Self, String> {
        let channels = usize::try_from(channels).map_err(|error| format!("params.channels: {error}"))?;
        let (values, rest) = bytes.as_chunks::<4>();
        if channels == 0 || values.is_empty() || !rest.is_empty() || values.len() % channels != 0 {
            return Err(format!("shared: {} bytes are no spectrum of {channels} channels of 4 bytes", bytes.len()));
        }
        let times = values.len() / channels;
        if !(2..=MOST_TIMES).contains(&times) || !times.is_power_of_two() {
            return Err(format!(
                "shared: the spectrum has {times} time steps; the search needs a power of two from 2 to {MOST_TIMES}"
            ));
        }
        let power: Vec<_> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        if power.iter().any(|power| !power.is_finite()) {
            return Err("shared: the spectrum has powers that are no numbers".to_owned());
        }
        let times = u32::try_from(times).map_err(|error| error.to_string())?;
        Ok(Spectrum { power, channels, times })
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    pub(crate) fn times(&self) -> u32 {
        self.times
    }

    /// The time steps in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.power.chunks_exact(self.channels)
    }

    /// Median and standard deviation of the channels' sums over time.
    ///
    /// The deviation is told by the median distance from the median, so that the signals themselves do not count.
    pub(crate) fn noise(&self) -> (f64, f64) {
        let mut sums = vec![0.0; self.channels];
        for row in self.rows() {
            for (sum, power) in sums.iter_mut().zip(row) {
                *sum += f64::from(*power);
            }
        }
        let middle = median(&mut sums);
        let mut distances: Vec<_> = sums.iter().map(|sum| (sum - middle).abs()).collect();
        (middle, median(&mut distances) * DEVIATION_PER_MEDIAN)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { 0.5 * (values[half - 1] + values[half]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn rows_are_time_steps() {
        let spectrum = Spectrum::read(&bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 3).unwrap();
        assert_eq!(spectrum.rows().collect::<Vec<_>>(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!((spectrum.channels(), spectrum.times()), (3, 2));
    }

    #[test]
    fn what_is_no_spectrum_is_refused() {
        assert!(Spectrum::read(&[], 3).is_err());
        assert!(Spectrum::read(&bytes(&[0.0; 7]), 3).is_err());
        assert!(Spectrum::read(&bytes(&[0.0; 9]), 3).err().unwrap().contains("3 time steps"));
        assert!(Spectrum::read(&bytes(&[0.0, f32::NAN]), 1).is_err());
        assert!(Spectrum::read(&bytes(&[0.0; 8]), 0).is_err());
    }

    #[test]
    fn the_noise_does_not_count_a_signal() {
        let spectrum = Spectrum::read(&bytes(&[1.0, 2.0, 3.0, 4.0, 1e9, 0.0, 0.0, 0.0, 0.0, 0.0]), 5).unwrap();
        assert_eq!(spectrum.noise(), (3.0, DEVIATION_PER_MEDIAN));
    }
}
