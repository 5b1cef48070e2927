//! Files in and out: each format and compression is written by one job and read by the next, and rows arrive unchanged.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::{Run, root};
use crate::server::Server;

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

/// A job with a source and four sinks, some of which these settings bind to files.
fn many_sinks(settings: &[(&str, String)]) -> Run {
    settings.iter().fold(Run::new("tests/it/hostile.toml"), |run, (path, value)| run.set(path, value))
}

/// Goal: two options that name one file to write to, or one that names a file that is read, are refused whatever the spelling, with both options and
/// the path; and nothing is lost by it.
#[test]
fn files_that_would_be_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let row = "{\"id\":7,\"text\":\"\",\"number\":1,\"at\":\"2015-07-15T00:00:00Z\"}\n";
    fs::create_dir(path("in")).unwrap();
    fs::write(path("in/rows.jsonl"), row).unwrap();
    fs::hard_link(path("in/rows.jsonl"), path("other-name.jsonl")).unwrap();
    std::os::unix::fs::symlink("in", path("link")).unwrap();

    let file = |key, name: &str| (key, format!("{{ connector = \"file\", format = \"jsonl\", path = \"{}\" }}", path(name)));
    let folder = |key, name: &str| (key, format!("{{ connector = \"file\", format = \"jsonl\", folder = \"{}\" }}", path(name)));
    let (counts, sums) = ("sinks.counts", "sinks.sums");
    let on_malformed = || ("sources.in.on_malformed", "rejects".to_owned());
    let rejects = |name: &str| ("sources.in.rejects_path", path(name));
    for (settings, says, shown) in [
        (
            vec![file(counts, "a.jsonl"), file(sums, "in/../a.jsonl")],
            "counts.path and sinks.sums.path would both write to",
            "in/../a.jsonl",
        ),
        (
            vec![file(counts, "in/new/a"), file(sums, "link/new/a")],
            "counts.path and sinks.sums.path would both write to",
            "link/new/a",
        ),
        (
            vec![on_malformed(), rejects("a.jsonl"), file(sums, "a.jsonl")],
            "sources.in.rejects_path and sinks.sums.path would both write to",
            "a.jsonl",
        ),
        (vec![on_malformed(), rejects("in/rows.jsonl")], "sources.in.rejects_path would overwrite", "in/rows.jsonl"),
        (vec![file(sums, "in/rows.jsonl")], "sinks.sums.path would overwrite", "in/rows.jsonl"),
        (vec![file(sums, "link/rows.jsonl")], "sinks.sums.path would overwrite", "link/rows.jsonl"),
        (vec![file(sums, "other-name.jsonl")], "sinks.sums.path would overwrite", "other-name.jsonl"),
    ] {
        let says = format!("{says} {}", path(shown));
        for read in ["in/rows.jsonl", "in/*"] {
            let told = many_sinks(&settings).set("sources.in.path", path(read)).failure();
            assert!(told.contains(&says), "{says}: {told}");
            assert!(!says.contains("overwrite") || told.contains(", which sources.in.path reads"), "{told}");
        }
        assert_eq!(fs::read_to_string(path("in/rows.jsonl")).unwrap(), row);
        for made in ["a.jsonl", "in/new"] {
            assert!(!Path::new(&path(made)).exists(), "{made} is there");
        }
    }

    // Neither new files beside those that are read do harm, nor parts of two sinks in one folder, nor what keeps nothing.
    let null = || "{ connector = \"file\", format = \"jsonl\", path = \"/dev/null\" }".to_owned();
    let settings = [folder(sums, "in"), folder("sinks.fired", "in"), (counts, null())];
    many_sinks(&settings).set("sources.in.path", path("in/*.jsonl")).finish();
    let written: String = crate::recovery::published(Path::new(&path("in"))).concat();
    assert!(written.contains("{\"sum\":1}"), "{written}");
}

/// Goal: the same of a job on a server, which has failed then.
#[tokio::test]
async fn files_that_would_be_overwritten_on_a_server() {
    let server = Server::start(1);
    let row = "{\"id\":1,\"fault\":\"\"}\n";
    server.put_file("items.jsonl", row);
    let client = server.client();
    let component = client.upload(fs::read(root().join("tests/guests/picky/picky.wasm")).unwrap()).await.unwrap().id;
    let spec = json!({
        "component": component,
        "sources": { "items": { "connector": "file", "path": "*.jsonl" } },
        "sinks": { "out": { "connector": "file", "path": "./items.jsonl" } },
    });
    let id = client.submit(&spec).await.unwrap().id;
    let job = loop {
        let job = client.job(&id).await.unwrap().job;
        if job.is_ended() {
            break job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(job.state, "failed");
    let message = job.failure.expect("a failed job says why").message;
    assert!(message.contains("sinks.out.path would overwrite ./items.jsonl, which sources.items.path reads"), "{message}");
    assert_eq!(fs::read_to_string(server.data().join("files/default/items.jsonl")).unwrap(), row);
}
