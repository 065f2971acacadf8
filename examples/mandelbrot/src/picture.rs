//! The picture as a file: a palette and the PNG encoding.

use guest::math::{round, sin_cos_turns};

/// 256 colours, red green blue: black for the set, then a circle of hues from dark blue over white and gold.
pub(crate) fn palette() -> Vec<u8> {
    let mut colours = vec![0; 3];
    for n in 0..255_u32 {
        let turn = f64::from(n) / 255.0;
        for phase in [0.55, 0.62, 0.72] {
            let (_, cos) = sin_cos_turns(turn * 3.0 - phase);
            colours.push(byte(127.5 + 127.5 * cos));
        }
    }
    colours
}

/// Encodes one byte per pixel, an index into the palette, as PNG.
pub(crate) fn encode(width: u32, height: u32, palette: &[u8], pixels: &[u8]) -> Result<Vec<u8>, String> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette);
    encoder.set_compression(png::Compression::Balanced);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(pixels)?;
        writer.finish()
    });
    written.map_err(|error| format!("the picture could not be encoded: {error}"))?;
    Ok(file)
}

/// A brightness from 0 to 255.
fn byte(brightness: f64) -> u8 {
    let whole = round(brightness.clamp(0.0, 255.0));
    (0..=255_u8).find(|byte| f64::from(*byte) >= whole).unwrap_or(u8::MAX)
}
