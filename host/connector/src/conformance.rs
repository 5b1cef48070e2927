//! The suite of connectors: what all of them have in common, in parts, each of which is passed by every connector that it can be asked of. A source that can be
//! read once (`stdin`), and a sink that keeps no rows (`blackhole`), pass only the part about options, and have tests of their own for the rest.
//!
//! A source must give the same rows however it is read: by large and by small reads, from its beginning or from any position on, with
//! all columns or some; and say the same positions of them, if it knows them. It must know its own splits when a job goes on, and those of others. A sink must put out every row once, whichever of its writers took it. A transactional sink must show every row once, however attempts
//! to run its job crash. Options must be checked before the outside is there.
//!
//! Rows are compared as JSON lines, so that the layout of a column does not matter. A failed check panics, as tests do.

// A failed check panics: this is code of tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, StringArray,
    StringViewArray, StructArray, TimestampMillisecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tokio::sync::Notify;
use weir_types::Batch;

use crate::error::ErrorKind;
use crate::format::encoder::Encoder;
use crate::registry::Stream;
use crate::{Delivery, Error, Fetched, Sink, Source, Split, Transaction, Writer};

/// Binds a source to streams.
pub type BindSource<'a> = dyn Fn(&[Stream]) -> Result<Box<dyn Source>, Error> + 'a;
/// Binds a sink to a schema.
pub type BindSink<'a> = dyn Fn(&SchemaRef) -> Result<Box<dyn Sink>, Error> + 'a;

/// Checks options.
pub type Check<'a> = dyn Fn(&toml::Table) -> Result<(), Error> + 'a;

/// How long a check may take: it waits for nothing.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// Checks that options are checked. `check` is [`Connector::check_source`](crate::Connector::check_source) or
/// [`Connector::check_sink`](crate::Connector::check_sink); `options` are good ones, and what they name (files, addresses) need not be there.
///
/// # Panics
/// If the connector does not conform.
pub fn options(check: &Check, options: &str) {
    const UNKNOWN: &str = "no-such-option";
    let good: toml::Table = options.parse().unwrap();
    let begin = Instant::now();
    check(&good).unwrap_or_else(|e| panic!("good options are refused: {e}\n{options}"));
    assert!(begin.elapsed() < CHECK_MAX, "the check waits for something:\n{options}");
    let mut misspelt = good;
    misspelt.insert(UNKNOWN.into(), true.into());
    let error = check(&misspelt).expect_err("there is no such option");
    assert_eq!(error.kind, ErrorKind::Options, "{error}");
    assert!(error.message.contains(&format!("unknown option `{UNKNOWN}`, expected")), "the known options are named: {error}");
}

/// The rows of each stream, as JSON lines behind their positions.
type Rows = Vec<Vec<String>>;

/// Checks a source that ends and can be read again. `bind` binds it to streams; `streams` are those that it has, with all columns.
/// The source should have some hundreds of rows: it is read from each of its positions on.
///
/// # Panics
/// If the source does not conform.
pub fn source(bind: &BindSource, streams: &[Stream]) {
    for parallelism in [1, 3] {
        let source = bind(streams).unwrap();
        let splits = source.splits(parallelism).unwrap();
        let again = bind(streams).unwrap().splits(parallelism).unwrap();
        assert_eq!(splits, again, "the splits are the same whenever they are listed");
        let mut ids: Vec<_> = splits.iter().map(|s| &s.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), splits.len(), "the ids of splits are unique");
        for split in &splits {
            goes_on(&*source, split);
            let all = read(&*source, split, streams, 10_000, &mut |_| ());
            assert_eq!(read(&*source, split, streams, 1, &mut |_| ()), all, "small reads give the rows that large ones give");
            positions(&*source, split, streams, &all);
        }
    }
    projections(bind, streams);
}

/// What the options name now they name when the job goes on, and what is settled stays so; a split of another connector is none of theirs.
fn goes_on(source: &dyn Source, split: &Split) {
    assert_eq!(source.excludes(split), None, "a split that was listed is one of the options");
    let mut renewed = split.clone();
    source.renew(&mut renewed).unwrap();
    assert_eq!(&renewed, split, "what was settled when a split was listed stays so");
    let foreign = Split { id: "of another connector".into(), spec: serde_json::json!({ "shard": 7 }), position: None };
    assert!(source.excludes(&foreign).is_some(), "a split of another connector is none of the options");
}

/// From every position on, a new reader gives exactly the rest.
fn positions(source: &dyn Source, split: &Split, streams: &[Stream], all: &Rows) {
    for step in [1, 7, 1000] {
        let mut positions = Vec::new();
        read(source, split, streams, step, &mut |position| positions.push(position));
        let mut counts = Vec::new();
        for (position, taken) in &positions {
            let split = Split { position: Some(position.clone()), ..split.clone() };
            let rest = read(source, &split, streams, 64, &mut |_| ());
            let expected: Rows = all.iter().zip(taken).map(|(rows, &taken)| rows[taken..].to_vec()).collect();
            assert_eq!(rest, expected, "a reader that starts at {position} gives the rest");
            counts.push(taken.iter().sum::<usize>());
        }
        assert!(counts.is_sorted(), "a reader never goes back");
    }
}

/// Every column alone has the values that it has beside the others, and without any column there are as many rows.
fn projections(bind: &BindSource, streams: &[Stream]) {
    let batches_of = |stream: Stream| {
        let source = bind(&[stream]).unwrap();
        let mut batches = Vec::new();
        for split in source.splits(1).unwrap() {
            let mut reader = source.reader(&split, &Arc::new(Notify::new())).unwrap();
            while let Fetched::Rows(fetch) = reader.read(10_000).unwrap() {
                batches.extend(fetch.batches.into_iter().map(|(_, batch)| batch));
            }
        }
        batches
    };
    for stream in streams {
        let all = batches_of(stream.clone());
        let project = |columns: &[usize]| {
            let schema = Arc::new(stream.schema.project(columns).unwrap());
            batches_of(Stream { schema, ..stream.clone() })
        };
        for column in 0..stream.schema.fields().len() {
            let alone: Vec<_> = project(&[column]).iter().map(|batch| batch.column(0).clone()).collect();
            let beside: Vec<_> = all.iter().map(|batch| batch.column(column).clone()).collect();
            assert_eq!(alone, beside, "the column {} has the same values alone", stream.schema.field(column).name());
        }
        let rows = |batches: &[Batch]| batches.iter().map(Batch::rows).sum::<usize>();
        assert_eq!(rows(&project(&[])), rows(&all), "rows without columns are rows");
    }
}

/// Reads a split to its end. After each read, `each` gets the position and the number of rows that came of each stream.
fn read(
    source: &dyn Source,
    split: &Split,
    streams: &[Stream],
    max_rows: usize,
    each: &mut dyn FnMut((serde_json::Value, Vec<usize>)),
) -> Rows {
    let encoders: Vec<_> = streams.iter().map(|s| Encoder::jsonl(&s.schema).unwrap()).collect();
    let mut rows = vec![Vec::new(); streams.len()];
    let mut reader = source.reader(split, &Arc::new(Notify::new())).unwrap();
    each((reader.position(), vec![0; streams.len()]));
    loop {
        match reader.read(max_rows).unwrap() {
            Fetched::Rows(fetch) => {
                for (stream, batch) in &fetch.batches {
                    assert!(batch.rows() <= max_rows, "a read gives at most as many rows as were asked for");
                    let position = |row| fetch.positions.as_ref().map(|positions| positions.of(*stream, row));
                    assert!((0..batch.rows()).map(position).is_sorted(), "positions never fall");
                    let lines = lines(&encoders[*stream], batch).into_iter().enumerate();
                    rows[*stream].extend(lines.map(|(row, line)| format!("{:?} {line}", position(row))));
                }
                each((reader.position(), rows.iter().map(Vec::len).collect()));
            }
            Fetched::End => return rows,
            other => panic!("a source of data that is there says {other:?}"),
        }
    }
}

fn lines(encoder: &Encoder, batch: &Batch) -> Vec<String> {
    let mut text = Vec::new();
    encoder.encode(batch, &mut text);
    String::from_utf8(text).unwrap().lines().map(String::from).collect()
}

/// Checks a sink. `bind` binds it to a schema; `read_back` gives the rows that it has put out, as JSON lines of that schema. `nested`:
/// whether the sink takes lists and records.
///
/// # Panics
/// If the sink does not conform.
pub fn sink(bind: &BindSink, nested: bool, read_back: &dyn Fn(&SchemaRef) -> Vec<String>) {
    const PARALLELISM: u16 = 3;
    let (schema, batch) = sample(nested);
    for repetitions in [0, 1, 500] {
        let sink = bind(&schema).unwrap();
        let mut writers: Vec<_> = (0..PARALLELISM).map(|subtask| sink.writer(subtask, PARALLELISM).unwrap()).collect();
        let mut expected = Vec::new();
        for repetition in 0..repetitions {
            for (i, writer) in writers.iter_mut().enumerate() {
                // Writers take different parts of the rows, empty ones among them, and flush at different times.
                let part = batch.slice(i, batch.rows().saturating_sub(2 * i));
                writer.write(&part).unwrap();
                writer.write(&part.slice(0, 0)).unwrap();
                expected.extend(lines(&Encoder::jsonl(&schema).unwrap(), &part));
                if repetition % (i + 2) == 0 {
                    writer.flush().unwrap();
                }
            }
        }
        writers.iter_mut().for_each(|w| w.finish().unwrap());
        assert_eq!(sink.report().rows, expected.len() as u64, "the report counts the rows");
        let mut found = read_back(&schema);
        found.sort();
        expected.sort();
        assert!(found == expected, "each row is put out once: {} of {} rows", found.len(), expected.len());
    }
}

/// Binds a transactional sink to a schema, for the attempt of this generation.
pub type BindAttempt<'a> = dyn Fn(&SchemaRef, u64) -> Result<Box<dyn Sink>, Error> + 'a;

/// Checks a transactional sink. `bind` binds it, always to the same place, which is empty at first; `read_back` gives the rows that a reader sees there, as
/// JSON lines of the schema. `nested`: whether the sink takes lists and records.
///
/// # Panics
/// If the sink does not conform.
pub fn transactional(bind: &BindAttempt, nested: bool, read_back: &dyn Fn(&SchemaRef) -> Vec<String>) {
    let (schema, batch) = sample(nested);
    let mut place = Place { bind, read_back, schema, batch, visible: Vec::new(), generation: 0 };
    assert_eq!(bind(&place.schema, 0).unwrap().delivery(), Delivery::ExactlyOnce);
    place.checkpoints();
    place.crash_before_the_checkpoint();
    place.crash_before_the_commit();
    place.crash_amid_the_commit();
    place.older_attempts();
}

/// Where a transactional sink writes, and what should be there.
struct Place<'a> {
    bind: &'a BindAttempt<'a>,
    read_back: &'a dyn Fn(&SchemaRef) -> Vec<String>,
    schema: SchemaRef,
    batch: Batch,
    /// the rows that were committed
    visible: Vec<String>,
    /// of the newest attempt
    generation: u64,
}

/// An attempt to run the job.
struct Running {
    sink: Box<dyn Sink>,
    writers: Vec<Box<dyn Writer>>,
}

impl Place<'_> {
    /// Begins a new attempt; what the last checkpoint says to be committed is `pending`.
    fn start(&mut self, pending: &[Transaction]) -> Running {
        const PARALLELISM: u16 = 3;
        self.generation += 1;
        let sink = (self.bind)(&self.schema, self.generation).unwrap();
        sink.recover(pending).unwrap();
        let writers = (0..PARALLELISM).map(|subtask| sink.writer(subtask, PARALLELISM).unwrap()).collect();
        Running { sink, writers }
    }

    /// Writes some rows, other ones by each writer. Returns them.
    fn write(&self, running: &mut Running) -> Vec<String> {
        let encoder = Encoder::jsonl(&self.schema).unwrap();
        let mut written = Vec::new();
        for repetition in 0..2 {
            for (i, writer) in running.writers.iter_mut().enumerate() {
                let part = self.batch.slice(i, self.batch.rows() - i);
                writer.write(&part).unwrap();
                writer.write(&part.slice(0, 0)).unwrap();
                if repetition % (i + 2) == 0 {
                    writer.flush().unwrap();
                }
                written.extend(lines(&encoder, &part));
            }
        }
        written
    }

    /// A reader sees what was committed, and nothing else.
    fn check(&self, when: &str) {
        let mut found = (self.read_back)(&self.schema);
        let mut expected = self.visible.clone();
        found.sort();
        expected.sort();
        assert!(found == expected, "{when}: a reader sees {} rows of {}", found.len(), expected.len());
    }

    /// Rows appear when they are committed, checkpoint after checkpoint, once.
    fn checkpoints(&mut self) {
        let mut running = self.start(&[]);
        assert!(prepare(&mut running).is_empty(), "without rows there is no transaction");
        self.check("nothing was written");
        let mut rows = 0;
        for _ in 0..3 {
            let first = self.write(&mut running);
            self.check("rows were written");
            let transactions = prepare(&mut running);
            assert!(!transactions.is_empty(), "rows are in a transaction");
            self.check("rows were prepared");
            // The next checkpoint has begun before this one is complete.
            let second = self.write(&mut running);
            rows += first.len() + second.len();
            running.sink.commit(&transactions).unwrap();
            self.visible.extend(first);
            self.check("rows were committed");
            running.sink.commit(&transactions).unwrap();
            running.sink.commit(&[]).unwrap();
            self.check("rows were committed twice");
            let transactions = prepare(&mut running);
            assert!(prepare(&mut running).is_empty(), "what was prepared is not prepared again");
            running.sink.commit(&transactions).unwrap();
            self.visible.extend(second);
            self.check("the next rows were committed");
        }
        let last = self.write(&mut running);
        running.writers.iter_mut().for_each(|writer| writer.finish().unwrap());
        self.check("the input has ended");
        let transactions = prepare(&mut running);
        running.sink.commit(&transactions).unwrap();
        rows += last.len();
        self.visible.extend(last);
        self.check("the last rows were committed");
        assert_eq!(running.sink.report().rows, rows as u64, "the report counts the rows");
    }

    /// What was written or prepared for a checkpoint that did not complete is gone.
    fn crash_before_the_checkpoint(&mut self) {
        let mut running = self.start(&[]);
        self.write(&mut running);
        drop(running);
        self.check("an attempt that has written has crashed");
        let mut running = self.start(&[]);
        self.check("the next one has recovered");
        self.write(&mut running);
        let lost = prepare(&mut running);
        self.write(&mut running);
        drop(running);
        let mut running = self.start(&[]);
        self.check("an attempt that has prepared has crashed");
        assert!(running.sink.commit(&lost).is_err(), "what was removed cannot be committed");
        self.check("what was removed is still not there");
        let rows = self.write(&mut running);
        let transactions = prepare(&mut running);
        running.sink.commit(&transactions).unwrap();
        self.visible.extend(rows);
        self.check("rows were written again");
    }

    /// What was prepared for a checkpoint that is complete is committed by a later attempt, however many of them crash before.
    fn crash_before_the_commit(&mut self) {
        let mut running = self.start(&[]);
        let rows = self.write(&mut running);
        let pending = prepare(&mut running);
        self.write(&mut running);
        drop(running);
        drop(self.start(&pending));
        self.check("nobody has committed");
        let running = self.start(&pending);
        self.check("nobody has committed yet");
        running.sink.commit(&pending).unwrap();
        self.visible.extend(rows);
        self.check("a later attempt has committed");
        drop(running);
        // It has crashed before it could tell.
        let running = self.start(&pending);
        self.check("an attempt has recovered what was committed");
        running.sink.commit(&pending).unwrap();
        self.check("an attempt has committed what was committed");
    }

    /// A commit that was cut off is completed.
    fn crash_amid_the_commit(&mut self) {
        let mut running = self.start(&[]);
        let rows = self.write(&mut running);
        let pending = prepare(&mut running);
        running.sink.commit(&pending[..pending.len() / 2]).unwrap();
        drop(running);
        let running = self.start(&pending);
        running.sink.commit(&pending).unwrap();
        self.visible.extend(rows);
        self.check("a commit was completed");
    }

    /// An attempt that was replaced, and does not know it, harms nothing.
    fn older_attempts(&mut self) {
        let mut old = self.start(&[]);
        self.write(&mut old);
        let old_generation = self.generation;
        let mut running = self.start(&[]);
        let first = self.write(&mut running);
        let transactions = prepare(&mut running);
        let second = self.write(&mut running);
        (self.bind)(&self.schema, old_generation).unwrap().recover(&[]).unwrap();
        // The old attempt may find that its own rows are gone, or not.
        for writer in &mut old.writers {
            drop(writer.write(&self.batch).and_then(|()| writer.prepare()));
        }
        self.check("an older attempt has recovered");
        running.sink.commit(&transactions).unwrap();
        let transactions = prepare(&mut running);
        running.sink.commit(&transactions).unwrap();
        self.visible.extend(first);
        self.visible.extend(second);
        self.check("the newer attempt has committed");
        drop(old);
        drop(running);
        drop(self.start(&[]));
        self.check("all have gone");
    }
}

/// Prepares all writers. Transactions go through the text that a checkpoint is.
fn prepare(running: &mut Running) -> Vec<Transaction> {
    let transactions: Vec<_> = running.writers.iter_mut().flat_map(|writer| writer.prepare().unwrap()).collect();
    serde_json::from_str(&serde_json::to_string(&transactions).unwrap()).unwrap()
}

/// Rows with a column of each type, with and without values, and with texts that formats have to escape.
pub fn sample(nested: bool) -> (SchemaRef, Batch) {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), None]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(0), Some(1), Some(i8::MAX)]))),
        ("i16", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(0), Some(1), Some(i16::MAX)]))),
        ("i32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(0), Some(1), Some(i32::MAX)]))),
        ("i64", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0), Some(1), Some(i64::MAX)]))),
        ("u8", Arc::new(UInt8Array::from(vec![Some(u8::MAX), None, Some(0), Some(1), Some(9)]))),
        ("u16", Arc::new(UInt16Array::from(vec![Some(u16::MAX), None, Some(0), Some(1), Some(9)]))),
        ("u32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None, Some(0), Some(1), Some(9)]))),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 12, 0, 1, 9]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(f32::MIN_POSITIVE), None, Some(-0.5), Some(1e30), Some(9.0)]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), None, Some(-0.5), Some(1e300), Some(9.0)]))),
        (
            "at",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(0), None, Some(-1), Some(1_436_918_400_123), Some(i64::MAX)])
                    .with_timezone("UTC"),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec![Some("a, \"b\"\n\\c\u{1}"), None, Some(""), Some("NA"), Some("größer 🦀")]))),
        ("view", Arc::new(StringViewArray::from(vec!["a text that does not fit into a view", "\r", "", "\"", "x"]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&[0, 255, 34][..]), None, Some(b"abc"), Some(b"\n"), Some(b"1")]))),
    ];
    if nested {
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None, Some(3)]);
        list.append_null();
        list.append_value([]);
        list.append_value([Some(7)]);
        list.append_value([None]);
        columns.push(("list", Arc::new(list.finish())));
        let mut names = StringBuilder::new();
        ["a", "b", "c", "d"].iter().for_each(|n| names.append_value(n));
        names.append_null();
        let fields = vec![Field::new("n", DataType::Int64, false), Field::new("name", DataType::Utf8, true)];
        let values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])), Arc::new(names.finish())];
        let nulls = arrow_buffer::NullBuffer::from(vec![true, false, true, true, true]);
        columns.push(("record", Arc::new(StructArray::new(fields.into(), values, Some(nulls)))));
    }
    let field = |(name, array): &(&str, ArrayRef)| {
        // In a schema, text is text whatever its layout.
        let data_type = if *array.data_type() == DataType::Utf8View { DataType::Utf8 } else { array.data_type().clone() };
        Field::new(*name, data_type, array.null_count() > 0)
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    (schema, Batch::new(5, columns.into_iter().map(|(_, array)| array).collect(), None))
}
