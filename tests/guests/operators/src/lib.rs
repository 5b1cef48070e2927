//! Every operator of the SDK in a small job of its own: `[args] job = "sliding"` chooses one.
//!
//! All read rows of one kind from the source `in` (some also from `other`) and write lines of text to the sink `out` (some also to
//! `side`), so that a test can compare what comes out with what plain loops give.

mod joins;
mod keyed;
mod streams;
mod versions;
mod windows;

use weir::{EventTime, Job, Record, Str, Stream, Watermarks, millis};

/// A row of either source.
#[derive(Clone, Debug, Record)]
pub struct Row {
    pub id: u64,
    pub key: Str,
    pub number: i64,
    pub at: EventTime,
}

/// A row of either sink.
#[derive(Record)]
pub struct Line {
    pub text: String,
}

pub fn line(text: String) -> Line {
    Line { text }
}

/// The rows of a source, without event times.
pub fn rows(job: &Job, source: &str) -> Stream<Row> {
    job.source(source)
}

/// The rows of a source, with event times that go back by less than 100 ms.
pub fn timed(job: &Job, source: &str) -> Stream<Row> {
    rows(job, source).event_time(Row::AT, Watermarks::bounded(millis(100)))
}

/// Leaks as many bytes as the argument `leak` says, each time that it is called.
pub fn leak(job: &Job) -> impl Fn() + use<> {
    let bytes = job.argument("leak").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    move || std::mem::forget(std::hint::black_box(vec![1u8; bytes]))
}

/// The job that the arguments name.
#[weir::job]
pub fn operators(job: &Job) -> Result<(), String> {
    let name = job.argument("job").ok_or("the argument `job` is missing")?;
    match name.as_str() {
        "closures" => streams::closures(job),
        "divert" => streams::divert(job),
        "union" => streams::union(job),
        "tee" => streams::tee(job),
        "select" => streams::select(job),
        "rebalance" => streams::rebalance(job),
        "broadcast" => streams::broadcast(job),
        "break-chain" => streams::break_chain(job),
        "parallelism" => streams::parallelism(job),
        "generated-watermarks" => streams::generated_watermarks(job),
        "computed-key" => keyed::computed_key(job),
        "computed-keys" => keyed::computed_keys(job),
        "several-fields" => keyed::several_fields(job),
        "count" => keyed::count(job),
        "large-state" => keyed::large_state(job),
        "reduce" => keyed::reduce(job),
        "process-side" => keyed::process_side(job),
        "state" => keyed::state(job),
        "processing-timers" => keyed::processing_timers(job),
        "co-process" => keyed::co_process(job),
        "co-process-closures" => keyed::co_process_closures(job),
        "broadcast-process" => keyed::broadcast_process(job),
        "broadcast-tally" => keyed::broadcast_tally(job),
        "expiring" => keyed::expiring(job),
        "expiring-ids" => keyed::expiring_ids(job),
        "expiring-soon" => keyed::expiring_soon(job),
        "interval-join" => joins::interval_join(job),
        "late-interval-join" => joins::late_interval_join(job),
        "regular-join" => joins::regular_join(job),
        "outer-join" => joins::outer_join(job),
        "all-kept" => joins::all_kept(job),
        "version-1" => versions::version_1(job),
        "version-2" => versions::version_2(job),
        "version-3" => versions::version_3(job),
        "aggregates" => windows::aggregates(job),
        "own-aggregate" => windows::own_aggregate(job),
        "sliding" => windows::sliding(job),
        "session" => windows::session(job),
        "global" => windows::global(job),
        "count-window" => windows::count_window(job),
        "window-all" => windows::window_all(job),
        "every-count" => windows::every_count(job, false),
        "purging" => windows::every_count(job, true),
        "count-only" => windows::count_only(job),
        "early" => windows::early(job),
        "late" => windows::late(job),
        "processing-window" => windows::processing_window(job),
        "process-window" => windows::process_window(job),
        "reduce-window" => windows::reduce_window(job),
        "join" => windows::join(job),
        "late-join" => windows::late_join(job),
        "cogroup" => windows::cogroup(job),
        _ => return Err(format!("there is no job `{name}`")),
    }
    Ok(())
}
