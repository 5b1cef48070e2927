//! The example `flights`, compared row by row with a computation in Python that knows nothing of Weir; and what
//! becomes of lines that cannot be read.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::run::{Run, root};

fn data() -> PathBuf {
    root().join("examples/flights/data/flights-2013-01.csv.gz")
}

/// A carrier's day, as values that can be compared whatever the number format.
type Row = (String, String, u64, u64, Option<f64>, Option<f64>, Option<u64>);

fn rows(lines: &[Value]) -> Vec<Row> {
    let mut rows: Vec<_> = lines
        .iter()
        .map(|line| {
            let day = line["window_start"].as_str().expect("a window has a start");
            (
                line["carrier"].as_str().expect("a carrier").to_owned(),
                day.trim_end_matches('Z').trim_end_matches(".000").to_owned(),
                line["flights"].as_u64().expect("a count"),
                line["cancelled"].as_u64().expect("a count"),
                line["mean_dep_delay"].as_f64(),
                line["max_dep_delay"].as_f64(),
                line["worst_flight"].as_u64(),
            )
        })
        .collect();
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    rows
}

fn expected(file: &Path) -> Vec<Row> {
    let output = Command::new("python3")
        .arg(root().join("tests/it/flights_expected.py"))
        .arg(file)
        .output()
        .expect("python3 can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("the script prints text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("the script prints JSON"))
        .collect();
    rows(&lines)
}

fn check(run: Run, expected: &[Row]) -> Value {
    let (lines, summary) = run.set("sinks.delays.format", "jsonl").finish();
    let rows = rows(&lines);
    assert_eq!(rows.len(), expected.len(), "number of rows");
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(row, expected);
    }
    summary
}

/// Goal: the job gives the rows of the independent computation, at any parallelism and batch size.
#[test]
fn agrees_with_python() {
    let expected = expected(&data());
    let job = || Run::new("examples/flights/job.toml");
    for parallelism in [1, 2] {
        let summary = check(job().parallelism(parallelism), &expected);
        assert_eq!(summary["late_records"], 0, "no flight is later than the watermark allows");
    }
    check(job().parallelism(2).set("batch.rows", 100), &expected);
    check(job().set("chaining", false), &expected);
}

/// Goal: the table is for readers: a header, and a line for each row.
#[test]
fn table() {
    let output = Run::new("examples/flights/job.toml").output();
    let stdout = String::from_utf8(output.stdout).expect("a table is text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let header = stdout.lines().find(|line| line.contains("carrier")).expect("the table has a header");
    for column in ["window_start", "flights", "cancelled", "mean_dep_delay", "max_dep_delay", "worst_flight"] {
        assert!(header.contains(column), "{header}");
    }
    assert!(stdout.lines().count() >= expected(&data()).len(), "{stdout}");
}

/// The first 2,000 flights with three lines in between that cannot be read, and the flights alone.
struct Damaged {
    _dir: tempfile::TempDir,
    csv: PathBuf,
    good: PathBuf,
    rejects: PathBuf,
}

/// Line numbers of the bad lines; the header is line 1.
const BAD: [usize; 3] = [2, 1000, 1001];

fn damaged() -> Damaged {
    let mut text = String::new();
    let file = fs::File::open(data()).expect("the data is part of the checkout");
    GzDecoder::new(file).read_to_string(&mut text).expect("the data can be unpacked");
    let mut good = String::new();
    let mut damaged = String::new();
    let mut number = 0;
    for line in text.lines().take(2001) {
        number += 1;
        while BAD.contains(&number) {
            let bad = match number {
                2 => "2013,1,1,noon,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z",
                1000 => "no,flight",
                _ => "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,yesterday",
            };
            writeln!(damaged, "{bad}").expect("a string takes all");
            number += 1;
        }
        writeln!(damaged, "{line}").expect("a string takes all");
        writeln!(good, "{line}").expect("a string takes all");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let csv = dir.path().join("flights.csv");
    fs::write(&csv, damaged).expect("the folder is ours");
    let packed = dir.path().join("good.csv.gz");
    let mut encoder = GzEncoder::new(fs::File::create(&packed).expect("the folder is ours"), flate2::Compression::fast());
    encoder.write_all(good.as_bytes()).expect("the folder is ours");
    encoder.finish().expect("the folder is ours");
    Damaged { csv, good: packed, rejects: dir.path().join("rejects.jsonl"), _dir: dir }
}

fn damaged_job(damaged: &Damaged) -> Run {
    Run::new("examples/flights/job.toml").set("sources.flights.path", damaged.csv.display())
}

/// Goal: a line that cannot be read fails the job, and the error says which, why, and what could be done.
#[test]
fn malformed_lines_fail_the_job() {
    let damaged = damaged();
    let error = damaged_job(&damaged).failure();
    for part in ["flights.csv", "line 2", "noon", "on_malformed"] {
        assert!(error.contains(part), "\"{part}\" is missing in: {error}");
    }
}

/// Goal: `skip` passes over such lines, counts them, and loses nothing else.
#[test]
fn malformed_lines_are_skipped() {
    let damaged = damaged();
    let expected = expected(&damaged.good);
    for parallelism in [1, 2] {
        let run = damaged_job(&damaged).set("sources.flights.on_malformed", "skip").parallelism(parallelism);
        let summary = check(run, &expected);
        assert_eq!(summary["malformed"], 3);
    }
}

/// Goal: `rejects` keeps such lines with their numbers and the reasons.
#[test]
fn malformed_lines_are_kept() {
    let damaged = damaged();
    let run = damaged_job(&damaged)
        .set("sources.flights.on_malformed", "rejects")
        .set("sources.flights.rejects_path", damaged.rejects.display());
    let summary = check(run, &expected(&damaged.good));
    assert_eq!(summary["malformed"], 3);
    let rejects: Vec<Value> = fs::read_to_string(&damaged.rejects)
        .expect("there is a file of rejects")
        .lines()
        .map(|line| serde_json::from_str(line).expect("rejects are JSON"))
        .collect();
    let mut lines: Vec<_> = rejects.iter().map(|reject| reject["line"].as_u64().expect("a line number")).collect();
    lines.sort_unstable();
    assert_eq!(lines, BAD.map(|line| line as u64));
    for reject in &rejects {
        assert!(reject["file"].as_str().is_some_and(|file| file.ends_with("flights.csv")), "{reject}");
        assert!(reject["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{reject}");
        assert!(reject["text"].as_str().is_some_and(|text| text.contains(',')), "{reject}");
    }
}

/// Goal: `dead-letter` sends such lines to the job's sink for dead letters, each once, with its line, its text and the reason; chained or not.
#[test]
fn malformed_lines_become_dead_letters() {
    let damaged = damaged();
    let lines: Vec<_> = fs::read_to_string(&damaged.csv).expect("it was just written").lines().map(str::to_owned).collect();
    for (parallelism, chaining) in [(1, true), (2, true), (2, false)] {
        let letters = damaged.csv.with_file_name("letters.jsonl");
        let run = damaged_job(&damaged)
            .set("sources.flights.on_malformed", "dead-letter")
            .set("dead_letters", "letters")
            .set("sinks.letters", format!("{{ connector = \"file\", path = \"{}\" }}", letters.display()))
            .set("chaining", chaining)
            .parallelism(parallelism);
        let summary = check(run, &expected(&damaged.good));
        assert_eq!((&summary["malformed"], &summary["dead_letters"]), (&3.into(), &3.into()));
        let letters = fs::read_to_string(&letters).expect("there are dead letters");
        let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).expect("letters are JSON")).collect();
        let mut positions: Vec<_> = letters.iter().map(|letter| letter["first_position"].as_u64().expect("a line")).collect();
        positions.sort_unstable();
        assert_eq!(positions, BAD.map(|line| line as u64));
        for letter in &letters {
            let line = letter["first_position"].as_u64().expect("a line") as usize;
            assert_eq!(letter["record"], lines[line - 1].as_str(), "{letter}");
            assert_eq!(letter["last_position"], letter["first_position"], "{letter}");
            assert_eq!((&letter["source"], &letter["error"]), (&"flights".into(), &"malformed".into()), "{letter}");
            assert!(letter["split"].as_str().is_some_and(|file| file.ends_with("flights.csv")), "{letter}");
            assert!(letter["message"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");
            assert!(letter.get("operator").is_none() && letter.get("backtrace").is_none(), "{letter}");
        }
    }
}

/// Goal: a job with a file that is not there fails, and the error names the file.
#[test]
fn missing_file() {
    let error = Run::new("examples/flights/job.toml").set("sources.flights.path", "data/no-such-file.csv").failure();
    assert!(error.contains("no-such-file.csv"), "{error}");
}
