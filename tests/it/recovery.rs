//! Jobs whose process is killed: whatever the moment, each row is published once, and none is missing.
//!
//! A job runs as a process, is killed by SIGKILL again and again, and started anew with the same words, until it has ended. Then the rows of its sink are
//! those of a run that nobody disturbed. Moments are drawn at random, or are those that the storage shows from outside: while state is uploaded, right
//! after a manifest is written, right after the first part of a commit appears. A failed test prints its seed; `WEIR_SEED` repeats its draws, as far as a
//! real process can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

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
    /// when another entry of the log has
    Manifest,
    /// when another part has been published: others of the same commit may not have been
    Commit,
}

impl Moment {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 | 1 => Self::After(dice.below(60)),
            2 | 3 => Self::After(60 + dice.below(600)),
            4 => Self::Upload,
            5 => Self::Manifest,
            _ => Self::Commit,
        }
    }
}

/// A job that is killed, and its folders.
struct Victim {
    spec: PathBuf,
    settings: Vec<(String, String)>,
    folder: tempfile::TempDir,
    kills: u32,
}

impl Victim {
    fn new(spec: &str, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
        Self { spec: root().join(spec), settings, folder: tempfile::tempdir().unwrap(), kills: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, parallelism: u64) -> Command {
        let mut command = weir();
        command.arg("run").arg(&self.spec).args(["--summary", "json"]);
        let own = [
            ("parallelism", parallelism.to_string()),
            ("checkpoint.storage", self.path("checkpoints").display().to_string()),
            ("checkpoint.interval", "40ms".to_owned()),
            ("restart.strategy", "none".to_owned()),
        ];
        let own = own.iter().map(|(path, value)| (*path, value.as_str()));
        for (path, value) in own.chain(self.settings.iter().map(|(path, value)| (path.as_str(), value.as_str()))) {
            command.arg("--set").arg(format!("{path}={value}"));
        }
        command
    }

    fn start(&self, parallelism: u64) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("stderr")).unwrap();
        self.command(parallelism).stdout(Stdio::null()).stderr(log).spawn().expect("the binary can be started")
    }

    /// Starts the job and kills it at a moment; returns its status if it has ended before.
    fn kill_at(&mut self, moment: Moment, parallelism: u64) -> Option<ExitStatus> {
        let watched = match moment {
            Moment::After(_) => None,
            Moment::Upload => Some(self.path("checkpoints")),
            Moment::Manifest => Some(self.path("checkpoints")),
            Moment::Commit => Some(self.path("out")),
        };
        let wanted = |path: &Path| match moment {
            Moment::After(_) => false,
            Moment::Upload => path.components().any(|part| part.as_os_str() == "files"),
            Moment::Manifest => path.extension().is_some_and(|extension| extension == "json"),
            Moment::Commit => !path.components().any(|part| part.as_os_str() == ".weir"),
        };
        let count = |folder: &Path| files(folder).iter().filter(|path| wanted(path)).max().cloned();
        let before = watched.as_deref().map(count);
        let mut child = self.start(parallelism);
        let since = Instant::now();
        // What was there at the start may go (old checkpoints), so that what is looked for is a newer name than all of them.
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            let is_now = match (&watched, moment) {
                (Some(folder), _) => count(folder) > before.clone().flatten(),
                (None, Moment::After(ms)) => since.elapsed() >= Duration::from_millis(ms),
                (None, _) => false,
            };
            if is_now || since.elapsed() > PAUSE_MAX {
                // To a process that has just ended, this does nothing.
                child.kill().unwrap();
                self.kills += 1;
                child.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Lets the job run to its end.
    fn finish(&self, parallelism: u64) {
        let mut child = self.start(parallelism);
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().unwrap() {
                return self.check(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the job does not end:\n{}", self.log());
    }

    fn check(&self, status: ExitStatus) {
        assert!(status.success(), "{status}\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
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
    let seen = files(folder).into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == ".weir"));
    let mut rows: Vec<String> =
        seen.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    rows.sort_unstable();
    rows
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
    let mut command = weir();
    command.arg("run").arg(root().join(format!("examples/nexmark/{query}.toml"))).arg("--quiet");
    command.args(["--set", "sinks.out.connector=file", "--set", &format!("sinks.out.path={}", out.display())]);
    for (path, value) in settings.iter().filter(|(path, _)| path.starts_with("sources.") && !path.ends_with(".rate")) {
        command.arg("--set").arg(format!("{path}={value}"));
    }
    assert!(command.status().unwrap().success());
    published(folder.path())
}

/// Kills a query of Nexmark so many times, and compares what it has published in the end. `parallelisms` take turns.
fn survives(name: &str, query: &str, parallelisms: &[u64], kills: u32, settings: &[(&str, &str)]) {
    let seed = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| name.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte)) % 1_000_000);
    println!("WEIR_SEED={seed}");
    let mut dice = Dice::new(seed);
    let events = format!("{}", 24_000 * u64::from(kills));
    let mut all = vec![
        ("sources.nexmark.events", events.as_str()),
        ("sources.nexmark.rate", "60000"),
        ("sources.nexmark.events_per_ms", "1"),
    ];
    all.extend_from_slice(settings);
    let expected = undisturbed(query, &all);
    assert!(expected.len() > 3, "{name}: {} rows show little", expected.len());
    let mut victim = Victim::new(&format!("examples/nexmark/{query}.toml"), &all);
    let out = victim.path("out").display().to_string();
    for (path, value) in [("connector", "file"), ("folder", &out), ("format", "jsonl")] {
        victim.settings.push((format!("sinks.out.{path}"), value.to_owned()));
    }
    let mut moments = vec![];
    let mut turn = 0;
    while victim.kills < kills {
        let moment = Moment::draw(&mut dice);
        moments.push(moment);
        let parallelism = parallelisms[turn % parallelisms.len()];
        turn += 1;
        if let Some(status) = victim.kill_at(moment, parallelism) {
            victim.check(status);
            println!("{name}: it ended after {} kills", victim.kills);
            break;
        }
    }
    victim.finish(parallelisms[turn % parallelisms.len()]);
    let found = published(&victim.path("out"));
    println!("{name}: {} kills, {} rows", victim.kills, found.len());
    assert!(
        found == expected,
        "{name}, seed {seed}, {} kills: {}\nmoments {moments:?}\n{}",
        victim.kills,
        difference(&expected, &found),
        victim.log()
    );
}

/// Goal: nothing is lost and nothing twice without state, where all is in positions and transactions.
#[test]
fn stateless() {
    survives("stateless", "q2", &[1, 2], 26, &[]);
}

/// Goal: the same of windows, aggregated before an exchange and behind it.
#[test]
fn sliding_windows() {
    survives("sliding_windows", "q5", &[2], 26, &[]);
}

/// Goal: the same of sessions.
#[test]
fn sessions() {
    survives("sessions", "q11", &[2], 26, &[]);
}

/// Goal: the same of a process function with timers, whose state is evicted, too.
#[test]
fn timers() {
    survives("timers", "q4", &[2], 26, &[("state.slots_max", "50"), ("sources.nexmark.events_per_ms", "100")]);
}

/// Goal: the same where barriers overtake rows, which are kept in the checkpoint: at once, and when they have lost their patience.
#[test]
fn unaligned() {
    survives(
        "unaligned",
        "q5",
        &[2],
        20,
        &[("checkpoint.mode", "unaligned"), ("batch.channel_capacity", "2"), ("batch.rows", "64")],
    );
}

/// Goal: the same with some patience.
#[test]
fn impatient() {
    let settings = [("checkpoint.mode", "unaligned"), ("checkpoint.aligned_timeout", "2ms"), ("batch.rows", "64")];
    survives("impatient", "keyed_count", &[2], 26, &settings);
}

/// Goal: the same where the job comes back with another parallelism each time.
#[test]
fn rescaled() {
    survives("rescaled", "keyed_count", &[1, 2, 3], 30, &[]);
}

/// Goal: the same of windows that move between parallelisms.
#[test]
fn rescaled_windows() {
    survives("rescaled_windows", "q5", &[2, 1, 3], 30, &[("state.slots_max", "64")]);
}
