//! Job files good and bad; the mistakes as people read them.

use super::*;
use protocol::input::{Axis, Input};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("app.wasm", &b"\0asm\x01\0\0\0"[..]), ("data.bin", &[7; 10]), ("lines.txt", b"a\nbb\n"), ("empty", b"")]
        {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self(folder)
    }

    fn parse(&self, text: &str) -> Result<JobFile, Mistakes> {
        parse(&self.0.path().join("job.toml"), text)
    }

    /// The mistakes without the folder's name, one a line.
    fn mistakes(&self, text: &str) -> String {
        let error = self.parse(text).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

const SMALLEST: &str = "app = \"app.wasm\"\n[input]\nrange = [0, 10]\n";

#[test]
fn the_smallest_job_file_takes_the_defaults() {
    let job = Folder::new().parse(SMALLEST).unwrap();
    assert_eq!(job.uploads.len(), 1);
    assert_eq!(job.uploads[0].digest, job.spec.app);
    assert_eq!(job.spec.app, Digest::of(b"\0asm\x01\0\0\0"));
    assert_eq!(job.spec.input, Input::Range { start: 0, end: 10 });
    assert_eq!((job.spec.limits, job.spec.unit), (Limits::default(), UnitSizing::default()));
    assert_eq!((job.spec.pool.as_str(), job.spec.quorum, job.spec.max_failures, job.spec.reduce), ("open", 1, 3, false));
    // The defaults are those of the wire, so that a job file and a message that say nothing mean the same.
    let json = format!(r#"{{"app":"{}","input":{{"range":{{"start":0,"end":10}}}},"pool":"open"}}"#, job.spec.app);
    assert_eq!(codec::decode::<JobSpec>("job", json.as_bytes(), Format::Json).unwrap(), job.spec);
}

#[test]
fn every_key_is_read() {
    let text = "app = \"app.wasm\"\npool = \"trusted\"\nquorum = 2\npriority = -5\ndeadline = \"2h30m\"\nbudget_fuel = 5_000\nmax_failures = 7\nreduce = true\n\
        [input]\nrecords = { file = \"data.bin\", bytes = 5 }\nshared = \"lines.txt\"\n\
        [params]\nz = 1\na = [1.5, true, 2026-01-02, {x = \"y\"}]\nbig = 18446744073709551615\n\
        [limits]\nfuel_per_item = 1_000\nmemory_bytes = 0x100000\noutput_bytes = 77\n[unit]\ntarget_seconds = 0.5\nmax_items = 9\n";
    let spec = Folder::new().parse(text).unwrap().spec;
    assert_eq!((spec.pool.as_str(), spec.quorum, spec.priority, spec.deadline_s), ("trusted", 2, -5, Some(9_000)));
    assert_eq!((spec.max_failures, spec.reduce, spec.budget_fuel), (7, true, Fuel::new(5_000).ok()));
    assert_eq!(spec.input, Input::Records { blob: Digest::of(&[7; 10]), bytes: 5 });
    assert_eq!(spec.shared, Some(Digest::of(b"a\nbb\n")));
    assert_eq!(spec.params.to_string(), r#"{"z": 1, "a": [1.5, true, "2026-01-02", {"x": "y"}], "big": 18446744073709551615}"#);
    assert_eq!(spec.limits, Limits { fuel_per_item: Fuel::new(1_000).unwrap(), memory_bytes: 1 << 20, output_bytes: 77 });
    assert_eq!(spec.unit, UnitSizing { target_ms: 500, max_items: 9 });
}

#[test]
fn a_grid_keeps_the_order_of_the_file() {
    let text = "app = \"app.wasm\"\n[input.grid]\nzeta = [1, 2]\nalpha = [\"x\"]\n";
    let Input::Grid(axes) = Folder::new().parse(text).unwrap().spec.input else { panic!("no grid") };
    assert_eq!(axes.iter().map(|axis| axis.name.as_str()).collect::<Vec<_>>(), ["zeta", "alpha"]);
}

#[test]
fn an_app_may_be_a_digest_and_lines_a_file() {
    let digest = "ab".repeat(32);
    let job = Folder::new().parse(&format!("app = \"{digest}\"\ninput.lines = \"lines.txt\"\ndeadline = 60\n")).unwrap();
    assert_eq!(job.spec.app.to_string(), digest);
    assert_eq!(job.uploads.iter().map(|upload| upload.role).collect::<Vec<_>>(), ["input"]);
    assert_eq!(job.spec.deadline_s, Some(60));
}

#[test]
fn every_mistake_is_told_at_once_with_its_place_and_the_way_out() {
    let text = "app = \"missing.wasm\"\nqorum = 2\nquorum = 17\npriority = 101\npool = \"Open!\"\ndeadline = \"soon\"\n\
        reduce = \"yes\"\n\n[input]\nrange = [5, 5]\nlines = \"empty\"\nrecords = { file = \"data.bin\", bytes = 3, size = 1 }\n\
        grid = { a = [], b = 1 }\n\n[limits]\nmemory_bytes = 5_000_000_000\noutput_bytes = 1.5\nfuel = 3\n\n\
        [unit]\ntarget_seconds = 0\nmax_items = 0\n";
    let folder = Folder::new();
    let told = folder.mistakes(text);
    let expected = include_str!("../../tests/golden/mistakes.txt");
    assert_eq!(told.trim_end(), expected.trim_end(), "\n{told}\n");
}

#[test]
fn broken_toml_is_told_with_its_line_and_the_rest_still_checked() {
    let told = Folder::new().mistakes("app = \"app.wasm\"\nquorum = \npriority = 200\n[input]\nrange = [0, 1]\n");
    assert!(told.contains("job.toml:2:") && told.contains("not TOML"), "{told}");
    assert!(told.contains("job.toml:3:12: `priority` is 200; give a whole number from -100 to 100"), "{told}");
    assert!(told.starts_with("2 mistakes"), "{told}");
}

#[test]
fn what_is_missing_is_told() {
    let told = Folder::new().mistakes("");
    assert!(told.contains("there is no `app`") && told.contains("there is no `[input]`"), "{told}");
    let told = Folder::new().mistakes("app = \"lines.txt\"\n[input]\nshared = \"gone\"\n");
    assert!(told.contains("`app` is not a WebAssembly module") && told.contains("`input.shared` cannot be read"), "{told}");
    assert!(told.contains("job.toml:2:2: `[input]` gives no items"), "{told}");
    let told = Folder::new().mistakes("app = \"app.wasm\"\n[input]\nrange = [9, 3]\n");
    assert!(told.contains("runs backwards"), "{told}");
}

#[test]
fn what_is_too_large_is_told_with_the_way_out() {
    let folder = Folder::new();
    let long = "x".repeat(9 << 20);
    let told = folder.mistakes(&format!("app = \"app.wasm\"\n[input]\nitems = [\"{long}\"]\n"));
    assert!(told.contains("job.toml:3:9: `input.items` together are beyond") && told.contains("lines = "), "{told}");
    let told = folder.mistakes(&format!("app = \"app.wasm\"\n[input]\ngrid = {{ x = [\"{long}\"] }}\n"));
    assert!(told.contains("job.toml:3:8: the values of `input.grid` together are beyond 8388608 bytes"), "{told}");
    let params = "y".repeat(2 << 20);
    let told = folder.mistakes(&format!("{SMALLEST}[params]\nx = \"{params}\"\n"));
    assert!(told.contains("job.toml:4:2: `params` is beyond 1048576 bytes") && told.contains("input.shared"), "{told}");
    std::fs::write(folder.0.path().join("long.txt"), format!("short\n{long}\n")).unwrap();
    let told = folder.mistakes("app = \"app.wasm\"\n[input]\nlines = \"long.txt\"\n");
    assert!(told.contains("line 2 of") && told.contains("is 9437184 bytes"), "{told}");
    let huge = std::fs::File::create(folder.0.path().join("huge.bin")).unwrap();
    huge.set_len(protocol::blob::MAX_BLOB_BYTES + 5_000_000).unwrap();
    let told = folder.mistakes(&format!("{SMALLEST}shared = \"huge.bin\"\n"));
    assert!(told.contains("`input.shared` is 1078741824 bytes, beyond 1073741824"), "{told}");
}

#[test]
fn values_are_counted_as_the_grid_counts_them() {
    let values = |count| vec![Value::Nil; count];
    // The list is a value too.
    assert_eq!(unfit(&values(MAX_VALUES - 1)), None);
    let told = unfit(&values(MAX_VALUES)).unwrap();
    assert!(told.starts_with("beyond 1000000 values"), "{told}");
    let axis = |count| Axis { name: "x".to_owned(), values: values(count) };
    assert_eq!(unfit(&[axis(MAX_VALUES / 4), axis(MAX_VALUES / 4)]), None);
    assert!(unfit(&[axis(MAX_VALUES / 2), axis(MAX_VALUES / 2)]).is_some(), "all axes together");
}

#[test]
fn every_key_is_documented_and_known() {
    let document = include_str!("../../../../docs/job-file.md");
    for key in KEYS {
        assert!(document.contains(&format!("`{key}`")), "docs/job-file.md says nothing of `{key}`");
    }
}

#[test]
fn the_documents_example_is_a_job_file() {
    let document = include_str!("../../../../docs/job-file.md");
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("recording.c64"), [0; 64]).unwrap();
    folder.parse(example).unwrap();
}
