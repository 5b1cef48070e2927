//! Jobs whose process is killed, or whose surroundings fail: whatever the moment, each row is seen once, and none is missing.
//!
//! A job runs as a process, is killed by SIGKILL again and again, and started anew with the same words, until it has ended. Then the rows of its sink are
//! those of a run that nobody disturbed. Moments are drawn at random, or are those that the storage shows from outside: while state is uploaded, right
//! after a manifest is written, while a commit is under way. Or the process stays, and what it reads from, writes to and keeps its checkpoints in goes away
//! and comes back: then nobody starts it again, and it has to get over that by itself.
//!
//! A failed test prints its seed; `WEIR_SEED` repeats its draws, as far as a real process can.
//!
//! [`files`], [`kafka`], [`postgres`] and [`s3`] do so with what they are named after, [`storage`] with a folder of checkpoints, [`errors`] with rows on which a guest
//! fails.

pub mod bucket;
mod errors;
mod files;
mod kafka;
mod postgres;
mod s3;
mod storage;

// Servers for tests, which the connectors' own tests start, too.
#[path = "../../../host/connector/src/kafka/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "../../../host/connector/src/postgres/tests/server.rs"]
#[allow(dead_code)]
mod server;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::{root, weir};

/// How long a job may take to end that nobody kills any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a moment is waited for that may never come.
const PAUSE_MAX: Duration = Duration::from_millis(700);

/// Draws numbers (xorshift; Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// so many milliseconds after its start: soon, while it restores; later, in the midst of anything
    After(u64),
    /// when another file of state has begun to appear
    Upload,
    /// so many milliseconds after another entry of the log has: while its rows are committed
    Manifest(u64),
    /// when another part has been published: others of the same commit may not have been
    Commit,
}

impl Moment {
    /// For sinks that publish files.
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 | 1 => Self::After(dice.below(60)),
            2 | 3 => Self::After(60 + dice.below(600)),
            4 => Self::Upload,
            5 => Self::Manifest(0),
            _ => Self::Commit,
        }
    }

    /// For sinks that publish elsewhere.
    fn draw_elsewhere(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 | 1 => Self::After(dice.below(200)),
            2 | 3 => Self::After(200 + dice.below(700)),
            4 => Self::Upload,
            5 => Self::Manifest(0),
            _ => Self::Manifest(dice.below(40)),
        }
    }

    /// For sinks that need seconds to begin.
    fn draw_late(dice: &mut Dice) -> Self {
        match Self::draw_elsewhere(dice) {
            Self::After(ms) => Self::After(4 * ms),
            other => other,
        }
    }
}

/// A job that is killed, and its folders.
struct Victim {
    name: &'static str,
    spec: PathBuf,
    settings: Vec<(String, String)>,
    folder: tempfile::TempDir,
    /// where its checkpoints appear as files
    checkpoints: PathBuf,
    /// where its rows do, if they do
    out: PathBuf,
    seed: u64,
    moments: Vec<Moment>,
    /// how long a moment is waited for that may never come
    pause_max: Duration,
    kills: u32,
}

impl Victim {
    /// A job of a spec in the checkout, with these settings besides its own.
    fn new(name: &'static str, spec: &str, settings: &[(&str, &str)]) -> Self {
        let seed = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| name.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte)) % 1_000_000);
        println!("WEIR_SEED={seed}");
        let folder = tempfile::tempdir().unwrap();
        let mut victim = Self {
            name,
            spec: root().join(spec),
            settings: vec![],
            checkpoints: folder.path().join("checkpoints"),
            out: folder.path().join("out"),
            folder,
            seed,
            moments: vec![],
            pause_max: PAUSE_MAX,
            kills: 0,
        };
        settings.iter().for_each(|(path, value)| victim.set(path, value));
        victim
    }

    /// Adds a setting.
    fn set(&mut self, path: &str, value: impl Display) {
        self.settings.push((path.to_owned(), value.to_string()));
    }

    /// Binds the sink to parts in a folder, and returns that.
    fn write_parts(&mut self) -> PathBuf {
        self.set("sinks.out", format!("{{ connector = \"file\", folder = \"{}\", format = \"jsonl\" }}", self.out.display()));
        self.out.clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, parallelism: u64) -> Command {
        let mut command = weir();
        command.arg("run").arg(&self.spec).args(["--summary", "json"]);
        let own = [
            ("parallelism", parallelism.to_string()),
            ("checkpoint.storage", self.checkpoints.display().to_string()),
            ("checkpoint.interval", "40ms".to_owned()),
            ("restart.strategy", "none".to_owned()),
        ];
        let own = own.iter().map(|(path, value)| (*path, value.as_str()));
        for (path, value) in own.chain(self.settings.iter().map(|(path, value)| (path.as_str(), value.as_str()))) {
            command.arg("--set").arg(format!("{path}={value}"));
        }
        command
    }

    fn start(&self, parallelism: u64) -> Process {
        self.start_command(self.command(parallelism))
    }

    fn start_command(&self, mut command: Command) -> Process {
        let append = |name| fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        command.stdout(append("stdout")).stderr(append("stderr"));
        Process(command.spawn().expect("the binary can be started"))
    }

    /// Kills the job so many times, at moments that are drawn, and then lets it end. `parallelisms` take turns.
    fn torment(&mut self, parallelisms: &[u64], kills: u32, draw: impl Fn(&mut Dice) -> Moment) {
        let mut dice = Dice::new(self.seed);
        let mut turns = parallelisms.iter().copied().cycle();
        while self.kills < kills {
            let moment = draw(&mut dice);
            self.moments.push(moment);
            if let Some(status) = self.kill_at(moment, turns.next().unwrap()) {
                self.check(status);
                println!("{}: it ended after {} kills", self.name, self.kills);
                break;
            }
        }
        self.finish(turns.next().unwrap());
    }

    /// Starts the job and kills it at a moment; returns its status if it has ended before.
    fn kill_at(&mut self, moment: Moment, parallelism: u64) -> Option<ExitStatus> {
        let watched = match moment {
            Moment::After(_) => None,
            Moment::Upload | Moment::Manifest(_) => Some(&self.checkpoints),
            Moment::Commit => Some(&self.out),
        };
        let wanted = |path: &Path| match moment {
            Moment::After(_) => false,
            Moment::Upload => path.components().any(|part| part.as_os_str() == "files"),
            Moment::Manifest(_) => path.extension().is_some_and(|extension| extension == "json"),
            Moment::Commit => !path.components().any(|part| part.as_os_str() == ".weir"),
        };
        let count = |folder: &Path| files_below(folder).iter().filter(|path| wanted(path)).max().cloned();
        let before = watched.map(|folder| count(folder));
        let mut child = self.start(parallelism);
        let since = Instant::now();
        // What was there at the start may go (old checkpoints), so that what is looked for is a newer name than all of them.
        loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                return Some(status);
            }
            let is_now = match (&watched, moment) {
                (Some(folder), _) => count(folder) > before.clone().flatten(),
                (None, Moment::After(ms)) => since.elapsed() >= Duration::from_millis(ms),
                (None, _) => false,
            };
            if is_now || since.elapsed() > self.pause_max {
                if let (true, Moment::Manifest(ms)) = (is_now, moment) {
                    std::thread::sleep(Duration::from_millis(ms));
                }
                self.kills += 1;
                return None;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Lets the job run to its end.
    fn finish(&self, parallelism: u64) {
        self.wait(self.start(parallelism));
    }

    fn wait(&self, mut process: Process) {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = process.0.try_wait().unwrap() {
                return self.check(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{}, seed {}: the job does not end:\n{}", self.name, self.seed, self.log());
    }

    /// Starts the job, has something befall its surroundings so many times while it runs, and lets it end. Nobody starts it again: what it does about that, it
    /// does by itself. Returns its summary.
    fn endure(&mut self, parallelism: u64, times: u32, trouble: impl FnMut(&mut Dice)) -> Value {
        self.set("restart.strategy", "exponential");
        self.set("restart.max_delay", "1s");
        let process = self.start(parallelism);
        self.endure_in(process, times, trouble)
    }

    fn endure_in(&self, mut process: Process, times: u32, mut trouble: impl FnMut(&mut Dice)) -> Value {
        let mut dice = Dice::new(self.seed);
        let mut troubles = 0;
        while troubles < times {
            std::thread::sleep(Duration::from_millis(300 + dice.below(900)));
            if process.0.try_wait().unwrap().is_some() {
                break;
            }
            trouble(&mut dice);
            troubles += 1;
        }
        self.wait(process);
        let summary = fs::read_to_string(self.path("stdout")).unwrap();
        let summary: Value = serde_json::from_str(summary.lines().last().unwrap()).unwrap();
        let (restarts, failed) = (&summary["restarts"], &summary["failed_checkpoints"]);
        println!("{}: {troubles} troubles, {restarts} restarts, {failed} failed checkpoints", self.name);
        assert!(troubles > 0, "{}: it was over before anything befell it", self.name);
        summary
    }

    fn check(&self, status: ExitStatus) {
        assert!(status.success(), "{}: {status}\n{}", self.name, self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Compares the rows of the sink, both in an order of their own, with those that should be there.
    fn compare(&self, expected: &[String], found: &[String]) {
        println!("{}: {} kills, {} rows", self.name, self.kills, found.len());
        assert!(expected.len() > 3, "{}: {} rows show little", self.name, expected.len());
        assert!(
            found == expected,
            "{}, seed {}, {} kills: {}\nmoments {:?}\n{}",
            self.name,
            self.seed,
            self.kills,
            difference(expected, found),
            self.moments,
            self.log()
        );
    }
}

/// A job that runs. It does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // To a process that has ended, this does nothing.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    found
}

/// The rows of all files that a reader sees, in an order of their own.
pub fn published(folder: &Path) -> Vec<String> {
    let seen = files_below(folder).into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == ".weir"));
    let mut rows: Vec<String> =
        seen.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    rows.sort_unstable();
    rows
}

/// Whether all rows are there that should be, however often.
fn is_complete(expected: &[String], found: &[String]) -> bool {
    let found: std::collections::HashSet<_> = found.iter().collect();
    expected.iter().all(|row| found.contains(row))
}

/// How rows differ.
pub fn difference(expected: &[String], found: &[String]) -> String {
    let count = |rows: &[String]| {
        let mut counts = std::collections::BTreeMap::<String, i64>::new();
        rows.iter().for_each(|row| *counts.entry(row.clone()).or_default() += 1);
        counts
    };
    let mut counts = count(found);
    count(expected).into_iter().for_each(|(row, n)| *counts.entry(row).or_default() -= n);
    let wrong: Vec<_> = counts.into_iter().filter(|(_, n)| *n != 0).collect();
    let shown: Vec<_> = wrong.iter().take(10).map(|(row, n)| format!("{n:+} {row}")).collect();
    format!("{} rows are missing or there too often:\n{}", wrong.len(), shown.join("\n"))
}

/// What a query of Nexmark gives if nobody disturbs it.
pub fn undisturbed(query: &str, settings: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("rows.jsonl");
    run_query(query, &out, settings);
    published(folder.path())
}

/// Writes what a query of Nexmark gives to a file.
fn run_query(query: &str, out: &Path, settings: &[(&str, &str)]) {
    let mut command = weir();
    command.arg("run").arg(root().join(format!("examples/nexmark/{query}.toml"))).arg("--quiet");
    command.args(["--set", "sinks.out.connector=file", "--set", &format!("sinks.out.path={}", out.display())]);
    for (path, value) in settings {
        command.arg("--set").arg(format!("{path}={value}"));
    }
    assert!(command.status().unwrap().success());
}

/// A server that tests share which run in the same process; it goes with the last of them.
fn shared<T>(server: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(start());
        *server = Arc::downgrade(&started);
        started
    })
}
