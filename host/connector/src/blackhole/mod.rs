//! The sink `blackhole`: takes rows and keeps only what can be said about them in a few numbers.
//!
//! It counts them, adds up their hashes (see [`hash`]: the sum tells whether two runs gave the same rows, in whatever order) and
//! measures how long they were under way.

mod hash;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_schema::{DataType, SchemaRef};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Deserialize;
use weir_types::Batch;

use crate::options;
use crate::registry::Stream;
use crate::{Connector, Context, Error, Report, Sink, Source, Writer};

/// The connector `blackhole`.
pub struct Blackhole;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// whether to add up the rows' hashes
    checksum: bool,
    /// a number that comes before each row's fields in its hash, to tell rows of several sinks apart
    kind: Option<u64>,
    /// the column (unsigned, µs since 1970) from which on rows were under way; it is left out of the hash
    latency_from: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { checksum: true, kind: None, latency_from: None }
    }
}

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn source(&self, _: &toml::Table, _: &[Stream], _: &Context) -> Result<Box<dyn Source>, Error> {
        Err(options::not_a_source(self.name()))
    }

    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let options: Options = options::parse(options, context)?;
        let latency_from = match &options.latency_from {
            None => None,
            Some(name) => match schema.column_with_name(name) {
                Some((index, field)) if *field.data_type() == DataType::UInt64 => Some(index),
                _ => {
                    return Err(Error::options(format!(
                        "latency_from of \"{}\" must name a column of unsigned 64-bit numbers; \"{name}\" is none",
                        context.name
                    )));
                }
            },
        };
        let hashed: Vec<_> = (0..schema.fields().len()).filter(|&c| Some(c) != latency_from).collect();
        if options.checksum
            && let Some(field) = hashed.iter().map(|&c| schema.field(c)).find(|f| !hash::can_be_hashed(f.data_type()))
        {
            return Err(Error::options(format!(
                "\"{}\" has no checksum of the column \"{}\", which is of type {}; switch it off by checksum = false",
                context.name,
                field.name(),
                field.data_type()
            )));
        }
        let plan = Arc::new(Plan { checksum: options.checksum, kind: options.kind, latency_from, hashed });
        Ok(Box::new(Counter { plan, totals: Mutex::default() }))
    }
}

/// What to do with each batch.
struct Plan {
    checksum: bool,
    kind: Option<u64>,
    latency_from: Option<usize>,
    /// the columns that are part of a row's hash
    hashed: Vec<usize>,
}

struct Counter {
    plan: Arc<Plan>,
    /// of each writer its own, so that writers do not wait for each other
    totals: Mutex<Vec<Arc<Mutex<Totals>>>>,
}

/// What one writer has seen.
struct Totals {
    rows: u64,
    checksum: u64,
    first_row: Option<Instant>,
    latency_us: Histogram<u64>,
}

/// Rows that were under way for longer count as if they were for so long.
const LATENCY_US_MAX: u64 = 3_600_000_000;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("an hour in 3 digits is within the limits of histograms")
}

impl Sink for Counter {
    fn writer(&self, _: u16, _: u16) -> Result<Box<dyn Writer>, Error> {
        let totals = Arc::new(Mutex::new(Totals { rows: 0, checksum: 0, first_row: None, latency_us: histogram() }));
        self.totals.lock().push(Arc::clone(&totals));
        Ok(Box::new(Counting { plan: Arc::clone(&self.plan), totals, hashes: Vec::new() }))
    }

    fn report(&self) -> Report {
        let mut report = Report { checksum: self.plan.checksum.then_some(0), ..Report::default() };
        let mut latency_us = histogram();
        for totals in self.totals.lock().iter() {
            let totals = totals.lock();
            report.rows += totals.rows;
            report.checksum = report.checksum.map(|sum| sum.wrapping_add(totals.checksum));
            report.first_row = report.first_row.into_iter().chain(totals.first_row).min();
            latency_us.add(&totals.latency_us).expect("all histograms have the same bounds");
        }
        if !latency_us.is_empty() {
            report.latency_us = [0.5, 0.9, 0.99, 0.999, 1.0].map(|q| (q, latency_us.value_at_quantile(q))).to_vec();
        }
        report
    }
}

struct Counting {
    plan: Arc<Plan>,
    totals: Arc<Mutex<Totals>>,
    /// the hashes of a batch's rows; kept for its memory
    hashes: Vec<u64>,
}

impl Writer for Counting {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let checksum = if self.plan.checksum {
            let columns = self.plan.hashed.iter().map(|&c| batch.column(c));
            hash::sum(batch.rows(), self.plan.kind, columns, &mut self.hashes)
        } else {
            0
        };
        let mut totals = self.totals.lock();
        totals.rows += batch.rows() as u64;
        totals.checksum = totals.checksum.wrapping_add(checksum);
        totals.first_row.get_or_insert_with(Instant::now);
        if let Some(column) = self.plan.latency_from {
            let now_us = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
            let starts = batch.column(column).as_primitive::<UInt64Type>();
            let mut record = |start: u64| totals.latency_us.saturating_record(now_us.saturating_sub(start));
            match starts.nulls() {
                None => starts.values().iter().for_each(|&start| record(start)),
                Some(_) => starts.iter().flatten().for_each(&mut record),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
