//! A job is replaced by another version of it, whose operators keep states of other types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::recovery::{files_below, published};
use crate::run::{root, weir};
use crate::server::interrupt;

/// How long something is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A job of `weir run` whose version changes.
struct Upgraded {
    folder: tempfile::TempDir,
}

impl Upgraded {
    fn new() -> Self {
        let job = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let component = root().join("tests/guests/operators/operators.wasm");
        let (checkpoints, out) = (job.path("checkpoints"), job.path("out"));
        let spec = format!(
            "name = 'upgraded'\ncomponent = '{}'\n\
             [sources.in]\nconnector = 'nexmark'\nevents = 60000\nevents_per_ms = 1\n\
             [sinks.out]\nconnector = 'file'\nfolder = '{}'\nformat = 'jsonl'\n\
             [checkpoint]\nstorage = '{}'\ninterval = '50ms'\n",
            component.display(),
            out.display(),
            checkpoints.display()
        );
        std::fs::write(job.path("job.toml"), spec).expect("the folder is ours");
        job
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command with a version of the job. Its rows go to the folder `out`.
    fn command(&self, words: &[&str], version: u32, settings: &[(&str, &str)]) -> Command {
        let mut command = weir();
        command.args(words).arg(self.path("job.toml"));
        let mut set = |path: &str, value: &str| {
            command.arg("--set").arg(format!("{path}={value}"));
        };
        set("args.job", &format!("version-{version}"));
        settings.iter().for_each(|(path, value)| set(path, value));
        command
    }

    /// Runs a version until it has made some checkpoints, and ends it there.
    fn interrupted(&self, version: u32, settings: &[(&str, &str)]) {
        let newest = || files_below(&self.path("checkpoints")).into_iter().filter(|path| is_log_entry(path)).max();
        let before = newest();
        // That takes 20 seconds.
        let settings: Vec<_> = settings.iter().copied().chain([("sources.in.rate", "3000")]).collect();
        let mut child = self.command(&["run"], version, &settings);
        let mut child = child.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it can be started");
        let since = Instant::now();
        let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0u64);
        // The first entry is the claim.
        let wanted = before.as_ref().map_or(0, number) + 3;
        while newest().as_ref().map_or(0, number) < wanted {
            let ended = child.try_wait().expect("a child");
            if since.elapsed() > PATIENCE || ended.is_some() {
                let _ = child.kill();
                panic!("no checkpoints: {}", text(&child.wait_with_output().expect("it ends").stderr));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt(&child);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    }

    /// Lets a version run to the end.
    fn finish(&self, words: &[&str], version: u32, settings: &[(&str, &str)]) -> Output {
        let settings: Vec<_> = settings.iter().copied().chain([("sources.in.rate", "100000")]).collect();
        self.command(words, version, &settings).output().expect("it can be started")
    }

    /// What `weir job diff` says of each operator, and of the whole.
    fn diff(&self, version: u32) -> (Vec<String>, Value) {
        let mut command = self.command(&["job", "diff", "--output", "json"], version, &[]);
        let output = command.output().expect("it can be started");
        let diff: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
        assert_eq!(output.status.code(), Some(i32::from(diff["starts"] != true)), "{diff}");
        let word = |operator: &Value, name: &str| operator[name].as_str().unwrap_or_default().to_owned();
        let operators = diff["operators"].as_array().expect("a list").iter();
        let states = operators.map(|o| format!("{} {}", word(o, "operator"), word(o, "state"))).collect();
        (states, diff)
    }
}

fn is_log_entry(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("log"))
}

/// What does not depend on the order in which an auction's bids came: the last total of each auction, the windows, and how many rows there are.
#[derive(Debug, PartialEq)]
struct Results {
    /// by auction: the number of bids, and what was bid
    totals: BTreeMap<u64, (u64, u64)>,
    windows: Vec<String>,
    rows: usize,
}

fn results(job: &Upgraded) -> Results {
    let rows = published(&job.path("out"));
    let mut results = Results { totals: BTreeMap::new(), windows: vec![], rows: rows.len() };
    for row in rows {
        let row: Value = serde_json::from_str(&row).expect("a row");
        let text = row["text"].as_str().expect("text");
        let Some(total) = text.strip_prefix("total ") else {
            results.windows.push(text.to_owned());
            continue;
        };
        let numbers: Vec<u64> = total.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [auction, bid, bids] = numbers[..] else { panic!("{text}") };
        let last = results.totals.entry(auction).or_default();
        *last = (*last).max((bids, bid));
    }
    results
}

/// What the first version writes when nothing happens to it.
fn undisturbed() -> Results {
    let job = Upgraded::new();
    let output = job.finish(&["run"], 1, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    results(&job)
}

/// Goal: a job whose types of state have changed goes on with what the older version has left, in memory and on disk, at another parallelism, and once more
/// when states of both versions are there: together they write what one version writes that nothing happens to.
#[test]
fn state_is_migrated() {
    let expected = undisturbed();
    assert!(expected.rows > 50_000, "{} rows", expected.rows);
    for backends in [["memory", "rocksdb", "rocksdb"], ["rocksdb", "memory", "rocksdb"], ["rocksdb", "rocksdb", "memory"]] {
        let [first, second, third] = backends.map(|backend| [("state.backend", backend), ("state.memory_limit", "64KB")]);
        let at = |parallelism| ("parallelism", parallelism);
        let job = Upgraded::new();
        job.interrupted(1, &[&first[..], &[at("2")]].concat());
        assert_eq!(job.diff(1).0, ["totals kept", "windows kept"]);
        assert_eq!(job.diff(2).0, ["totals migrated", "windows migrated"]);
        job.interrupted(2, &[&second[..], &[at("2")]].concat());
        assert_eq!(job.diff(2).0, ["totals migrated", "windows migrated"], "there may be states of both versions");
        let output = job.finish(&["run"], 2, &[&third[..], &[at("1")]].concat());
        assert!(output.status.success(), "{backends:?}: {}", text(&output.stderr));
        assert_eq!(results(&job), expected, "{backends:?}");
    }
}

/// Goal: state that cannot be read is refused before anything starts, with the operator, both schemas and what to do; told to, the job leaves it behind, and no
/// more than that.
#[test]
fn state_that_cannot_be_read() {
    let job = Upgraded::new();
    job.interrupted(1, &[]);
    let (states, diff) = job.diff(3);
    assert_eq!(states, ["totals unreadable", "windows migrated"]);
    let told = &diff["operators"][0];
    assert_eq!(told["was"], "{bid: u64, bids: u32, first?: option<u64>}");
    assert_eq!(told["is"], "list<string>");

    let output = job.finish(&["run"], 3, &[]);
    assert_eq!(output.status.code(), Some(1));
    let refusal = text(&output.stderr);
    for part in [
        "the operator \"totals\" cannot read its state of checkpoint",
        "{bid: u64, bids: u32, first?: option<u64>} cannot be read as list<string>",
        "--allow-non-restored-state",
    ] {
        assert!(refusal.contains(part), "{refusal}");
    }

    let output = job.finish(&["run", "--allow-non-restored-state"], 3, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (expected, found) = (undisturbed(), results(&job));
    assert_eq!(
        (found.windows, found.rows),
        (expected.windows, expected.rows),
        "the windows were migrated, and each bid was read once"
    );
    assert_ne!(found.totals, expected.totals, "the totals began anew");
}
