//! The fast Fourier transform for powers of two: Stockham's, radix four, in `f32` with real and imaginary parts apart.
//!
//! All segments of a recording are transformed at once, value by value beside each other, so that even the first stages
//! work on neighbouring values, four at a time. Every operation is one of IEEE 754, in an order that the source fixes, so
//! the bits are the same on every machine.

use crate::recording::{Dechirped, single};
use guest::math::sin_cos_turns;

/// The factors of every length up to the longest.
pub(crate) struct Fft {
    longest: usize,
    /// exp(-2 pi i k / longest).
    re: Vec<f32>,
    im: Vec<f32>,
}

/// Two buffers between which the stages of a transform go to and fro, and one for the power.
pub(crate) struct Spectra {
    from: Parts,
    to: Parts,
    power: Vec<f32>,
}

#[derive(Clone)]
struct Parts {
    re: Vec<f32>,
    im: Vec<f32>,
}

/// Values of neighbouring segments; loops over them become SIMD instructions.
type Lanes<const N: usize> = [f32; N];

/// As many complex values.
#[derive(Clone, Copy)]
struct Complex<const N: usize> {
    re: Lanes<N>,
    im: Lanes<N>,
}

impl<const N: usize> Complex<N> {
    #[inline]
    fn load(parts: &Parts, at: usize) -> Self {
        let load = |values: &[f32]| *values[at..].first_chunk().unwrap_or(&[0.0; N]);
        Complex { re: load(&parts.re), im: load(&parts.im) }
    }

    #[inline]
    fn store(self, parts: &mut Parts, at: usize) {
        parts.re[at..at + N].copy_from_slice(&self.re);
        parts.im[at..at + N].copy_from_slice(&self.im);
    }

    #[inline]
    fn add(self, other: Self) -> Self {
        Complex { re: each(|k| self.re[k] + other.re[k]), im: each(|k| self.im[k] + other.im[k]) }
    }

    #[inline]
    fn sub(self, other: Self) -> Self {
        Complex { re: each(|k| self.re[k] - other.re[k]), im: each(|k| self.im[k] - other.im[k]) }
    }

    #[inline]
    fn times_i(self) -> Self {
        Complex { re: each(|k| -self.im[k]), im: self.re }
    }

    #[inline]
    fn times(self, (re, im): (f32, f32)) -> Self {
        Complex { re: each(|k| self.re[k] * re - self.im[k] * im), im: each(|k| self.re[k] * im + self.im[k] * re) }
    }
}

#[inline]
fn each<const N: usize>(value: impl Fn(usize) -> f32) -> Lanes<N> {
    std::array::from_fn(value)
}

impl Fft {
    /// Prepares transforms of lengths up to `longest`, a power of two.
    pub(crate) fn new(longest: u32) -> Self {
        let (mut re, mut im) = (Vec::new(), Vec::new());
        for k in 0..longest {
            let (sin, cos) = sin_cos_turns(-f64::from(k) / f64::from(longest));
            re.push(single(cos));
            im.push(single(sin));
        }
        Fft { longest: re.len(), re, im }
    }

    /// The longest transform it can make.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    fn factor(&self, k: usize) -> (f32, f32) {
        (self.re[k], self.im[k])
    }

    /// Transforms `batch` segments of `length` values each, value by value beside each other; the result is in `from` again.
    fn transform(&self, from: &mut Parts, to: &mut Parts, length: usize, batch: usize) {
        let (mut n, mut stride) = (length, batch);
        while n >= 4 {
            if stride % 4 == 0 {
                self.stage_of_four::<4>(from, to, n, stride);
            } else {
                self.stage_of_four::<1>(from, to, n, stride);
            }
            std::mem::swap(from, to);
            (n, stride) = (n / 4, stride * 4);
        }
        if n == 2 {
            let (a_re, b_re) = from.re[..2 * stride].split_at_mut(stride);
            let (a_im, b_im) = from.im[..2 * stride].split_at_mut(stride);
            for (a, b) in a_re.iter_mut().zip(b_re).chain(a_im.iter_mut().zip(b_im)) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
    }

    /// One pass: each group of four, `n / 4 * stride` apart, becomes a group of four neighbours, `stride` apart.
    fn stage_of_four<const N: usize>(&self, from: &Parts, to: &mut Parts, n: usize, stride: usize) {
        let quarter = n / 4;
        let step = self.longest / n;
        for p in 0..quarter {
            let factors = [self.factor(p * step), self.factor(2 * p * step), self.factor(3 * p * step)];
            for q in (0..stride).step_by(N) {
                let input = |k: usize| Complex::<N>::load(from, stride * (p + k * quarter) + q);
                let values = [input(0), input(1), input(2), input(3)];
                let (even_sum, even_dif) = (values[0].add(values[2]), values[0].sub(values[2]));
                let (odd_sum, odd_dif) = (values[1].add(values[3]), values[1].sub(values[3]).times_i());
                let out = 4 * stride * p + q;
                even_sum.add(odd_sum).store(to, out);
                even_dif.sub(odd_dif).times(factors[0]).store(to, out + stride);
                even_sum.sub(odd_sum).times(factors[1]).store(to, out + 2 * stride);
                even_dif.add(odd_dif).times(factors[2]).store(to, out + 3 * stride);
            }
        }
    }
}

impl Spectra {
    /// Makes buffers for `most` bins in all.
    pub(crate) fn new(most: usize) -> Self {
        let parts = Parts { re: vec![0.0; most], im: vec![0.0; most] };
        Spectra { from: parts.clone(), to: parts, power: vec![0.0; most] }
    }

    /// The power spectra of the first `batch` segments of `length` samples: bin by bin, and in a bin segment by segment.
    ///
    /// Zeros follow where the recording ends.
    pub(crate) fn power(&mut self, fft: &Fft, samples: &Dechirped, length: usize, batch: usize) -> &[f32] {
        interleave(&mut self.from.re[..length * batch], &samples.re, length, batch);
        interleave(&mut self.from.im[..length * batch], &samples.im, length, batch);
        fft.transform(&mut self.from, &mut self.to, length, batch);
        let power = &mut self.power[..length * batch];
        for ((power, re), im) in power.iter_mut().zip(&self.from.re).zip(&self.from.im) {
            *power = re * re + im * im;
        }
        power
    }
}

fn interleave(to: &mut [f32], from: &[f32], length: usize, batch: usize) {
    if batch == 1 {
        let count = length.min(from.len());
        to[..count].copy_from_slice(&from[..count]);
        to[count..].fill(0.0);
        return;
    }
    for (segment, values) in from.chunks_exact(length).take(batch).enumerate() {
        for (to, value) in to[segment..].iter_mut().step_by(batch).zip(values) {
            *to = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: u32) -> Dechirped {
        let part = |k: f64| (0..count).map(|n| single(((f64::from(n) * k).sin() * 4e4).fract())).collect();
        Dechirped { re: part(0.7), im: part(1.3) }
    }

    /// The definition, term by term.
    fn slow_power(samples: &Dechirped, start: usize, length: u32, k: u32) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for n in 0..length {
            let (i, q) =
                (samples.re.get(start + usize::try_from(n).unwrap()), samples.im.get(start + usize::try_from(n).unwrap()));
            let (i, q) = (i.copied().map_or(0.0, f64::from), q.copied().map_or(0.0, f64::from));
            let angle = -std::f64::consts::TAU * f64::from(n) * f64::from(k) / f64::from(length);
            re += i * angle.cos() - q * angle.sin();
            im += i * angle.sin() + q * angle.cos();
        }
        re * re + im * im
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        let samples = noise(1500);
        let fft = Fft::new(2048);
        let mut spectra = Spectra::new(fft.longest());
        for length in [8_u32, 16, 32, 64, 128, 256, 512, 1024, 2048] {
            let size = usize::try_from(length).unwrap();
            let batch = (1500 / size).max(1);
            let power = spectra.power(&fft, &samples, size, batch).to_vec();
            assert_eq!(power.len(), size * batch);
            for (k, segment) in (0..length).step_by(7).zip((0..batch).cycle()) {
                let exact = slow_power(&samples, segment * size, length, k);
                let ours = f64::from(power[usize::try_from(k).unwrap() * batch + segment]);
                assert!((ours - exact).abs() < 1e-3 * (exact + 1.0), "length {length}, bin {k}: {ours} against {exact}");
            }
        }
    }
}
