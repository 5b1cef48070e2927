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

fn good_rows() -> Rows {
    rows((0..8).map(|n| format!(r#"{{"id":{n},"text":"text {n}","number":{}}}"#, n * 10)))
}

/// Checks that jobs of these modes fail, and that the error names the operator, the batch, and this.
fn check(cases: &[(&str, &str)]) {
    let rows = good_rows();
    let mut wrong = String::new();
    for (mode, named) in cases {
        let error = hostile(mode, &rows).failure();
        let operator = ["echo", "count"].iter().any(|id| error.contains(&format!("operator \"{id}\"")));
        if !operator || !error.contains("batch 1") || !error.contains(named) || error.contains("panicked at host") {
            writeln!(wrong, "{mode}: \"{named}\" or the place is missing in: {error}").expect("a string takes all");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Goal: the guest behaves if it is not told otherwise, so that the other tests fail for the right reason.
#[test]
fn without_mischief() {
    let (lines, _) = hostile("", &good_rows()).finish();
    assert_eq!(lines.len(), 8);
}

/// Goal: a guest that ends itself, does not end, or takes all memory or stack fails its job only.
#[test]
fn resources() {
    check(&[("trap", "so it goes"), ("loop", "deadline"), ("grow", "memory"), ("overflow", "stack")]);
}

/// Goal: buffers that are no columns are refused.
#[test]
fn broken_buffers() {
    check(&[
        ("buffers", "buffer"),
        ("short", "number"),
        ("first-offset", "text"),
        ("beyond", "text"),
        ("negative", "text"),
        ("utf8", "text"),
        ("null", "number"),
        ("rows", "row"),
    ]);
}

/// Goal: replies that do not fit the graph or the input are refused.
#[test]
fn broken_replies() {
    check(&[("port", "port"), ("origins", "row"), ("origins-length", "origin"), ("progress", ""), ("returned", "no price")]);
}

/// Goal: a flood of log lines is cut off and counted; it neither fails the job nor fills the terminal.
#[test]
fn log_flood() {
    let output = hostile("flood", &good_rows()).output();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.len() < 1 << 20, "{} bytes of log", stderr.len());
}

/// Goal: a component that cannot say what it is does not start, and its error is shown.
#[test]
fn broken_graphs() {
    let rows = good_rows();
    for (mode, named) in
        [("describe-error", "this job needs an argument"), ("describe-trap", "so it goes"), ("endpoint", "source")]
    {
        let error = hostile(mode, &rows).failure();
        assert!(error.contains(named), "{mode}: {error}");
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
    Run::new("tests/guests/picky/job.toml").set("sources.items.path", rows.path.display()).set("limits.call_deadline", "200ms")
}

/// Goal: the error of a failed job names the one row out of thousands on which the guest failed.
#[test]
fn failing_row_is_found() {
    for (fault, named) in [("error", "not to my taste"), ("panic", "more than I can take"), ("loop", "deadline")] {
        let error = picky(&items(3000, &[(2345, fault)])).set("batch.rows", 1000).failure();
        for part in ["taste", "batch 3", "record 345", "2345", named] {
            assert!(error.contains(part), "{fault}: \"{part}\" is missing in: {error}");
        }
    }
}

/// Goal: with `on_error = "skip"` exactly the rows on which the guest fails are missing in the result, and they are counted.
#[test]
fn failing_rows_are_skipped() {
    let faults = [(0, "error"), (7, "panic"), (8, "panic"), (500, "error"), (1999, "panic")];
    for parallelism in [1, 2] {
        let run = picky(&items(2000, &faults)).set("on_error", "skip").parallelism(parallelism);
        let (lines, _) = run.finish();
        let mut ids: Vec<_> = lines.iter().map(|line| line["id"].as_u64().expect("a number") as usize).collect();
        ids.sort_unstable();
        let expected: Vec<_> = (0..2000).filter(|id| !faults.iter().any(|(faulty, _)| faulty == id)).collect();
        assert_eq!(ids, expected);
    }
}
