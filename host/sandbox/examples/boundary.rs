//! What it costs to start a guest and to send it rows: `cargo run --release -p weir-sandbox --example boundary -- GUEST.wasm [NAME=VALUE]…`.
//!
//! Calls chain 0 of the guest with rows made for what it reads, and prints times and memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::types::*;
use arrow_array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, StringArray};
use arrow_schema::DataType;
use weir_sandbox::{Instance, Limits, LogSink, Options, Sandbox};
use weir_types::call::Input;

/// As in `weir`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: boundary GUEST.wasm [NAME=VALUE]…")?;
    let pair = |arg: String| arg.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let args: Vec<_> = std::env::args().skip(2).filter_map(pair).collect();
    let wasm = std::fs::read(path)?;
    println!("process: {} MB resident", resident_mb()?);
    let sandbox = Sandbox::new(&Options::default())?;
    println!("with a sandbox for {} instances: {} MB resident", sandbox.options().max_instances, resident_mb()?);
    let started = Instant::now();
    let component = sandbox.load(&wasm)?;
    println!("load: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let (limits, log) = (Limits::default(), LogSink::none());
    let started = Instant::now();
    for _ in 0..100 {
        component.instantiate(&args, &limits, &log).await?;
    }
    println!("instantiate and describe: {:.0} µs", started.elapsed().as_secs_f64() * 1e6 / 100.0);
    let mut guest = component.instantiate(&args, &limits, &log).await?;
    guest.open(0, 0, 1, &[]).await?;
    for rows in [1, 64, 256, 1024, 4096] {
        let columns = columns(&guest, rows)?;
        let ns = measure(&mut guest, rows, &columns).await?;
        println!("process, {} columns, batch of {rows}: {:.0} ns a call, {:.2} ns a record", columns.len(), ns, ns / rows as f64);
    }
    println!("at the end: {} KB of linear memory, {} MB resident", guest.memory_bytes() >> 10, resident_mb()?);
    Ok(())
}

/// The median time of a call.
async fn measure(guest: &mut Instance, rows: usize, columns: &[ArrayRef]) -> Result<f64, Box<dyn std::error::Error>> {
    let input = Input { port: 0, split: 0, rows, columns, times: None, slots: None, watermark: i64::MIN, now: 0 };
    let mut times = vec![];
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let call = Instant::now();
        std::hint::black_box(guest.process(0, input).await?);
        times.push(call.elapsed().as_nanos() as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn columns(guest: &Instance, rows: usize) -> Result<Vec<ArrayRef>, String> {
    fn numbers<T: ArrowPrimitiveType>(rows: usize, number: impl Fn(usize) -> T::Native) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter_values((0..rows).map(number)))
    }
    let graph = guest.graph();
    let schema = graph.input_schema(0, 0);
    let column = |&column: &usize| {
        Ok(match schema.field(column).data_type() {
            DataType::Int64 => numbers::<Int64Type>(rows, |i| i as i64),
            DataType::UInt64 => numbers::<UInt64Type>(rows, |i| i as u64),
            DataType::Float64 => numbers::<Float64Type>(rows, |i| i as f64),
            DataType::Utf8 => {
                let name = schema.field(column).name();
                Arc::new(StringArray::from_iter_values((0..rows).map(|i| text(name, i))))
            }
            DataType::Timestamp(_, zone) => {
                let times = PrimitiveArray::<TimestampMillisecondType>::from_iter_values((0..rows).map(|i| i as i64));
                Arc::new(times.with_timezone_opt(zone.clone()))
            }
            other => return Err(format!("no rows of type {other} are made here")),
        })
    };
    graph.chains[0].inputs[0].columns.iter().map(column).collect()
}

/// A text that is as long as those which Nexmark's generator puts into this column of bids, in the same shares; of another column, as its `extra`.
fn text(column: &str, row: usize) -> String {
    match column {
        "channel" if row.is_multiple_of(2) => ["Google", "Facebook", "Baidu", "Apple"][row / 2 % 4].to_owned(),
        "channel" => format!("channel-{}", row * 7919 % 10_000),
        "url" => format!("https://nexmark.com/item/{row:05}"),
        _ => {
            let letters = 20 + row * 8 % 21;
            format!("{row:0letters$}")
        }
    }
}

fn resident_mb() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<usize>()? / 1024)
}
