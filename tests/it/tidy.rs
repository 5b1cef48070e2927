//! What can be checked of the sources themselves: the edges between crates, and that documents name tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::run::root;

/// The crates of the host, each of which may use those before it: the order of the table in ARCHITECTURE.md.
const ORDER: [&str; 15] = [
    "types",
    "base",
    "plan",
    "protocol",
    "connector",
    "sandbox",
    "state",
    "checkpoint",
    "operator",
    "exchange",
    "worker",
    "coordinator",
    "api",
    "client",
    "cli",
];

/// Crates that only decide: no runtime, no clock, no files, no network.
const PURE: [&str; 3] = ["types", "plan", "protocol"];
const IMPURE: [&str; 6] = ["tokio", "weir-base", "reqwest", "axum", "object_store", "rustix"];

/// Heavy dependencies, and the only crates that name each.
const OWNERS: [(&str, &str); 16] = [
    ("wasmtime", "sandbox"),
    ("wasmtime-wasi", "sandbox"),
    ("parquet", "connector"),
    ("rocksdb", "state"),
    ("rdkafka", "connector"),
    ("openssl", "connector"),
    ("postgres-openssl", "connector"),
    ("object_store", "checkpoint"),
    ("object_store", "connector"),
    ("flate2", "connector"),
    ("tokio-postgres", "connector"),
    ("axum", "api"),
    ("tower-http", "api"),
    ("reqwest", "client"),
    ("clap", "cli"),
    ("indicatif", "cli"),
];

/// The names of a crate's dependencies, without those of its tests.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("host").join(name).join("Cargo.toml")).expect("a crate has a manifest");
    let manifest = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = manifest.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|d| !d.is_empty()).map(str::to_owned).collect()
}

/// The Rust sources below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn text_of(folder: &Path) -> String {
    let mut files = vec![];
    sources(folder, &mut files);
    files.iter().map(|f| fs::read_to_string(f).expect("a source is text")).collect()
}

/// Goal: crates use only crates before them, pure ones stay pure, heavy dependencies stay where they are, and none is named in vain.
#[test]
fn crates_keep_their_layers() {
    let all: BTreeMap<_, _> = ORDER.map(|name| (name, dependencies(name))).into();
    for (place, name) in ORDER.iter().enumerate() {
        for dependency in &all[name] {
            if let Some(used) = dependency.strip_prefix("weir-") {
                assert!(ORDER[..place].contains(&used), "{name} uses {used}, which is not before it");
            }
            assert!(!PURE.contains(name) || !IMPURE.contains(&&**dependency), "{name} is pure, but uses {dependency}");
            let owners: Vec<_> = OWNERS.iter().filter(|(heavy, _)| heavy == dependency).map(|(_, owner)| owner).collect();
            let is_owned = owners.is_empty() || owners.contains(&name);
            assert!(is_owned, "{dependency} belongs to {owners:?}, but {name} uses it, too");
        }
    }
}

/// Goal: no crate names a dependency that its sources do not use.
#[test]
fn dependencies_are_used() {
    for name in ORDER {
        let text = text_of(&root().join("host").join(name));
        for dependency in dependencies(name) {
            assert!(text.contains(&dependency.replace('-', "_")), "{name} does not use {dependency}");
        }
    }
}

/// Goal: the crates of the host are those of the order, and the table in ARCHITECTURE.md has them all.
#[test]
fn the_map_is_complete() {
    let mut found: Vec<_> = fs::read_dir(root().join("host")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let mut known = ORDER.map(std::ffi::OsString::from);
    found.sort();
    known.sort();
    assert_eq!(found, known);
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for name in ORDER {
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md does not say what {name} is");
    }
}

/// Goal: every test that ARCHITECTURE.md names as the proof of an invariant is there.
#[test]
fn invariants_have_their_tests() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = map.split("\n## Invariants\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    assert!(tests_named("ARCHITECTURE.md", section) > 20, "the table was not found");
}

/// Goal: every test that docs/DELIVERY.md names as the proof of a promise is there, and each promise in its tables names one.
#[test]
fn promises_have_their_tests() {
    let page = fs::read_to_string(root().join("docs/DELIVERY.md")).unwrap();
    assert!(tests_named("docs/DELIVERY.md", &page) > 20, "the tables were not found");
}

/// Checks that the tests are there that the last columns of a page's tables name; how many they are.
fn tests_named(page: &str, text: &str) -> usize {
    let sources: String = ["host", "tests", "guest-sdk"].iter().map(|folder| text_of(&root().join(folder))).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.trim_end().ends_with("tests |"));
    let mut count = 0;
    for row in rows {
        let tests: Vec<_> = row.rsplit('|').nth(1).expect("some columns").split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{page} names no test in the row {row}");
        for test in &tests {
            assert!(sources.contains(&format!("fn {test}(")), "{page} names the test {test}, which is not there");
        }
        count += tests.len();
    }
    count
}

/// Goal: nothing is left for later in the sources without saying so elsewhere.
#[test]
fn nothing_is_left_undone() {
    let marks = ["todo", "unimplemented"].map(|mark| format!("{mark}!("));
    for folder in ["host", "guest-sdk", "examples"] {
        let text = text_of(&root().join(folder));
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{folder} has a {mark}…)");
        }
    }
}
