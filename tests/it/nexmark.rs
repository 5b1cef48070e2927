//! The Nexmark queries, compared by row count and checksum with an independent implementation of the generator and of
//! the queries. A checksum is a sum of row hashes, so it does not depend on the order of rows.

use serde::Deserialize;
use serde_json::Value;

use crate::run::Run;

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

/// What a query gives for `n` events of `seed`.
#[derive(Deserialize)]
struct Case {
    query: String,
    n: u64,
    seed: u64,
    events_per_ms: u64,
    rows: u64,
    checksum: String,
}

fn cases(query: &str) -> Vec<Case> {
    let expected: Expected = serde_json::from_str(include_str!("nexmark_expected.json")).expect("a good file");
    let cases: Vec<_> = expected.cases.into_iter().filter(|case| case.query == query).collect();
    assert!(!cases.is_empty(), "no case for {query}");
    cases
}

/// Runs a case and checks its result; returns the summary.
fn check_case(case: &Case, parallelism: u16, settings: &[(&str, &str)]) -> Value {
    let mut run = Run::new(format!("examples/nexmark/{}.toml", case.query))
        .parallelism(parallelism)
        .set("sources.nexmark.events", case.n)
        .set("sources.nexmark.seed", case.seed)
        .set("sources.nexmark.events_per_ms", case.events_per_ms);
    for (path, value) in settings {
        run = run.set(path, value);
    }
    let (_, summary) = run.finish();
    let what = format!("{} of {} events, seed {}, parallelism {parallelism}, {settings:?}", case.query, case.n, case.seed);
    assert_eq!(summary["events_in"], case.n, "{what}");
    assert_eq!(summary["rows_out"], case.rows, "{what}");
    assert_eq!(summary["checksum"], Value::from(case.checksum.as_str()), "{what}");
    summary
}

/// The smallest case of a query.
fn smallest(query: &str) -> Case {
    cases(query).into_iter().min_by_key(|case| case.n).expect("there is a case")
}

/// All cases of a query, at both parallelisms.
fn check(query: &str) {
    for case in cases(query) {
        check_case(&case, 1, &[]);
        check_case(&case, 2, &[]);
    }
}

/// The smallest case of each of these queries, with these settings, at both parallelisms.
fn check_variant(queries: &[&str], settings: &[(&str, &str)]) {
    for query in queries {
        let case = smallest(query);
        check_case(&case, 1, settings);
        check_case(&case, 2, settings);
    }
}

/// The queries whose rows do not depend on how the splits' rows are interleaved: all but q18.
const ANY_ORDER: [&str; 11] = ["gen", "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "keyed_count"];

/// Goal: every field of every event is the generator's.
#[test]
fn generator() {
    check("gen");
}

/// Goal: columns that are passed on arrive unchanged.
#[test]
fn q0_passed() {
    check("q0");
}

/// Goal: a map computes a float column exactly.
#[test]
fn q1_map() {
    check("q1");
}

/// Goal: a filter keeps the right rows.
#[test]
fn q2_filter() {
    check("q2");
}

/// Goal: a join of two keyed streams without a time limit gives each pair once.
#[test]
fn q3_join() {
    check("q3");
}

/// Goal: a keyed process function with two inputs, and an aggregate at the end of the input.
#[test]
fn q4_closing_prices() {
    check("q4");
}

/// Goal: sliding windows, and the greatest of each.
#[test]
fn q5_sliding_windows() {
    check("q5");
}

/// Goal: a reduce over a tumbling window of all rows.
#[test]
fn q7_window_of_all_rows() {
    check("q7");
}

/// Goal: a join within a tumbling window.
#[test]
fn q8_window_join() {
    check("q8");
}

/// Goal: session windows that merge.
#[test]
fn q11_sessions() {
    check("q11");
}

/// Goal: the last row of a key. Its rows depend on the order in which splits are read, so there is one split.
#[test]
fn q18_last_row() {
    for case in cases("q18") {
        check_case(&case, 1, &[]);
    }
}

/// Goal: a running count for each key.
#[test]
fn keyed_count() {
    check("keyed_count");
}

/// Goal: results do not depend on where batches are cut; here each row is a batch.
#[test]
fn batches_of_one_row() {
    check_variant(&ANY_ORDER, &[("batch.rows", "1")]);
}

/// Goal: results do not depend on where batches are cut; here cuts fall anywhere in a cycle of 50 events.
#[test]
fn batches_of_seven_rows() {
    check_variant(&ANY_ORDER, &[("batch.rows", "7")]);
}

/// Goal: results do not depend on where batches are cut; here the whole input is one batch.
#[test]
fn batches_of_all_rows() {
    check_variant(&ANY_ORDER, &[("batch.rows", "100000")]);
}

/// Goal: results do not depend on how long rows are held back to be joined with others: not at all, or until there is a batch of them.
#[test]
fn rows_linger_or_do_not() {
    for linger in ["0s", "1h"] {
        check_variant(&ANY_ORDER, &[("batch.linger", linger), ("batch.rows", "100")]);
    }
}

/// Goal: an exchange between all operators changes nothing.
#[test]
fn without_chaining() {
    check_variant(&ANY_ORDER, &[("chaining", "false")]);
}

/// Goal: aggregating before an exchange changes nothing.
#[test]
fn without_preaggregation() {
    check_variant(&ANY_ORDER, &[("preaggregation", "false")]);
}

/// Goal: state that is larger than what guests may keep goes to the state backend and comes back; without a limit it stays.
#[test]
fn more_keys_than_slots() {
    let evictions = |summary: &Value| -> u64 {
        let operators = summary["operators"].as_array().expect("operators");
        operators.iter().map(|operator| operator["evictions"].as_u64().expect("a number")).sum()
    };
    for query in ["q3", "q4", "q5", "q8", "q11", "keyed_count"] {
        let case = smallest(query);
        for parallelism in [1, 2] {
            assert_eq!(evictions(&check_case(&case, parallelism, &[])), 0, "{query}");
            for limit in [("state.slots_max", "20"), ("state.memory_limit", "4KB")] {
                let on_disk = [limit, ("state.backend", "rocksdb")];
                assert!(evictions(&check_case(&case, parallelism, &on_disk)) > 100, "{query}, on disk");
                for settings in [&[limit][..], &[limit, ("preaggregation", "false"), ("batch.rows", "7")]] {
                    let summary = check_case(&case, parallelism, settings);
                    assert!(evictions(&summary) > 100, "{query}, {settings:?}: {summary}");
                }
            }
        }
    }
}
