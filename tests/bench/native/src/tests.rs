//! Native code and guests do the same, so that what is measured is the sandbox alone.

use std::path::Path;

use crate::compare;
use crate::query::Query;

/// Enough for some windows, sessions and merged partial accumulators.
const EVENTS: u64 = 300_000;

/// Goal: each query gives the same rows both ways, with and without an exchange. Method: `compare` fails if they differ.
fn check(query: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for parallelism in [1, 2] {
            let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../../examples/nexmark/{query}.toml"));
            let query = Query::open(&spec, EVENTS, parallelism).await.expect("the example can be planned");
            let compared = compare(&query, 0).await.expect("both ways give the same rows");
            assert_eq!(compared.events, EVENTS);
            assert!(compared.rows > 0, "{compared:?}");
        }
    });
}

#[test]
fn q0() {
    check("q0");
}

#[test]
fn q1() {
    check("q1");
}

#[test]
fn q2() {
    check("q2");
}

#[test]
fn q5() {
    check("q5");
}

#[test]
fn q7() {
    check("q7");
}

#[test]
fn q11() {
    check("q11");
}

#[test]
fn keyed_count() {
    check("keyed_count");
}
