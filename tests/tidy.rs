//! Tidiness of every file we write: length, a purpose line, no left-overs, nothing of one person's machine.

use std::path::{Path, PathBuf};

use crate::root;

/// The longest source file; past 300 lines it wants to be split by noun.
const MAX_LINES: usize = 400;

/// Folders that hold no text of ours.
const NOT_OURS: &[&str] = &[".git", "target", ".venv", ".offpeak", "node_modules", "__pycache__"];

/// Endings of the text files that are looked at.
const TEXTS: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "py", "h", "c", "js", "sql"];

/// Text files without an ending.
const NAMED: &[&str] = &["Makefile", "Dockerfile", "run"];

/// What unfinished work looks like; in pieces, so that this file is not a hit.
const LEFT_OVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("#[ign", "ore"),
];

/// Folders that exist on one person's machine only; in pieces, for the same reason.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/")];

/// Every text file of ours below `folder`.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let ending = path.extension().and_then(|ending| ending.to_str());
            if path.is_dir() && !path.is_symlink() {
                if !NOT_OURS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if ending.is_some_and(|ending| TEXTS.contains(&ending)) || NAMED.contains(&name.as_str()) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Everything untidy about one file, as `line: what`.
fn untidiness(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.ends_with([' ', '\t', '\r']) {
            found.push((number, "white space at the end".to_owned()));
        }
        for hit in LEFT_OVERS.iter().filter(|hit| line.contains(**hit)) {
            found.push((number, format!("left over: {hit}")));
        }
        for path in MACHINE_PATHS.iter().filter(|path| holds_path(line, path)) {
            found.push((number, format!("a path of one machine: {path}")));
        }
    }
    let lines = text.lines().count();
    if !text.is_empty() && !text.ends_with('\n') {
        found.push((lines, "no newline at the end".to_owned()));
    }
    if Path::new(name).extension().is_some_and(|ending| ending == "rs") {
        let purpose = text.lines().next().and_then(|first| first.strip_prefix("//!"));
        if purpose.is_none_or(|purpose| purpose.trim().is_empty()) {
            found.push((1, "does not begin with a line of purpose (//!)".to_owned()));
        }
        if lines > MAX_LINES {
            found.push((lines, format!("longer than {MAX_LINES} lines: split it by noun")));
        }
    }
    found
}

/// Whether an absolute path begins in `line`: not the middle of a URL or of a relative path.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|sign| !sign.is_alphanumeric() && !matches!(sign, '/' | '.' | '_' | '-' | '}' | ')' | '$' | '*'))
    })
}

#[test]
fn every_file_is_tidy() {
    let mut found = Vec::new();
    for path in texts(&root()) {
        let Ok(text) = std::fs::read_to_string(&path) else {
            found.push(format!("{}: not UTF-8", path.display()));
            continue;
        };
        let name = path.strip_prefix(root()).expect("inside").display().to_string();
        found.extend(untidiness(&name, &text).iter().map(|(line, what)| format!("{name}:{line}: {what}")));
    }
    assert!(found.is_empty(), "{} untidy places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_crate_follows_the_lints_of_the_workspace() {
    let mut found = Vec::new();
    for group in ["crates", "services"] {
        for entry in std::fs::read_dir(root().join(group)).expect("folder").flatten() {
            let manifest = entry.path().join("Cargo.toml");
            let text = std::fs::read_to_string(&manifest).unwrap_or_default();
            if !text.contains("[lints]\nworkspace = true\n") {
                found.push(manifest.display().to_string());
            }
        }
    }
    assert!(found.is_empty(), "without [lints] workspace = true:\n{}", found.join("\n"));
}

#[test]
fn the_checks_can_fail() {
    let whats = |name: &str, text: &str| -> Vec<String> { untidiness(name, text).into_iter().map(|(_, what)| what).collect() };
    assert_eq!(whats("a.rs", "//! Counts.\nfn f() {}\n"), Vec::<String>::new());
    assert_eq!(whats("a.rs", "fn f() {}\n"), ["does not begin with a line of purpose (//!)"]);
    assert_eq!(whats("a.rs", "//!\n"), ["does not begin with a line of purpose (//!)"]);
    assert_eq!(whats("a.md", "text \n"), ["white space at the end"]);
    assert_eq!(whats("a.md", "text"), ["no newline at the end"]);
    let long = format!("//! Long.\n{}", "\n".repeat(MAX_LINES));
    assert_eq!(whats("a.rs", &long).len(), 1);
    for left_over in LEFT_OVERS {
        assert_eq!(whats("a.py", &format!("x = 1 # {left_over}\n")).len(), 1, "{left_over}");
    }
    for path in MACHINE_PATHS {
        assert_eq!(whats("a.toml", &format!("path = \"{path}someone\"\n")).len(), 1, "{path}");
        assert_eq!(whats("a.md", &format!("https://host{path}page\n")).len(), 0, "{path}");
    }
}
