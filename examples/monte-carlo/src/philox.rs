//! Random numbers from a counter: the same number for the same key and place, whoever asks for it and when.
//!
//! Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: u32 = 10;

/// The four random words at a place.
#[expect(clippy::many_single_char_names, reason = "the letters are the words of the counter and of the key")]
pub(crate) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k, mut l] = key;
    for _ in 0..ROUNDS {
        let (high, low) = wide(MULTIPLIERS[0], a);
        let (other_high, other_low) = wide(MULTIPLIERS[1], c);
        [a, b, c, d] = [other_high ^ b ^ k, other_low, high ^ d ^ l, low];
        (k, l) = (k.wrapping_add(WEYL[0]), l.wrapping_add(WEYL[1]));
    }
    [a, b, c, d]
}

/// Two numbers between 0 and 1, neither included, from four words: 52 bits each, made from bits because that is exact.
pub(crate) fn uniforms([a, b, c, d]: [u32; 4]) -> (f64, f64) {
    (uniform(a, b), uniform(c, d))
}

fn uniform(low: u32, high: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    f64::from_bits(0x3ff0_0000_0000_0000 | bits) - (1.0 - f64::EPSILON / 2.0)
}

/// The two halves of a product.
fn wide(x: u32, y: u32) -> (u32, u32) {
    let [low, high] = halves(u64::from(x) * u64::from(y));
    (high, low)
}

/// The low and the high word of a number.
#[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "cutting off is meant")]
pub(crate) fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_known_answers() {
        let expected = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
        assert_eq!(philox([0; 4], [0; 2]), expected);
        let expected = [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd];
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), expected);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let expected = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), expected);
    }

    #[test]
    fn uniforms_lie_between_zero_and_one() {
        assert_eq!(uniforms([0; 4]), (f64::EPSILON / 2.0, f64::EPSILON / 2.0));
        assert_eq!(uniforms([u32::MAX; 4]), (1.0 - f64::EPSILON / 2.0, 1.0 - f64::EPSILON / 2.0));
    }
}
