//! The search against answers that were known before: the generator's signals, and five slices with Voyager 1.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use drift_search::{DriftSearch, Hits, Params};
use guest::{App, Item, Reduce, Shared};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Job {
    input: Input,
    params: Params,
}

#[derive(Deserialize)]
struct Input {
    grid: Grid,
    shared: String,
}

#[derive(Deserialize)]
struct Grid {
    block: Vec<i32>,
}

#[derive(Serialize)]
struct Point {
    block: i32,
}

fn job() -> Job {
    toml::from_str(include_str!("../job.toml")).unwrap()
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn run(app: &DriftSearch, blocks: &[i32], fan_in: usize) -> Hits {
    let item = |block: &i32| guest::encode(&Point { block: *block }).unwrap();
    let mut parts: Vec<_> = blocks.iter().map(|block| app.map(&Item::new(&item(block)), &Shared::default()).unwrap()).collect();
    loop {
        let level = parts.chunks(fan_in).map(|group| app.reduce(&group.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap());
        parts = level.collect();
        if let [last] = parts.as_slice() {
            return guest::decode(&app.finish(last).unwrap()).unwrap();
        }
    }
}

#[test]
fn the_default_job_finds_exactly_the_generated_signals() {
    let job = job();
    let shared = Shared::for_test(std::fs::read(here().join(job.input.shared)).unwrap());
    let app = DriftSearch::init(job.params, &shared).unwrap();
    let found = run(&app, &job.input.grid.block, 64);
    // generate.rs: the start channels and drifts of its two signals.
    let places: Vec<_> = found.hits.iter().map(|hit| (hit.start_channel, hit.drift_steps)).collect();
    assert_eq!(places, [(1_200, 203), (3_001, -88)], "{found:?}");
    assert_eq!(found.searched.blocks, 16);
    assert_eq!(run(&app, &job.input.grid.block, 2), found);
}

#[derive(Deserialize)]
struct Stamps {
    global_median: f64,
    global_std: f64,
    hits: Vec<Stamp>,
}

#[derive(Deserialize)]
struct Stamp {
    file: String,
    n_chan: u32,
    fch1_mhz: f64,
    foff_mhz: f64,
    tsamp_s: f64,
    expected_seticore: Expected,
}

#[derive(Deserialize)]
struct Expected {
    start_channel: u32,
    frequency_mhz: f64,
    drift_steps: i32,
    drift_hz_per_s: f64,
    snr: f64,
}

#[test]
fn voyager_1_is_found_as_published() {
    let folder = here().join("../../../shared/data/voyager");
    let Ok(text) = std::fs::read_to_string(folder.join("stamps.json")) else {
        eprintln!("skipped: the slices with Voyager 1 are not at {}", folder.display());
        return;
    };
    let stamps: Stamps = serde_json::from_str(&text).unwrap();
    assert_eq!(stamps.hits.len(), 5);
    for stamp in &stamps.hits {
        let params = Params {
            channels: stamp.n_chan,
            fch1_mhz: stamp.fch1_mhz,
            foff_mhz: stamp.foff_mhz,
            tsamp_s: stamp.tsamp_s,
            median: Some(stamps.global_median),
            std: Some(stamps.global_std),
            ..job().params
        };
        let shared = Shared::for_test(std::fs::read(folder.join(&stamp.file)).unwrap());
        let app = DriftSearch::init(params, &shared).unwrap();
        let found = run(&app, &(-7..7).collect::<Vec<_>>(), 3);
        let expected = &stamp.expected_seticore;
        let [hit] = found.hits.as_slice() else { panic!("{}: {found:?}", stamp.file) };
        assert_eq!((hit.start_channel, hit.drift_steps), (expected.start_channel, expected.drift_steps), "{}", stamp.file);
        assert!((hit.snr / expected.snr - 1.0).abs() < 1e-5, "{}: {} against {}", stamp.file, hit.snr, expected.snr);
        assert!((hit.frequency_mhz - expected.frequency_mhz).abs() < 1e-9, "{}", stamp.file);
        assert!((hit.drift_hz_per_s / expected.drift_hz_per_s - 1.0).abs() < 1e-9, "{}: {}", stamp.file, hit.drift_hz_per_s);
    }
}

#[test]
fn wrong_parameters_are_refused_with_their_name() {
    let good = job().params;
    let wrong = [
        ("snr", Params { snr: 0.0, ..good.clone() }),
        ("foff_mhz", Params { foff_mhz: 0.0, ..good.clone() }),
        ("median", Params { median: Some(1.0), ..good.clone() }),
        ("channels", Params { channels: 0, ..good.clone() }),
        ("noise", good),
    ];
    for (name, params) in wrong {
        let error = DriftSearch::init(params, &Shared::for_test(vec![0; 4 * 4096 * 4])).err().unwrap();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn an_item_is_an_index_or_a_point_of_a_grid() {
    let params = Params { channels: 4, first_block: -2, median: Some(0.0), std: Some(1.0), ..job().params };
    let app = DriftSearch::init(params, &Shared::for_test(vec![1; 4 * 4 * 4])).unwrap();
    let map = |item: &[u8]| app.map(&Item::new(item), &Shared::default());
    assert_eq!(map(&[1]), map(&guest::encode(&Point { block: -1 }).unwrap()));
    assert!(map(&guest::encode(&Point { block: 1_000_000 }).unwrap()).is_err());
    assert!(map(&guest::encode(&u64::MAX).unwrap()).is_err());
    assert!(map(&[0xa1, b'x']).is_err());
}
