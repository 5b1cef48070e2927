//! Columns under construction: what readers of text put their values into.
//!
//! A reader sets the values of a row column by column, in any order, and then ends the row; a row that turns out to be malformed is
//! dropped as a whole. So between rows all columns are of equal length.

use std::str::FromStr;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_cast::base64::{BASE64_STANDARD, Engine};
use arrow_schema::{DataType, FieldRef, Fields, SchemaRef, TimeUnit};
use weir_types::Batch;

use super::time;
use crate::Error;

/// Why a row is malformed, for the user.
#[derive(Debug, PartialEq)]
pub(crate) struct Reason(pub String);

/// Text beyond this ends a batch, whatever number of rows was asked for, so that a column never gets near 2 GiB.
const BATCH_TEXT_BYTES_MAX: usize = 64 << 20;

/// Rows under construction.
pub(crate) struct Rows {
    pub columns: Vec<Column>,
    rows: usize,
    text_bytes: usize,
}

impl Rows {
    /// Makes room for rows of this schema.
    pub fn new(schema: &SchemaRef) -> Result<Self, Error> {
        let columns = schema.fields().iter().map(Column::new).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: 0, text_bytes: 0 })
    }

    /// The number of ended rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether these are so many rows, or so long ones, that they should be taken.
    pub fn are_enough(&self, max_rows: usize) -> bool {
        self.rows >= max_rows || self.text_bytes >= BATCH_TEXT_BYTES_MAX
    }

    /// Gives a null to the columns that were not set since the last row ended.
    pub fn fill_row(&mut self) -> Result<(), Reason> {
        for column in &mut self.columns {
            if column.len() == self.rows {
                column.push_null().map_err(|_| Reason(format!("\"{}\" is missing", column.name())))?;
            }
        }
        Ok(())
    }

    /// Ends a row that was read from so many bytes. Columns that were not set get a null.
    pub fn end_row(&mut self, bytes: usize) -> Result<(), Reason> {
        self.fill_row()?;
        self.rows += 1;
        self.text_bytes += bytes;
        Ok(())
    }

    /// Drops what was set since the last row ended.
    pub fn drop_row(&mut self) {
        self.columns.iter_mut().for_each(|c| c.truncate(self.rows));
    }

    /// Takes the ended rows.
    pub fn take(&mut self) -> Batch {
        let rows = std::mem::take(&mut self.rows);
        self.text_bytes = 0;
        Batch::new(rows, self.columns.iter_mut().map(Column::take).collect(), None)
    }
}

/// A column under construction.
pub(crate) struct Column {
    field: FieldRef,
    validity: NullBufferBuilder,
    pub values: Values,
}

/// The values of a column, by type.
pub(crate) enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Time(Vec<i64>),
    Text(Bytes),
    Binary(Bytes),
    List { offsets: Vec<i32>, item: Box<Column> },
    Record { fields: Fields, columns: Vec<Column> },
}

impl Values {
    /// Puts an integer into a column of integers or instants, if it is in range.
    pub fn push_integer(&mut self, value: i128) -> Result<(), Reason> {
        fn narrow<T: TryFrom<i128>>(values: &mut Vec<T>, value: i128) -> Result<(), Reason> {
            values.push(T::try_from(value).map_err(|_| Reason(format!("{value} is out of range")))?);
            Ok(())
        }
        match self {
            Self::Int8(values) => narrow(values, value),
            Self::Int16(values) => narrow(values, value),
            Self::Int32(values) => narrow(values, value),
            Self::Int64(values) | Self::Time(values) => narrow(values, value),
            Self::UInt8(values) => narrow(values, value),
            Self::UInt16(values) => narrow(values, value),
            Self::UInt32(values) => narrow(values, value),
            Self::UInt64(values) => narrow(values, value),
            _ => unreachable!("readers put integers only into columns of integers or instants"),
        }
    }
}

/// Byte strings, one after another.
pub(crate) struct Bytes {
    offsets: Vec<i32>,
    pub data: Vec<u8>,
}

impl Bytes {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    /// Ends the value whose bytes were appended to `data`.
    pub fn end_value(&mut self) {
        // A batch holds BATCH_TEXT_BYTES_MAX and one row at most, and a row is bounded.
        self.offsets.push(i32::try_from(self.data.len()).expect("batches of text are bounded"));
    }

    fn truncate(&mut self, length: usize) {
        self.offsets.truncate(length + 1);
        self.data.truncate(self.offsets[length] as usize);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let data = Vec::with_capacity(self.data.len());
        (OffsetBuffer::new(offsets.into()), Buffer::from_vec(std::mem::replace(&mut self.data, data)))
    }
}

impl Column {
    fn new(field: &FieldRef) -> Result<Self, Error> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt8 => Values::UInt8(Vec::new()),
            DataType::UInt16 => Values::UInt16(Vec::new()),
            DataType::UInt32 => Values::UInt32(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => Values::Time(Vec::new()),
            DataType::Utf8 => Values::Text(Bytes::new()),
            DataType::Binary => Values::Binary(Bytes::new()),
            DataType::List(item) => Values::List { offsets: vec![0], item: Box::new(Self::new(item)?) },
            DataType::Struct(fields) => {
                let columns = fields.iter().map(Self::new).collect::<Result<_, _>>()?;
                Values::Record { fields: fields.clone(), columns }
            }
            other => {
                return Err(Error::options(format!("the column \"{}\" is of type {other}, which text has not", field.name())));
            }
        };
        Ok(Self { field: Arc::clone(field), validity: NullBufferBuilder::new(0), values })
    }

    /// The column's name.
    pub fn name(&self) -> &str {
        self.field.name()
    }

    /// Whether the column may lack values.
    pub fn is_nullable(&self) -> bool {
        self.field.is_nullable()
    }

    /// Whether the values are text.
    pub fn is_text(&self) -> bool {
        matches!(self.values, Values::Text(_))
    }

    /// Whether the values are lists or records.
    pub fn is_nested(&self) -> bool {
        matches!(self.values, Values::List { .. } | Values::Record { .. })
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.validity.len()
    }

    /// After a value was put into `values`: it is there.
    #[inline(always)]
    pub fn set(&mut self) {
        self.validity.append_non_null();
    }

    /// Sets no value.
    pub fn push_null(&mut self) -> Result<(), Reason> {
        if !self.is_nullable() {
            return Err(Reason("a value is required".into()));
        }
        self.push_nothing();
        Ok(())
    }

    /// Fills a row's slot without a value, whether or not the column may lack one (below a null record, no field has a value).
    fn push_nothing(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) | Values::Time(values) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Text(bytes) | Values::Binary(bytes) => bytes.end_value(),
            Values::List { offsets, .. } => offsets.push(*offsets.last().expect("offsets begin with 0")),
            Values::Record { columns, .. } => columns.iter_mut().for_each(Self::push_nothing),
        }
        self.validity.append_null();
    }

    /// Sets a value of text that holds one: a number, a boolean, an instant, text. For formats whose values are all text.
    pub fn push_text(&mut self, text: &str) -> Result<(), Reason> {
        fn number<T: FromStr>(values: &mut Vec<T>, text: &str, what: &str) -> Result<(), Reason> {
            values.push(text.parse().map_err(|_| expected(what, text))?);
            Ok(())
        }
        match &mut self.values {
            Values::Boolean(values) => match text {
                "true" | "True" | "TRUE" | "1" => values.append(true),
                "false" | "False" | "FALSE" | "0" => values.append(false),
                _ => return Err(expected("true or false", text)),
            },
            Values::Int8(values) => number(values, text, "an integer from -128 to 127")?,
            Values::Int16(values) => number(values, text, "an integer of 16 bits")?,
            Values::Int32(values) => number(values, text, "an integer of 32 bits")?,
            Values::Int64(values) => number(values, text, "an integer of 64 bits")?,
            Values::UInt8(values) => number(values, text, "an integer from 0 to 255")?,
            Values::UInt16(values) => number(values, text, "an integer of 16 bits from 0 on")?,
            Values::UInt32(values) => number(values, text, "an integer of 32 bits from 0 on")?,
            Values::UInt64(values) => number(values, text, "an integer of 64 bits from 0 on")?,
            Values::Float32(values) => values.push(float(text)?),
            Values::Float64(values) => values.push(float(text)?),
            Values::Time(values) => values.push(
                time::parse(text.as_bytes())
                    .or_else(|| text.parse().ok())
                    .ok_or_else(|| expected("an instant like 2013-01-01T06:00:00Z or milliseconds", text))?,
            ),
            Values::Text(bytes) => {
                bytes.data.extend_from_slice(text.as_bytes());
                bytes.end_value();
            }
            Values::Binary(bytes) => {
                BASE64_STANDARD.decode_vec(text, &mut bytes.data).map_err(|_| expected("bytes in base64", text))?;
                bytes.end_value();
            }
            Values::List { .. } | Values::Record { .. } => return Err(expected("a list or a record", text)),
        }
        self.set();
        Ok(())
    }

    /// Drops all values but the first `length`.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(length),
            Values::Int8(values) => values.truncate(length),
            Values::Int16(values) => values.truncate(length),
            Values::Int32(values) => values.truncate(length),
            Values::Int64(values) | Values::Time(values) => values.truncate(length),
            Values::UInt8(values) => values.truncate(length),
            Values::UInt16(values) => values.truncate(length),
            Values::UInt32(values) => values.truncate(length),
            Values::UInt64(values) => values.truncate(length),
            Values::Float32(values) => values.truncate(length),
            Values::Float64(values) => values.truncate(length),
            Values::Text(bytes) | Values::Binary(bytes) => bytes.truncate(length),
            Values::List { offsets, item } => {
                offsets.truncate(length + 1);
                item.truncate(offsets[length] as usize);
            }
            Values::Record { columns, .. } => columns.iter_mut().for_each(|c| c.truncate(length)),
        }
        self.validity.truncate(length);
    }

    /// Takes the values as an array.
    fn take(&mut self) -> ArrayRef {
        fn primitive<T: ArrowPrimitiveType>(
            values: &mut Vec<T::Native>,
            nulls: Option<arrow_buffer::NullBuffer>,
        ) -> PrimitiveArray<T> {
            let room = Vec::with_capacity(values.len());
            PrimitiveArray::new(ScalarBuffer::from(std::mem::replace(values, room)), nulls)
        }
        let rows = self.len();
        let nulls = self.validity.finish();
        match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int8(values) => Arc::new(primitive::<Int8Type>(values, nulls)),
            Values::Int16(values) => Arc::new(primitive::<Int16Type>(values, nulls)),
            Values::Int32(values) => Arc::new(primitive::<Int32Type>(values, nulls)),
            Values::Int64(values) => Arc::new(primitive::<Int64Type>(values, nulls)),
            Values::UInt8(values) => Arc::new(primitive::<UInt8Type>(values, nulls)),
            Values::UInt16(values) => Arc::new(primitive::<UInt16Type>(values, nulls)),
            Values::UInt32(values) => Arc::new(primitive::<UInt32Type>(values, nulls)),
            Values::UInt64(values) => Arc::new(primitive::<UInt64Type>(values, nulls)),
            Values::Float32(values) => Arc::new(primitive::<Float32Type>(values, nulls)),
            Values::Float64(values) => Arc::new(primitive::<Float64Type>(values, nulls)),
            Values::Time(values) => {
                Arc::new(primitive::<TimestampMillisecondType>(values, nulls).with_data_type(self.field.data_type().clone()))
            }
            Values::Text(bytes) => {
                let (offsets, data) = bytes.take();
                Arc::new(StringArray::try_new(offsets, data, nulls).expect("readers put only UTF-8 into columns of text"))
            }
            Values::Binary(bytes) => {
                let (offsets, data) = bytes.take();
                Arc::new(BinaryArray::new(offsets, data, nulls))
            }
            Values::List { offsets, item } => {
                let DataType::List(field) = self.field.data_type() else { unreachable!("a list's type is a list") };
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                Arc::new(ListArray::new(Arc::clone(field), offsets, item.take(), nulls))
            }
            Values::Record { fields, columns } => {
                let columns = columns.iter_mut().map(Self::take).collect();
                Arc::new(
                    StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)
                        .expect("the columns of a record are of its types and of equal length"),
                )
            }
        }
    }
}

/// A number of a float type. One that is finite, as every text with digits is, does not become an infinity: that would go out as no value.
#[inline]
pub(crate) fn float<T: FromStr + Into<f64> + Copy>(text: &str) -> Result<T, Reason> {
    let value: T = text.parse().map_err(|_| expected("a number", text))?;
    if value.into().is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(expected("a number in the range of the column's type", text));
    }
    Ok(value)
}

/// The reason that a value is not what its column needs. Long values are cut.
pub(crate) fn expected(what: &str, found: &str) -> Reason {
    const SHOWN_CHARS_MAX: usize = 60;
    let cut: String = found.chars().take(SHOWN_CHARS_MAX).collect();
    let dots = if cut.len() < found.len() { "…" } else { "" };
    Reason(format!("expected {what}, found {cut}{dots}"))
}
