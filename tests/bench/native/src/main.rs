//! What the sandbox costs: runs a Nexmark query with its functions as guests, and with the same functions as native code behind the same
//! interface, in turns in one process, and prints a JSON object with the CPU seconds of each run.
//!
//! The plan, the source, the exchange, the operators of the host and the sink are the same in both; only what a guest call does is done
//! by [`chains`] instead. Both must give the same rows, or the program fails.

mod chains;
mod query;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use serde::Serialize;

use query::{Functions, Measured, Query};

// As in the `weir` command: part of what a run costs is allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run a Nexmark query with guests and with native code in turns, and print what both cost
#[derive(Parser, Debug)]
struct Args {
    /// The job spec of the query
    #[arg(value_name = "JOB.TOML")]
    spec: PathBuf,

    /// How many events each run gets
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,

    /// Subtasks of each vertex
    #[arg(long, default_value_t = 2)]
    parallelism: u16,

    /// How many runs there are of each kind
    #[arg(long, default_value_t = 3)]
    turns: usize,
}

/// What is printed. CPU seconds are user and system time of the whole process during one run.
#[derive(Debug, Serialize)]
struct Comparison {
    query: String,
    events: u64,
    parallelism: u16,
    rows: u64,
    checksum: String,
    guest_cpu_seconds: Vec<f64>,
    native_cpu_seconds: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let query = Query::open(&args.spec, args.events, args.parallelism).await?;
    println!("{}", serde_json::to_string(&compare(&query, args.turns).await?)?);
    Ok(())
}

/// Runs both kinds in turns, so that both meet the same disturbances. A run of each goes before, so that memory and caches are warm.
async fn compare(query: &Query, turns: usize) -> Result<Comparison> {
    let expected = query.run(Functions::Guests).await?;
    check(&expected, &query.run(Functions::Native).await?)?;
    let (mut guest_cpu_seconds, mut native_cpu_seconds) = (vec![], vec![]);
    for _ in 0..turns {
        for (functions, seconds) in [(Functions::Guests, &mut guest_cpu_seconds), (Functions::Native, &mut native_cpu_seconds)] {
            let measured = query.run(functions).await?;
            check(&expected, &measured)?;
            seconds.push(measured.cpu_seconds);
        }
    }
    Ok(Comparison {
        query: query.name().to_owned(),
        events: expected.events,
        parallelism: query.parallelism(),
        rows: expected.rows,
        checksum: format!("{:016x}", expected.checksum),
        guest_cpu_seconds,
        native_cpu_seconds,
    })
}

/// Two runs must have had the same input and give the same rows.
fn check(expected: &Measured, measured: &Measured) -> Result<()> {
    let result = |m: &Measured| (m.events, m.rows, m.checksum);
    ensure!(
        result(expected) == result(measured),
        "the rows differ: (events, rows, checksum) were {:x?}, then {:x?}",
        result(expected),
        result(measured)
    );
    Ok(())
}
