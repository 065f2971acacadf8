//! The names that outputs take in their folder, and what becomes of the files that have them already.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::FileError;

/// The summary's name; it is written last.
pub const SUMMARY_NAME: &str = "summary.json";
/// Every other name that outputs may have.
const OUTPUT_NAMES: [&str; 6] = ["result.json", "result.txt", "result.png", "result.bin", "outputs.jsonl", "failures.jsonl"];
/// What every summary has, and hardly anything else of its name.
const SUMMARY_MEMBERS: [&str; 4] = ["job", "state", "items_submitted", "output_digest"];

/// The first of these files whose place outputs in that folder would take, by whatever path it is named.
pub fn replaced<'p>(folder: &Path, files: impl IntoIterator<Item = &'p Path>) -> Option<&'p Path> {
    let names = OUTPUT_NAMES.into_iter().chain([SUMMARY_NAME]);
    let taken: Vec<(u64, u64)> = names.filter_map(|name| identity(&folder.join(name))).collect();
    files.into_iter().find(|file| identity(file).is_some_and(|file| taken.contains(&file)))
}

/// Device and number of a file, which all of its paths have in common; `None` if it is not there.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Removes what an earlier job has left in the folder and this one has not written.
///
/// Without the summary of such a job the names say nothing: the files are somebody's own, and stay.
pub(super) fn remove_stale(folder: &Path, written: &[PathBuf]) -> Result<(), FileError> {
    if !has_summary(folder) {
        return Ok(());
    }
    for path in OUTPUT_NAMES.iter().map(|name| folder.join(name)).filter(|path| !written.contains(path)) {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(FileError::new(&path, source)),
        }
    }
    Ok(())
}

/// Whether the summary of a job is there, and not only a file that is called so.
fn has_summary(folder: &Path) -> bool {
    let path = folder.join(SUMMARY_NAME);
    let text = if path.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
    let summary: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    SUMMARY_MEMBERS.iter().all(|name| summary.get(*name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_whatever_path_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let (lines, link, beside) = (out.join("outputs.jsonl"), folder.path().join("lines"), folder.path().join("result.json"));
        fs::write(&lines, "a\n").unwrap();
        fs::write(&beside, "{}").unwrap();
        std::os::unix::fs::symlink(&lines, &link).unwrap();
        let roundabout = out.join("../out/outputs.jsonl");
        for path in [&lines, &link, &roundabout] {
            assert_eq!(replaced(&out, [beside.as_path(), path.as_path()]), Some(path.as_path()));
        }
        assert_eq!(replaced(&out, [beside.as_path(), out.join("words.txt").as_path()]), None);
        assert_eq!(replaced(&folder.path().join("new"), [lines.as_path()]), None);
    }
}
