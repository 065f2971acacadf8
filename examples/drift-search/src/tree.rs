//! The Taylor tree: sums along all lines of a block of slopes in N log N additions per channel.

use crate::spectrum::Spectrum;

/// Sums along lines from each channel, for total drifts of 0 to `times - 1` channels beyond the block's own.
pub(crate) struct Tree {
    /// All channels of one drift beside each other.
    sums: Vec<f32>,
    channels: usize,
    /// Channels of the sheared spectrum: a line may lean over the last channel by as much as it drifts within the block.
    width: usize,
    first_drift: i64,
}

impl Tree {
    /// Shears the spectrum by `block` channels per time step and sums it along lines.
    pub(crate) fn sum(spectrum: &Spectrum, block: i32) -> Self {
        let channels = spectrum.channels();
        let width = channels + index(spectrum.times()) - 1;
        let mut from = Vec::with_capacity(width * index(spectrum.times()));
        for (time, row) in (0_i64..).zip(spectrum.rows()) {
            extend_shifted(&mut from, row, time * i64::from(block), width);
        }
        let mut to = vec![0.0; from.len()];
        let mut half = width;
        while half < from.len() {
            for (group, sums) in from.chunks_exact(2 * half).zip(to.chunks_exact_mut(2 * half)) {
                let (early, late) = group.split_at(half);
                for (drift, sums) in sums.chunks_exact_mut(width).enumerate() {
                    // A line of drift d has half of it in each half; the second begins where the first ends, one further
                    // if d is odd.
                    let line = drift / 2 * width..(drift / 2 + 1) * width;
                    join(sums, &early[line.clone()], &late[line], drift.div_ceil(2));
                }
            }
            std::mem::swap(&mut from, &mut to);
            half *= 2;
        }
        let first_drift = i64::from(block) * i64::from(spectrum.times() - 1);
        Tree { sums: from, channels, width, first_drift }
    }

    /// The total drift and the sum of each line from a channel that stays inside the spectrum.
    pub(crate) fn lines_from(&self, start: u32) -> impl Iterator<Item = (i32, f32)> {
        let at = index(start);
        let column = self.sums.get(at..).unwrap_or_default().iter().step_by(self.width);
        (self.first_drift..).zip(column).filter_map(move |(drift, sum)| {
            let end = usize::try_from(i64::from(start) + drift).ok()?;
            (end < self.channels).then_some((i32::try_from(drift).ok()?, *sum))
        })
    }
}

/// Adds two halves of a line: the second from `shift` channels further; beyond the last channel there is nothing.
fn join(sums: &mut [f32], early: &[f32], late: &[f32], shift: usize) {
    let inside = sums.len().saturating_sub(shift);
    let (with, without) = sums.split_at_mut(inside);
    for ((sum, early), late) in with.iter_mut().zip(early).zip(late.get(shift..).unwrap_or_default()) {
        *sum = early + late;
    }
    without.copy_from_slice(&early[inside..]);
}

/// Appends `width` channels of a row from channel `shift` on; outside the row there is nothing.
fn extend_shifted(to: &mut Vec<f32>, row: &[f32], shift: i64, width: usize) {
    let distance = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
    let end = to.len() + width;
    if shift >= 0 {
        to.extend_from_slice(row.get(distance..).unwrap_or_default());
    } else {
        let empty = distance.min(width);
        to.resize(to.len() + empty, 0.0);
        to.extend_from_slice(&row[..row.len().min(width - empty)]);
    }
    to.resize(end, 0.0);
}

fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tree's line of drift `d` over `times` steps is at step `t`, by its definition.
    fn channel_at(drift: i64, times: i64, t: i64) -> i64 {
        if times == 1 {
            return 0;
        }
        let half = times / 2;
        if t < half { channel_at(drift / 2, half, t) } else { (drift + 1) / 2 + channel_at(drift / 2, half, t - half) }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "sums of small whole numbers are exact")]
    fn every_sum_is_that_along_its_line() {
        let (channels, times) = (40_u32, 8_i64);
        // Powers of two and small numbers, so that sums are exact in any order.
        let value = |t: i64, c: i64| f32::from(u16::try_from((t * 71 + c * 37 + t * c * 13) % 509).unwrap());
        let values: Vec<u8> =
            (0..times).flat_map(|t| (0..i64::from(channels)).flat_map(move |c| value(t, c).to_le_bytes())).collect();
        let spectrum = Spectrum::read(&values, channels).unwrap();
        let mut lines = 0;
        for block in -4..=4_i64 {
            let tree = Tree::sum(&spectrum, i32::try_from(block).unwrap());
            for start in 0..channels {
                for (drift, sum) in tree.lines_from(start) {
                    let within = i64::from(drift) - block * (times - 1);
                    let path = |t: i64| i64::from(start) + block * t + channel_at(within, times, t);
                    assert_eq!(path(times - 1), i64::from(start) + i64::from(drift));
                    assert_eq!(
                        sum,
                        (0..times).map(|t| value(t, path(t))).sum::<f32>(),
                        "block {block}, start {start}, drift {drift}"
                    );
                    lines += 1;
                }
            }
        }
        // All 72 slopes of all channels, less those lines that leave the spectrum.
        let inside = |drift: i64| i64::from(channels) - drift.abs();
        let expected: i64 = (-4..=4).flat_map(|block| (0..8).map(move |d| inside(block * 7 + d))).sum();
        assert_eq!(lines, expected);
    }
}
