//! The suite that every connector passes.
//!
//! A source must give the same rows however it is read: by large and by small reads, from its beginning or from any position on, with
//! all columns or some. A sink must put out every row once, whichever of its writers took it.
//!
//! Rows are compared as JSON lines, so that the layout of a column does not matter. A failed check panics, as tests do.

// A failed check panics: this is code of tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, StringArray,
    StringViewArray, StructArray, TimestampMillisecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tokio::sync::Notify;
use weir_types::Batch;

use crate::format::encoder::Encoder;
use crate::registry::Stream;
use crate::{Error, Fetched, Sink, Source, Split};

/// Binds a source to streams.
pub type BindSource<'a> = dyn Fn(&[Stream]) -> Result<Box<dyn Source>, Error> + 'a;
/// Binds a sink to a schema.
pub type BindSink<'a> = dyn Fn(&SchemaRef) -> Result<Box<dyn Sink>, Error> + 'a;

/// The rows of each stream, as JSON lines.
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
            let all = read(&*source, split, streams, 10_000, &mut |_| ());
            assert_eq!(read(&*source, split, streams, 1, &mut |_| ()), all, "small reads give the rows that large ones give");
            positions(&*source, split, streams, &all);
        }
    }
    projections(bind, streams);
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
                    rows[*stream].extend(lines(&encoders[*stream], batch));
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
