//! State that each subtask has as a whole: what was broadcast to it.

use std::fs;
use std::path::PathBuf;

use super::flight::{UNALIGNED, torment_in_flight};
use super::{Moment, Victim, published};

/// The rows with keys.
const ROWS: u64 = 240_000;
const KEYS: u64 = 300;
/// Those that are broadcast. They are so few that all of them have come long before the others end, in whatever order inputs are read.
const BROADCAST: u64 = 10_000;

/// A job that reads two rows at a time, so that it takes its time, and says for each key how many rows it had, how many were broadcast, and the sum of
/// these; the folder that it publishes in, and what should be there in the end.
fn tally(name: &'static str, settings: &[(&str, &str)]) -> (Victim, PathBuf, Vec<String>) {
    let mut victim = Victim::new(name, "tests/guests/operators/job.toml", settings);
    let key = |id: u64| id / 3 % KEYS;
    let line = |id: u64| format!("{{\"id\":{id},\"key\":\"k{}\",\"number\":{id},\"at\":\"2015-07-15T00:00:00Z\"}}\n", key(id));
    fs::create_dir(victim.path("in")).unwrap();
    for file in 0..3 {
        let lines: String = (0..ROWS).filter(|id| id % 3 == file).map(line).collect();
        fs::write(victim.path(&format!("in/{file}.jsonl")), lines).unwrap();
    }
    fs::write(victim.path("other.jsonl"), (0..BROADCAST).map(line).collect::<String>()).unwrap();
    victim.set("args.job", "broadcast-tally");
    victim.set("sources.in.path", victim.path("in/*.jsonl").display());
    victim.set("sources.other.connector", "file");
    victim.set("sources.other.path", victim.path("other.jsonl").display());
    victim.set("batch.rows", 2);
    let out = victim.write_parts();
    let mut counts = vec![0; KEYS as usize];
    (0..ROWS).for_each(|id| counts[key(id) as usize] += 1);
    let sum = BROADCAST * (BROADCAST - 1) / 2;
    let rows = counts.iter().enumerate();
    let mut expected: Vec<_> = rows.map(|(key, count)| format!("{{\"text\":\"k{key} {count} {BROADCAST} {sum}\"}}")).collect();
    expected.sort_unstable();
    (victim, out, expected)
}

/// Goal: each subtask goes on with all that was broadcast, and each row of that once, however many subtasks there were and are.
#[test]
fn broadcast_rescaled() {
    let (mut victim, out, expected) = tally("broadcast_rescaled", &[]);
    victim.torment(&[2, 1, 3], 10, Moment::draw_elsewhere);
    victim.compare(&expected, &published(&out));
}

/// Goal: the same where the keys' state and timers are on disk.
#[test]
fn broadcast_on_disk() {
    let (mut victim, out, expected) = tally("broadcast_on_disk", &[("state.backend", "rocksdb"), ("state.slots_max", "100")]);
    victim.torment(&[3, 2], 8, Moment::draw_elsewhere);
    victim.compare(&expected, &published(&out));
}

/// Goal: the same where barriers overtake rows, also those that are being broadcast: some subtasks have counted them at their barriers, and others have not.
#[test]
fn unaligned_broadcast_rescaled() {
    let (mut victim, out, expected) = tally("unaligned_broadcast_rescaled", &UNALIGNED);
    torment_in_flight(&mut victim, 10, Moment::draw_elsewhere);
    victim.compare(&expected, &published(&out));
}
