//! Makes rows of Kafka's records.
//!
//! A column that is called like something of the record itself is that: `_key`, `_topic`, `_partition`, `_offset`, `_timestamp`, `_headers`. All others come
//! from the value. A row's event time is the record's timestamp.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use weir_types::{Batch, EventTime};

use super::native::Record;
use super::options::{self, Framing};
use crate::Error;
use crate::format::columns::{Column, Reason, Rows, Values};
use crate::format::json;
use crate::format::protobuf::wire::Cursor;

/// Something of a record besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl Metadata {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "_key" => Self::Key,
            "_topic" => Self::Topic,
            "_partition" => Self::Partition,
            "_offset" => Self::Offset,
            "_timestamp" => Self::Timestamp,
            "_headers" => Self::Headers,
            _ => return None,
        })
    }

    /// Checks a column's type.
    fn check(self, field: &Field) -> Result<(), Error> {
        let (fits, what) = match (self, field.data_type()) {
            (Self::Key, found) => (is_text_or_bytes(found), "utf8 or binary"),
            (Self::Topic, found) => (*found == DataType::Utf8, "utf8"),
            (Self::Partition, found) => (*found == DataType::Int32, "int32"),
            (Self::Offset, found) => (*found == DataType::Int64, "int64"),
            (Self::Timestamp, found) => (matches!(found, DataType::Timestamp(TimeUnit::Millisecond, _)), "event-time"),
            (Self::Headers, _) => (is_list_of_headers(field), "a list of records of key (utf8) and value (binary)"),
        };
        if fits {
            return Ok(());
        }
        Err(Error::options(format!("the column \"{}\" of kafka is {what}, not {}", field.name(), field.data_type())))
    }
}

/// Whether a column is a list of headers: records of a key and a value.
pub(super) fn is_list_of_headers(field: &Field) -> bool {
    let DataType::List(item) = field.data_type() else { return false };
    let DataType::Struct(fields) = item.data_type() else { return false };
    match &fields[..] {
        [key, value] => {
            key.name() == "key"
                && *key.data_type() == DataType::Utf8
                && value.name() == "value"
                && is_text_or_bytes(value.data_type())
        }
        _ => false,
    }
}

fn is_text_or_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

/// The columns that come from values.
pub(super) fn value_columns(schema: &SchemaRef) -> SchemaRef {
    let columns = schema.fields().iter().filter(|field| Metadata::of(field.name()).is_none()).cloned();
    Arc::new(Schema::new(columns.collect::<Vec<_>>()))
}

/// Rows of one partition under construction.
pub(super) struct Records {
    format: options::Values,
    values: Rows,
    metadata: Rows,
    /// what each column of `metadata` is
    kinds: Vec<Metadata>,
    /// for each column of the schema, whether it is of `metadata`
    is_metadata: Vec<bool>,
    times: Vec<EventTime>,
}

impl Records {
    /// Makes room for rows of this schema.
    ///
    /// # Errors
    /// If a column cannot be read from a record.
    pub fn new(format: options::Values, schema: &SchemaRef) -> Result<Self, Error> {
        let kind = |field: &Field| Metadata::of(field.name());
        let is_metadata = schema.fields().iter().map(|field| kind(field).is_some()).collect();
        let metadata: Vec<_> = schema.fields().iter().filter(|field| kind(field).is_some()).cloned().collect();
        let value_columns = value_columns(schema);
        let values = value_columns.fields();
        metadata.iter().try_for_each(|field| kind(field).map_or(Ok(()), |kind| kind.check(field)))?;
        if let options::Values::Raw = format {
            match &values[..] {
                [] => {}
                [value] if is_text_or_bytes(value.data_type()) => {}
                [value] => {
                    let (name, found) = (value.name(), value.data_type());
                    return Err(Error::options(format!("the column \"{name}\" is {found}; a raw value is utf8 or binary")));
                }
                [_, other, ..] => {
                    let other = other.name();
                    return Err(Error::options(format!("a raw value is a single column, but the job reads \"{other}\", too")));
                }
            }
        }
        Ok(Self {
            format,
            kinds: metadata.iter().filter_map(|field| kind(field)).collect(),
            values: Rows::new(&value_columns)?,
            metadata: Rows::new(&Arc::new(Schema::new(metadata)))?,
            is_metadata,
            times: Vec::new(),
        })
    }

    /// Whether these are so many rows, or so long ones, that they should be taken.
    pub fn are_enough(&self, max_rows: usize) -> bool {
        self.values.are_enough(max_rows) || self.metadata.are_enough(max_rows)
    }

    /// Makes a row of a record, and returns its number. If it is malformed, none.
    pub fn push(&mut self, record: &Record<'_>) -> Result<usize, Reason> {
        let pushed = self.push_columns(record).map(|()| self.values.len() - 1);
        if pushed.is_err() {
            self.values.drop_row();
            self.metadata.drop_row();
        }
        pushed
    }

    fn push_columns(&mut self, record: &Record<'_>) -> Result<(), Reason> {
        match (&self.format, record.value()) {
            // A record without a value, a tombstone, has none in any column.
            (_, None) => {}
            (options::Values::Json, Some(payload)) => {
                let text = std::str::from_utf8(payload).map_err(|_| Reason("the value is not UTF-8".into()))?;
                json::read_object(text, &mut self.values)?;
            }
            (options::Values::Raw, Some(payload)) => {
                if let [column] = &mut self.values.columns[..] {
                    push_bytes(column, payload)?;
                }
            }
            (options::Values::Avro(avro, framing), Some(payload)) => {
                avro.read(unframed(payload, *framing)?, &mut self.values)?;
            }
            (options::Values::Protobuf(message, framing), Some(payload)) => {
                let payload = unframed(payload, *framing)?;
                let payload = if *framing == Framing::Confluent { unindexed(payload)? } else { payload };
                message.read(payload, &mut self.values)?;
            }
        }
        for (column, kind) in self.metadata.columns.iter_mut().zip(&self.kinds) {
            push_metadata(column, *kind, record)?;
        }
        // Both are ended, or none is: what can fail comes before.
        self.metadata.fill_row()?;
        self.values.end_row(record.value().map_or(0, <[u8]>::len))?;
        self.metadata.end_row(record.key().map_or(0, <[u8]>::len))?;
        self.times.push(record.timestamp().unwrap_or(-1));
        Ok(())
    }

    /// Takes the rows; none if there are none.
    pub fn take(&mut self) -> Option<Batch> {
        let rows = self.values.len();
        if rows == 0 {
            return None;
        }
        let (values, metadata) = (self.values.take(), self.metadata.take());
        let (mut values, mut metadata) = (values.columns().iter(), metadata.columns().iter());
        let columns = self.is_metadata.iter().map(|&is_metadata| if is_metadata { metadata.next() } else { values.next() });
        let columns = columns.flatten().cloned().collect();
        let times = std::mem::replace(&mut self.times, Vec::with_capacity(rows));
        Some(Batch::new(rows, columns, Some(times.into())))
    }
}

/// A value without what comes before it.
fn unframed(payload: &[u8], framing: Framing) -> Result<&[u8], Reason> {
    match (framing, payload) {
        (Framing::None, payload) | (Framing::Confluent, [0, _, _, _, _, payload @ ..]) => Ok(payload),
        (Framing::Confluent, _) => Err(Reason("the value does not begin with the number of a schema".into())),
    }
}

/// A message without the path to its descriptor: a number of numbers, or a single zero for the first.
fn unindexed(payload: &[u8]) -> Result<&[u8], Reason> {
    let mut cursor = Cursor(payload);
    // The number has a sign, in its lowest bit.
    let count = cursor.varint()? >> 1;
    (0..count).try_for_each(|_| cursor.varint().map(drop))?;
    Ok(cursor.0)
}

fn push_metadata(column: &mut Column, kind: Metadata, record: &Record<'_>) -> Result<(), Reason> {
    match (kind, &mut column.values) {
        (Metadata::Key, _) => return record.key().map_or(Ok(()), |key| push_bytes(column, key)),
        (Metadata::Topic, _) => return push_bytes(column, record.topic()),
        (Metadata::Partition, Values::Int32(values)) => values.push(record.partition()),
        (Metadata::Offset, Values::Int64(values)) => values.push(record.offset()),
        (Metadata::Timestamp, Values::Time(values)) => match record.timestamp() {
            Some(time) => values.push(time),
            None => return Ok(()),
        },
        (Metadata::Headers, Values::List { offsets, item }) => {
            for (key, value) in record.headers() {
                let Values::Record { columns, .. } = &mut item.values else { unreachable!("a header is a record") };
                push_bytes(&mut columns[0], key)?;
                match value {
                    Some(value) => push_bytes(&mut columns[1], value)?,
                    None => columns[1].push_null()?,
                }
                item.set();
            }
            offsets.push(i32::try_from(item.len()).map_err(|_| Reason("a batch has too many headers".into()))?);
        }
        _ => unreachable!("the types of metadata were checked"),
    }
    column.set();
    Ok(())
}

/// Sets a value of text or bytes.
fn push_bytes(column: &mut Column, bytes: &[u8]) -> Result<(), Reason> {
    match &mut column.values {
        Values::Text(values) => {
            if std::str::from_utf8(bytes).is_err() {
                return Err(Reason(format!("\"{}\" is not UTF-8", column.name())));
            }
            values.data.extend_from_slice(bytes);
            values.end_value();
        }
        Values::Binary(values) => {
            values.data.extend_from_slice(bytes);
            values.end_value();
        }
        _ => unreachable!("the types of columns of text and bytes were checked"),
    }
    column.set();
    Ok(())
}
