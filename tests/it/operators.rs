//! Every operator of the SDK, through WebAssembly and the built command, compared with plain loops: at parallelism 1 and 2, with chains as
//! the planner makes them and each operator by itself.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display, Write as _};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::run::{Live, Run};

/// A row of either source; its event time in milliseconds.
#[derive(Clone, Debug)]
struct Row {
    id: u64,
    key: &'static str,
    number: i64,
    at: i64,
}

/// 2015-07-15T00:00:00Z
const BASE_MS: i64 = 1_436_918_400_000;
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Made-up rows of five keys, one every 37 ms, of which none is 100 ms late.
fn rows(seed: u64, count: u64) -> Vec<Row> {
    let mut state = seed;
    (0..count)
        .map(|id| Row {
            id: seed * 100_000 + id,
            key: KEYS[(random(&mut state) % 5) as usize],
            number: (random(&mut state) % 100) as i64 - 50,
            at: BASE_MS + (id * 37 + random(&mut state) % 100) as i64,
        })
        .collect()
}

/// The same, but now and then a row is seconds late, and now and then one comes at a multiple of 500 ms.
fn untidy_rows(seed: u64, count: u64) -> Vec<Row> {
    let mut rows = rows(seed, count);
    for (i, row) in rows.iter_mut().enumerate() {
        match i % 7 {
            3 => row.at -= row.at % 3000,
            5 => row.at -= row.at % 500,
            _ => {}
        }
    }
    rows
}

fn to_lines(rows: &[Row]) -> String {
    let mut text = String::new();
    for Row { id, key, number, at } in rows {
        let at = jiff::Timestamp::from_millisecond(*at).expect("times of this century");
        writeln!(text, r#"{{"id":{id},"key":"{key}","number":{number},"at":"{at}"}}"#).expect("a string takes all");
    }
    text
}

fn window_start(at: i64, size: i64, offset: i64) -> i64 {
    at - (at - offset).rem_euclid(size)
}

/// A job, and what it reads.
struct Job<'a> {
    name: &'a str,
    rows: &'a [Row],
    /// in how many files, and so splits, the rows of `in` are
    files: usize,
    /// the rows of the source `other`, if it reads one
    other: Option<&'a [Row]>,
    /// whether it writes to the sink `side`
    side: bool,
    settings: &'a [(&'a str, &'a str)],
}

/// A job that reads one source of three files and writes to one sink.
fn job<'a>(name: &'a str, rows: &'a [Row]) -> Job<'a> {
    Job { name, rows, files: 3, other: None, side: false, settings: &[] }
}

/// A job whose result depends on the order of its rows, or on when the watermark comes: it reads one file, row by row. With parallelism 1
/// the watermark comes behind each row; behind an exchange it may come later, since rows are held back a little there.
fn ordered<'a>(name: &'a str, rows: &'a [Row]) -> Job<'a> {
    Job { files: 1, settings: &[("batch.rows", "1")], ..job(name, rows) }
}

/// What a job has written.
struct Written {
    out: Vec<String>,
    side: Vec<String>,
    summary: Value,
}

fn texts<'a>(lines: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut texts: Vec<_> = lines.into_iter().map(|line| line["text"].as_str().expect("a text").to_owned()).collect();
    texts.sort_unstable();
    texts
}

fn sorted<T: Display>(lines: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut texts: Vec<_> = lines.into_iter().map(|line| line.to_string()).collect();
    texts.sort_unstable();
    texts
}

impl Job<'_> {
    fn run(&self, parallelism: u16, chaining: bool) -> Written {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let put = |name: String, rows: &[Row]| {
            fs::write(dir.path().join(name), to_lines(rows)).expect("the folder is ours");
        };
        for (file, rows) in self.rows.chunks(self.rows.len().div_ceil(self.files)).enumerate() {
            put(format!("in-{file}.jsonl"), rows);
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut run = Run::new("tests/guests/operators/job.toml")
            .set("args.job", self.name)
            .set("sources.in.path", path("in-*.jsonl"))
            .set("chaining", chaining)
            .parallelism(parallelism);
        if let Some(other) = self.other {
            put("other.jsonl".to_owned(), other);
            run = run.set("sources.other.connector", "file").set("sources.other.path", path("other.jsonl"));
        }
        let side: PathBuf = dir.path().join("side.jsonl");
        if self.side {
            run = run.set("sinks.side.connector", "file").set("sinks.side.path", side.display());
        }
        for (path, value) in self.settings {
            run = run.set(path, value);
        }
        let (lines, summary) = run.finish();
        let side = if self.side { fs::read_to_string(side).expect("the sink has made a file") } else { String::new() };
        let side: Vec<Value> = side.lines().map(|line| serde_json::from_str(line).expect("the sink writes JSON")).collect();
        Written { out: texts(&lines), side: texts(&side), summary }
    }

    /// Runs the job in every way; `look` gets the parallelism and what was written.
    fn each(&self, look: impl Fn(u16, &Written)) {
        for (parallelism, chaining) in [(1, true), (2, true), (1, false), (2, false)] {
            let written = self.run(parallelism, chaining);
            look(parallelism, &written);
        }
    }

    /// Checks what comes out; returns what the last run has written.
    fn check<T: Display>(&self, expected: impl IntoIterator<Item = T>) {
        let expected = sorted(expected);
        assert!(!expected.is_empty(), "{}: nothing is expected", self.name);
        self.each(|parallelism, written| same(&written.out, &expected, &(self.name, parallelism)));
    }
}

/// Compares sorted lines; of a difference, says the first few.
fn same(actual: &[String], expected: &[String], what: &dyn Debug) {
    if actual == expected {
        return;
    }
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        let mut rest = b.to_vec();
        let mut missing = vec![];
        for line in a {
            match rest.iter().position(|other| other == line) {
                Some(at) => drop(rest.swap_remove(at)),
                None => missing.push(line.clone()),
            }
        }
        missing.truncate(8);
        missing
    };
    panic!(
        "{what:?}: {} lines instead of {}; too much: {:?}; missing: {:?}",
        actual.len(),
        expected.len(),
        only(actual, expected),
        only(expected, actual)
    );
}

/// Rows by key and the start of each window that they belong to: windows of `size`, one every `slide`.
fn windows(rows: &[Row], size: i64, slide: i64, offset: i64) -> BTreeMap<(&'static str, i64), Vec<&Row>> {
    let mut windows: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let last = window_start(row.at, slide, offset);
        (0..size / slide).for_each(|i| windows.entry((row.key, last - i * slide)).or_default().push(row));
    }
    windows
}

fn by_key(rows: &[Row]) -> BTreeMap<&'static str, Vec<&Row>> {
    let mut keys: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| keys.entry(row.key).or_default().push(row));
    keys
}

/// Sessions: the rows of a key, as long as there are less than `gap` between them. In the order of event time.
fn sessions(rows: &[Row], gap: i64) -> Vec<Vec<&Row>> {
    let mut all = vec![];
    for mut of_key in by_key(rows).into_values() {
        of_key.sort_by_key(|row| row.at);
        all.extend(of_key.chunk_by(|a, b| b.at - a.at < gap).map(<[&Row]>::to_vec));
    }
    all
}

/// Goal: map, filter, flat_map, inspect and try_map.
#[test]
fn closures() {
    let rows = rows(1, 500);
    let copies = |row: &Row| (0..row.number % 3).map(|copy| format!("{} {copy}", row.id)).collect::<Vec<_>>();
    job("closures", &rows).check(rows.iter().filter(|row| row.number > 0).flat_map(copies));
}

/// Goal: rows are parted between the main output and a side output.
#[test]
fn divert() {
    let rows = rows(1, 300);
    let (even, odd): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.number % 2 == 0);
    Job { side: true, ..job("divert", &rows) }.each(|_, written| {
        same(&written.out, &sorted(even.iter().map(|row| format!("even {}", row.id))), &"even");
        same(&written.side, &sorted(odd.iter().map(|row| format!("odd {}", row.id))), &"odd");
    });
}

/// Goal: two streams, both with operators of their own, are mixed.
#[test]
fn union() {
    let (rows, other) = (rows(1, 300), rows(2, 200));
    let left = rows.iter().filter(|row| row.number > 0).map(|row| format!("{} {}", row.id, row.number));
    let right = other.iter().map(|row| format!("{} {}", row.id, -1 - row.number));
    Job { other: Some(&other), ..job("union", &rows) }.check(left.chain(right));
}

/// Goal: a stream is used several times, and a sink takes several streams.
#[test]
fn tee() {
    let rows = rows(1, 300);
    let named = |name: &'static str| rows.iter().filter(|row| row.number > 0).map(move |row| format!("{name} {}", row.id));
    Job { side: true, ..job("tee", &rows) }.each(|_, written| {
        same(&written.out, &sorted(named("a").chain(named("b"))), &"out");
        same(&written.side, &sorted(named("c")), &"side");
    });
}

/// Goal: a record with fewer columns, in another order.
#[test]
fn select() {
    let rows = rows(1, 300);
    job("select", &rows).check(rows.iter().filter(|row| row.number > 0).map(|row| format!("{} {}", row.key, row.id)));
}

/// The operator of this name in a summary.
fn operator<'a>(written: &'a Written, name: &str) -> &'a Value {
    let mut operators = written.summary["operators"].as_array().expect("operators").iter();
    let is_named = |o: &&Value| o["name"].as_str().is_some_and(|n| n.split(" → ").any(|part| part == name));
    operators.find(is_named).unwrap_or_else(|| panic!("no operator {name} in {}", written.summary))
}

/// Goal: rebalanced rows come out once, broadcast ones once for each subtask behind.
#[test]
fn rebalance_and_broadcast() {
    let rows = rows(1, 300);
    job("rebalance", &rows).check(rows.iter().map(|row| row.id));
    job("broadcast", &rows).each(|parallelism, written| {
        let copies = rows.iter().flat_map(|row| std::iter::repeat_n(row.id, parallelism.into()));
        same(&written.out, &sorted(copies), &parallelism);
    });
}

/// Goal: chains are broken where the job says so, and operators bear the names that it gives them.
#[test]
fn break_chain() {
    let rows = rows(1, 300);
    let ids = sorted(rows.iter().map(|row| row.id));
    job("break-chain", &rows).each(|_, written| {
        same(&written.out, &ids, &"ids");
        let (before, behind) = (operator(written, "bare"), operator(written, "lines"));
        assert_eq!(operator(written, "ids")["name"], before["name"], "these two are one chain");
        assert_ne!(before["name"], behind["name"], "the chain is broken here");
    });
}

/// Goal: an operator runs with the parallelism that the job gives it.
#[test]
fn parallelism() {
    let rows = rows(1, 300);
    let ids = sorted(rows.iter().map(|row| row.id));
    job("parallelism", &rows).each(|_, written| {
        same(&written.out, &ids, &"ids");
        assert_eq!(operator(written, "wide")["parallelism"], 3, "{}", written.summary);
    });
}

/// Goal: the watermark is what the job's own generator says, here of marks in the rows; what is too late for it is counted and dropped.
#[test]
fn generated_watermarks() {
    let rows = untidy_rows(1, 400);
    let (mut counts, mut late) = (BTreeMap::new(), 0);
    let mut watermark = i64::MIN;
    for row in &rows {
        let start = window_start(row.at, 1000, 0);
        if start + 999 <= watermark {
            late += 1;
        } else {
            *counts.entry((row.key, start)).or_insert(0) += 1;
        }
        if row.number % 10 == 0 {
            watermark = watermark.max(row.at);
        }
    }
    assert!(late > 10, "there are late rows: {late}");
    let expected = sorted(counts.iter().map(|((key, start), count)| format!("{key} {start} {count}")));
    ordered("generated-watermarks", &rows).each(|parallelism, written| {
        let dropped = written.summary["late_records"].as_u64().expect("a number");
        if parallelism == 1 {
            same(&written.out, &expected, &parallelism);
            assert_eq!(dropped, late);
        }
        // What is not counted was too late, and no row that is not too late gets lost.
        let counted: u64 = written.out.iter().map(|line| split_number(line).1 as u64).sum();
        assert_eq!(counted + dropped, rows.len() as u64);
        assert!(dropped <= late, "{dropped} rows were dropped, {late} may be");
    });
}

/// A line's number, and what stands before it.
fn split_number(line: &str) -> (&str, i64) {
    let (rest, number) = line.rsplit_once(' ').expect("a line ends with a number");
    (rest, number.parse().expect("a number"))
}

/// For each key, its debug text and the running number of each of its rows.
fn numbered<K: Ord + Debug>(keys: impl IntoIterator<Item = K>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    keys.into_iter().for_each(|key| *counts.entry(key).or_insert(0) += 1);
    counts.iter().flat_map(|(key, &count)| (1..=count).map(move |n| format!("{key:?} {n}"))).collect()
}

/// Goal: keys that are computed, of one part and of several, and keys of several fields.
#[test]
fn keys() {
    let rows = rows(1, 400);
    job("computed-key", &rows).check(numbered(rows.iter().map(|row| row.number.rem_euclid(3))));
    let positive = rows.iter().filter(|row| row.number > 0);
    job("computed-keys", &rows).check(numbered(positive.map(|row| (row.number % 2 == 0, row.key))));
    job("several-fields", &rows).check(numbered(rows.iter().map(|row| (row.key, row.number))));
}

/// Goal: a running reduction, and a keyed function with a side output, in the order of the rows.
#[test]
fn reduce_and_process() {
    let rows = rows(1, 300);
    let mut sums = BTreeMap::new();
    let running = rows.iter().map(|row| {
        let sum = sums.entry(row.key).or_insert(0);
        *sum += row.number;
        format!("{} {} {sum}", row.key, row.id)
    });
    ordered("reduce", &rows).check(running);

    let mut counts = BTreeMap::new();
    let (mut even, mut odd) = (vec![], vec![]);
    for row in &rows {
        let count = counts.entry(row.key).or_insert(0);
        *count += 1;
        if row.number % 2 == 0 { &mut even } else { &mut odd }.push(format!("{} {count} {}", row.key, row.id));
    }
    Job { side: true, ..ordered("process-side", &rows) }.each(|_, written| {
        same(&written.out, &sorted(&even), &"even");
        same(&written.side, &sorted(&odd), &"odd");
    });
}

/// Goal: value, list and map state, and event-time timers that are set, deleted and fired in the middle of the stream.
#[test]
fn state_and_event_timers() {
    #[derive(Default)]
    struct State {
        ends: Option<i64>,
        ids: Vec<u64>,
        thirds: BTreeMap<i64, u64>,
    }

    let rows = rows(3, 600);
    let mut states: BTreeMap<&str, State> = BTreeMap::new();
    let mut expected = vec![];
    let (mut greatest, mut fired_early) = (i64::MIN, 0);
    for row in rows.iter().map(Some).chain([None]) {
        let watermark = match row {
            Some(row) => {
                let state = states.entry(row.key).or_default();
                state.ids.push(row.id);
                *state.thirds.entry(row.number.rem_euclid(3)).or_default() += 1;
                state.ends = Some(row.at + 300);
                greatest = greatest.max(row.at);
                greatest - 101
            }
            None => i64::MAX,
        };
        for (key, state) in &mut states {
            if let Some(ends) = state.ends.filter(|&ends| ends <= watermark) {
                let State { ids, thirds, .. } = std::mem::take(state);
                expected.push(format!("{key} {ends} {ids:?} {thirds:?}"));
                fired_early += usize::from(watermark != i64::MAX);
            }
        }
    }
    assert!(fired_early > 20, "timers fire before the end: {fired_early}");
    let expected = sorted(expected);
    ordered("state", &rows).each(|parallelism, written| {
        if parallelism == 1 {
            same(&written.out, &expected, &parallelism);
        }
        // Whenever the timers fire, each row is collected once.
        let ids = |line: &String| -> Vec<u64> {
            let (_, list) = line.split_once('[').expect("a list");
            let (list, _) = list.split_once(']').expect("a list");
            list.split(", ").map(|id| id.parse().expect("a number")).collect()
        };
        let mut collected: Vec<_> = written.out.iter().flat_map(ids).collect();
        collected.sort_unstable();
        assert_eq!(collected, rows.iter().map(|row| row.id).collect::<Vec<_>>());
    });
}

/// Goal: two streams share the state and the timers of their keys; a broadcast stream reaches every subtask.
#[test]
fn two_inputs() {
    let (rows, other) = (rows(1, 300), rows(2, 200));
    let sum = |rows: &[Row], key: &str| rows.iter().filter(|row| row.key == key).map(|row| row.number).sum::<i64>();
    let both = |name| Job { other: Some(&other), ..job(name, &rows) };
    both("co-process").check(KEYS.map(|key| format!("{key} {} {}", sum(&rows, key), sum(&other, key))));

    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    rows.iter().chain(&other).for_each(|row| *counts.entry(row.key).or_default() += 1);
    both("co-process-closures").check(counts.iter().flat_map(|(key, &n)| (1..=n).map(move |n| format!("{key} {n}"))));

    let banned: Vec<Row> = other.iter().take(20).cloned().collect();
    let is_banned = |row: &&&Row| banned.iter().any(|b| b.number == row.number);
    let allowed = by_key(&rows).into_iter().map(|(key, rows)| {
        let count = rows.len() - rows.iter().filter(is_banned).count();
        format!("{key} {count}")
    });
    Job { other: Some(&banned), ..job("broadcast-process", &rows) }.check(allowed);
}

/// Goal: every built-in aggregate, and one of the job's own over windows with an offset.
#[test]
fn aggregates() {
    let rows = rows(1, 500);
    let expected = windows(&rows, 1000, 1000, 0).into_iter().map(|((key, start), rows)| {
        let numbers = || rows.iter().map(|row| row.number);
        let (count, sum) = (rows.len(), numbers().sum::<i64>());
        let (min, max) = (numbers().min().expect("rows"), numbers().max().expect("rows"));
        let (distinct, positive) = (numbers().collect::<BTreeSet<_>>().len(), numbers().filter(|n| *n > 0).count());
        let (first, last) = (rows[0].id, rows[count - 1].id);
        let avg = sum as f64 / count as f64;
        format!("{key} {start} {count} {sum} {min} {max} {avg:.3} {distinct} {first} {last} {positive}")
    });
    // First and last go by the order in which rows come.
    Job { files: 1, ..job("aggregates", &rows) }.check(expected);

    let spread = |rows: &[&Row]| {
        let numbers = || rows.iter().map(|row| row.number);
        numbers().max().expect("rows") - numbers().min().expect("rows")
    };
    let expected = windows(&rows, 1000, 1000, 250);
    job("own-aggregate", &rows).check(expected.iter().map(|((key, start), rows)| format!("{key} {start} {}", spread(rows))));
}

fn sum(rows: &[&Row]) -> i64 {
    rows.iter().map(|row| row.number).sum()
}

/// What the job `sliding` gives.
fn sliding_sums(rows: &[Row]) -> Vec<String> {
    windows(rows, 2000, 500, 0).iter().map(|((key, start), rows)| format!("{key} {start} {}", sum(rows))).collect()
}

/// What the job `session` gives.
fn session_sums(rows: &[Row]) -> Vec<String> {
    let text = |session: &Vec<&Row>| {
        let (first, last) = (session[0], session[session.len() - 1]);
        format!("{} {} {} {} {}", first.key, first.at, last.at + 300, session.len(), sum(session))
    };
    sessions(rows, 300).iter().map(text).collect()
}

/// Goal: sliding, session and global windows, and windows of all rows.
#[test]
fn assigners() {
    let rows = rows(1, 500);
    job("sliding", &rows).check(sliding_sums(&rows));
    job("session", &rows).check(session_sums(&rows));

    job("global", &rows).check(by_key(&rows).iter().map(|(key, rows)| format!("{key} {}", rows.len())));

    let mut seconds = BTreeMap::new();
    rows.iter().for_each(|row| *seconds.entry(window_start(row.at, 1000, 0)).or_insert(0) += 1);
    job("window-all", &rows).check(seconds.iter().map(|(start, count)| format!("{start} {count}")));
}

/// Goal: windows of so many rows; what does not fill one is not emitted.
#[test]
fn count_windows() {
    let rows = rows(1, 302);
    let expected = by_key(&rows)
        .into_iter()
        .flat_map(|(key, rows)| rows.chunks_exact(3).map(|rows| format!("{key} {}", sum(rows))).collect::<Vec<_>>());
    ordered("count-window", &rows).check(expected);
}

/// Goal: triggers by number of rows, with what came so far or (purging) with what came since.
#[test]
fn count_triggers() {
    let rows = rows(1, 400);
    let windows = windows(&rows, 1000, 1000, 0);
    let counts = || windows.iter().map(|((key, start), rows)| (format!("{key} {start}"), rows.len()));
    // Each second row emits, and the end of the window does if there is something to say.
    let accumulating = |(window, n): (String, usize)| {
        let early = (2..=n).step_by(2).map(|count| format!("{window} {count}"));
        early.chain([format!("{window} {n}")]).collect::<Vec<_>>()
    };
    ordered("every-count", &rows).check(counts().flat_map(accumulating));
    let purging = |(window, n): (String, usize)| {
        let early = std::iter::repeat_n(format!("{window} 2"), n / 2);
        early.chain((n % 2 == 1).then(|| format!("{window} 1"))).collect::<Vec<_>>()
    };
    ordered("purging", &rows).check(counts().flat_map(purging));
    let threes = by_key(&rows).into_iter().flat_map(|(key, rows)| (3..=rows.len()).step_by(3).map(move |n| format!("{key} {n}")));
    ordered("count-only", &rows).check(threes);
}

/// Goal: late rows within the allowed lateness make their window be emitted again; later ones go to the side output.
#[test]
fn lateness() {
    let rows = untidy_rows(1, 400);
    let (mut out, mut side) = (vec![], vec![]);
    let mut open: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    let (mut watermark, mut again) = (i64::MIN, 0);
    for row in &rows {
        let start = window_start(row.at, 1000, 0);
        if start + 999 + 500 <= watermark {
            side.push(format!("{} {} {}", row.id, row.key, row.number));
            continue;
        }
        let sum = open.entry((row.key, start)).or_default();
        *sum += row.number;
        if start + 999 <= watermark {
            out.push(format!("{} {start} {sum}", row.key));
            again += 1;
        }
        let advanced = watermark.max(row.at - 1);
        for ((key, start), sum) in &open {
            if (watermark + 1..=advanced).contains(&(start + 999)) {
                out.push(format!("{key} {start} {sum}"));
            }
        }
        watermark = advanced;
        open.retain(|(_, start), _| start + 999 + 500 > watermark);
    }
    out.extend(
        open.iter().filter(|((_, start), _)| start + 999 > watermark).map(|((key, start), sum)| format!("{key} {start} {sum}")),
    );
    assert!(again > 3 && side.len() > 10, "{again} rows are late, {} too late", side.len());
    let (out, side) = (sorted(out), sorted(side));
    Job { side: true, ..ordered("late", &rows) }.each(|parallelism, written| {
        if parallelism == 1 {
            same(&written.out, &out, &parallelism);
            same(&written.side, &side, &parallelism);
        }
        // What went to the side was too late, and all else is in the last result of its window.
        assert_eq!(written.summary["late_records"], written.side.len());
        assert!(written.side.iter().all(|line| side.contains(line)), "{:?}", written.side);
        let is_late = |row: &Row| written.side.contains(&format!("{} {} {}", row.id, row.key, row.number));
        let kept: Vec<Row> = rows.iter().filter(|row| !is_late(row)).cloned().collect();
        for ((key, start), rows) in windows(&kept, 1000, 1000, 0) {
            let sum: i64 = rows.iter().map(|row| row.number).sum();
            assert!(written.out.contains(&format!("{key} {start} {sum}")), "{key} {start} {sum}");
        }
    });
}

/// Goal: all rows of a window are handed to a closure, or reduced to one.
#[test]
fn rows_of_windows() {
    let rows = rows(1, 400);
    job("process-window", &rows).check(windows(&rows, 1000, 1000, 0).into_iter().map(|((key, start), rows)| {
        let mut ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        format!("{key} {start} {ids:?}")
    }));
    job("reduce-window", &rows).check(sessions(&rows, 300).into_iter().map(|session| {
        let best = session.iter().min_by_key(|row| (-row.number, row.id)).expect("rows");
        format!("{} {} {}", best.key, session[0].at, best.id)
    }));
}

/// Goal: the rows of two streams meet in windows; also where state is evicted, into memory and onto the disk.
#[test]
fn joins() {
    let (rows, other) = (rows(1, 300), rows(2, 200));
    let joined = rows.iter().flat_map(|left| {
        let meets = |right: &&Row| left.key == right.key && window_start(left.at, 1000, 0) == window_start(right.at, 1000, 0);
        other.iter().filter(meets).map(|right| format!("{} {} {}", left.key, left.id, right.id)).collect::<Vec<_>>()
    });
    let joined = sorted(joined);

    let mut counts: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    windows(&rows, 2000, 1000, 0).into_iter().for_each(|(window, rows)| counts.entry(window).or_default().0 = rows.len());
    windows(&other, 2000, 1000, 0).into_iter().for_each(|(window, rows)| counts.entry(window).or_default().1 = rows.len());
    let counts = sorted(counts.iter().map(|((key, start), (left, right))| format!("{key} {start} {left} {right}")));

    for (name, expected) in [("join", &joined), ("cogroup", &counts)] {
        for settings in [&[][..], &EVICTING, &EVICTING_TO_DISK] {
            Job { other: Some(&other), settings, ..job(name, &rows) }.each(|parallelism, written| {
                same(&written.out, expected, &(name, parallelism, settings));
                let evictions = operator(written, "joined")["evictions"].as_u64();
                assert_eq!(evictions > Some(0), !settings.is_empty(), "{}", written.summary);
            });
        }
    }
}

/// Goal: late rows of a window join go to the side, those of either stream, and all others are joined.
#[test]
fn late_rows_of_joins() {
    let (rows, other) = (untidy_rows(1, 3000), untidy_rows(2, 3000));
    let settings = [("batch.rows", "1")];
    let near = |left: &Row, right: &Row| (left.at - right.at).abs() <= 100;
    let same_window = |left: &Row, right: &Row| window_start(left.at, 1000, 0) == window_start(right.at, 1000, 0);
    type Meets = fn(&Row, &Row) -> bool;
    for (name, meets) in [("late-join", same_window as Meets), ("late-interval-join", near)] {
        let job = Job { files: 1, other: Some(&other), side: true, settings: &settings, ..job(name, &rows) };
        let (late_left, late_right) = (Cell::new(0), Cell::new(0));
        job.each(|parallelism, written| {
            // Which rows are late depends on which stream is ahead, but what is not late is joined.
            let kept = |rows: &[Row], side: &str| -> Vec<Row> {
                rows.iter().filter(|row| written.side.binary_search(&format!("{side} {}", row.id)).is_err()).cloned().collect()
            };
            let (left, right) = (kept(&rows, "left"), kept(&other, "right"));
            let late = (rows.len() - left.len(), other.len() - right.len());
            let all_late = late.0 + late.1;
            assert_eq!((written.side.len(), &written.summary["late_records"]), (all_late, &all_late.into()), "{name}");
            late_left.set(late_left.get() + late.0);
            late_right.set(late_right.get() + late.1);
            let joined = left.iter().flat_map(|l| {
                let meets = |r: &&Row| r.key == l.key && meets(l, r);
                right.iter().filter(meets).map(|r| format!("{} {} {}", l.key, l.id, r.id)).collect::<Vec<_>>()
            });
            same(&written.out, &sorted(joined), &(name, parallelism));
        });
        assert!(late_left.get() > 10 && late_right.get() > 10, "{name}: {late_left:?} and {late_right:?} rows are late");
    }
}

/// State may leave the guest all the time.
const EVICTING: [(&str, &str); 2] = [("state.slots_max", "1"), ("batch.rows", "16")];

/// The same, where what leaves goes to the disk.
const EVICTING_TO_DISK: [(&str, &str); 3] = [EVICTING[0], EVICTING[1], ("state.backend", "rocksdb")];

/// Goal: rows of two streams meet if their event times are near each other, and a pair has the later time; also where state is evicted.
#[test]
fn interval_join() {
    let (rows, other) = (rows(1, 300), rows(2, 250));
    let pairs = rows.iter().flat_map(|left| {
        let meets = |right: &&Row| left.key == right.key && (-200..100).contains(&(right.at - left.at));
        let start = |right: &Row| window_start(left.at.max(right.at), 1000, 0);
        let pair = |right: &Row| format!("{} {} {} {}", left.key, start(right), left.id, right.id);
        other.iter().filter(meets).map(pair).collect::<Vec<_>>()
    });
    let pairs: Vec<_> = pairs.collect();
    Job { other: Some(&other), ..job("interval-join", &rows) }.check(&pairs);
    let evicting = Job { other: Some(&other), settings: &EVICTING, ..job("interval-join", &rows) };
    let expected = sorted(&pairs);
    evicting.each(|parallelism, written| {
        same(&written.out, &expected, &parallelism);
        assert!(operator(written, "near")["evictions"].as_u64() > Some(0), "{}", written.summary);
    });
}

/// Goal: rows of two streams meet whenever they come, and an outer join takes back what it said of rows alone; also where state is evicted.
#[test]
fn regular_joins() {
    let (rows, other) = (rows(1, 300), rows(2, 250));
    let meet = |left: &Row, right: &Row| left.key == right.key && left.number == right.number;
    let pairs = |text: fn(&Row, &Row) -> String| -> Vec<String> {
        rows.iter().flat_map(|l| other.iter().filter(|r| meet(l, r)).map(|r| text(l, r)).collect::<Vec<_>>()).collect()
    };
    let inner = pairs(|left, right| format!("{} {} {}", left.key, left.id, right.id));
    let mut full = pairs(|left, right| format!("{} {}", left.id, right.id));
    full.extend(rows.iter().filter(|l| !other.iter().any(|r| meet(l, r))).map(|l| format!("{} -", l.id)));
    full.extend(other.iter().filter(|r| !rows.iter().any(|l| meet(l, r))).map(|r| format!("- {}", r.id)));
    let full = sorted(&full);
    for settings in [&[][..], &EVICTING] {
        Job { other: Some(&other), settings, ..job("regular-join", &rows) }.check(&inner);
        Job { other: Some(&other), settings, ..job("outer-join", &rows) }.each(|parallelism, written| {
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            for line in &written.out {
                *counts.entry(&line[1..]).or_default() += if line.starts_with('+') { 1 } else { -1 };
            }
            let there =
                counts.iter().flat_map(|(line, &count)| std::iter::repeat_n(line, count.try_into().expect("not negative")));
            same(&sorted(there), &full, &parallelism);
            let evictions = operator(written, "joined")["evictions"].as_u64();
            assert_eq!(evictions > Some(0), !settings.is_empty(), "{}", written.summary);
        });
    }
}

/// Goal: state with a time to live is seen until it has expired and not after that, also where it is evicted; and keys that are not heard of again are forgotten.
#[test]
fn expiring_state() {
    let rows = rows(1, 400);
    let mut states: BTreeMap<&str, (i64, u64, BTreeMap<i64, (i64, i64)>)> = BTreeMap::new();
    let expected: Vec<_> = rows
        .iter()
        .map(|row| {
            let (last, count, thirds) = states.entry(row.key).or_insert((i64::MIN, 0, BTreeMap::new()));
            *count = if row.at < last.saturating_add(300) { *count + 1 } else { 1 };
            *last = row.at.max(*last);
            let third = thirds.entry(row.number.rem_euclid(3)).or_insert((row.at, 0));
            *third = (third.0.max(row.at), row.number);
            let live: Vec<_> = thirds.iter().filter(|(_, (at, _))| row.at < at + 300).map(|(third, (_, n))| (third, n)).collect();
            format!("{} {} {count} {live:?}", row.key, row.id)
        })
        .collect();
    assert!(expected.iter().filter(|line| line.contains(" 1 [")).count() > 20, "state expires");
    for settings in [
        &[("batch.rows", "1")][..],
        &[("batch.rows", "16"), ("state.slots_max", "1")],
        &[("batch.rows", "4"), ("state.slots_max", "2"), ("state.backend", "rocksdb")],
    ] {
        Job { files: 1, settings, ..job("expiring", &rows) }.check(&expected);
    }

    let ids = sorted(rows.iter().map(|row| row.id));
    for settings in [&[("batch.rows", "4")][..], &[("batch.rows", "4"), ("state.slots_max", "90"), ("state.backend", "rocksdb")]]
    {
        Job { files: 1, settings, ..job("expiring-ids", &rows) }.each(|parallelism, written| {
            same(&written.out, &ids, &parallelism);
            let left = operator(written, "expiring")["slots"].as_u64().expect("a number");
            // Behind an exchange, the watermark may come at the end alone.
            assert!(left < 100 || parallelism > 1, "{left} of {} keys are left", rows.len());
        });
    }
}

/// Starts a job that reads rows from its standard input until that is closed.
fn live(name: &str, parallelism: u16, chaining: bool) -> Live {
    Run::new("tests/guests/operators/job.toml")
        .set("args.job", name)
        .set("sources.in", r#"{ connector = "stdin", format = "jsonl" }"#)
        .set("chaining", chaining)
        .parallelism(parallelism)
        .start()
}

/// Rows that a job has written.
fn live_texts(lines: &[String]) -> Vec<String> {
    texts(&lines.iter().map(|line| serde_json::from_str(line).expect("the sink writes JSON")).collect::<Vec<_>>())
}

/// Goal: state with a time to live in processing time is seen by rows of the same moment, and not once the time is over; then keys that are not heard of again
/// are forgotten, while the input pauses.
#[test]
fn expiring_by_the_clock() {
    let row = |key: &str| format!("{{\"id\":1,\"key\":\"{key}\",\"number\":1,\"at\":0}}\n");
    for chaining in [true, false] {
        let mut job = live("expiring-soon", 1, chaining);
        for _ in 0..2 {
            // What comes in one read has one time. It is a second or more before the next.
            job.write(&(row("a") + &row("a") + &row("b")));
            same(&live_texts(&job.lines(3)), &sorted(["a 1", "a 2", "b 1"]), &chaining);
            std::thread::sleep(Duration::from_secs(1));
        }
        job.write(&row("c"));
        assert_eq!(live_texts(&job.lines(1)), ["c 1"]);
        let summary = job.finish_with_summary();
        let left = operator(&Written { out: vec![], side: vec![], summary }, "expiring")["slots"].as_u64().expect("a number");
        assert!(left <= 1, "{left} keys are left: all but the last have expired");
    }
}

/// Goal: processing-time timers fire, and processing-time windows and early results are emitted, while the input pauses.
#[test]
fn processing_time() {
    let rows = rows(1, 20);
    for (parallelism, chaining) in [(1, true), (2, true), (2, false)] {
        // Each row sets a timer; all of them fire although no further row comes.
        let mut timers = live("processing-timers", parallelism, chaining);
        timers.write(&to_lines(&rows));
        let fired = live_texts(&timers.lines(rows.len()));
        same(&fired, &sorted(rows.iter().map(|row| format!("{} {}", row.id, row.number))), &parallelism);
        timers.finish();

        // However the rows fall into windows, each is counted once.
        let mut windows = live("processing-window", parallelism, chaining);
        windows.write(&to_lines(&rows[..10]));
        let count = |lines: &[String]| -> u64 {
            let texts = live_texts(lines);
            texts.iter().map(|text| split_number(text).1 as u64).sum()
        };
        let mut counted = 0;
        while counted < 10 {
            counted += count(&windows.lines(1));
        }
        windows.write(&to_lines(&rows[10..]));
        assert_eq!(counted + count(&windows.finish()), rows.len() as u64);
    }
}

/// Goal: early results come before the window's end, and the last result of each window is the whole one.
#[test]
fn early_results() {
    let rows = rows(1, 60);
    for (parallelism, chaining) in [(1, true), (2, true), (2, false)] {
        let mut job = live("early", parallelism, chaining);
        job.write(&to_lines(&rows[..1]));
        let start = window_start(rows[0].at, 1000, 0);
        assert_eq!(live_texts(&job.lines(1)), [format!("{} {start} 1", rows[0].key)], "early: no watermark has passed anything");
        job.write(&to_lines(&rows[1..]));
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for text in live_texts(&job.finish()) {
            let (window, count) = split_number(&text);
            let last = last.entry(window.to_owned()).or_default();
            *last = (*last).max(count as u64);
        }
        let expected =
            windows(&rows, 1000, 1000, 0).into_iter().map(|((key, start), rows)| (format!("{key} {start}"), rows.len() as u64));
        let expected: BTreeMap<_, _> = expected.collect();
        assert!(expected[&format!("{} {start}", rows[0].key)] > 1, "the first window has more rows than the early one");
        assert_eq!(last, expected);
    }
}

/// Goal: a guest that leaks is replaced again and again, and the counts and windows that it keeps move along.
#[test]
fn a_leaking_guest_keeps_its_state() {
    // Little enough a row, that one batch does not take a guest from the share of memory at which it is replaced to the limit.
    const LEAK: u64 = 512;
    const LIMIT: u64 = 8 << 20;
    let rows = rows(1, 80_000);
    assert!(rows.len() as u64 * LEAK > 4 * LIMIT, "an instance cannot live through this");
    let counts = sorted(by_key(&rows).into_iter().flat_map(|(key, rows)| (1..=rows.len()).map(move |n| format!("{key} {n}"))));
    let (sliding, session) = (sorted(sliding_sums(&rows)), sorted(session_sums(&rows)));
    let (leak, limit) = (LEAK.to_string(), LIMIT.to_string());
    for (name, preaggregation, expected) in
        [("count", "true", &counts), ("sliding", "true", &sliding), ("sliding", "false", &sliding), ("session", "true", &session)]
    {
        let settings = [
            ("args.leak", leak.as_str()),
            ("limits.guest_memory", &limit),
            ("batch.rows", "100"),
            ("preaggregation", preaggregation),
        ];
        Job { files: 1, settings: &settings, ..job(name, &rows) }.each(|parallelism, written| {
            same(&written.out, expected, &(name, parallelism, preaggregation));
            // A window that is aggregated before an exchange leaks there.
            let operators = written.summary["operators"].as_array().expect("operators").iter();
            let leaking = operators.filter(|o| o["name"].as_str().is_some_and(|n| n.starts_with("leaking")));
            let mut renewals = 0;
            for operator in leaking {
                renewals += operator["renewals"].as_u64().expect("a number");
                let memory = operator["guest_memory_bytes"].as_u64().expect("a number");
                assert!(memory <= LIMIT * u64::from(parallelism), "{name}: {memory} bytes");
            }
            assert!(renewals >= 4, "{name}: {renewals} renewals of guests that leak {} limits", rows.len() as u64 * LEAK / LIMIT);
        });
    }
}

/// Goal: state that is larger than its guest's memory leaves for the disk before that is full, also if nobody has set a limit, and comes back.
#[test]
fn state_leaves_before_its_guest_is_full() {
    const BYTES: u64 = 1500;
    const NUMBERS: u64 = 40_000;
    const LIMIT: u64 = 16 << 20;
    const { assert!(NUMBERS * BYTES > 3 * LIMIT, "two guests cannot hold it") };
    let row = |id: u64| Row { id, key: "a", number: (id % NUMBERS) as i64 + 1, at: BASE_MS + id as i64 };
    let rows: Vec<_> = (0..2 * NUMBERS).map(row).collect();
    let expected = sorted((1..=NUMBERS).flat_map(|number| [1, 2].map(|count| format!("{number} {count} {number}"))));
    let (bytes, limit) = (BYTES.to_string(), LIMIT.to_string());
    // The second ones bring more than fits besides half of the memory.
    for batch in ["100", "8000"] {
        let settings = [
            ("args.bytes", bytes.as_str()),
            ("limits.guest_memory", &limit),
            ("batch.rows", batch),
            ("state.backend", "rocksdb"),
        ];
        Job { settings: &settings, ..job("large-state", &rows) }.each(|parallelism, written| {
            same(&written.out, &expected, &(parallelism, batch));
            let large = operator(written, "large");
            assert!(large["evictions"].as_u64() > Some(NUMBERS / 2), "{large}");
            let memory = large["guest_memory_bytes"].as_u64().expect("a number");
            assert!(memory <= LIMIT * u64::from(parallelism), "{memory} bytes");
        });
    }
}
