//! A picture of the Mandelbrot set, computed tile by tile and put together as a PNG file.

mod picture;

use guest::{App, Item, Reduce, Shared};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// A result is a part of the picture, and must fit one message.
const MOST_PIXELS: u32 = 1 << 20;
/// Deeper than this an item computes for hours.
const MOST_ITERATIONS: u32 = 10_000_000;
/// Pixels that are computed at once; SIMD takes two or four of them.
const LANES: usize = 4;

/// The job file's `[params]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Pixels of a tile's side; tiles at the right and the bottom may be smaller.
    pub tile: u32,
    /// The middle of the picture.
    pub centre_re: f64,
    /// The middle of the picture.
    pub centre_im: f64,
    /// The picture's width in the plane.
    pub span: f64,
    /// A point that has not left by then belongs to the set.
    pub max_iterations: u32,
}

/// A computed tile: one byte per pixel, 0 inside the set, else 1 to 255 by the number of iterations.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tile {
    index: u32,
    pixels: ByteBuf,
}

/// A part of the picture: the result of an item and of a reduction.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tiles {
    tiles: Vec<Tile>,
}

/// Where a tile lies in the picture.
struct Place {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

/// The app.
pub struct Mandelbrot {
    params: Params,
    palette: Vec<u8>,
}

impl App for Mandelbrot {
    type Params = Params;

    fn init(params: Params, _shared: &Shared) -> Result<Self, String> {
        let pixels = u64::from(params.width) * u64::from(params.height);
        if params.width == 0 || params.height == 0 || pixels > u64::from(MOST_PIXELS) {
            return Err(format!("params.width, params.height: give a picture of 1 to {MOST_PIXELS} pixels, not {pixels}"));
        }
        if params.tile == 0 {
            return Err("params.tile: give at least 1 pixel".to_owned());
        }
        if !(1..=MOST_ITERATIONS).contains(&params.max_iterations) {
            return Err(format!("params.max_iterations: give a number from 1 to {MOST_ITERATIONS}"));
        }
        if !(params.centre_re.is_finite() && params.centre_im.is_finite() && params.span.is_finite() && params.span > 0.0) {
            return Err("params.centre_re, params.centre_im, params.span: give finite numbers, the span positive".to_owned());
        }
        Ok(Mandelbrot { params, palette: picture::palette() })
    }

    fn map(&self, item: &Item<'_>, _shared: &Shared) -> Result<Vec<u8>, String> {
        let number = item.index()?;
        let index = u32::try_from(number).map_err(|error| format!("tile {number}: {error}"))?;
        let place = self.place(index)?;
        let mut pixels = Vec::with_capacity(size(place.width) * size(place.height));
        for y in place.top..place.top + place.height {
            for x in (place.left..place.left + place.width).step_by(LANES) {
                let row = self.escapes(x, y).map(colour);
                let rest = size(place.left + place.width - x).min(LANES);
                pixels.extend_from_slice(&row[..rest]);
            }
        }
        guest::encode(&Tiles { tiles: vec![Tile { index, pixels: ByteBuf::from(pixels) }] })
    }
}

impl Reduce for Mandelbrot {
    fn reduce(&self, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut all = Tiles::default();
        for part in parts {
            all.tiles.append(&mut guest::decode::<Tiles>(part)?.tiles);
        }
        guest::encode(&all)
    }

    fn finish(&self, part: &[u8]) -> Result<Vec<u8>, String> {
        let mut pixels = vec![0; size(self.params.width) * size(self.params.height)];
        for tile in guest::decode::<Tiles>(part)?.tiles {
            let place = self.place(tile.index)?;
            if tile.pixels.len() != size(place.width) * size(place.height) {
                return Err(format!("tile {} has {} pixels", tile.index, tile.pixels.len()));
            }
            for (y, row) in (place.top..).zip(tile.pixels.chunks_exact(size(place.width))) {
                let start = size(y) * size(self.params.width) + size(place.left);
                pixels[start..start + row.len()].copy_from_slice(row);
            }
        }
        picture::encode(self.params.width, self.params.height, &self.palette, &pixels)
    }
}

impl Mandelbrot {
    fn place(&self, index: u32) -> Result<Place, String> {
        let Params { width, height, tile, .. } = self.params;
        let across = width.div_ceil(tile);
        let (column, row) = (index % across, index / across);
        if row >= height.div_ceil(tile) {
            return Err(format!("tile {index}: the picture has only {} tiles", across * height.div_ceil(tile)));
        }
        let (left, top) = (column * tile, row * tile);
        Ok(Place { left, top, width: tile.min(width - left), height: tile.min(height - top) })
    }

    /// How many iterations the points of neighbouring pixels need to leave; none if they stay.
    fn escapes(&self, x: u32, y: u32) -> [Option<u32>; LANES] {
        let step = self.params.span / f64::from(self.params.width);
        let along = |pixel: u32, pixels: u32| f64::from(pixel) + 0.5 - 0.5 * f64::from(pixels);
        let columns: [u32; LANES] = std::array::from_fn(|k| x + u32::try_from(k).unwrap_or(0));
        let c_re = columns.map(|x| self.params.centre_re + along(x, self.params.width) * step);
        let c_im = self.params.centre_im - along(y, self.params.height) * step;
        let (mut re, mut im) = ([0.0; LANES], [0.0; LANES]);
        let mut left = [None; LANES];
        for n in 1..=self.params.max_iterations {
            let mut any_inside = false;
            for k in 0..LANES {
                let (re_2, im_2) = (re[k] * re[k], im[k] * im[k]);
                if re_2 + im_2 > 4.0 {
                    // A point that has left goes nowhere any more, so that its numbers stay finite.
                    left[k] = left[k].or(Some(n));
                    continue;
                }
                im[k] = 2.0 * re[k] * im[k] + c_im;
                re[k] = re_2 - im_2 + c_re[k];
                any_inside = true;
            }
            if !any_inside {
                break;
            }
        }
        left
    }
}

/// The byte of a pixel.
fn colour(left_after: Option<u32>) -> u8 {
    left_after.map_or(0, |n| u8::try_from(n % 255).unwrap_or(0) + 1)
}

fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

guest::export!(Mandelbrot, reduce, output = "png");
