//! What stands where a job file or one of its files should: folders, pipes, endless devices, links in a circle.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use offpeak::jobfile::{self, JobFile, Mistakes};

use crate::jobfile::{check, folder};
use crate::turn;

/// Far beyond what any refusal takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_mins(1);

/// Reads a job file on a thread of its own: one that waits for ever must not hold up the tests.
fn read(path: &Path) -> Result<JobFile, Mistakes> {
    let (sender, receiver) = mpsc::channel();
    let own = PathBuf::from(path);
    std::thread::spawn(move || sender.send(Box::new(jobfile::read(&own))).unwrap());
    *receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{} is read for ever", path.display()))
}

/// The folder, with a pipe in it that nobody writes to.
fn with_pipe() -> tempfile::TempDir {
    let folder = folder();
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    folder
}

const SPECIAL: [&str; 7] = ["pipe", "folder", "loop", "missing", "/dev/zero", "/dev/full", "/dev/null"];

#[test]
fn a_job_file_that_is_no_file_is_refused() {
    let _turn = turn();
    let folder = with_pipe();
    for name in SPECIAL {
        let told = read(&folder.path().join(name));
        check(&told).unwrap();
        let told = told.unwrap_err().to_string();
        assert!(told.contains("cannot read the job file"), "{told}");
    }
}

#[test]
fn a_job_file_that_is_no_text_or_has_no_end_is_refused() {
    let _turn = turn();
    let folder = folder();
    let path = folder.path().join("job.toml");
    for bytes in [b"app = \"\xff\xfe\"".to_vec(), vec![0; 1 << 20], vec![0xff; 1 << 20]] {
        std::fs::write(&path, bytes).unwrap();
        check(&read(&path)).unwrap();
        assert!(read(&path).is_err());
    }
    // A hole of a tebibyte.
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let told = read(&path).unwrap_err().to_string();
    assert!(told.contains("cannot read the job file") && told.contains("bytes"), "{told}");
}

#[test]
fn what_a_job_file_names_must_be_a_file() {
    let _turn = turn();
    let folder = with_pipe();
    let path = folder.path().join("job.toml");
    for name in SPECIAL {
        for text in [
            format!("app = \"{name}\"\ninput.range = [0, 1]\n"),
            format!("app = \"app.wasm\"\ninput.lines = \"{name}\"\n"),
            format!("app = \"app.wasm\"\ninput.records = {{ file = \"{name}\", bytes = 1 }}\n"),
            format!("app = \"app.wasm\"\ninput.range = [0, 1]\ninput.shared = \"{name}\"\n"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let told = read(&path);
            check(&told).unwrap();
            let told = told.unwrap_err().to_string();
            assert!(told.starts_with("1 mistake ") && told.contains(name) && told.contains("cannot be read"), "{text}{told}");
        }
    }
}
