//! The hash of a row, whose sum over all rows is the checksum of the Nexmark benchmark.
//!
//! ```text
//! step(h, v) = h' ^ (h' >> 32)  where  h' = (h ^ v) * 0xFF51AFD7ED558CCD
//! row hash   = 0x9E3779B97F4A7C15, then a step for each field
//!   number, event time: v = its value, sign-extended      float: v = its bits      boolean: v = 0 or 1
//!   text, bytes:        v = length | first byte << 32 | last byte << 40, or 0 if empty
//!   null:               v = 0
//! ```
//!
//! Hashes are computed column by column over the rows of a batch; of text, only lengths and two bytes are read.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, GenericByteArray, GenericByteViewArray};
use arrow_buffer::{ArrowNativeType, NullBuffer};
use arrow_schema::{DataType, TimeUnit};

const START: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTIPLIER: u64 = 0xFF51_AFD7_ED55_8CCD;

/// The bytes of a view before its text, and the most text that is in the view itself.
const VIEW_HEADER_BYTES: usize = 4;
const VIEW_INLINE_BYTES_MAX: usize = 12;

/// Whether a column of this type has a hash: all but lists and records.
pub(super) fn can_be_hashed(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => true,
        Timestamp(TimeUnit::Millisecond, _) => true,
        other => other.is_integer() || matches!(other, Float32 | Float64),
    }
}

/// The sum of the hashes of all rows. `hashes` is working memory.
pub(super) fn sum<'a>(rows: usize, kind: Option<u64>, columns: impl Iterator<Item = &'a ArrayRef>, hashes: &mut Vec<u64>) -> u64 {
    hashes.clear();
    hashes.resize(rows, kind.map_or(START, |kind| step(START, kind)));
    columns.for_each(|column| step_column(hashes, column));
    hashes.iter().fold(0, |sum, hash| sum.wrapping_add(*hash))
}

#[inline(always)]
fn step(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(MULTIPLIER);
    mixed ^ (mixed >> 32)
}

fn step_column(hashes: &mut [u64], column: &ArrayRef) {
    match column.data_type() {
        DataType::Int8 => primitive::<Int8Type>(hashes, column, |v| v as u64),
        DataType::Int16 => primitive::<Int16Type>(hashes, column, |v| v as u64),
        DataType::Int32 => primitive::<Int32Type>(hashes, column, |v| v as u64),
        DataType::Int64 => primitive::<Int64Type>(hashes, column, |v| v as u64),
        DataType::UInt8 => primitive::<UInt8Type>(hashes, column, u64::from),
        DataType::UInt16 => primitive::<UInt16Type>(hashes, column, u64::from),
        DataType::UInt32 => primitive::<UInt32Type>(hashes, column, u64::from),
        DataType::UInt64 => primitive::<UInt64Type>(hashes, column, |v| v),
        DataType::Float32 => primitive::<Float32Type>(hashes, column, |v| u64::from(v.to_bits())),
        DataType::Float64 => primitive::<Float64Type>(hashes, column, f64::to_bits),
        DataType::Timestamp(_, _) => primitive::<TimestampMillisecondType>(hashes, column, |v| v as u64),
        DataType::Boolean => {
            let array = column.as_boolean();
            values(hashes, array.nulls(), array.values().iter().map(u64::from));
        }
        DataType::Utf8 => bytes(hashes, column.as_string::<i32>()),
        DataType::LargeUtf8 => bytes(hashes, column.as_string::<i64>()),
        DataType::Binary => bytes(hashes, column.as_binary::<i32>()),
        DataType::LargeBinary => bytes(hashes, column.as_binary::<i64>()),
        DataType::Utf8View => views(hashes, column.as_string_view()),
        DataType::BinaryView => views(hashes, column.as_binary_view()),
        other => unreachable!("a column of type {other} was refused when the sink was bound"),
    }
}

/// One step for each row.
#[inline(always)]
fn values(hashes: &mut [u64], nulls: Option<&NullBuffer>, values: impl Iterator<Item = u64>) {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => hashes.iter_mut().zip(values).for_each(|(hash, value)| *hash = step(*hash, value)),
        Some(nulls) => hashes
            .iter_mut()
            .zip(values.zip(nulls))
            .for_each(|(hash, (value, valid))| *hash = step(*hash, if valid { value } else { 0 })),
    }
}

fn primitive<T: ArrowPrimitiveType>(hashes: &mut [u64], column: &ArrayRef, bits: impl Fn(T::Native) -> u64) {
    let array = column.as_primitive::<T>();
    values(hashes, array.nulls(), array.values().iter().map(|&value| bits(value)));
}

#[inline(always)]
fn summary(length: usize, first: u8, last: u8) -> u64 {
    length as u64 | u64::from(first) << 32 | u64::from(last) << 40
}

fn bytes<T: ByteArrayType>(hashes: &mut [u64], array: &GenericByteArray<T>) {
    let data = array.values().as_slice();
    let summaries = array.value_offsets().windows(2).map(|bounds| {
        let (from, to) = (bounds[0].as_usize(), bounds[1].as_usize());
        if from == to { 0 } else { summary(to - from, data[from], data[to - 1]) }
    });
    values(hashes, array.nulls(), summaries);
}

fn views<T: ByteViewType>(hashes: &mut [u64], array: &GenericByteViewArray<T>) {
    let buffers = array.data_buffers();
    let summaries = array.views().iter().map(|&view| {
        // A view is the length, then either the text itself or its first 4 bytes, the buffer and the offset.
        let view = view.to_le_bytes();
        let part = |i: usize| u32::from_le_bytes([view[i], view[i + 1], view[i + 2], view[i + 3]]) as usize;
        let length = part(0);
        let last = match length {
            0 => return 0,
            1..=VIEW_INLINE_BYTES_MAX => view[VIEW_HEADER_BYTES + length - 1],
            _ => buffers[part(8)][part(12) + length - 1],
        };
        summary(length, view[VIEW_HEADER_BYTES], last)
    });
    values(hashes, array.nulls(), summaries);
}
