//! The picture against what is known of the set.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use guest::{App, Item, Reduce, Shared};
use mandelbrot::{Mandelbrot, Params};
use serde::Deserialize;

#[derive(Deserialize)]
struct Job {
    input: Input,
    params: Params,
}

#[derive(Deserialize)]
struct Input {
    range: [u64; 2],
}

fn job() -> Job {
    toml::from_str(include_str!("../job.toml")).unwrap()
}

fn map(app: &Mandelbrot, index: u64) -> Result<Vec<u8>, String> {
    app.map(&Item::new(&guest::encode(&index).unwrap()), &Shared::default())
}

/// Computes, assembles and decodes a picture: one byte per pixel.
fn picture(params: Params, tiles: [u64; 2]) -> (png::OutputInfo, Vec<u8>) {
    let app = Mandelbrot::init(params, &Shared::default()).unwrap();
    let parts: Vec<_> = (tiles[0]..tiles[1]).map(|index| map(&app, index).unwrap()).collect();
    let level: Vec<_> =
        parts.chunks(64).map(|group| app.reduce(&group.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()).collect();
    let last = app.reduce(&level.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let file = app.finish(&last).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    pixels.truncate(info.buffer_size());
    (info, pixels)
}

#[test]
fn the_default_job_makes_the_whole_picture() {
    let Job { input, params } = job();
    let (info, pixels) = picture(params, input.range);
    assert_eq!((info.width, info.height, info.color_type), (768, 512, png::ColorType::Indexed));
    assert_eq!(pixels.len(), 768 * 512);
    assert!(pixels.contains(&0), "some points belong to the set");
    let distinct: std::collections::BTreeSet<u8> = pixels.iter().copied().collect();
    assert!(distinct.len() > 200, "{} colours", distinct.len());
}

#[test]
fn the_area_of_the_set_is_the_known_one_and_it_is_symmetric() {
    let params = Params { width: 600, height: 500, tile: 77, centre_re: -0.6, centre_im: 0.0, span: 3.0, max_iterations: 2_000 };
    let (_, pixels) = picture(params, [0, 8 * 7]);
    // 1.506484 by the pixel counts of Mitchell 2001 and others; points close outside count as inside here.
    let inside: u32 = pixels.iter().map(|pixel| u32::from(*pixel == 0)).sum();
    let area = f64::from(inside) * (3.0_f64 / 600.0).powi(2);
    assert!((area - 1.5065).abs() < 0.01, "{area}");
    for (top, bottom) in pixels.chunks_exact(600).zip(pixels.chunks_exact(600).rev()) {
        assert_eq!(top, bottom);
    }
}

#[test]
fn any_size_of_tiles_makes_the_same_picture() {
    let params = Params { width: 100, height: 60, ..job().params };
    let whole = picture(Params { tile: 100, ..params.clone() }, [0, 1]).1;
    assert_eq!(picture(Params { tile: 7, ..params.clone() }, [0, 15 * 9]).1, whole);
    assert_eq!(picture(Params { tile: 1_000, ..params }, [0, 1]).1, whole);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let refused = |params: Params| Mandelbrot::init(params, &Shared::default()).err().unwrap();
    let good = job().params;
    assert!(refused(Params { width: 0, ..good.clone() }).contains("width"));
    assert!(refused(Params { height: 1 << 20, ..good.clone() }).contains("height"));
    assert!(refused(Params { tile: 0, ..good.clone() }).contains("tile"));
    assert!(refused(Params { span: f64::NAN, ..good.clone() }).contains("span"));
    assert!(refused(Params { max_iterations: 0, ..good.clone() }).contains("max_iterations"));
    let app = Mandelbrot::init(good, &Shared::default()).unwrap();
    assert!(map(&app, 96).unwrap_err().contains("96 tiles"));
    assert!(map(&app, 1 << 40).is_err());
}
