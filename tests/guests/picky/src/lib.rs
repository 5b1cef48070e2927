//! A guest that fails on certain rows, in the way that the row itself says, and lets the others through.

use weir::{Job, Pass, Record, Str};

/// A row. `fault` says what becomes of it: `error`, `panic`, `loop`, or nothing.
#[derive(Clone, Record)]
struct Item {
    id: Pass<u64>,
    fault: Str,
}

#[weir::job]
fn picky(job: &Job) {
    job.source::<Item>("items")
        .try_map(|item| match item.fault.as_str() {
            "error" => Err("this row is not to my taste"),
            "panic" => panic!("this row is more than I can take"),
            "loop" => loop {
                std::hint::black_box(());
            },
            _ => Ok(item),
        })
        .uid("taste")
        .sink("out");
}
