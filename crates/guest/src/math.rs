//! Elementary functions whose bits are the same on every machine.
//!
//! They use only addition, multiplication, division and comparison in `f64`, which IEEE 754 and WebAssembly define to the
//! bit; the functions of the standard library go through the platform's own `libm` natively and differ in the last place.
#![expect(clippy::float_cmp, reason = "the compared values are whole numbers or ends of a range, exact by construction")]
#![expect(clippy::many_single_char_names, reason = "the letters are those of the formulas")]

use std::f64::consts::{LN_2, TAU};

/// Adding and subtracting this rounds a value below 2^51 to the nearest whole number, ties to even.
const TO_WHOLE: f64 = 6_755_399_441_055_744.0;

/// The nearest whole number of a value with a magnitude below 2^51, ties to even.
#[inline]
pub fn round(x: f64) -> f64 {
    (x + TO_WHOLE) - TO_WHOLE
}

/// Sine and cosine of an angle in turns (1.0 is a full circle), for magnitudes below 2^51; within 2^-51.
///
/// Turns make the reduction exact: only the fraction of a turn counts.
#[inline]
pub fn sin_cos_turns(turns: f64) -> (f64, f64) {
    // The fraction in -0.5..=0.5, folded to an eighth of a turn on each side of the nearest quarter.
    let fraction = turns - round(turns);
    let quarters = round(fraction * 4.0);
    let x = (fraction - quarters * 0.25) * TAU;
    let (sin, cos) = (sin_small(x), cos_small(x));
    let odd = quarters.abs() == 1.0;
    let half = quarters.abs() == 2.0;
    let (s, c) = if odd { (cos, sin) } else { (sin, cos) };
    // Quarter 0: (s, c); 1: (c, -s); 2 and -2: (-s, -c); -1: (-c, s).
    let flip_sin = half || quarters == -1.0;
    let flip_cos = half || quarters == 1.0;
    (if flip_sin { -s } else { s }, if flip_cos { -c } else { c })
}

/// e to the power of `x`, within two units in the last place; infinity above 709.78, zero below -708.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.782_712_893_384 {
        return f64::INFINITY;
    }
    if x < -708.0 {
        return 0.0;
    }
    // x = k ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, so that k times the first is exact.
    let k = round(x / LN_2);
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    // (2^(k/2))^2 stays in range where 2^1024 would not.
    let half = round(k * 0.5);
    polynomial(&EXP, r) * power_of_two(half) * power_of_two(k - half)
}

/// The natural logarithm, within two units in the last place; minus infinity at zero, not a number below.
pub fn ln(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x < 0.0 || x.is_nan() {
        return f64::NAN;
    }
    if x == f64::INFINITY {
        return x;
    }
    if x < f64::MIN_POSITIVE {
        return ln(x * TWO_54) - 54.0 * LN_2;
    }
    // x = 2^k m with m in sqrt(1/2)..sqrt(2), then ln m = 2 atanh((m - 1) / (m + 1)).
    let bits = x.to_bits();
    let shifted = bits.wrapping_sub(SQRT_HALF_BITS);
    let k = whole((shifted >> 52).wrapping_add(u64::from(bits < SQRT_HALF_BITS) * 0xffff_ffff_ffff_f000));
    let m = f64::from_bits((shifted & MANTISSA).wrapping_add(SQRT_HALF_BITS));
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let rest = z * polynomial(&ATANH, z);
    // ln(1 + f) = f - s (f - rest'), arranged so that the large term f stays exact.
    k * LN_2_HIGH + (f - (s * (f - rest) - k * LN_2_LOW))
}

/// The square root, exact to the bit everywhere.
#[inline]
pub fn sqrt(x: f64) -> f64 {
    x.sqrt()
}

const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
const TWO_54: f64 = 18_014_398_509_481_984.0;
const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;
const MANTISSA: u64 = 0x000f_ffff_ffff_ffff;

/// 1/n!, the Taylor series of e^x; on |x| <= 0.3466 the first term left out is below 2^-60.
const EXP: [f64; 14] = [
    1.0,
    1.0,
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// 2/(2n + 3), the series of 2 atanh(s) behind its first term; s² <= 0.0295, so the first term left out is below 2^-58.
const ATANH: [f64; 11] = [
    2.0 / 3.0,
    2.0 / 5.0,
    2.0 / 7.0,
    2.0 / 9.0,
    2.0 / 11.0,
    2.0 / 13.0,
    2.0 / 15.0,
    2.0 / 17.0,
    2.0 / 19.0,
    2.0 / 21.0,
    2.0 / 23.0,
];

/// The Taylor series of sin(x)/x in x²; on |x| <= pi/4 the first term left out is below 2^-56.
const SIN: [f64; 8] = [
    1.0,
    -1.0 / 6.0,
    1.0 / 120.0,
    -1.0 / 5_040.0,
    1.0 / 362_880.0,
    -1.0 / 39_916_800.0,
    1.0 / 6_227_020_800.0,
    -1.0 / 1_307_674_368_000.0,
];

/// The Taylor series of cos(x) in x².
const COS: [f64; 9] = [
    1.0,
    -1.0 / 2.0,
    1.0 / 24.0,
    -1.0 / 720.0,
    1.0 / 40_320.0,
    -1.0 / 3_628_800.0,
    1.0 / 479_001_600.0,
    -1.0 / 87_178_291_200.0,
    1.0 / 20_922_789_888_000.0,
];

#[inline]
fn sin_small(x: f64) -> f64 {
    x * polynomial(&SIN, x * x)
}

#[inline]
fn cos_small(x: f64) -> f64 {
    polynomial(&COS, x * x)
}

#[inline]
fn polynomial<const N: usize>(coefficients: &[f64; N], x: f64) -> f64 {
    let mut value = 0.0;
    for coefficient in coefficients.iter().rev() {
        value = value * x + coefficient;
    }
    value
}

/// 2 to a whole power between -1022 and 1023.
fn power_of_two(k: f64) -> f64 {
    // The low bits of a number near `TO_WHOLE` are the whole number itself.
    let k = (k + TO_WHOLE).to_bits().wrapping_sub(TO_WHOLE.to_bits());
    f64::from_bits(k.wrapping_add(1023) << 52)
}

/// A small whole number in two's complement as a float.
fn whole(k: u64) -> f64 {
    f64::from_bits(TO_WHOLE.to_bits().wrapping_add(k)) - TO_WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values spread over the range, without a random source.
    fn spread(from: f64, to: f64) -> impl Iterator<Item = f64> {
        (0..20_000).map(move |n| from + (to - from) * (f64::from(n) * 0.618_033_988_749_895).fract())
    }

    fn close(ours: f64, theirs: f64, tolerance: f64, x: f64) {
        assert!((ours - theirs).abs() <= tolerance, "at {x}: {ours} against {theirs}");
    }

    #[test]
    fn sine_and_cosine_agree_with_the_platform() {
        for turns in spread(-3.0, 3.0) {
            let (sin, cos) = sin_cos_turns(turns);
            close(sin, (turns * TAU).sin(), 8e-15, turns);
            close(cos, (turns * TAU).cos(), 8e-15, turns);
        }
        for turns in spread(-0.125, 0.125) {
            let (sin, cos) = sin_cos_turns(turns);
            close(sin, (turns * TAU).sin(), 3e-16, turns);
            close(cos, (turns * TAU).cos(), 3e-16, turns);
        }
    }

    #[test]
    fn quarters_of_a_turn_are_exact() {
        for (turns, expected) in
            [(0.0, (0.0, 1.0)), (0.25, (1.0, 0.0)), (0.5, (0.0, -1.0)), (-0.25, (-1.0, 0.0)), (1e9 + 0.75, (-1.0, 0.0))]
        {
            assert_eq!(sin_cos_turns(turns), expected, "at {turns}");
        }
    }

    #[test]
    fn exponential_and_logarithm_agree_with_the_platform() {
        for x in spread(-700.0, 700.0).chain(spread(-1.0, 1.0)) {
            close(exp(x) / x.exp(), 1.0, 5e-16, x);
        }
        for x in spread(1e-9, 4.0).chain(spread(0.5, 1e9)).chain(spread(1e-310, 1e-300)).chain(spread(1e290, 1e300)) {
            close(ln(x), x.ln(), x.ln().abs() * 5e-16, x);
        }
        assert_eq!((ln(1.0), exp(0.0), ln(0.0)), (0.0, 1.0, f64::NEG_INFINITY));
        assert!(ln(-1.0).is_nan() && exp(f64::NAN).is_nan());
        assert_eq!((exp(800.0), exp(-800.0)), (f64::INFINITY, 0.0));
    }
}
