//! A connector whose sources give what a script says, and whose sink keeps what it gets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, TimestampMillisecondArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_connector::registry::{Connector, Context, Stream};
use weir_connector::{Error, Fetch, Fetched, Reader, Report, Sink, Source, Split, Writer};
use weir_types::Batch;

/// A row: key, event time, id.
pub type Row = (i64, i64, u32);

/// What a split does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// gives rows, in one batch
    Rows(Vec<Row>),
    /// has nothing, once
    Pause,
    /// has nothing until the sink has got this many rows
    Until(usize),
    /// the same, but is busy meanwhile: never idle
    Hold(usize),
}

/// One row in a step of its own.
pub fn row(key: i64, time: i64, id: u32) -> Step {
    Step::Rows(vec![(key, time, id)])
}

/// The rows of a source.
pub fn row_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("id", DataType::UInt32, false),
        Field::new("time", time, false),
    ]))
}

/// By the name of a source: the steps of each of its splits.
pub type Scripts = HashMap<&'static str, Vec<Vec<Step>>>;

/// The sink of late rows; any other is one of results.
pub const LATE: &str = "late";

/// What has come out.
#[derive(Default)]
pub struct Collected {
    pub batches: Mutex<Vec<Batch>>,
    /// of late rows
    pub late: Mutex<Vec<Batch>>,
    /// of the tasks that read scripts
    wakes: Mutex<Vec<Arc<Notify>>>,
}

impl Collected {
    fn rows(&self) -> usize {
        self.batches.lock().iter().map(Batch::rows).sum()
    }
}

pub struct Script {
    pub scripts: Arc<Scripts>,
    pub collected: Arc<Collected>,
}

impl Connector for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn source(&self, _: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error> {
        Ok(Box::new(Scripted {
            splits: self.scripts[context.name.as_str()].clone(),
            schema: streams[0].schema.clone(),
            collected: Arc::clone(&self.collected),
        }))
    }

    fn sink(&self, options: &toml::Table, _: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let pause_ms = options.get("pause_ms").and_then(toml::Value::as_integer).unwrap_or_default();
        let pause = Duration::from_millis(pause_ms.unsigned_abs());
        Ok(Box::new(Collector { collected: Arc::clone(&self.collected), takes_late: context.name == LATE, pause }))
    }
}

struct Scripted {
    splits: Vec<Vec<Step>>,
    schema: SchemaRef,
    collected: Arc<Collected>,
}

impl Source for Scripted {
    fn splits(&self, _: u16) -> Result<Vec<Split>, Error> {
        let split = |index: usize| Split { id: index.to_string(), spec: index.into(), position: None };
        Ok((0..self.splits.len()).map(split).collect())
    }

    fn reader(&self, split: &Split, wake: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
        self.collected.wakes.lock().push(Arc::clone(wake));
        let index = split.spec.as_u64().expect("a split's spec is its index") as usize;
        let mut steps = self.splits[index].clone();
        steps.reverse();
        let (schema, collected) = (self.schema.clone(), Arc::clone(&self.collected));
        Ok(Box::new(ScriptReader { steps, schema, collected, wake: Arc::clone(wake) }))
    }
}

struct ScriptReader {
    /// the next one is the last
    steps: Vec<Step>,
    schema: SchemaRef,
    collected: Arc<Collected>,
    wake: Arc<Notify>,
}

impl ScriptReader {
    fn batch(&self, rows: &[Row]) -> Batch {
        let column = |field: &Arc<Field>| -> ArrayRef {
            match field.name().as_str() {
                "key" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
                "time" => Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.1)).with_timezone("UTC")),
                _ => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.2))),
            }
        };
        Batch::new(rows.len(), self.schema.fields().iter().map(column).collect(), None)
    }
}

impl Reader for ScriptReader {
    fn read(&mut self, _: usize) -> Result<Fetched, Error> {
        loop {
            match self.steps.pop() {
                None => return Ok(Fetched::End),
                Some(Step::Rows(rows)) => {
                    let batches = vec![(0, self.batch(&rows))];
                    return Ok(Fetched::Rows(Fetch { batches, events: rows.len() as u64, ..Fetch::default() }));
                }
                Some(Step::Pause) => {
                    self.wake.notify_one();
                    return Ok(Fetched::Waiting);
                }
                Some(Step::Until(rows) | Step::Hold(rows)) if self.collected.rows() >= rows => {}
                Some(Step::Until(rows)) => {
                    self.steps.push(Step::Until(rows));
                    return Ok(Fetched::Waiting);
                }
                Some(Step::Hold(rows)) => {
                    self.steps.push(Step::Hold(rows));
                    return Ok(Fetched::Rows(Fetch::default()));
                }
            }
        }
    }

    fn position(&self) -> serde_json::Value {
        self.steps.len().into()
    }
}

#[derive(Clone)]
struct Collector {
    collected: Arc<Collected>,
    takes_late: bool,
    /// how long it takes to put out what was written
    pause: Duration,
}

impl Collector {
    fn batches(&self) -> &Mutex<Vec<Batch>> {
        if self.takes_late { &self.collected.late } else { &self.collected.batches }
    }
}

impl Sink for Collector {
    fn writer(&self, _: u16, _: u16) -> Result<Box<dyn Writer>, Error> {
        Ok(Box::new(self.clone()))
    }

    fn report(&self) -> Report {
        let rows = self.batches().lock().iter().map(Batch::rows).sum::<usize>();
        Report { rows: rows as u64, ..Report::default() }
    }
}

impl Writer for Collector {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.batches().lock().push(batch.clone());
        self.collected.wakes.lock().iter().for_each(|wake| wake.notify_one());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        std::thread::sleep(self.pause);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
