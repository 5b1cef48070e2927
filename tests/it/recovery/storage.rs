//! A folder of checkpoints that fails while a job runs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::bucket::{Bucket, CALM, Fault, Weather};
use super::{Dice, Victim, published, undisturbed};

/// A job of a query of Nexmark that takes some seconds, and what its rows should be.
fn victim(name: &'static str, query: &str) -> (Victim, Vec<String>) {
    let settings =
        [("sources.nexmark.events", "300000"), ("sources.nexmark.events_per_ms", "1"), ("sources.nexmark.rate", "40000")];
    let expected = undisturbed(query, &settings[..2]);
    let mut victim = Victim::new(name, &format!("examples/nexmark/{query}.toml"), &settings);
    victim.write_parts();
    (victim, expected)
}

/// Goal: a folder that is not there for a while, as if it was not mounted, is waited for. Nothing that is written in its place counts, and its absence is not
/// taken for a job that has never run.
#[test]
fn storage_that_vanishes() {
    let (mut victim, expected) = victim("storage_that_vanishes", "q5");
    let (folder, aside) = (victim.checkpoints.clone(), victim.path("aside"));
    let trouble = |dice: &mut Dice| {
        fs::rename(&folder, &aside).unwrap();
        let is_replaced = dice.below(2) == 0;
        if is_replaced {
            fs::write(&folder, b"no folder").unwrap();
        }
        std::thread::sleep(Duration::from_millis(500 + dice.below(1500)));
        if is_replaced {
            fs::remove_file(&folder).unwrap();
        }
        // Whoever had looked for the folder just before may have made another one to write in. It is not the storage, and so nothing there counts.
        if folder.is_dir() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::rename(&aside, &folder).expect("there is nothing in its place");
    };
    victim.endure(2, 4, trouble);
    victim.compare(&expected, &published(&victim.out));
}

/// Goal: a disk that takes nothing more for a while, neither state nor rows nor the process's own log, costs time and no row.
///
/// Method: the limit for the size of files, which makes writes fail in their midst.
#[test]
fn full_disk() {
    let (mut victim, expected) = victim("full_disk", "keyed_count");
    victim.set("restart.strategy", "exponential");
    victim.set("restart.max_delay", "1s");
    let job = victim.command(2);
    // The signal that comes with it would end the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(job.get_program()).args(job.get_args()).env("NO_COLOR", "1");
    let process = victim.start_command(command);
    let pid = Pid::from_child(&process.0);
    let trouble = |dice: &mut Dice| {
        let limit = |bytes| prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
        limit(Some(if dice.below(2) == 0 { 0 } else { 300 + dice.below(3000) }));
        std::thread::sleep(Duration::from_millis(500 + dice.below(1500)));
        limit(None);
    };
    victim.endure_in(process, 4, trouble);
    victim.compare(&expected, &published(&victim.out));
}

/// Goal: checkpoints that take too long, because their storage is slow, are given up and tolerated; the job goes on without starting again, and what
/// was prepared for them is committed with a later one.
#[test]
fn slow_storage() {
    const SLOW: Weather = &[(100, Fault::Late(700))];
    let (mut victim, expected) = victim("slow_storage", "q5");
    let bucket = Bucket::start(victim.seed);
    victim.set("checkpoint.storage", bucket.url("checkpoints"));
    victim.set("checkpoint.options", bucket.options());
    victim.set("checkpoint.timeout", "500ms");
    victim.set("checkpoint.tolerated_failures", "1000");
    let summary = victim.endure(2, 2, |dice| {
        bucket.set(SLOW);
        std::thread::sleep(Duration::from_millis(1500 + dice.below(1000)));
        bucket.set(CALM);
    });
    assert!(summary["failed_checkpoints"].as_u64() > Some(0) && summary["restarts"] == 0, "{summary}");
    victim.compare(&expected, &published(&victim.out));
}
