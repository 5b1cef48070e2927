//! What goes through an exchange behind a local aggregation: accumulators, or rows where that is cheaper.

use weir_plan::job::Stage;
use weir_types::graph::{Assigner, TimeDomain, Trigger, Window};

use crate::harness::{Operator, Row, Subtasks, sorted};
use crate::reference::Reference;

/// A batch is as long as a window.
const ROWS_PER_BATCH: u32 = 1000;
const BATCHES: u32 = 200;
const WINDOW_MS: i64 = 100;

/// Runs rows with these keys, some of them late, through a local aggregation and two subtasks behind an exchange. What they emit must be what the
/// reference does. Returns how many rows went through the exchange as they were, and how many accumulators.
fn exchanged(key_of: fn(u32) -> i64) -> (usize, usize) {
    let window = Window {
        assigner: Assigner::Tumbling { size_ms: WINDOW_MS, offset_ms: 30 },
        domain: TimeDomain::Event,
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        allowed_lateness_ms: 0,
        late_port: None,
        mergeable: true,
    };
    let mut before = Operator::new(window, Stage::Local, None);
    let mut behind = Subtasks::new(window, Stage::Merging, (2, None));
    let mut reference = Reference::new(window);
    let (mut exchanged, mut late_rows) = ([0, 0], 0);
    for number in 0..BATCHES {
        let time = |id: u32| i64::from(id / 10) - if id.is_multiple_of(50) { 2 * WINDOW_MS } else { 0 };
        let ids = number * ROWS_PER_BATCH..(number + 1) * ROWS_PER_BATCH;
        let rows: Vec<Row> = ids.map(|id| (key_of(id), time(id), id)).collect();
        let watermark = i64::from(number) * WINDOW_MS + 50;
        before.rows(&rows);
        before.watermark(watermark);
        for (port, batch) in before.out.drain(..) {
            exchanged[port] += batch.rows();
            behind.batch(port, &batch);
        }
        behind.watermark(watermark);
        rows.iter().for_each(|&(key, time, id)| reference.row(key, time, id, 0));
        reference.watermark(watermark);
        assert_eq!(sorted(behind.take().0), sorted(std::mem::take(&mut reference.panes)), "after batch {number}");
        late_rows += std::mem::take(&mut reference.late).len() as u64;
        assert_eq!(behind.late_rows(), late_rows, "after batch {number}");
    }
    assert!(late_rows > 0);
    (exchanged[Stage::ROWS], exchanged[Stage::PARTIALS])
}

/// Where accumulators stand for a few rows, rows go as they are once that is known.
#[test]
fn rows_pass_where_keys_are_many() {
    let (rows, partials) = exchanged(|id| i64::from(id % 200));
    assert!(rows > 100_000 && partials > 10_000, "{rows} rows and {partials} accumulators");
}

/// Where they stand for many, all rows are aggregated; and so they are where one key has half of all rows.
#[test]
fn rows_are_aggregated_where_keys_are_few_or_one_is_hot() {
    let (rows, partials) = exchanged(|id| i64::from(id % 10));
    assert!(rows == 0 && partials < 10_000, "{rows} rows and {partials} accumulators");
    let (rows, partials) = exchanged(|id| if id % 2 == 0 { 0 } else { i64::from(id % 200) });
    assert!(rows == 0 && partials < 100_000, "{rows} rows and {partials} accumulators");
}
