//! The example `mixed` (Python, JavaScript and Rust in one job) and the guests in C and Go, compared with plain loops.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Run, root};

/// What the jobs read of a bid; event times in milliseconds.
struct Bid {
    auction: u64,
    price: u64,
    channel: String,
    date_time: i64,
}

/// Made-up bids: 100 a second, a little out of order, on six channels of which three have a name of their own.
fn make_bids(count: u64) -> Vec<Bid> {
    const CHANNELS: [&str; 6] = ["Google", "channel-7", "Apple", "channel-123", "Baidu", "channel-9"];
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..count)
        .map(|n| Bid {
            auction: 1000 + random() % 50,
            price: random() % 10_000_000,
            channel: CHANNELS[(random() % 6) as usize].to_owned(),
            date_time: 1_436_918_400_000 + (n * 10 + random() % 500) as i64,
        })
        .collect()
}

fn read_bids(file: &Path) -> Vec<Bid> {
    fs::read_to_string(file)
        .expect("the file is there")
        .lines()
        .map(|line| {
            let bid: Value = serde_json::from_str(line).expect("bids are JSON");
            let time: jiff::Timestamp = bid["date_time"].as_str().expect("a time").parse().expect("an RFC 3339 time");
            Bid {
                auction: bid["auction"].as_u64().expect("a number"),
                price: bid["price"].as_u64().expect("a number"),
                channel: bid["channel"].as_str().expect("text").to_owned(),
                date_time: time.as_millisecond(),
            }
        })
        .collect()
}

fn time(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).expect("times of this century")
}

/// Writes bids as JSON lines into a file of `dir`.
fn write_bids(dir: &tempfile::TempDir, bids: &[Bid]) -> PathBuf {
    let mut text = String::new();
    for Bid { auction, price, channel, date_time } in bids {
        let date_time = time(*date_time);
        let bid = serde_json::json!({"auction": auction, "price": price, "channel": channel, "date_time": date_time.to_string()});
        writeln!(text, "{bid}").expect("a string takes all");
    }
    let path = dir.path().join("bids.jsonl");
    fs::write(&path, text).expect("the folder is ours");
    path
}

/// What the example must give: for each window start (ms) and channel, the number of bids and their euros.
fn revenue(bids: &[Bid], least: u64) -> BTreeMap<(i64, String), (u64, u64)> {
    let mut windows = BTreeMap::new();
    for bid in bids {
        let euros = bid.price * 908 / 1000;
        if euros >= least && !bid.channel.starts_with("channel-") {
            let start = bid.date_time - bid.date_time.rem_euclid(10_000);
            let (count, sum) = windows.entry((start, bid.channel.clone())).or_insert((0, 0));
            *count += 1;
            *sum += euros;
        }
    }
    windows
}

fn check_revenue(run: Run, expected: &BTreeMap<(i64, String), (u64, u64)>) -> Value {
    let (lines, summary) = run.set("sinks.revenue.format", "jsonl").finish();
    let rows: BTreeMap<_, _> = lines
        .iter()
        .map(|line| {
            let start: jiff::Timestamp = line["window_start"].as_str().expect("a time").parse().expect("an RFC 3339 time");
            let channel = line["channel"].as_str().expect("text").to_owned();
            let (bids, euros) = (line["bids"].as_u64().expect("a number"), line["euros"].as_u64().expect("a number"));
            ((start.as_millisecond(), channel), (bids, euros))
        })
        .collect();
    assert_eq!(rows.len(), lines.len(), "a window and channel came twice");
    assert_eq!(&rows, expected);
    summary
}

/// Goal: the example, as it is checked in, gives what plain loops give, at any parallelism.
#[test]
fn three_languages() {
    let expected = revenue(&read_bids(&root().join("examples/mixed/data/bids.jsonl")), 1000);
    assert!(expected.len() > 10, "the data fills some windows");
    for parallelism in [1, 2] {
        check_revenue(Run::new("examples/mixed/job.toml").parallelism(parallelism), &expected);
    }
}

/// Goal: a guest whose memory grows from batch to batch (here that of a JavaScript engine) is replaced before it meets its limit, and
/// nothing is lost. That the limit would be met is shown by a run that has a higher one.
#[test]
fn a_growing_guest_is_replaced() {
    const LIMIT: u64 = 16 << 20;
    let bids = make_bids(200_000);
    let expected = revenue(&bids, 1000);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = write_bids(&dir, &bids);
    let run = |limit: u64| {
        let run = Run::new("examples/mixed/job.toml").set("sources.bids.path", path.display()).set("batch.rows", 50);
        let summary = check_revenue(run.set("limits.guest_memory", limit), &expected);
        assert_eq!(summary["late_records"], 0, "{summary}");
        let operators = summary["operators"].as_array().expect("operators");
        let number = |operator: &Value, name: &str| operator[name].as_u64().expect("a number");
        for operator in operators {
            assert!(number(operator, "guest_memory_bytes") <= limit, "{summary}");
        }
        let growing = operators.iter().find(|operator| operator["name"] == "worthwhile").expect("there is the filter");
        (number(growing, "guest_memory_bytes"), number(growing, "renewals"))
    };
    let (bytes, renewals) = run(1 << 30);
    assert!(
        bytes > LIMIT && renewals == 0,
        "one instance needs more than the limit for this: {bytes} bytes, {renewals} renewals"
    );
    let (bytes, renewals) = run(LIMIT);
    assert!(bytes <= LIMIT && renewals > 0, "{bytes} bytes, {renewals} renewals");
}

/// Runs the filter and map of a guest in C or Go over bids, and compares its rows with those of a plain loop. Returns the summary.
fn check_least(run: Run, bids: &[Bid]) -> Value {
    const LEAST: u64 = 5_000_000;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = write_bids(&dir, bids);
    let mut expected: Vec<String> = bids
        .iter()
        .filter(|bid| bid.price >= LEAST)
        .map(|bid| {
            format!("{} {} {} {} {}", bid.auction, bid.price, bid.channel.to_uppercase(), bid.date_time, bid.price * 908 / 1000)
        })
        .collect();
    expected.sort_unstable();
    let (lines, summary) = run.set("sources.bids.path", path.display()).set("args.least", LEAST).finish();
    let mut rows: Vec<String> = lines
        .iter()
        .map(|line| {
            let time: jiff::Timestamp = line["date_time"].as_str().expect("a time").parse().expect("an RFC 3339 time");
            let channel = line["channel"].as_str().expect("text");
            format!("{} {} {channel} {} {}", line["auction"], line["price"], time.as_millisecond(), line["euros"])
        })
        .collect();
    rows.sort_unstable();
    assert_eq!(rows.len(), expected.len());
    assert!(rows == expected, "the rows differ");
    summary
}

/// With batches of several sizes, by one subtask and by two.
fn check_guest(job: &str) {
    let bids = make_bids(20_000);
    for (parallelism, batch) in [(1, 4096), (2, 1000), (1, 7)] {
        check_least(Run::new(job).set("batch.rows", batch).parallelism(parallelism), &bids);
    }
}

/// Goal: a guest in C filters and maps: computed and passed columns, text and numbers, come out right.
#[test]
fn guest_in_c() {
    check_guest("tests/guests/c/job.toml");
}

/// Goal: so does a guest in Go.
#[test]
fn guest_in_go() {
    check_guest("tests/guests/go/job.toml");
}

/// Goal: Go's collector works in a guest: one instance gets on with 12 MiB, where these rows take 18 MiB if nothing is collected.
#[test]
fn a_guest_in_go_collects_garbage() {
    const LIMIT: u64 = 12 << 20;
    let run = Run::new("tests/guests/go/job.toml").set("batch.rows", 1000).set("limits.guest_memory", LIMIT);
    let summary = check_least(run, &make_bids(300_000));
    let operators = summary["operators"].as_array().expect("operators").iter();
    let guest = operators.max_by_key(|operator| operator["guest_memory_bytes"].as_u64()).expect("there is a guest");
    assert_eq!(guest["renewals"], 0, "{summary}");
    assert!((1..=LIMIT).contains(&guest["guest_memory_bytes"].as_u64().expect("a number")), "{summary}");
}
