//! Jobs whose process is killed, or whose surroundings fail: whatever the moment, each row is seen once, and none is missing.
//!
//! A job runs as a process, is killed by SIGKILL again and again, and started anew with the same words, until it has ended. Then the rows of its sink are
//! those of a run that nobody disturbed. [Moments](moments) are drawn at random, or are those that the storage or the log of the process show from outside:
//! while state is exported or uploaded, before and after a manifest is written, while a commit or a restore is under way. Or the process stays, and what it
//! reads from, writes to and keeps its checkpoints in goes away and comes back: then nobody starts it again, and it has to get over that by itself. Or both.
//!
//! A failed test prints its seed; `WEIR_SEED` repeats its draws, as far as a real process can. Each test prints what its process was doing when it was killed.
//!
//! [`files`], [`kafka`], [`postgres`] and [`s3`] do so with what they are named after, [`flight`] with rows that barriers have overtaken, [`broadcast`] with
//! state that each subtask has, [`storage`] with a folder of checkpoints, [`errors`] with rows on which a guest fails. [`phases`] leaves nothing to chance, and
//! kills in each phase of a checkpoint. [`offered`] has a server do what others have `weir run` do.

mod broadcast;
pub mod bucket;
mod errors;
mod files;
mod flight;
mod kafka;
mod moments;
mod offered;
mod phases;
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

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_base::Phase;
use weir_base::phase::TARGET;

use crate::run::{root, weir};
use crate::server::Process;
use moments::{Moment, Phases};

/// How long a job may take to end that nobody kills any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a phase is tried to be met.
const TRIES_MAX: u32 = 60;

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

/// A kill that has come about.
#[derive(Debug)]
struct Kill {
    /// when it was to come; it only shows up where a failed test tells of it
    #[allow(dead_code)]
    moment: Moment,
    /// the phase that the process had told of last, if any
    last: Option<Phase>,
    /// what it was doing
    doing: &'static str,
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
    kills: Vec<Kill>,
    /// how long a moment is waited for that may never come
    pause_max: Duration,
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
            kills: vec![],
            pause_max: PAUSE_MAX,
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
        command.stdout(append("stdout")).stderr(append("stderr")).env("WEIR_LOG", format!("warn,{TARGET}=debug"));
        Process(command.spawn().expect("the binary can be started"))
    }

    /// Kills the job so many times, at moments that are drawn, and then lets it end. `parallelisms` take turns.
    fn torment(&mut self, parallelisms: &[u64], kills: u32, draw: impl Fn(&mut Dice) -> Moment) {
        let mut turns = parallelisms.iter().copied().cycle();
        self.torment_at(|_| turns.next().unwrap(), kills, draw);
    }

    /// The same where `next` says at which parallelism it starts.
    fn torment_at(&mut self, mut next: impl FnMut(&Self) -> u64, kills: u32, draw: impl Fn(&mut Dice) -> Moment) {
        self.kill_often(&mut next, draw, |killed| killed >= kills);
        let parallelism = next(self);
        self.finish(parallelism);
    }

    /// The same while something befalls its surroundings, again and again until the last kill, and to its end at least once: what an attempt does about that,
    /// it does by itself.
    fn torment_amid(
        &mut self,
        parallelisms: &[u64],
        kills: u32,
        draw: impl Fn(&mut Dice) -> Moment,
        mut trouble: impl FnMut(&mut Dice) + Send,
    ) {
        self.restart_by_itself();
        let mut turns = parallelisms.iter().copied().cycle();
        let mut next = |_: &Self| turns.next().unwrap();
        // Other draws than those of the moments.
        let mut dice = Dice::new(self.seed + 1);
        let troubles = AtomicU32::new(0);
        std::thread::scope(|scope| {
            // Dropped after the last kill, also if that is a panic.
            let (kills_to_come, kills_over) = mpsc::channel::<()>();
            let troubles = &troubles;
            scope.spawn(move || {
                while kills_over.recv_timeout(Duration::from_millis(200 + dice.below(600))) == Err(RecvTimeoutError::Timeout) {
                    trouble(&mut dice);
                    troubles.fetch_add(1, Ordering::Relaxed);
                }
            });
            self.kill_often(&mut next, draw, |killed| killed >= kills && troubles.load(Ordering::Relaxed) > 0);
            drop(kills_to_come);
        });
        let troubles = troubles.into_inner();
        println!("{}: {troubles} troubles", self.name);
        assert!(troubles > 0, "{}: it was over before anything befell it", self.name);
        let parallelism = next(self);
        self.finish(parallelism);
    }

    /// Kills the job until it has been killed often enough, or ends before.
    fn kill_often(
        &mut self,
        mut next: impl FnMut(&Self) -> u64,
        draw: impl Fn(&mut Dice) -> Moment,
        is_enough: impl Fn(u32) -> bool,
    ) {
        let mut dice = Dice::new(self.seed);
        while !is_enough(self.kills()) {
            let moment = draw(&mut dice);
            let parallelism = next(self);
            if let Some(status) = self.kill_at(moment, parallelism) {
                self.check(status);
                println!("{}: it ended after {} kills", self.name, self.kills());
                break;
            }
        }
        self.tell_kills();
        let least = moments::least(self.name);
        assert!(self.kills() >= least, "{}: {} kills, and not {least}: it was too fast", self.name, self.kills());
    }

    /// Kills the job in each phase of a checkpoint, which its log tells of last then, and lets it end. A phase that is over at once may have become the next.
    fn torment_in_each_phase(&mut self, parallelism: u64) {
        // A phase that is waited for comes.
        self.pause_max = PATIENCE;
        // Who is killed behind a commit leaves a checkpoint, from which the others can be restored.
        for phase in Phase::ALL.into_iter().rev() {
            // The first commit that is done may be of a restore.
            self.kill_in(phase, if phase == Phase::CommitDone { 2 } else { 1 }, parallelism);
        }
        self.tell_kills();
        self.finish(parallelism);
        self.check_phases();
    }

    /// Kills the job in a phase, when its log has said for the `nth` time that it has come to it.
    fn kill_in(&mut self, phase: Phase, nth: u64, parallelism: u64) {
        let moment = Moment::Phase { phase, nth, delay: Duration::ZERO };
        let is_met = (0..TRIES_MAX).any(|_| {
            let ended = self.kill_at(moment, parallelism);
            assert!(ended.is_none(), "{}, {phase:?}: it ended before, {ended:?}:\n{}", self.name, self.log());
            self.kills.last().and_then(|kill| kill.last).is_some_and(|last| moments::is_of(phase, last))
        });
        assert!(is_met, "{}: {TRIES_MAX} kills miss the phase {phase:?}: {:?}", self.name, self.kills);
    }

    /// Prints what it was doing when it was killed.
    fn tell_kills(&self) {
        let mut counts = BTreeMap::<_, u32>::new();
        self.kills.iter().for_each(|kill| *counts.entry(kill.doing).or_default() += 1);
        let counted: Vec<_> = counts.iter().map(|(doing, count)| format!("{doing} {count}")).collect();
        println!("{}: kills: {} in all: {}", self.name, self.kills(), counted.join(", "));
    }

    /// Checks that its log tells of each phase.
    fn check_phases(&self) {
        let log = fs::read(self.path("stderr")).unwrap();
        let told: Vec<_> = String::from_utf8_lossy(&log).lines().filter_map(Phase::of_line).collect();
        for phase in Phase::ALL {
            assert!(told.contains(&phase), "{}: its log does not tell of {phase:?}:\n{}", self.name, self.log());
        }
    }

    /// How often it was killed.
    fn kills(&self) -> u32 {
        self.kills.len() as u32
    }

    /// Starts the job and kills it at a moment; returns its status if it has ended before.
    fn kill_at(&mut self, moment: Moment, parallelism: u64) -> Option<ExitStatus> {
        let watched = match moment {
            Moment::After(_) | Moment::Phase { .. } | Moment::InFlight => None,
            Moment::Upload | Moment::Manifest(_) => Some(&self.checkpoints),
            Moment::Commit => Some(&self.out),
        };
        let wanted = |path: &Path| match moment {
            Moment::After(_) | Moment::Phase { .. } | Moment::InFlight => false,
            Moment::Upload => path.components().any(|part| part.as_os_str() == "files"),
            Moment::Manifest(_) => path.extension().is_some_and(|extension| extension == "json"),
            Moment::Commit => !path.components().any(|part| part.as_os_str() == ".weir"),
        };
        let newest = |folder: &Path| files_below(folder).iter().filter(|path| wanted(path)).max().cloned();
        let before = watched.map(|folder| newest(folder));
        let mut phases = Phases::follow(&self.path("stderr"));
        let mut told = 0;
        let mut child = self.start(parallelism);
        let since = Instant::now();
        // What was there at the start may go (old checkpoints), so that what is looked for is a newer name than all of them.
        loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                return Some(status);
            }
            let is_now = match (&watched, moment) {
                (_, Moment::InFlight) => self.in_flight_at().is_some(),
                (Some(folder), _) => newest(folder) > before.clone().flatten(),
                (None, Moment::After(ms)) => since.elapsed() >= Duration::from_millis(ms),
                (None, Moment::Phase { phase, nth, .. }) => {
                    told += phases.count(phase);
                    told >= nth
                }
                (None, _) => false,
            };
            if is_now || since.elapsed() > self.pause_max {
                match moment {
                    Moment::Manifest(ms) if is_now => std::thread::sleep(Duration::from_millis(ms)),
                    Moment::Phase { delay, .. } if is_now => std::thread::sleep(delay),
                    _ => {}
                }
                drop(child);
                let doing = phases.doing();
                self.kills.push(Kill { moment, last: phases.last(), doing });
                return None;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// The parallelism at which its newest checkpoint has rows in flight; none if it has none.
    fn in_flight_at(&self) -> Option<u64> {
        let mut log = files_below(&self.checkpoints);
        log.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        log.sort_unstable();
        // The second line of an entry is what it says, and not all of them say that a checkpoint is complete.
        let manifest = log.iter().rev().find_map(|path| {
            let entry = fs::read_to_string(path).ok()?;
            let entry: Value = serde_json::from_str(entry.lines().nth(1)?).ok()?;
            entry.get("manifest").cloned()
        })?;
        let has_rows = |task: &&Value| {
            let mut channels = task["in_flight"].as_array().into_iter().flatten();
            channels.any(|channel| channel["batches"].as_u64() > Some(0))
        };
        manifest["tasks"].as_array()?.iter().find(has_rows)?["parallelism"].as_u64()
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
        self.restart_by_itself();
        let process = self.start(parallelism);
        self.endure_in(process, times, trouble)
    }

    /// Has attempts that fail start again, without end.
    fn restart_by_itself(&mut self) {
        self.set("restart.strategy", "exponential");
        self.set("restart.max_delay", "1s");
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

    /// What it has logged, but for its phases.
    fn log(&self) -> String {
        let log = fs::read(self.path("stderr")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| Phase::of_line(line).is_none()).map(|line| format!("{line}\n")).collect()
    }

    /// Compares the rows of the sink, both in an order of their own, with those that should be there.
    fn compare(&self, expected: &[String], found: &[String]) {
        println!("{}: {} kills, {} rows", self.name, self.kills(), found.len());
        assert!(expected.len() > 3, "{}: {} rows show little", self.name, expected.len());
        assert!(
            found == expected,
            "{}, seed {}, {} kills: {}\n{:?}\n{}",
            self.name,
            self.seed,
            self.kills(),
            difference(expected, found),
            self.kills,
            self.log()
        );
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
        let mut counts = BTreeMap::<String, i64>::new();
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
