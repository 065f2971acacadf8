//! Tidiness of every file we write: length, a purpose line, no left-overs, nothing of one person's machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

/// The longest source file; past 300 lines it wants to be split by noun.
const MAX_LINES: usize = 400;

/// Folders that hold no text of ours.
const NOT_OURS: &[&str] = &[".git", "target", ".venv", ".offpeak", "node_modules", "__pycache__"];

/// Endings of the text files that are looked at.
const TEXTS: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "py", "h", "c", "js", "java", "sql"];

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

/// Folders of the machine that wrote or built a file, the last one those of a Rust toolchain; in pieces, for the same reason.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/op", "t/"), concat!("/rust", "lib/")];

/// Where packages install themselves on every machine.
const PACKAGE_PATHS: &[&str] = &["/opt/rabbitmq/", "/opt/erlang/"];

/// Every file below `folder`, except in folders that hold nothing of ours.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder").flatten() {
            let path = entry.path();
            if NOT_OURS.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether a file is a text of ours.
fn is_text(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| TEXTS.contains(&ending)) || NAMED.iter().any(|name| path.ends_with(name))
}

/// Every committed file, binaries included; without a repository (in an unpacked archive) every file there is.
fn committed() -> Vec<PathBuf> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        return files(&root());
    };
    let names = String::from_utf8(listed.stdout).expect("names in UTF-8");
    names.split_terminator('\0').map(|name| root().join(name)).filter(|path| path.is_file()).collect()
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

/// The paths of one machine in a file, cut short. In a text a path begins where no URL and no relative path goes on; in a binary
/// (it has a zero byte) strings stand without anything between them, so there it begins anywhere.
fn machine_paths(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let binary = text.contains('\0');
    let mut found = Vec::new();
    for (at, _) in MACHINE_PATHS.iter().flat_map(|path| text.match_indices(path)) {
        let before = text[..at].chars().next_back();
        let goes_on = |sign: char| sign.is_alphanumeric() || matches!(sign, '/' | '.' | '_' | '-' | '}' | ')' | '$' | '*');
        if (binary || !before.is_some_and(goes_on)) && !PACKAGE_PATHS.iter().any(|path| text[at..].starts_with(path)) {
            found.push(text[at..].chars().take(60).take_while(|sign| sign.is_ascii_graphic() && *sign != '"').collect());
        }
    }
    found
}

#[test]
fn every_file_is_tidy() {
    let mut found = Vec::new();
    for path in files(&root()).into_iter().filter(|path| is_text(path)) {
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
fn no_committed_file_names_a_folder_of_the_machine_it_was_made_on() {
    let mut found = Vec::new();
    for path in committed() {
        let paths = machine_paths(&std::fs::read(&path).expect("read"));
        found.extend(paths.iter().map(|hit| format!("{}: {hit}", path.display())));
    }
    assert!(found.is_empty(), "{} paths of one machine:\n{}", found.len(), found.join("\n"));
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
        let hit = format!("{path}someone");
        assert_eq!(machine_paths(format!("path = \"{hit}\"\n").as_bytes()), [hit.as_str()]);
        assert_eq!(machine_paths(format!("https://host{hit}\n").as_bytes()).len(), 0, "{path}");
        assert_eq!(machine_paths(format!("\0asm\u{1}fmt.rs{hit}\0").as_bytes()), [hit.as_str()]);
        assert_eq!(machine_paths(&[b"\0\xff", hit.as_bytes(), b"\xfe"].concat()), [hit.as_str()]);
    }
    for path in PACKAGE_PATHS {
        assert_eq!(machine_paths(format!("[\"{path}bin\"]\n").as_bytes()).len(), 0, "{path}");
    }
}
