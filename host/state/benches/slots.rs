//! What mapping a row to its slot costs: `cargo bench -p weir-state`. Prints nanoseconds a row.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, StringArray, UInt64Array};
use arrow_schema::DataType;
use weir_state::{Namespaces, SlotTable};
use weir_types::key::hash_u64;

const ROWS_PER_BATCH: usize = 8192;

fn main() {
    for keys in [100, 10_000, 100_000, 1_000_000] {
        let integers = |at: u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values((at..at + ROWS_PER_BATCH as u64).map(|i| hash_u64(i) % keys)))
        };
        let texts = |at: u64| -> ArrayRef {
            let keys = (at..at + ROWS_PER_BATCH as u64).map(|i| format!("customer-{}", hash_u64(i) % keys));
            Arc::new(StringArray::from_iter_values(keys))
        };
        let pairs = |at: u64| -> Vec<ArrayRef> { vec![integers(at), texts(at)] };
        report("integer keys", keys, &[DataType::UInt64], |at| vec![integers(at)]);
        report("text keys", keys, &[DataType::Utf8], |at| vec![texts(at)]);
        report("two columns", keys, &[DataType::UInt64, DataType::Utf8], pairs);
    }
}

/// Assigns batches of random keys until all are known, then measures.
fn report(what: &str, keys: u64, types: &[DataType], batch: impl Fn(u64) -> Vec<ArrayRef>) {
    let mut table = SlotTable::new(types).expect("the types can be keys");
    let (mut slots, mut created) = (vec![], vec![]);
    let batches: Vec<_> = (0..256).map(|i| batch(i * ROWS_PER_BATCH as u64)).collect();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for keys in &batches {
            table.assign(ROWS_PER_BATCH, keys, Namespaces::Constant(0), &mut slots, &mut created).expect("slots suffice");
            black_box(&slots);
        }
        let nanoseconds = start.elapsed().as_nanos() as f64 / (batches.len() * ROWS_PER_BATCH) as f64;
        best = best.min(nanoseconds);
    }
    println!("{what:>14}, {keys:>8} keys: {best:6.1} ns a row, {:.1} MB", table.bytes() as f64 / 1e6);
}
