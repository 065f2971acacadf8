//! The import table of the architecture, as data, against what `cargo metadata` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::root;

/// A package of ours and what it may import.
struct Row {
    /// Its folder in the repository.
    folder: &'static str,
    /// Our crates that its library may name.
    imports: &'static [&'static str],
    /// Our crates that only its tests may name.
    test_imports: &'static [&'static str],
    /// Crates of others that it never sees.
    never: &'static [&'static str],
}

const LIBRARIES: &[&str] = &["rules", "ports", "protocol", "service"];
const TESTKIT: &[&str] = &["testkit"];
const SERVICE_TESTS: &[&str] = &["testkit", "broker", "store", "sandbox"];
const EVERYTHING: &[&str] = &[
    "protocol",
    "rules",
    "ports",
    "broker",
    "store",
    "sandbox",
    "service",
    "testkit",
    "producer",
    "worker",
    "aggregator",
    "offpeak",
];
const NO_IO: &[&str] = &["tokio", "async-trait", "futures", "rand", "tempfile", "tracing"];

/// The table; a line here is a decision (see docs/adr).
const TABLE: &[Row] = &[
    row("crates/protocol", &[], NO_IO),
    row("crates/rules", &["protocol"], NO_IO),
    row("crates/ports", &["protocol"], &["tokio", "rand"]),
    row("crates/broker", &["ports", "protocol"], &[]),
    row("crates/store", &["ports", "protocol"], &[]),
    row("crates/sandbox", &["ports", "protocol"], &["lapin", "axum"]),
    row("crates/guest", &[], NO_IO),
    row("crates/service", &[], &[]),
    row("crates/testkit", &["ports", "protocol", "rules"], &[]),
    service_row("services/producer"),
    service_row("services/worker"),
    service_row("services/aggregator"),
    Row { folder: "services/offpeak", imports: EVERYTHING, test_imports: EVERYTHING, never: &[] },
    Row { folder: "tests", imports: &[], test_imports: EVERYTHING, never: &[] },
];

/// Each outside system is named by one crate of ours, in whatever kind of dependency.
const DOORS: &[(&str, &str)] = &[
    ("lapin", "broker"),
    ("deadpool-lapin", "broker"),
    ("sqlx", "store"),
    ("wasmtime", "sandbox"),
    ("rmp-serde", "protocol"),
    ("ruzstd", "protocol"),
    ("config", "service"),
    ("prometheus", "service"),
    ("ureq", "broker"),
    ("axum", "service"),
    ("tracing-subscriber", "service"),
];

const fn row(folder: &'static str, imports: &'static [&str], never: &'static [&str]) -> Row {
    Row { folder, imports, test_imports: TESTKIT, never }
}

/// The programs in `services/offpeak` choose the adapters; a service is handed them.
const fn service_row(folder: &'static str) -> Row {
    Row { folder, imports: LIBRARIES, test_imports: SERVICE_TESTS, never: &[] }
}

/// One package as cargo sees it.
struct Package {
    name: String,
    folder: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    for_tests: bool,
    ours: bool,
}

impl Package {
    /// The packages of the workspace at `manifest`.
    fn of_workspace(manifest: &Path) -> Vec<Self> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path"])
            .arg(manifest)
            .output()
            .expect("cargo metadata");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata failed: {said}");
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("json");
        metadata["packages"].as_array().expect("packages").iter().map(Self::parse).collect()
    }

    fn parse(package: &Value) -> Self {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let folder = manifest.parent().expect("folder").strip_prefix(root()).expect("inside");
        let dependency = |dependency: &Value| Dependency {
            name: text(&dependency["name"]),
            for_tests: dependency["kind"] == "dev",
            ours: dependency["path"].is_string(),
        };
        Self {
            name: text(&package["name"]),
            folder: folder.to_string_lossy().into_owned(),
            dependencies: package["dependencies"].as_array().expect("list").iter().map(dependency).collect(),
        }
    }
}

/// Everything about `package` that its row forbids.
fn violations(package: &Package, row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    for Dependency { name, for_tests, ours } in &package.dependencies {
        let name = name.as_str();
        let allowed = row.imports.contains(&name) || (*for_tests && row.test_imports.contains(&name));
        if *ours && !allowed {
            found.push(format!("{} must not import {name}", package.folder));
        }
        if !for_tests && row.never.contains(&name) {
            found.push(format!("{} must never see {name}", package.folder));
        }
    }
    found
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_package_is_in_the_table_and_imports_what_it_may() {
    let packages = Package::of_workspace(&root().join("Cargo.toml"));
    let mut rows: BTreeMap<&str, &Row> = TABLE.iter().map(|row| (row.folder, row)).collect();
    let mut found = Vec::new();
    for package in &packages {
        match rows.remove(package.folder.as_str()) {
            Some(row) => found.extend(violations(package, row)),
            None => found.push(format!("{} is not in the table", package.folder)),
        }
    }
    found.extend(rows.keys().map(|folder| format!("{folder} is in the table, but not in the workspace")));
    assert_none(&found);
}

#[test]
fn each_outside_system_has_one_door() {
    let packages = Package::of_workspace(&root().join("Cargo.toml"));
    let mut found = Vec::new();
    for (outside, door) in DOORS {
        for package in packages.iter().filter(|package| package.name != *door) {
            if package.dependencies.iter().any(|dependency| dependency.name == *outside) {
                found.push(format!("{} names {outside}; only {door} does", package.folder));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn a_worker_can_be_built_without_the_compiler() {
    let tree = |features: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "-p", "offpeak", "--edges", "normal", "--prefix", "none", "--offline", "--locked"])
            .args(features)
            .current_dir(root())
            .output()
            .expect("cargo tree");
        assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(tree(&[]).contains("cranelift-codegen "));
    let without = tree(&["--no-default-features"]);
    assert!(without.contains("wasmtime ") && !without.contains("cranelift-codegen "), "{without}");
}

#[test]
fn example_apps_link_the_guest_sdk_and_nothing_else_of_ours() {
    let packages = Package::of_workspace(&root().join("examples/Cargo.toml"));
    let mut found = Vec::new();
    for package in &packages {
        let ours = package.dependencies.iter().filter(|dependency| dependency.ours);
        let inside = |name: &str| packages.iter().any(|package| package.name == name);
        let wrong = ours.filter(|dependency| dependency.name != "guest" && !inside(&dependency.name));
        found.extend(wrong.map(|dependency| format!("{} imports {}", package.folder, dependency.name)));
    }
    assert_none(&found);
}

#[test]
fn the_checks_can_fail() {
    let package = |name: &str, for_tests, ours| Package {
        name: "store".to_owned(),
        folder: "crates/store".to_owned(),
        dependencies: vec![Dependency { name: name.to_owned(), for_tests, ours }],
    };
    let row = row("crates/store", &["ports", "protocol"], &["rand"]);
    assert_eq!(violations(&package("rules", false, true), &row), ["crates/store must not import rules"]);
    assert_eq!(violations(&package("testkit", false, true), &row).len(), 1);
    assert_eq!(violations(&package("testkit", true, true), &row).len(), 0);
    assert_eq!(violations(&package("ports", false, true), &row).len(), 0);
    assert_eq!(violations(&package("rand", false, false), &row), ["crates/store must never see rand"]);
}
