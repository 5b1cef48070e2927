//! The cells of a batch, for writers of text: each column once as what it is, then row by row.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, StringArray, StringViewArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_cast::base64::{BASE64_STANDARD, Engine};
use arrow_schema::{DataType, Field, TimeUnit};

use super::time;
use crate::Error;

/// A column's cells.
pub(crate) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    pub values: CellValues<'a>,
}

/// The values of a column, by type.
pub(crate) enum CellValues<'a> {
    Boolean(&'a BooleanBuffer),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt8(&'a [u8]),
    UInt16(&'a [u16]),
    UInt32(&'a [u32]),
    UInt64(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Time(&'a [i64]),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    List { offsets: &'a [i32], items: Box<Cells<'a>> },
    Record(Vec<(&'a str, Cells<'a>)>),
}

/// Refuses a column that cannot be written as text.
pub(crate) fn check(field: &Field) -> Result<(), Error> {
    use DataType::*;
    match field.data_type() {
        Boolean | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | Float32 | Float64 => Ok(()),
        Timestamp(TimeUnit::Millisecond, _) => Ok(()),
        List(item) => check(item),
        Struct(fields) => fields.iter().try_for_each(|f| check(f)),
        other if other.is_integer() => Ok(()),
        other => {
            Err(Error::options(format!("the column \"{}\" is of type {other}, which cannot be written as text", field.name())))
        }
    }
}

impl<'a> Cells<'a> {
    /// The cells of a column that passed [`check`].
    pub fn new(array: &'a ArrayRef) -> Self {
        use DataType::*;
        let values = match array.data_type() {
            Boolean => CellValues::Boolean(array.as_boolean().values()),
            Int8 => CellValues::Int8(array.as_primitive::<Int8Type>().values()),
            Int16 => CellValues::Int16(array.as_primitive::<Int16Type>().values()),
            Int32 => CellValues::Int32(array.as_primitive::<Int32Type>().values()),
            Int64 => CellValues::Int64(array.as_primitive::<Int64Type>().values()),
            UInt8 => CellValues::UInt8(array.as_primitive::<UInt8Type>().values()),
            UInt16 => CellValues::UInt16(array.as_primitive::<UInt16Type>().values()),
            UInt32 => CellValues::UInt32(array.as_primitive::<UInt32Type>().values()),
            UInt64 => CellValues::UInt64(array.as_primitive::<UInt64Type>().values()),
            Float32 => CellValues::Float32(array.as_primitive::<Float32Type>().values()),
            Float64 => CellValues::Float64(array.as_primitive::<Float64Type>().values()),
            Timestamp(_, _) => CellValues::Time(array.as_primitive::<TimestampMillisecondType>().values()),
            Utf8 => CellValues::Text(array.as_string()),
            LargeUtf8 => CellValues::LargeText(array.as_string()),
            Utf8View => CellValues::TextView(array.as_string_view()),
            Binary => CellValues::Binary(array.as_binary()),
            LargeBinary => CellValues::LargeBinary(array.as_binary()),
            BinaryView => CellValues::BinaryView(array.as_binary_view()),
            List(_) => {
                let list = array.as_list::<i32>();
                CellValues::List { offsets: list.value_offsets(), items: Box::new(Self::new(list.values())) }
            }
            Struct(fields) => {
                let columns = array.as_struct().columns();
                CellValues::Record(fields.iter().zip(columns).map(|(f, c)| (f.name().as_str(), Self::new(c))).collect())
            }
            other => unreachable!("a column of type {other} was refused when the sink was bound"),
        };
        Self { nulls: array.nulls(), values }
    }

    /// Whether a row has no value.
    #[inline(always)]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// A row's text, if the column is one of text.
    #[inline(always)]
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match &self.values {
            CellValues::Text(array) => Some(array.value(row)),
            CellValues::LargeText(array) => Some(array.value(row)),
            CellValues::TextView(array) => Some(array.value(row)),
            _ => None,
        }
    }

    /// A row's bytes, if the column is one of bytes.
    pub fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        match &self.values {
            CellValues::Binary(array) => Some(array.value(row)),
            CellValues::LargeBinary(array) => Some(array.value(row)),
            CellValues::BinaryView(array) => Some(array.value(row)),
            _ => None,
        }
    }

    /// A row's whole number, or the milliseconds of its instant, if the column is one of such.
    pub fn integer(&self, row: usize) -> Option<i128> {
        Some(match &self.values {
            CellValues::Int8(values) => values[row].into(),
            CellValues::Int16(values) => values[row].into(),
            CellValues::Int32(values) => values[row].into(),
            CellValues::Int64(values) | CellValues::Time(values) => values[row].into(),
            CellValues::UInt8(values) => values[row].into(),
            CellValues::UInt16(values) => values[row].into(),
            CellValues::UInt32(values) => values[row].into(),
            CellValues::UInt64(values) => values[row].into(),
            _ => return None,
        })
    }

    /// Appends a row's number or boolean, or, without quotes, its instant (RFC 3339) or bytes (base64). False if it is something else.
    #[inline(always)]
    pub fn write_plain(&self, row: usize, out: &mut Vec<u8>) -> bool {
        fn integer<I: itoa::Integer>(value: I, out: &mut Vec<u8>) {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        match &self.values {
            CellValues::UInt64(values) => integer(values[row], out),
            CellValues::Int64(values) => integer(values[row], out),
            CellValues::Time(values) => time::write(values[row], out),
            CellValues::Float64(values) => out.extend_from_slice(zmij::Buffer::new().format(values[row]).as_bytes()),
            CellValues::Float32(values) => out.extend_from_slice(zmij::Buffer::new().format(values[row]).as_bytes()),
            CellValues::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            CellValues::Int32(values) => integer(values[row], out),
            CellValues::UInt32(values) => integer(values[row], out),
            CellValues::Int16(values) => integer(values[row], out),
            CellValues::UInt16(values) => integer(values[row], out),
            CellValues::Int8(values) => integer(values[row], out),
            CellValues::UInt8(values) => integer(values[row], out),
            _ => match self.bytes(row) {
                Some(bytes) => out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes()),
                None => return false,
            },
        }
        true
    }
}
