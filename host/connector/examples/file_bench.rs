//! Measures files: writes bids of 7 columns in each format, reads 4 of the columns, and prints MB of the file (of its text, where it is
//! compressed) and nanoseconds for each row.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tokio::sync::Notify;
use weir_connector::registry::Stream;
use weir_connector::{Context, Error, Fetched, Files, find};
use weir_types::Batch;

const EVENTS: usize = 1_000_000;
const BATCH_EVENTS: usize = 4096;
const REPETITIONS: usize = 5;

fn main() -> Result<(), Error> {
    let folder = std::env::temp_dir().join(format!("weir-file-bench-{}", std::process::id()));
    let context = Context::new("bench", Files::free(&folder));
    let all = schema(&["auction", "bidder", "price", "channel", "url", "date_time", "extra"]);
    let some = schema(&["auction", "bidder", "price", "date_time"]);
    let bids = bids(&all, &context)?;
    let rows: usize = bids.iter().map(Batch::rows).sum();
    println!("{:<16} {:>8} {:>12} {:>12} {:>12} {:>12}", "file", "MB", "write MB/s", "write ns/row", "read MB/s", "read ns/row");
    for path in ["bids.jsonl", "bids.csv", "bids.parquet", "bids.jsonl.gz", "bids.jsonl.zst"] {
        let options = toml::Table::from_iter([("path".to_string(), toml::Value::String(path.into()))]);
        let write = best(|| {
            let sink = find("file")?.sink(&options, &all, &context)?;
            let mut writer = sink.writer(0, 1)?;
            bids.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()
        })?;
        let read = best(|| {
            let streams = [Stream { name: String::new(), schema: Arc::clone(&some) }];
            let source = find("file")?.source(&options, &streams, &context)?;
            let mut reader = source.reader(&source.splits(1)?[0], &Arc::new(Notify::new()))?;
            let mut found = 0;
            while let Fetched::Rows(fetch) = reader.read(BATCH_EVENTS)? {
                found += fetch.batches.iter().map(|(_, b)| b.rows()).sum::<usize>();
            }
            assert_eq!(found, rows, "what was written is read");
            Ok(())
        })?;
        let text = if path.starts_with("bids.jsonl.") { "bids.jsonl" } else { path };
        let bytes = std::fs::metadata(folder.join(text)).map_or(0, |m| m.len()) as f64;
        let (mb_per_s, ns) = (|s: f64| bytes / s / 1e6, |s: f64| s * 1e9 / rows as f64);
        println!(
            "{path:<16} {:>8.1} {:>12.0} {:>12.0} {:>12.0} {:>12.0}",
            bytes / 1e6,
            mb_per_s(write),
            ns(write),
            mb_per_s(read),
            ns(read)
        );
    }
    std::fs::remove_dir_all(&folder).map_err(|e| Error::io("the folder of the files cannot be removed", e))
}

/// The seconds of the fastest run: the others were disturbed.
fn best(run: impl Fn() -> Result<(), Error>) -> Result<f64, Error> {
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let start = cpu_seconds();
        run()?;
        best = best.min(cpu_seconds() - start);
    }
    Ok(best)
}

fn schema(columns: &[&str]) -> SchemaRef {
    let field = |name: &&str| {
        let data_type = match *name {
            "date_time" => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            "channel" | "url" | "extra" => DataType::Utf8,
            _ => DataType::UInt64,
        };
        Field::new(*name, data_type, false)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn bids(schema: &SchemaRef, context: &Context) -> Result<Vec<Batch>, Error> {
    let options = toml::Table::from_iter([("events".to_string(), toml::Value::Integer(EVENTS as i64))]);
    let streams = [Stream { name: "bid".into(), schema: Arc::clone(schema) }];
    let source = find("nexmark")?.source(&options, &streams, context)?;
    let mut reader = source.reader(&source.splits(1)?[0], &Arc::new(Notify::new()))?;
    let mut batches = Vec::new();
    while let Fetched::Rows(fetch) = reader.read(BATCH_EVENTS)? {
        batches.extend(fetch.batches.into_iter().map(|(_, batch)| batch));
    }
    Ok(batches)
}

/// The seconds that this thread has had a processor for, where the system tells (Linux), since others may use the machine; else those
/// that have passed.
fn cpu_seconds() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let nanoseconds =
        std::fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|s| s.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |ns| ns / 1e9)
}
