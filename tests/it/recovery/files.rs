//! From the generator to parts in a folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Dice, Moment, Victim, is_complete, published, undisturbed};

/// A query of Nexmark that takes long enough for so many kills, the folder that it publishes in, and what should be there in the end.
pub(super) fn prepare(name: &'static str, query: &str, kills: u32, settings: &[(&str, &str)]) -> (Victim, PathBuf, Vec<String>) {
    let events = format!("{}", 24_000 * u64::from(kills));
    let mut all = vec![
        ("sources.nexmark.events", events.as_str()),
        ("sources.nexmark.rate", "60000"),
        ("sources.nexmark.events_per_ms", "1"),
    ];
    all.extend_from_slice(settings);
    let of_source = |(path, _): &&(&str, &str)| path.starts_with("sources.") && !path.ends_with(".rate");
    let expected = undisturbed(query, &all.iter().filter(of_source).copied().collect::<Vec<_>>());
    let mut victim = Victim::new(name, &format!("examples/nexmark/{query}.toml"), &all);
    let out = victim.write_parts();
    (victim, out, expected)
}

/// Kills a query of Nexmark so many times, and compares what it has published in the end. `parallelisms` take turns.
fn survives(name: &'static str, query: &str, parallelisms: &[u64], kills: u32, settings: &[(&str, &str)]) {
    let (mut victim, out, expected) = prepare(name, query, kills, settings);
    victim.torment(parallelisms, kills, Moment::draw);
    victim.compare(&expected, &published(&out));
    // Where there is no state, no file of it is uploaded.
    if query != "q2" {
        victim.check_phases();
    }
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

/// Goal: the same of subtasks that have no exchange between them.
#[test]
fn alone() {
    survives("alone", "q5", &[1], 14, &[]);
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

/// Goal: rows that a barrier has overtaken are not taken for those that come by the same channels now.
#[test]
fn overtaken_rows_keep_to_their_edge() {
    let settings = [
        ("sources.nexmark.events", "5000000"),
        ("sources.nexmark.rate", "60000"),
        ("checkpoint.mode", "unaligned"),
        ("batch.channel_capacity", "2"),
        ("batch.rows", "64"),
    ];
    let mut victim = Victim::new("overtaken_rows", "examples/nexmark/q5.toml", &settings);
    victim.write_parts();
    while victim.in_flight_at().is_none() {
        assert!(victim.kills() < 30, "no barrier overtakes anything");
        assert!(victim.kill_at(Moment::After(500), 2).is_none(), "{}", victim.log());
    }
    // Then the window is not aggregated before the exchange, which has one edge less.
    victim.set("preaggregation", "false");
    let refused = victim.command(2).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("has rows in flight"), "{told}");
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

/// Goal: the same of state on disk, of which each checkpoint stores what has changed, with a rescale at each start.
#[test]
fn on_disk() {
    survives("on_disk", "keyed_count", &[1, 2, 3], 26, &[("state.backend", "rocksdb"), ("state.slots_max", "500")]);
}

/// Goal: the same without a rescale, where an attempt goes on with the files of the last one as they are.
#[test]
fn on_disk_alone() {
    survives("on_disk_alone", "keyed_count", &[1], 10, &[("state.backend", "rocksdb"), ("state.slots_max", "500")]);
}

/// Goal: the same of windows whose database is taken up by the same subtask of two.
#[test]
fn on_disk_unmoved() {
    survives("on_disk_unmoved", "q5", &[2], 10, &[("state.backend", "rocksdb"), ("state.slots_max", "64")]);
}

/// Goal: the same of windows on disk, all but a few of which are there alone.
#[test]
fn windows_on_disk() {
    let settings = [("state.backend", "rocksdb"), ("state.slots_max", "64")];
    survives("windows_on_disk", "q5", &[2, 1, 3], 20, &settings);
}

/// Goal: the same of sessions.
#[test]
fn sessions_on_disk() {
    let settings = [("state.backend", "rocksdb"), ("state.slots_max", "64")];
    survives("sessions_on_disk", "q11", &[2, 1, 3], 20, &settings);
}

/// Goal: the same of a process function with timers.
#[test]
fn timers_on_disk() {
    let settings = [("state.backend", "rocksdb"), ("state.slots_max", "50"), ("sources.nexmark.events_per_ms", "100")];
    survives("timers_on_disk", "q4", &[2, 3], 20, &settings);
}

/// How a row begins that an outer join gives, and one that takes it back.
const SAID: &str = "{\"text\":\"+";
const TAKEN_BACK: &str = "{\"text\":\"-";

/// What is left of rows once those that an outer join has taken back are struck out: what it says of rows alone depends on which comes first.
fn settled(rows: Vec<String>) -> Vec<String> {
    let mut counts = BTreeMap::<String, i64>::new();
    for row in rows {
        match row.strip_prefix(TAKEN_BACK) {
            Some(rest) => *counts.entry(format!("{SAID}{rest}")).or_default() -= 1,
            None => *counts.entry(row).or_default() += 1,
        }
    }
    let times = |count: i64| usize::try_from(count).expect("what is taken back was said before");
    counts.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, times(count))).collect()
}

/// Goal: the same of joins, and of state that expires, which is on disk but for a few keys, and moves between parallelisms.
#[test]
fn joins() {
    const ROWS: u64 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: u64| {
        let mut dice = Dice::new(seed);
        let row = |id: u64| {
            // 2015-07-15, a row every other millisecond, not in order.
            let ms = id * 2 + dice.below(90);
            let (second, ms) = (ms / 1000, ms % 1000);
            let at = format!("2015-07-15T00:{:02}:{:02}.{ms:03}Z", second / 60, second % 60);
            format!("{{\"id\":{id},\"key\":\"k{}\",\"number\":{},\"at\":\"{at}\"}}\n", dice.below(100), dice.below(1000))
        };
        let path = folder.path().join(name);
        std::fs::write(&path, (0..ROWS).map(row).collect::<String>()).unwrap();
        path.display().to_string()
    };
    let (left, right) = (write("left.jsonl", 1), write("right.jsonl", 2));
    let settings = [
        ("args.job", "all-kept"),
        ("sources.in.path", left.as_str()),
        ("sources.other.connector", "file"),
        ("sources.other.path", right.as_str()),
        ("state.slots_max", "150"),
        ("batch.rows", "64"),
    ];
    let spec = "tests/guests/operators/job.toml";
    let mut calm = Victim::new("joins", spec, &settings);
    let out = calm.write_parts();
    calm.finish(1);
    let all = published(&out);
    assert!(all.iter().any(|row| row.starts_with(TAKEN_BACK)), "an outer join takes something back");
    let expected = settled(all);
    assert!(expected.len() as u64 > 2 * ROWS, "{} rows", expected.len());
    let mut victim = Victim::new("joins", spec, &settings);
    victim.set("state.backend", "rocksdb");
    let out = victim.write_parts();
    victim.torment(&[2, 1, 3], 10, Moment::draw);
    victim.compare(&expected, &settled(published(&out)));
}

/// Goal: where no input waits for another, all rows are there; some may be there more often.
#[test]
fn at_least_once() {
    let settings = [
        ("sources.nexmark.events", "400000"),
        ("sources.nexmark.rate", "60000"),
        ("checkpoint.mode", "at-least-once"),
        ("batch.rows", "64"),
    ];
    let expected = undisturbed("keyed_count", &settings[..1]);
    let mut victim = Victim::new("at_least_once", "examples/nexmark/keyed_count.toml", &settings);
    let out = victim.write_parts();
    victim.torment(&[2, 3], 16, Moment::draw);
    assert!(is_complete(&expected, &published(&out)), "{}", victim.log());
}

/// Goal: a job that goes on appends to its one file, so that all rows are there.
#[test]
fn one_file() {
    let settings = [("sources.nexmark.events", "300000"), ("sources.nexmark.rate", "60000")];
    let expected = undisturbed("keyed_count", &settings[..1]);
    let mut victim = Victim::new("one_file", "examples/nexmark/keyed_count.toml", &settings);
    let out = victim.path("out");
    victim.set("sinks.out", format!("{{ connector = \"file\", path = \"{}/rows.jsonl\" }}", out.display()));
    victim.torment(&[2, 1], 12, Moment::draw_elsewhere);
    assert!(is_complete(&expected, &published(&out)), "{}", victim.log());
}
