//! Guests that misbehave: whatever one does, its job fails with an error that says where and why, and Weir does not.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::run::Run;

/// A file of rows for the job, which lives as long as this.
struct Rows {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn rows(lines: impl IntoIterator<Item = String>) -> Rows {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, lines.into_iter().fold(String::new(), |text, line| text + &line + "\n")).expect("the folder is ours");
    Rows { _dir: dir, path }
}

fn hostile(mode: &str, rows: &Rows) -> Run {
    Run::new("tests/it/hostile.toml").set("args.mode", mode).set("sources.in.path", rows.path.display())
}

/// Row `n` of the good ones, as a line.
fn good_row(n: u32) -> String {
    format!(r#"{{"id":{n},"text":"text {n}","number":{},"at":"2015-07-15T00:00:0{n}Z"}}"#, n * 10)
}

fn good_rows() -> Rows {
    rows((0..8).map(good_row))
}

/// How a job has to fail.
struct Failure<'a> {
    /// how the guest misbehaves, and in which call: `sum.emit`; the latter's chain is the operator to be named
    mode: &'a str,
    at: &'a str,
    /// the record of the batch that has to be named; none if it is no single one, or no rows are to blame
    record: Option<usize>,
    /// what the error has to say
    says: &'a str,
}

/// A failure in rows of `echo`; each of them makes the guest fail, so the first one has to be named.
fn in_rows<'a>(mode: &'a str, says: &'a str) -> Failure<'a> {
    Failure { mode, at: "echo.process", record: Some(0), says }
}

/// A failure in another call, which no single row is to blame for.
fn in_call<'a>(mode: &'a str, at: &'a str, says: &'a str) -> Failure<'a> {
    Failure { mode, at, record: None, says }
}

/// Checks that jobs fail as they have to: the error names operator, batch, record, and what was wrong.
fn check(failures: &[Failure<'_>], rows: &Rows, settings: &[(&str, &str)]) {
    let mut wrong = String::new();
    for Failure { mode, at, record, says } in failures {
        let run = hostile(mode, rows).set("args.at", at);
        let error = settings.iter().fold(run, |run, (path, value)| run.set(path, value)).failure();
        let (operator, call) = at.split_once('.').expect("a chain and a call");
        let place = match record {
            Some(record) => format!("operator \"{operator}\" failed on batch 1, record {record} {{id: {record}, "),
            None => format!("operator \"{operator}\" failed on batch 1: "),
        };
        for part in [&place, &format!("`{call}` of chain "), *says] {
            if !error.contains(part) {
                writeln!(wrong, "{mode} in {at}: \"{part}\" is missing in: {error}").expect("a string takes all");
            }
        }
        assert!(!error.contains("panicked at host"), "{mode} in {at}: {error}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Goal: the guest behaves if it is not told otherwise, so that the other tests fail for the right reason.
#[test]
fn without_mischief() {
    let rows = good_rows();
    let column = |sink: &str, column: &str, parallelism| {
        let run = hostile("", &rows).set(&format!("sinks.{sink}.connector"), "stdout").parallelism(parallelism);
        let (lines, _) = run.finish();
        let mut values: Vec<_> = lines.iter().map(|line| line[column].as_i64().expect("a number")).collect();
        values.sort_unstable();
        values
    };
    for parallelism in [1, 2] {
        assert_eq!(column("out", "number", parallelism), [0, 10, 20, 30, 40, 50, 60, 70]);
        assert_eq!(column("counts", "count", parallelism), [1; 8]);
        assert_eq!(column("fired", "time", parallelism).len(), 8);
        assert_eq!(column("sums", "sum", parallelism), [0, 10, 20, 30, 40, 50, 60, 70]);
    }
}

const TRAP: &str = "the guest panicked or gave up (`unreachable`); it said: panicked at 'so it goes'";
const DEADLINE: &str = "the call ran for more than 500ms, its limit `limits.call_deadline`";
const MEMORY: &str = "wants more than its limit of 33554432";

/// Goal: a guest that ends itself, does not end, or takes all memory or stack fails its job only.
#[test]
fn resources() {
    // A guest's stack begins low in its memory and grows down, so that it ends where memory does.
    let overflow = "the guest crashed: out of bounds memory access";
    let failures = [in_rows("trap", TRAP), in_rows("loop", DEADLINE), in_rows("grow", MEMORY), in_rows("overflow", overflow)];
    check(&failures, &good_rows(), &[]);
}

/// Goal: buffers that are no columns are refused.
#[test]
fn broken_buffers() {
    let failures = [
        in_rows("buffers", "4 buffers instead of the 5 that the computed columns (`text`, `number`) have"),
        // One row alone is as long as it should be.
        in_call("short", "echo.process", "column `number`: the values has 8 bytes instead of 8 × 8"),
        in_rows("first-offset", "column `text`: the first offset is 1 instead of 0"),
        in_call("backwards", "echo.process", "column `text`: row 1 ends before it starts (offsets 6 and 0)"),
        in_rows("beyond", "column `text`: the last offset is 1048576, but there are 6 bytes"),
        in_rows("negative", "column `text`: row 0 ends before it starts (offsets 0 and -5)"),
        in_rows("utf8", "column `text`: row 0 is not valid UTF-8 (byte 3 of the column)"),
        in_rows("null", "column `number`: row 0 has no value, but the column is not nullable"),
        in_rows("big", "but there are 8388608 bytes"),
    ];
    check(&failures, &good_rows(), &[]);
    let letters = rows((0..8).map(|n| good_row(n).replace("text ", "")));
    check(&[in_call("cut", "echo.process", "column `text`: row 1 starts in the middle of a character")], &letters, &[]);
}

/// Goal: replies that do not fit the graph or the input are refused, whichever call they answer.
#[test]
fn broken_replies() {
    let failures = [
        in_rows("port", "output 9: there are only 1"),
        in_rows("rows", "2 rows come from 1 one by one"),
        in_rows("origins", "row 0 comes from row 1 of 1"),
        in_rows("origins-length", "the list of origins has 7 bytes instead of 1 × 4"),
        in_rows("times", "it has event times, but the chain does not compute any"),
        in_rows("progress", "it told its progress in event time, but the chain assigns no event times"),
        in_rows("timer", "it set a timer, but only `process` functions can"),
        in_rows("returned", "row 3 has no price"),
        Failure { at: "count.process", ..in_rows("timer", "it set a timer for slot 1000, but only 8 were assigned") },
        Failure { at: "count.process", ..in_rows("port", "output 9: there are only 2") },
        in_call("port", "count.timers-fired", "output 9: there are only 2"),
        in_call("timer", "count.timers-fired", "it set a timer for slot 1000, but only 8 were assigned"),
        in_call("passing-timers", "count.timers-fired", "output 0: its column `id` is passed on from a row of the input"),
        in_call("port", "sum.emit", "output 9: there are only 1"),
        in_call("buffers", "sum.emit", "1 buffers instead of the 2 that the computed columns (`sum`) have"),
        in_call("timer", "sum.emit", "it set a timer, but only `process` functions can"),
    ];
    check(&failures, &good_rows(), &[]);
}

/// Goal: a guest that goes wrong in a call without rows fails its job as well, and the error says in which.
#[test]
fn other_calls() {
    let failures = [
        in_call("trap", "count.assign-slots", TRAP),
        in_call("loop", "count.timers-fired", DEADLINE),
        in_call("grow", "count.timers-fired", MEMORY),
        in_call("returned", "count.timers-fired", "row 3 has no price"),
        in_call("returned", "sum.assign-slots", "row 3 has no price"),
        in_call("trap", "sum.emit", TRAP),
        in_call("loop", "sum.emit", DEADLINE),
        in_call("grow", "sum.emit", MEMORY),
        in_call("trap", "sum.clear-slots", TRAP),
    ];
    check(&failures, &good_rows(), &[]);
    // With two subtasks, windows are accumulated before the exchange, exported, and imported behind it. All rows have one key, so one
    // subtask gets them all.
    let same_key = rows((0..8).map(|n| good_row(n).replace(&format!("\"id\":{n}"), "\"id\":7")));
    let exchanged = [
        in_call("trap", "sum.export-slots", TRAP),
        in_call("states", "sum.export-slots", "the state of slot number 1 ends before it starts"),
        in_call("loop", "sum.import-slots", DEADLINE),
        in_call("returned", "sum.import-slots", "row 3 has no price"),
    ];
    check(&exchanged, &same_key, &[("parallelism", "2")]);
    // The last row brings two sessions together.
    let session = |n: u32, ms: u32| format!(r#"{{"id":7,"text":"","number":{n},"at":"2015-07-15T00:00:00.{ms:03}Z"}}"#);
    let sessions = rows([session(1, 100), session(2, 300), session(3, 200)]);
    let merged = [in_call("trap", "sum.merge-slots", TRAP), in_call("returned", "sum.merge-slots", "row 3 has no price")];
    check(&merged, &sessions, &[("args.gap", "150")]);
}

/// Goal: of the rows of a keyed function or a window, too, the one that the guest fails on is named.
#[test]
fn failing_row_of_a_key() {
    for at in ["echo.process", "count.process", "sum.accumulate"] {
        let record = Some(5);
        let failures = [
            Failure { mode: "trap", at, record, says: TRAP },
            Failure { mode: "loop", at, record, says: DEADLINE },
            Failure { mode: "grow", at, record, says: MEMORY },
            Failure { mode: "returned", at, record, says: "row 3 has no price" },
        ];
        check(&failures, &good_rows(), &[("args.number", "50")]);
    }
}

/// Goal: a guest that does not even open fails its job at the start.
#[test]
fn failing_to_open() {
    for (mode, says) in [("trap", TRAP), ("loop", DEADLINE), ("returned", "row 3 has no price")] {
        let error = hostile(mode, &good_rows()).set("args.at", "sum.open").failure();
        for part in ["cannot start operator \"sum\": `open` of chain 2 (`sum`): ", says] {
            assert!(error.contains(part), "{mode}: \"{part}\" is missing in: {error}");
        }
    }
}

/// Goal: a flood of log lines is cut off and counted; it neither fails the job nor fills the terminal.
#[test]
fn log_flood() {
    let output = hostile("flood", &good_rows()).output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.len() < 1 << 20, "{} bytes of log", stderr.len());
    assert!(stderr.contains("lines were dropped: the job's guests log too much"), "{stderr}");
}

/// Goal: the limit of the spec holds for running tasks: with nothing to spend, all that is said is how much was dropped.
#[test]
fn log_limit_of_the_spec() {
    let output = hostile("flood", &good_rows()).set("limits.log_bytes_per_second", 0).output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("lines were dropped") && stderr.lines().count() == 1, "{stderr}");
}

/// Goal: a component that cannot say what it is does not start, and its error is shown.
#[test]
fn broken_graphs() {
    let rows = good_rows();
    for (mode, says) in [
        ("describe-error", "`describe`: this job needs an argument"),
        ("describe-trap", "`describe`: the guest panicked or gave up (`unreachable`); it said: panicked at 'so it goes'"),
        ("endpoint", "chain 0 (`echo`): input 0: it reads source 7, which does not exist"),
    ] {
        let error = hostile(mode, &rows).failure();
        assert!(error.contains(says), "{mode}: {error}");
    }
}

/// Rows for the guest `picky`, of which these have a fault.
fn items(count: usize, faults: &[(usize, &str)]) -> Rows {
    rows((0..count).map(|id| {
        let fault = faults.iter().find(|(faulty, _)| *faulty == id).map_or("", |(_, fault)| fault);
        format!(r#"{{"id":{id},"fault":"{fault}"}}"#)
    }))
}

fn picky(rows: &Rows) -> Run {
    Run::new("tests/guests/picky/job.toml").set("sources.items.path", rows.path.display()).set("limits.call_deadline", "500ms")
}

/// Goal: the error of a failed job names the one row out of thousands on which the guest failed.
#[test]
fn failing_row_is_found() {
    for (fault, named) in [("error", "not to my taste"), ("panic", "more than I can take"), ("loop", DEADLINE)] {
        let error = picky(&items(3000, &[(2345, fault)])).set("batch.rows", 1000).failure();
        let place = format!("operator \"taste\" failed on batch 3, record 345 {{id: 2345, fault: \"{fault}\"}}: ");
        for part in [place.as_str(), named] {
            assert!(error.contains(part), "{fault}: \"{part}\" is missing in: {error}");
        }
    }
}

/// Goal: with `on_error = "skip"` exactly the rows on which the guest fails are missing in the result, and they are counted.
#[test]
fn failing_rows_are_skipped() {
    let faults = [(0, "error"), (7, "panic"), (8, "panic"), (500, "error"), (1999, "panic")];
    let rows = items(2000, &faults);
    for parallelism in [1, 2] {
        let run = picky(&rows).set("on_error", "skip").parallelism(parallelism);
        let (lines, summary) = run.finish();
        assert_eq!(summary["skipped_records"], faults.len());
        let mut ids: Vec<_> = lines.iter().map(|line| line["id"].as_u64().expect("a number") as usize).collect();
        ids.sort_unstable();
        let expected: Vec<_> = (0..2000).filter(|id| !faults.iter().any(|(faulty, _)| faulty == id)).collect();
        assert_eq!(ids, expected);
    }
}
