//! Files in and out: each format and compression is written by one job and read by the next, and rows arrive unchanged.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::run::Run;

/// A job whose guest (in C) keeps every bid and makes the channel upper case; what is upper case already stays as it is.
fn copy(from: &Path, to: &Path, settings: &[(&str, &str)]) -> Value {
    let mut run = Run::new("tests/guests/c/job.toml")
        .set("sources.bids.path", from.display())
        .set("sinks.out.connector", "file")
        .set("sinks.out.path", to.display());
    for (path, value) in settings {
        run = run.set(path, value);
    }
    run.finish().1
}

/// Rows with what is hard for text formats: quotes, separators, line ends, letters beyond ASCII, and large numbers.
fn rows() -> Vec<Value> {
    let channels =
        ["", "PLAIN", "A \"QUOTED\" ONE", "WITH, A COMMA", "TWO\nLINES\r\n", "TAB\tAND \\ BACKSLASH", "ÄÖÜ 中文 🦀", "\u{1}"];
    (0..1000_u64)
        .map(|n| {
            json!({
                "auction": u64::MAX - n,
                "price": n * 1_000_003,
                "channel": channels[(n % 8) as usize],
                "date_time": format!("2015-07-15T00:00:{:02}.{:03}Z", n / 17 % 60, n),
            })
        })
        .collect()
}

fn write_lines(path: &Path, rows: &[Value]) {
    let mut text = String::new();
    for row in rows {
        writeln!(text, "{row}").expect("a string takes all");
    }
    fs::write(path, text).expect("the folder is ours");
}

/// The rows of a file of JSON lines, as comparable text in order.
fn read_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut rows: Vec<_> = text
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("the sink writes JSON");
            let time: jiff::Timestamp = row["date_time"].as_str().expect("a time").parse().expect("an RFC 3339 time");
            format!("{} {} {:?} {}", row["auction"], row["price"], row["channel"].as_str(), time.as_millisecond())
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// Goal: JSON lines to each format, and back, give the same rows, packed or not, with one writer or two.
#[test]
fn formats_round_trip() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let first = dir.path().join("first.jsonl");
    write_lines(&first, &rows());
    let expected = read_lines(&first);
    for (number, name) in
        ["a.jsonl", "b.csv", "c.parquet", "d.jsonl.gz", "e.csv.gz", "f.jsonl.zst", "g.csv.zst"].into_iter().enumerate()
    {
        for parallelism in ["1", "2"] {
            let there = dir.path().join(format!("{parallelism}-{name}"));
            let back = dir.path().join(format!("{parallelism}-{number}.jsonl"));
            let format = name.split('.').nth(1).expect("the name has an extension");
            copy(&first, &there, &[("sinks.out.format", format), ("parallelism", parallelism)]);
            let summary = copy(
                &there,
                &back,
                &[("sources.bids.format", format), ("sinks.out.format", "jsonl"), ("parallelism", parallelism)],
            );
            assert_eq!(summary["malformed"], 0, "{name}");
            assert_eq!(summary["rows_out"], expected.len(), "{name}");
            assert!(read_lines(&back) == expected, "{name}: rows differ");
        }
    }
}

/// Goal: a pattern reads all its files, each as a split, at any parallelism.
#[test]
fn pattern_reads_all_files() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let rows = rows();
    for (number, part) in rows.chunks(150).enumerate() {
        write_lines(&dir.path().join(format!("part-{number}.jsonl")), part);
    }
    let whole = dir.path().join("whole.jsonl");
    write_lines(&whole, &rows);
    let expected = read_lines(&whole);
    for parallelism in ["1", "2", "3"] {
        let out = dir.path().join(format!("out-{parallelism}.jsonl"));
        copy(
            &dir.path().join("part-*.jsonl"),
            &out,
            &[("sources.bids.format", "jsonl"), ("sinks.out.format", "jsonl"), ("parallelism", parallelism)],
        );
        assert!(read_lines(&out) == expected, "parallelism {parallelism}: rows differ");
    }
}

/// Goal: an option that a connector does not know is an error that names it.
#[test]
fn unknown_option() {
    let error = Run::new("tests/guests/c/job.toml").set("sources.bids.pathh", "x").failure();
    assert!(error.contains("pathh"), "{error}");
}
