//! The search against answers that were known before: the generator's carrier, and Voyager 1.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use guest::math::sin_cos_turns;
use guest::{App, Item, Reduce, Shared};
use serde::Deserialize;
use signal_search::{Hits, Params, SignalSearch};
use std::path::Path;

#[derive(Deserialize)]
struct Job {
    input: Input,
    params: Params,
}

#[derive(Deserialize)]
struct Input {
    range: [u64; 2],
    shared: String,
}

fn job() -> Job {
    toml::from_str(include_str!("../job.toml")).unwrap()
}

/// Searches the given items, and reduces them in groups of `fan_in` as the grid does in groups of 64.
fn run(app: &SignalSearch, items: impl Iterator<Item = Vec<u8>>, fan_in: usize) -> Hits {
    let shared = Shared::default();
    let mut parts: Vec<_> = items.map(|item| app.map(&Item::new(&item), &shared).unwrap()).collect();
    while parts.len() > 1 {
        let level = parts.chunks(fan_in).map(|group| app.reduce(&group.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap());
        parts = level.collect();
    }
    guest::decode(&app.finish(&parts[0]).unwrap()).unwrap()
}

fn range(items: [u64; 2]) -> impl Iterator<Item = Vec<u8>> {
    (items[0]..items[1]).map(|index| guest::encode(&index).unwrap())
}

#[test]
fn the_default_job_finds_exactly_the_generated_carrier() {
    let job = job();
    let recording = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(job.input.shared)).unwrap();
    let app = SignalSearch::init(job.params, &Shared::for_test(recording)).unwrap();
    // All drift rates near the carrier's, which is at 482.6; of the others, which take a while without SIMD, every eighth.
    let near = |index: &u64| (470..=495).contains(index) || index.is_multiple_of(8);
    let items = || (job.input.range[0]..job.input.range[1]).filter(near).map(|index| guest::encode(&index).unwrap());
    let found = run(&app, items(), 64);
    let [carrier] = found.hits.as_slice() else { panic!("{} hits: {:?}", found.hits.len(), found.hits) };
    // generate.rs: 812.34 Hz at the start, 0.4130 Hz/s; a bin is 1/16 Hz, a drift rate 0.005 Hz/s.
    assert!((carrier.frequency_hz - 812.34).abs() <= 1.0 / 16.0, "{carrier:?}");
    assert!((carrier.drift_hz_per_s - 0.4130).abs() <= 0.005, "{carrier:?}");
    // Power over mean: N a²/(1 + a²) = 132.7 for a carrier in the middle of a bin, and noise.
    assert!(carrier.ratio > 60.0 && carrier.ratio < 170.0, "{carrier:?}");
    assert_eq!(found.searched.drift_rates, u64::try_from(items().count()).unwrap());
}

#[test]
fn any_tree_of_reductions_gives_the_same_hits() {
    let job = job();
    let recording = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(job.input.shared)).unwrap();
    let params = Params { fft_lengths: vec![65_536, 8_192], threshold: 25.0, ..job.params };
    let app = SignalSearch::init(params, &Shared::for_test(recording)).unwrap();
    let found = run(&app, range([475, 491]), 64);
    assert!(!found.hits.is_empty());
    assert_eq!(run(&app, range([475, 491]), 3), found);
    assert_eq!(run(&app, range([475, 491]), 2), found);
}

/// Applies a chirp of `drift` to little-endian complex samples.
fn chirped(bytes: &[u8], rate: f64, drift: f64) -> Vec<u8> {
    let number = |at: usize| f64::from(f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
    let mut out = Vec::new();
    for (n, at) in (0_u32..).zip((0..bytes.len()).step_by(8)) {
        let t = f64::from(n) / rate;
        let (sin, cos) = sin_cos_turns(0.5 * drift * t * t);
        let (i, q) = (number(at), number(at + 4));
        for part in [i * cos - q * sin, i * sin + q * cos] {
            #[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "rounding is meant")]
            out.extend((part as f32).to_le_bytes());
        }
    }
    out
}

#[test]
fn the_chirp_applied_to_voyager_1_is_recovered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/voyager/voyager1_sideband.c64");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: the recording of Voyager 1 is not at {}", path.display());
        return;
    };
    let params = Params {
        sample_rate_hz: 1_674.107,
        fft_lengths: vec![65_536],
        threshold: 1_000.0,
        square: true,
        drift_start_hz_per_s: 0.60,
        drift_step_hz_per_s: 0.01,
        max_hits: 32,
    };
    let app = SignalSearch::init(params, &Shared::for_test(chirped(&bytes, 1_674.107, 0.37))).unwrap();
    let found = run(&app, range([0, 29]), 64);
    let [line] = found.hits.as_slice() else { panic!("{} hits: {:?}", found.hits.len(), found.hits) };
    assert!((line.frequency_hz - -1.022).abs() < 0.001, "{line:?}");
    assert!((line.drift_hz_per_s - 0.74).abs() < 1e-9, "{line:?}");
    assert!((line.ratio - 6_081.0).abs() < 6.0, "{line:?}");
    // 0.01 Hz/s beside it the line is much weaker: published as 1,718.
    let beside = app.search(0.75);
    assert!((beside.hits[0].ratio - 1_718.0).abs() < 5.0, "{:?}", beside.hits[0]);
}

#[test]
fn wrong_parameters_are_refused_with_their_name() {
    let good = job().params;
    let wrong = [
        ("fft_lengths", Params { fft_lengths: vec![100], ..good.clone() }),
        ("fft_lengths", Params { fft_lengths: vec![], ..good.clone() }),
        ("threshold", Params { threshold: 0.0, ..good.clone() }),
        ("sample_rate_hz", Params { sample_rate_hz: f64::NAN, ..good.clone() }),
        ("max_hits", Params { max_hits: 0, ..good.clone() }),
    ];
    for (name, params) in wrong {
        let error = SignalSearch::init(params, &Shared::for_test(vec![0; 80])).err().unwrap();
        assert!(error.contains(name), "{error}");
    }
    assert!(SignalSearch::init(good, &Shared::default()).err().unwrap().contains("shared"));
}

#[test]
fn an_item_is_an_index_or_a_point_of_a_grid() {
    let params = Params { fft_lengths: vec![64], ..job().params };
    let app = SignalSearch::init(params, &Shared::for_test(vec![1; 800])).unwrap();
    let map = |item: &[u8]| app.map(&Item::new(item), &Shared::default());
    let point = [&[0x81, 0xae][..], b"drift_hz_per_s", &[0xcb], &(-0.5_f64).to_be_bytes()].concat();
    assert_eq!(map(&[100]), map(&point));
    assert!(map(&[0xa1, b'x']).is_err());
    assert!(map(&guest::encode(&u64::MAX).unwrap()).is_err());
}
