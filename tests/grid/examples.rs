//! The example apps through the whole grid, each against an answer that was not computed by it.

use std::path::Path;

use serde_json::{Value, json};

use crate::offpeak::{job, offpeak, root};

/// Runs an example's own job file; its summary and its result.
fn run(name: &str) -> (Value, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = root().join("examples").join(name).join("job.toml");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--out".as_ref(), "out".as_ref(), "--json".as_ref()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    (done.json(), result(&folder.path().join("out")))
}

fn result(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("result.json")).expect("result.json");
    serde_json::from_str(&text).expect("JSON")
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer} of {value}"))
}

#[test]
fn signal_search_finds_the_carrier_that_was_put_in_and_nothing_else() {
    let (summary, result) = run("signal-search");
    assert_eq!(summary["items_succeeded"], json!(801));
    let hits = result["hits"].as_array().expect("hits");
    assert_eq!(hits.len(), 1, "{result}");
    // The generator's carrier: 812.34 Hz drifting by 0.4130 Hz/s.
    assert!((number(&result, "/hits/0/frequency_hz") - 812.34).abs() < 0.07, "{result}");
    assert!((number(&result, "/hits/0/drift_hz_per_s") - 0.413).abs() < 0.006, "{result}");
}

#[test]
fn monte_carlo_agrees_with_black_and_scholes() {
    let (_, result) = run("monte-carlo");
    // The closed formula for the job's market: spot 100, strike 100, rate 5 %, volatility 20 %, one year.
    let (estimate, error) = (number(&result, "/european_call/estimate"), number(&result, "/european_call/standard_error"));
    assert!((estimate - 10.450_583_572_185_565).abs() < 4.0 * error, "{estimate} +- {error}");
    assert!(number(&result, "/asian_call/estimate") < estimate);
}

#[test]
fn mandelbrot_is_a_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = root().join("examples/mandelbrot/job.toml");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--out".as_ref(), "out".as_ref()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let png = std::fs::read(folder.path().join("out/result.png")).expect("result.png");
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!((png[16..24]).to_vec(), [768_u32.to_be_bytes(), 512_u32.to_be_bytes()].concat(), "width and height");
    assert!(png.ends_with(b"IEND\xaeB`\x82"));
}

#[test]
fn an_app_in_c_and_an_unmodified_program_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines: Vec<String> = (-500..500).map(|n: i64| (n * 7).to_string()).collect();
    std::fs::write(folder.path().join("numbers.txt"), lines.join("\n")).expect("write");
    let file = job(folder.path(), "sum", "c-sum", "reduce = true\n[input]\nlines = \"numbers.txt\"\n");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--out".as_ref(), "sum".as_ref(), "--json".as_ref()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let sum: i64 = (-500..500).map(|n: i64| n * 7).sum();
    assert_eq!(result(&folder.path().join("sum")), json!(sum));

    std::fs::write(folder.path().join("text.txt"), "one two\r\n\nthree").expect("write");
    let file = job(folder.path(), "wc", "wc-command", "[input]\nlines = \"text.txt\"\n");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--out".as_ref(), "wc".as_ref(), "--json".as_ref()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let outputs = std::fs::read_to_string(folder.path().join("wc/outputs.jsonl")).expect("outputs");
    let words: Vec<&str> = outputs.lines().filter_map(|line| line.split('"').nth(5)).collect();
    assert!(words[0].starts_with("2 words") && words[1].starts_with("0 words") && words[2].starts_with("1 words"), "{outputs}");
}

/// The recordings of Voyager 1 and what others published of them.
#[test]
fn voyager_is_found_where_others_found_it() {
    let data = root().parent().expect("a folder").join("shared/data/voyager");
    let Ok(stamps) = std::fs::read_to_string(data.join("stamps.json")) else {
        println!("skipped: the recordings of Voyager 1 are not beside this checkout ({})", data.display());
        return;
    };
    let stamps: Value = serde_json::from_str(&stamps).expect("stamps.json");
    let folder = tempfile::tempdir().expect("a folder");
    let (median, std) = (number(&stamps, "/global_median"), number(&stamps, "/global_std"));
    for hit in stamps["hits"].as_array().expect("hits") {
        let name = hit["file"].as_str().expect("file");
        std::fs::copy(data.join(name), folder.path().join(name)).expect("copy");
        let params = format!(
            "reduce = true\n[input]\ngrid = {{ block = [-7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6] }}\nshared = \"{name}\"\n\
             [params]\nchannels = {}\nfch1_mhz = {}\nfoff_mhz = {:?}\ntsamp_s = {}\nsnr = 10.0\nmedian = {median:?}\nstd = {std:?}\n",
            hit["n_chan"],
            hit["fch1_mhz"],
            number(hit, "/foff_mhz"),
            hit["tsamp_s"]
        );
        let file = job(folder.path(), "stamp", "drift-search", &params);
        let out = format!("{name}-out");
        let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--out".as_ref(), out.as_ref(), "--json".as_ref()]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let found = result(&folder.path().join(&out));
        let expected = &hit["expected_seticore"];
        assert_eq!(found["hits"][0]["start_channel"], expected["start_channel"], "{name}: {found}");
        assert_eq!(found["hits"][0]["drift_steps"], expected["drift_steps"], "{name}: {found}");
        let (snr, published) = (number(&found, "/hits/0/snr"), number(expected, "/snr"));
        assert!((snr / published - 1.0).abs() < 1e-3, "{name}: {snr} against {published}");
    }
}
