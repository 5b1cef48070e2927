//! Columns on their way in: Arrow arrays as the flat buffers of `wit/types.wit`.
//!
//! A buffer is lent to the call as it is, wherever its bytes are already right. Only what Arrow lays out differently is
//! copied, into a scratch buffer that lives as long as the instance: the offsets of slices (rebased to 0), bitmaps that do
//! not start at a byte, text in view layout, and text hidden under nulls.

use std::borrow::Cow;
use std::ops::Range;

use arrow_array::cast::AsArray as _;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, UInt32Array};
use arrow_buffer::{ArrowNativeType as _, BooleanBuffer, NullBuffer, ToByteSlice as _};
use arrow_schema::{DataType, FieldRef};

use crate::schema;

/// The buffers of some columns: lent, or copied into the scratch buffer.
pub(crate) struct Encoded<'a> {
    pieces: Vec<Piece<'a>>,
}

enum Piece<'a> {
    Lent(&'a [u8]),
    Copied(Range<usize>),
}

impl<'a> Encoded<'a> {
    /// All buffers in order.
    pub(crate) fn buffers<'b>(&self, scratch: &'b [u8]) -> Vec<&'b [u8]>
    where
        'a: 'b,
    {
        let buffer = |piece: &Piece<'a>| match piece {
            Piece::Lent(bytes) => *bytes,
            Piece::Copied(range) => &scratch[range.clone()],
        };
        self.pieces.iter().map(buffer).collect()
    }
}

/// Brings columns into a form that [`encode`] can take: a list whose null rows hide items is made anew without them.
pub(crate) fn prepare(columns: &[ArrayRef]) -> Result<Cow<'_, [ArrayRef]>, String> {
    if !columns.iter().any(|c| hides_items(c)) {
        return Ok(Cow::Borrowed(columns));
    }
    let compact = |column: &ArrayRef| {
        let rows = u32::try_from(column.len()).map_err(|_| "too many rows".to_owned())?;
        arrow_select::take::take(column, &UInt32Array::from_iter_values(0..rows), None).map_err(|e| e.to_string())
    };
    columns.iter().map(|c| if hides_items(c) { compact(c) } else { Ok(ArrayRef::clone(c)) }).collect()
}

fn hides_items(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let hidden = |nulls: &NullBuffer| hides(list.value_offsets(), nulls);
            list.nulls().is_some_and(hidden) || hides_items(list.values())
        }
        DataType::Struct(_) => column.as_struct().columns().iter().any(|c| hides_items(c)),
        _ => false,
    }
}

/// Whether a null row has a value that is not empty.
fn hides(offsets: &[i32], nulls: &NullBuffer) -> bool {
    nulls.null_count() > 0 && offsets.windows(2).zip(nulls.iter()).any(|(w, valid)| !valid && w[0] != w[1])
}

/// Lays out `rows` rows of `columns`, which must be of the types of `fields`. `scratch` is cleared first.
pub(crate) fn encode<'a>(
    fields: &[FieldRef],
    columns: &'a [ArrayRef],
    rows: usize,
    scratch: &mut Vec<u8>,
) -> Result<Encoded<'a>, String> {
    if columns.len() != fields.len() {
        return Err(format!("the guest reads {} columns, but was to get {}", fields.len(), columns.len()));
    }
    scratch.clear();
    let buffers = fields.iter().map(|f| schema::buffer_count(f.data_type())).sum();
    let mut encoder = Encoder { pieces: Vec::with_capacity(buffers), scratch };
    for (field, column) in fields.iter().zip(columns) {
        let name = field.name();
        if column.len() != rows {
            return Err(format!("column `{name}` has {} rows instead of {rows}", column.len()));
        }
        if !schema::fits(field.data_type(), column.data_type()) {
            return Err(format!("column `{name}` should be of type {}, but is {}", field.data_type(), column.data_type()));
        }
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(format!("column `{name}` is not nullable, but lacks values in {} of {rows} rows", column.null_count()));
        }
        encoder.column(column, 0, rows);
    }
    Ok(Encoded { pieces: encoder.pieces })
}

struct Encoder<'a, 's> {
    pieces: Vec<Piece<'a>>,
    scratch: &'s mut Vec<u8>,
}

impl<'a> Encoder<'a, '_> {
    /// Adds the buffers of `len` rows from `start` on. The array's type was checked.
    fn column(&mut self, array: &'a dyn Array, start: usize, len: usize) {
        match array.nulls().filter(|n| n.null_count() > 0) {
            Some(nulls) => self.bits(nulls.inner(), start, len),
            None => self.lend(&[]),
        }
        match array.data_type() {
            DataType::Boolean => self.bits(array.as_boolean().values(), start, len),
            DataType::Int8 => self.numbers::<Int8Type>(array, start, len),
            DataType::Int16 => self.numbers::<Int16Type>(array, start, len),
            DataType::Int32 => self.numbers::<Int32Type>(array, start, len),
            DataType::Int64 => self.numbers::<Int64Type>(array, start, len),
            DataType::UInt8 => self.numbers::<UInt8Type>(array, start, len),
            DataType::UInt16 => self.numbers::<UInt16Type>(array, start, len),
            DataType::UInt32 => self.numbers::<UInt32Type>(array, start, len),
            DataType::UInt64 => self.numbers::<UInt64Type>(array, start, len),
            DataType::Float32 => self.numbers::<Float32Type>(array, start, len),
            DataType::Float64 => self.numbers::<Float64Type>(array, start, len),
            DataType::Timestamp(_, _) => self.numbers::<TimestampMillisecondType>(array, start, len),
            DataType::Utf8 => self.text::<Utf8Type>(array, start, len),
            DataType::Binary => self.text::<BinaryType>(array, start, len),
            DataType::Utf8View => self.views::<StringViewType>(array, start, len),
            DataType::BinaryView => self.views::<BinaryViewType>(array, start, len),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let items = self.offsets(&list.value_offsets()[start..=start + len]);
                self.column(list.values(), items.start, items.len());
            }
            DataType::Struct(_) => array.as_struct().columns().iter().for_each(|c| self.column(c, start, len)),
            other => unreachable!("a column of type {other} passed the check against its schema"),
        }
    }

    fn lend(&mut self, bytes: &'a [u8]) {
        self.pieces.push(Piece::Lent(bytes));
    }

    /// Ends a copy that began at `start` of the scratch buffer.
    fn copied(&mut self, start: usize) {
        self.pieces.push(Piece::Copied(start..self.scratch.len()));
    }

    fn bits(&mut self, bits: &'a BooleanBuffer, start: usize, len: usize) {
        let (from, bytes) = (bits.offset() + start, len.div_ceil(8));
        if from % 8 == 0 {
            self.lend(&bits.values()[from / 8..][..bytes]);
        } else {
            let at = self.scratch.len();
            self.scratch.extend_from_slice(&bits.inner().bit_slice(from, len).as_slice()[..bytes]);
            self.copied(at);
        }
    }

    fn numbers<T: ArrowPrimitiveType>(&mut self, array: &'a dyn Array, start: usize, len: usize) {
        self.lend(array.as_primitive::<T>().values()[start..start + len].to_byte_slice());
    }

    /// Adds offsets that start at 0, and says which part of the values they speak of.
    fn offsets(&mut self, offsets: &'a [i32]) -> Range<usize> {
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        if first == 0 {
            self.lend(offsets.to_byte_slice());
        } else {
            let at = self.scratch.len();
            self.scratch.extend(offsets.iter().flat_map(|o| (o - first).to_le_bytes()));
            self.copied(at);
        }
        first.as_usize()..last.as_usize()
    }

    fn text<T: ByteArrayType<Offset = i32>>(&mut self, array: &'a dyn Array, start: usize, len: usize) {
        let text = array.as_bytes::<T>();
        let offsets = &text.value_offsets()[start..=start + len];
        if text.nulls().is_some_and(|nulls| hides(offsets, &nulls.slice(start, len))) {
            return self.flatten(start, len, |row| if text.is_null(row) { &[] } else { text.value(row).as_ref() });
        }
        let range = self.offsets(offsets);
        self.lend(&text.value_data()[range]);
    }

    fn views<T: ByteViewType>(&mut self, array: &'a dyn Array, start: usize, len: usize) {
        let views = array.as_byte_view::<T>();
        if views.null_count() == 0 {
            self.flatten(start, len, |row| views.value(row).as_ref());
        } else {
            self.flatten(start, len, |row| if views.is_null(row) { &[] } else { views.value(row).as_ref() });
        }
    }

    /// Copies values one by one: their offsets, then their bytes.
    fn flatten<'v>(&mut self, start: usize, len: usize, value: impl Fn(usize) -> &'v [u8]) {
        let at = self.scratch.len();
        let bytes = at + (len + 1) * 4;
        self.scratch.resize(bytes, 0);
        for i in 0..len {
            self.scratch.extend_from_slice(value(start + i));
            // Arrow's arrays of a batch stay below 2 GiB, and so does what is copied out of them row by row.
            let end = (self.scratch.len() - bytes) as u32;
            self.scratch[at + (i + 1) * 4..][..4].copy_from_slice(&end.to_le_bytes());
        }
        self.pieces.push(Piece::Copied(at..bytes));
        self.copied(bytes);
    }
}

#[cfg(test)]
mod tests;
