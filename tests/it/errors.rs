//! What becomes of rows on which a guest fails, as the spec says it: from the guest to the sink for dead letters, and to the summary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::{Run, root, weir};
use crate::server::Server;

/// Two files of rows for the guest `picky`, `count` in all, of which these have a fault; and where results go.
struct Job {
    dir: tempfile::TempDir,
    count: u64,
    faults: BTreeMap<u64, &'static str>,
}

impl Job {
    fn new(count: u64, faults: &[(u64, &'static str)]) -> Self {
        let job = Self { dir: tempfile::tempdir().unwrap(), count, faults: faults.iter().copied().collect() };
        for file in 0..2 {
            let ids = (0..count).filter(|id| id % 2 == file);
            let lines: String = ids.map(|id| job.row(id).to_string() + "\n").collect();
            fs::write(job.path(&format!("rows-{file}.jsonl")), lines).unwrap();
        }
        job
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn row(&self, id: u64) -> Value {
        json!({ "id": id, "fault": self.faults.get(&id).unwrap_or(&"") })
    }

    /// A run whose dead letters go to a file.
    fn run(&self) -> Run {
        Run::new("tests/guests/picky/job.toml")
            .set("sources.items.path", self.path("rows-*.jsonl").display())
            .set("sinks.letters.connector", "file")
            .set("sinks.letters.path", self.path("letters.jsonl").display())
            .set("dead_letters", "letters")
            .set("limits.call_deadline", "500ms")
            .set("batch.rows", 100)
    }

    /// The ids of the rows without a fault.
    fn good(&self) -> Vec<u64> {
        (0..self.count).filter(|id| !self.faults.contains_key(id)).collect()
    }
}

/// The ids of rows, in their order.
fn ids(rows: &[Value]) -> Vec<u64> {
    let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_u64().expect("a row has an id")).collect();
    ids.sort_unstable();
    ids
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in the line: {line}"))).collect()
}

/// The rows that dead letters hold, by id, each with its letter.
fn letters(path: &Path) -> BTreeMap<u64, (Value, Value)> {
    let all = lines(path);
    let count = all.len();
    let by_id: BTreeMap<_, _> = all
        .into_iter()
        .map(|letter| {
            let record: Value = serde_json::from_str(letter["record"].as_str().expect("a record is text")).expect("of JSON");
            (record["id"].as_u64().expect("a record is whole"), (record, letter))
        })
        .collect();
    assert_eq!(by_id.len(), count, "each row has one letter");
    by_id
}

const FAULTS: [(u64, &str); 6] = [(0, "error"), (7, "panic"), (8, "panic"), (500, "error"), (501, "loop"), (999, "panic")];

/// Goal: exactly the rows on which the guest fails become dead letters, whole and with all that is known of the failure; the others come out.
#[test]
fn failing_rows_become_dead_letters() {
    let job = Job::new(1000, &FAULTS);
    // Where the operator is a task of its own, rows come to it by an exchange.
    for (parallelism, chaining) in [(1, true), (2, true), (1, false), (2, false)] {
        let run = job.run().set("on_error", "dead-letter").set("chaining", chaining);
        let (rows, summary) = run.parallelism(parallelism).finish();
        assert_eq!(ids(&rows), job.good());
        let letters = letters(&job.path("letters.jsonl"));
        assert_eq!(letters.keys().copied().collect::<Vec<_>>(), job.faults.keys().copied().collect::<Vec<_>>());
        for (id, (record, letter)) in &letters {
            assert_eq!(*record, job.row(*id), "the whole record");
            let (error, message) = match job.faults[id] {
                "error" => ("returned", "this row is not to my taste"),
                "panic" => ("trap", "this row is more than I can take"),
                _ => ("deadline", "`limits.call_deadline`"),
            };
            assert_eq!(letter["error"], error, "{letter}");
            assert!(letter["message"].as_str().unwrap().contains(message), "{letter}");
            assert_eq!(letter["backtrace"].is_string(), error != "returned", "{letter}");
            let split = job.path(&format!("rows-{}.jsonl", id % 2));
            // A row's line is the position of its event.
            let line = id / 2 + 1;
            let known = json!({
                "job": "picky", "operator": "taste", "source": "items", "split": split, "first_position": line, "last_position": line
            });
            known.as_object().unwrap().iter().for_each(|(column, value)| assert_eq!(letter[column], *value, "{letter}"));
            assert!(letter["time"].is_string() && letter.get("event_time").is_none(), "{letter}");
        }
        let failed_batches = job.faults.keys().map(|id| (id % 2, id / 200)).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(summary["errors"], failed_batches);
        assert_eq!((&summary["dead_letters"], &summary["skipped_records"]), (&json!(6), &json!(0)));
        assert_eq!(summary["rows_out"], 1000, "dead letters are rows of a sink");
    }
}

/// Goal: the record of a dead letter is a row that the job's source can read: once the fault is mended, it can be processed.
#[test]
fn dead_letters_can_be_read_again() {
    let job = Job::new(50, &[(3, "error"), (40, "error")]);
    job.run().set("on_error", "dead-letter").finish();
    let mended: String =
        letters(&job.path("letters.jsonl")).values().map(|(record, _)| record.to_string().replace("error", "") + "\n").collect();
    fs::write(job.path("mended.jsonl"), mended).unwrap();
    let again = Run::new("tests/guests/picky/job.toml").set("sources.items.path", job.path("mended.jsonl").display());
    assert_eq!(ids(&again.finish().0), [3, 40]);
}

/// Goal: a call that fails is made again as often as the spec says, and then the policy holds; an operator's own word goes before the job's.
#[test]
fn failed_calls_are_made_again_first() {
    let job = Job::new(1000, &[(0, "error"), (7, "panic"), (500, "error")]);
    for parallelism in [1, 2] {
        let run = || job.run().set("retry_pause", "1ms").parallelism(parallelism);
        let (rows, summary) = run().set("on_error", "dead-letter").set("retries", 2).finish();
        assert_eq!(ids(&rows), job.good());
        assert_eq!([&summary["errors"], &summary["retries"], &summary["dead_letters"]], [&json!(3), &json!(6), &json!(3)]);
        let (_, summary) = run().set("on_error", "dead-letter").set("operators.taste.retries", 1).finish();
        assert_eq!([&summary["errors"], &summary["retries"], &summary["dead_letters"]], [&json!(3), &json!(3), &json!(3)]);
    }
    let run = Run::new("tests/guests/picky/job.toml").set("sources.items.path", job.path("rows-1.jsonl").display());
    let error = run.set("retries", 1).set("retry_pause", "1ms").failure();
    assert!(error.contains("operator \"taste\" failed on batch 1, record 3 {id: 7, fault: \"panic\"}"), "{error}");
}

/// Goal: every sort of failure becomes a dead letter of that name, also one that breaks the rules of the boundary.
#[test]
fn all_sorts_of_failures_become_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, letters) = (dir.path().join("rows.jsonl"), dir.path().join("letters.jsonl"));
    let row = |n: u32| json!({ "id": n, "text": format!("text {n}"), "number": n * 10, "at": format!("2015-07-15T00:00:0{n}Z") });
    fs::write(&rows, (0..8).map(|n| row(n).to_string() + "\n").collect::<String>()).unwrap();
    for (mode, error) in [
        ("trap", "trap"),
        ("loop", "deadline"),
        ("grow", "memory"),
        ("utf8", "contract"),
        ("null", "contract"),
        ("returned", "returned"),
    ] {
        // Only who loops is to be ended by time, also on a busy machine.
        let deadline = if mode == "loop" { "500ms" } else { "30s" };
        let run = Run::new("tests/it/hostile.toml")
            .set("sources.in.path", rows.display())
            .set("args", format!("{{ mode = \"{mode}\", at = \"echo.process\", number = 50 }}"))
            .set("limits.call_deadline", deadline)
            .set("operators.echo.on_error", "dead-letter")
            .set("operators.echo.dead_letters", "letters")
            .set("sinks.letters", format!("{{ connector = \"file\", path = \"{}\" }}", letters.display()));
        let (_, summary) = run.finish();
        assert_eq!(summary["dead_letters"], 1, "{mode}");
        let all = lines(&letters);
        assert_eq!(all[0]["error"], error, "{mode}: {}", all[0]);
        let record: Value = serde_json::from_str(all[0]["record"].as_str().unwrap()).unwrap();
        assert_eq!(record, row(5), "{mode}: columns that the operator does not read are there, too");
    }
}

/// Rows of one key for the guest `hostile`, in one window, of which the one with the number 50 makes it fail; and where results go.
struct Keyed {
    dir: tempfile::TempDir,
}

impl Keyed {
    fn new() -> Self {
        let keyed = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(keyed.path("rows.jsonl"), (0..8).map(|n| Self::row(n).to_string() + "\n").collect::<String>()).unwrap();
        keyed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn row(n: u32) -> Value {
        json!({ "id": 7, "text": format!("text {n}"), "number": n * 10, "at": format!("2015-07-15T00:00:00.{n}00Z") })
    }

    /// A sink that shows rows once they are committed.
    fn parts(&self, folder: &str) -> String {
        format!("{{ connector = \"file\", folder = \"{}\", format = \"jsonl\" }}", self.path(folder).display())
    }

    /// A run that fails in this call, with checkpoints.
    fn run(&self, at: &str, run: usize) -> Run {
        Run::new("tests/it/hostile.toml")
            .set("sources.in.path", self.path("rows.jsonl").display())
            .set("args", format!("{{ mode = \"trap\", at = \"{at}\", number = 50 }}"))
            .set("sinks.counts", self.parts(&format!("counts-{run}")))
            .set("sinks.sums", self.parts(&format!("sums-{run}")))
            .set("checkpoint.storage", self.path(&format!("checkpoints-{run}")).display())
            .set("checkpoint.interval", "50ms")
    }

    /// The numbers that a run has published.
    fn published(&self, folder: &str, column: &str, run: usize) -> Vec<i64> {
        let rows = crate::recovery::published(&self.path(&format!("{folder}-{run}")));
        let number = |row: &String| serde_json::from_str::<Value>(row).unwrap()[column].as_i64().unwrap();
        let mut numbers: Vec<_> = rows.iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Checks that a run has published what there is without the row that this operator has failed on, and has counted that row by its policy.
    fn check_passed_over(&self, run: usize, operator: &str, policy: &str, summary: &Value, what: &str) {
        let (counts, sums) = if operator == "count" { (7, 280) } else { (8, 230) };
        assert_eq!(self.published("counts", "count", run), (1..=counts).collect::<Vec<_>>(), "{what}");
        assert_eq!(self.published("sums", "sum", run), [sums], "{what}");
        let (skipped, letters) = if policy == "skip" { (1, 0) } else { (0, 1) };
        assert_eq!([&summary["skipped_records"], &summary["dead_letters"]], [&json!(skipped), &json!(letters)], "{what}");
    }
}

/// Goal: of an operator that keeps state, too, exactly the row is passed over on which it fails. The job goes back to a checkpoint, and its state is as if
/// there had been no such row: neither is the failed call's half-done work in it, nor is anything lost.
#[test]
fn state_is_as_if_there_had_been_no_such_row() {
    let job = Keyed::new();
    let mut run = 0;
    for (at, parallelism) in [("count.process", 1), ("count.process", 2), ("sum.accumulate", 1), ("sum.accumulate", 2)] {
        for policy in ["skip", "dead-letter"] {
            run += 1;
            let what = format!("{policy} in {at} at parallelism {parallelism}");
            let operator = at.split_once('.').unwrap().0;
            let mut job_run = job.run(at, run).parallelism(parallelism).set(&format!("operators.{operator}.on_error"), policy);
            if policy == "dead-letter" {
                job_run = job_run.set("dead_letters", "letters").set("sinks.letters", job.parts(&format!("letters-{run}")));
            }
            let (_, summary) = job_run.finish();
            assert_eq!(summary["restarts"], 1, "{what}");
            job.check_passed_over(run, operator, policy, &summary, &what);
            if policy == "dead-letter" {
                let letters = crate::recovery::published(&job.path(&format!("letters-{run}")));
                let [letter] = letters.as_slice() else { panic!("{what}: {letters:?}") };
                let letter: Value = serde_json::from_str(letter).unwrap();
                let record: Value = serde_json::from_str(letter["record"].as_str().unwrap()).unwrap();
                assert_eq!(record, Keyed::row(5), "{what}");
                let (split, at) = (job.path("rows.jsonl"), &Keyed::row(5)["at"]);
                let known = json!({ "operator": operator, "error": "trap", "source": "in", "split": split, "event_time": at });
                known.as_object().unwrap().iter().for_each(|(column, value)| assert_eq!(letter[column], *value, "{letter}"));
                // An operator without state has made it of some row of the batch: of the sixth.
                let position = |column: &str| letter[column].as_u64().unwrap_or_else(|| panic!("{letter}"));
                assert!((position("first_position")..=position("last_position")).contains(&6), "{letter}");
            }
        }
    }
}

/// Goal: an operator that keeps state is given the row on which it fails again as often as the spec says, from the checkpoint and whatever `restart` says; only
/// then the policy holds. Each time is counted.
#[test]
fn rows_are_given_again_from_a_checkpoint() {
    let job = Keyed::new();
    let mut run = 0;
    for (at, parallelism) in [("count.process", 1), ("count.process", 2), ("sum.accumulate", 1), ("sum.accumulate", 2)] {
        for policy in ["skip", "dead-letter", "fail"] {
            run += 1;
            let what = format!("{policy} in {at} at parallelism {parallelism}");
            let operator = at.split_once('.').unwrap().0;
            let mut job_run = job
                .run(at, run)
                .parallelism(parallelism)
                .set("restart.strategy", "none")
                .set(&format!("operators.{operator}.on_error"), policy)
                .set(&format!("operators.{operator}.retries"), 2)
                .set(&format!("operators.{operator}.retry_pause"), "1ms");
            if policy == "fail" {
                let told = job_run.failure();
                assert_eq!(told.matches("starts again in 1ms").count(), 2, "{what}: {told}");
                assert!(told.contains(&format!("operator \"{operator}\" failed")), "{what}: {told}");
                continue;
            }
            if policy == "dead-letter" {
                job_run = job_run.set("dead_letters", "letters").set("sinks.letters", job.parts(&format!("letters-{run}")));
            }
            let (_, summary) = job_run.finish();
            assert_eq!([&summary["restarts"], &summary["retries"]], [&json!(3), &json!(2)], "{what}");
            job.check_passed_over(run, operator, policy, &summary, &what);
            if policy == "dead-letter" {
                assert_eq!(crate::recovery::published(&job.path(&format!("letters-{run}"))).len(), 1, "{what}");
            }
        }
    }
}

/// Goal: a row on which an operator with state fails for a while only is processed in the end, and once.
#[test]
fn rows_that_fail_for_a_while_are_processed_once() {
    let job = &Keyed::new();
    let check = |run: usize, at: &str| {
        // It has started by then, also on a busy machine, and there are retries for much longer.
        let until = std::time::SystemTime::now() + Duration::from_secs(15);
        let until = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let args = format!("{{ mode = \"trap\", at = \"{at}\", number = 50, until = {until} }}");
        let (_, summary) = job
            .run(at, run)
            .set("args", args)
            .set("restart.strategy", "none")
            .set("retries", 100)
            .set("retry_pause", "1s")
            .finish();
        let retries = summary["retries"].as_u64().unwrap();
        assert!(retries > 0, "{at}: it has not failed");
        assert_eq!(summary["restarts"], retries, "{at}");
        assert_eq!([&summary["skipped_records"], &summary["dead_letters"]], [&json!(0), &json!(0)], "{at}");
        assert_eq!(job.published("counts", "count", run), (1..=8).collect::<Vec<_>>(), "{at}");
        assert_eq!(job.published("sums", "sum", run), [280], "{at}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| check(0, "count.process"));
        scope.spawn(|| check(1, "sum.accumulate"));
    });
}

/// Goal: without checkpoints there is nothing to go back to, so that an operator with state fails its job whatever the job's word is; and so it does where no
/// row is to blame.
#[test]
fn some_failures_are_nobodys_fault() {
    let job = Keyed::new();
    let error = Run::new("tests/it/hostile.toml")
        .set("sources.in.path", job.path("rows.jsonl").display())
        .set("args", "{ mode = \"trap\", at = \"count.process\", number = 50 }")
        .set("on_error", "skip")
        .set("retries", 3)
        .failure();
    assert!(error.contains("operator \"count\" failed on batch 1, record 5 {id: 7, "), "{error}");
    assert!(!error.contains("starts again"), "{error}");
    let run = job.run("sum.accumulate", 0).set("args", "{ mode = \"trap\", at = \"sum.emit\" }");
    let error = run.set("on_error", "skip").set("restart.strategy", "none").failure();
    assert!(error.contains("operator \"sum\" failed on batch 1: `emit` of chain 2"), "{error}");
}

/// A spec of two guests, the second of which reads what the first one lets through, in a folder of a job.
fn two_guests(job: &Job, first: &str, second: &str) -> PathBuf {
    let guest = root().join("tests/guests/picky/picky.wasm");
    let spec = format!(
        "name = \"two\"\nchaining = false\ndead_letters = \"letters\"\n[components.first]\ncomponent = \"{guest}\"\n[components.second]\ncomponent = \
         \"{guest}\"\n[links]\n\"first.out\" = \"second.items\"\n[sources.items]\nconnector = \"file\"\npath = \"{rows}\"\n[sinks.out]\nconnector = \
         \"stdout\"\n[sinks.letters]\nconnector = \"file\"\npath = \"{letters}\"\n[operators.\"first.taste\"]\n{first}\n[operators.\"second.taste\"]\n\
         {second}\n",
        guest = guest.display(),
        rows = job.path("rows-*.jsonl").display(),
        letters = job.path("letters.jsonl").display(),
    );
    fs::write(job.path("two.toml"), spec).unwrap();
    job.path("two.toml")
}

/// Goal: operators of several tasks have policies of their own, and their dead letters come together in one sink.
#[test]
fn dead_letters_cross_exchanges() {
    let job = Job::new(1000, &[(0, "error"), (7, "panic"), (500, "error")]);
    let letter = "on_error = \"dead-letter\"";
    for parallelism in [1, 2] {
        let spec = two_guests(&job, letter, letter);
        let explained = weir().arg("explain").arg(&spec).args(["--set", "parallelism=2"]).output().unwrap();
        let plan = String::from_utf8(explained.stdout).unwrap();
        assert!(plan.contains("sink letters: file, from exchange"), "{plan}");
        // What the first one sends away, the second never sees.
        let (rows, summary) = Run::new(&spec).parallelism(parallelism).finish();
        assert_eq!(ids(&rows), job.good());
        assert_eq!(summary["dead_letters"], 3);
        let all = letters(&job.path("letters.jsonl"));
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [0, 7, 500]);
        assert!(all.values().all(|(_, letter)| letter["operator"] == "first.taste" && letter["source"] == "items"));
        let (rows, summary) = Run::new(two_guests(&job, "on_error = \"skip\"", letter)).parallelism(parallelism).finish();
        assert_eq!((ids(&rows), &summary["skipped_records"], &summary["dead_letters"]), (job.good(), &json!(3), &json!(0)));
    }
}

/// Goal: what cannot be done where an operator fails is refused before the job runs, with the key, the reason and the way out.
#[test]
fn wrong_policies_are_refused() {
    let refused = |settings: &[&str]| {
        let mut command = weir();
        command.arg("run").arg(root().join("examples/nexmark/q5.toml"));
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{settings:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (settings, says) in [
        (
            &["operators.hotest.on_error=skip"][..],
            "[operators.hotest]: the job has no operator \"hotest\"; it has: bids-by-auction, ",
        ),
        (
            &["operators.hottest.on_error=skip"],
            "[operators.hottest]: the operator keeps state, which a call that fails may leave half changed",
        ),
        (&["operators.event-time-1.on_error=skip"], "[operators.event-time-1]: the operator runs no code of a guest"),
        (&["on_error=ignore"], "unknown variant `ignore`, expected one of `fail`, `skip`, `dead-letter`"),
        (&["dead_letters=letters"], "dead_letters is \"letters\", but no rows can go there"),
        (
            &["sources.nexmark.on_malformed=dead-letter"],
            "[sources.nexmark] makes dead letters of malformed records, but the spec does not say where they go",
        ),
        (&["retries=1000"], "retries must be at most 100"),
    ] {
        let error = refused(settings);
        assert!(error.contains(says), "{settings:?}: {error}");
    }
    let job = Job::new(1, &[]);
    for (setting, says) in [
        ("dead_letters=leters", "dead letters go to \"leters\", but the spec has no [sinks.leters]"),
        ("dead_letters=out", "dead letters go to \"out\", but the job itself writes to it, rows with other columns"),
    ] {
        let (path, value) = setting.split_once('=').unwrap();
        let error = job.run().set("on_error", "dead-letter").set(path, value).failure();
        assert!(error.contains(says), "{setting}: {error}");
    }
}

/// What a job's error ends with that would have started again, had it not been asked to stop.
const STOPPED: &str = "(the job was asked to stop, so it does not start again)";

/// Goal: a job that waits for its restart ends at the first interrupt, with checkpoints as without: as one that has failed, with its last error.
#[test]
fn interrupted_before_a_restart() {
    let job = Job::new(10, &[(3, "error")]);
    for has_checkpoints in [false, true] {
        let mut run = Run::new("tests/guests/picky/job.toml")
            .set("sources.items.path", job.path("rows-*.jsonl").display())
            .set("restart.strategy", "fixed")
            .set("restart.delay", "1h");
        if has_checkpoints {
            run = run.set("checkpoint.storage", job.path("checkpoints").display()).set("checkpoint.interval", "50ms");
        }
        let mut live = run.start();
        live.wait_for("starts again in 3600s");
        live.interrupt();
        let told = live.failure();
        assert!(told.contains("this row is not to my taste") && told.contains(STOPPED), "{has_checkpoints}: {told}");
    }
}

/// Goal: that a job starts again is told to who wants it quiet, too.
#[test]
fn restarts_are_not_kept_quiet() {
    let job = Job::new(10, &[(3, "error")]);
    let told = Run::new("tests/guests/picky/job.toml")
        .set("sources.items.path", job.path("rows-*.jsonl").display())
        .set("restart.strategy", "fixed")
        .set("restart.attempts", 2)
        .set("restart.delay", "1ms")
        .quiet()
        .failure();
    assert_eq!(told.matches("the job failed, and starts again in 1ms: ").count(), 2, "{told}");
}

/// Goal: what is malformed will be so at the next attempt, too: the job fails by its policy at once, although its strategy says that it starts again.
#[test]
fn malformed_input_is_not_tried_again() {
    let job = Keyed::new();
    std::fs::write(job.path("rows.jsonl"), format!("{}\nno row\n", Keyed::row(0))).expect("the folder is there");
    let error = job.run("sum.accumulate", 0).set("restart.strategy", "fixed").failure();
    assert!(error.contains("rows.jsonl") && error.contains("line 2"), "{error}");
    assert!(!error.contains("starts again"), "{error}");
}

/// Goal: input that is missing when a job runs for the first time is not waited for, although its strategy says that it starts again: the path is wrong.
#[test]
fn missing_input_is_not_waited_for() {
    let job = Keyed::new();
    for missing in ["gone.jsonl", "gone-*.jsonl"] {
        let run =
            job.run("sum.accumulate", 0).set("restart.strategy", "fixed").set("sources.in.path", job.path(missing).display());
        let error = run.failure();
        assert!(error.contains(missing) && error.contains("correct the path"), "{error}");
        assert!(!error.contains("starts again"), "{error}");
    }
}

/// Goal: a job that fails while it drains does not start again, although its strategy says so.
#[test]
fn failed_while_it_drains() {
    let mut live = Run::new("tests/it/hostile.toml")
        .set("sources.in", "{ connector = \"stdin\" }")
        .set("sinks.out.connector", "stdout")
        .set("args", "{ mode = \"trap\", at = \"sum.emit\" }")
        .set("restart.strategy", "fixed")
        .start();
    live.write(&format!("{}\n", Keyed::row(0)));
    live.lines(1);
    live.interrupt();
    let told = live.failure();
    assert!(told.contains("operator \"sum\" failed") && told.contains(STOPPED), "{told}");
    assert!(!told.contains("starts again"), "{told}");
}

/// Goal: on a server, too, a job that waits for its restart ends when it is told to stop, and has failed.
#[tokio::test]
async fn stopped_before_a_restart() {
    let server = Server::start(1);
    server.put_file("items.jsonl", "{\"id\":1,\"fault\":\"error\"}\n");
    let client = server.client();
    let component = client.upload(fs::read(root().join("tests/guests/picky/picky.wasm")).unwrap()).await.unwrap().id;
    let spec = json!({
        "component": component,
        "sources": { "items": { "connector": "file", "path": "items.jsonl" } },
        "sinks": { "out": { "connector": "stdout" } },
        "restart": { "strategy": "fixed", "delay": "1h" },
    });
    let id = client.submit(&spec).await.unwrap().id;
    let wait = async |state: &str| loop {
        let job = client.job(&id).await.unwrap().job;
        if job.state == state {
            break job;
        }
        assert!(!job.is_ended(), "{job:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    wait("restarting").await;
    client.stop(&id).await.unwrap();
    let failure = wait("failed").await.failure.expect("a failed job says why");
    assert!(failure.message.contains("this row is not to my taste") && failure.message.contains(STOPPED), "{failure:?}");
}
