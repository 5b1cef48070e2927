//! Columns on their way out: a guest's flat buffers as Arrow arrays.
//!
//! Nothing here is trusted. The buffers were copied out of the guest's memory when the call returned, so that the guest
//! cannot change them any more; here they are checked once, and become arrays without another copy.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef};

use crate::schema;

/// Makes `rows` rows of `fields` out of a guest's buffers.
pub(crate) fn decode(fields: &[FieldRef], rows: usize, buffers: Vec<Vec<u8>>) -> Result<Vec<ArrayRef>, String> {
    let expected: usize = fields.iter().map(|f| schema::buffer_count(f.data_type())).sum();
    if buffers.len() != expected {
        let names: Vec<_> = fields.iter().map(|f| format!("`{}`", f.name())).collect();
        return Err(format!(
            "{} buffers instead of the {expected} that the computed columns ({}) have",
            buffers.len(),
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        ));
    }
    let mut decoder = Decoder { buffers: buffers.into_iter() };
    fields.iter().map(|f| decoder.column(f, rows).map_err(|e| format!("column `{}`: {e}", f.name()))).collect()
}

/// The numbers of a packed array, `count` of them.
pub(crate) fn numbers<T: ArrowNativeType>(what: &str, count: usize, bytes: Vec<u8>) -> Result<ScalarBuffer<T>, String> {
    if count.checked_mul(size_of::<T>()) != Some(bytes.len()) {
        return Err(format!("{what} has {} bytes instead of {count} × {}", bytes.len(), size_of::<T>()));
    }
    let mut buffer = Buffer::from_vec(bytes);
    // Allocators align all but the smallest buffers far better than asked; the others are moved.
    if buffer.as_ptr().align_offset(align_of::<T>()) != 0 {
        buffer = Buffer::from_slice_ref(buffer.as_slice());
    }
    Ok(ScalarBuffer::new(buffer, 0, count))
}

struct Decoder {
    buffers: std::vec::IntoIter<Vec<u8>>,
}

impl Decoder {
    fn next(&mut self) -> Vec<u8> {
        self.buffers.next().expect("the number of buffers was checked")
    }

    fn column(&mut self, field: &Field, rows: usize) -> Result<ArrayRef, String> {
        let nulls = self.nulls(field, rows)?;
        Ok(match field.data_type() {
            DataType::Boolean => {
                let bits = self.next();
                Arc::new(BooleanArray::new(bitmap("the values", bits, rows)?, nulls))
            }
            DataType::Int8 => self.primitive::<Int8Type>(rows, nulls)?,
            DataType::Int16 => self.primitive::<Int16Type>(rows, nulls)?,
            DataType::Int32 => self.primitive::<Int32Type>(rows, nulls)?,
            DataType::Int64 => self.primitive::<Int64Type>(rows, nulls)?,
            DataType::UInt8 => self.primitive::<UInt8Type>(rows, nulls)?,
            DataType::UInt16 => self.primitive::<UInt16Type>(rows, nulls)?,
            DataType::UInt32 => self.primitive::<UInt32Type>(rows, nulls)?,
            DataType::UInt64 => self.primitive::<UInt64Type>(rows, nulls)?,
            DataType::Float32 => self.primitive::<Float32Type>(rows, nulls)?,
            DataType::Float64 => self.primitive::<Float64Type>(rows, nulls)?,
            DataType::Timestamp(_, zone) => {
                let values = numbers("the values", rows, self.next())?;
                Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(values, nulls).with_timezone_opt(zone.clone()))
            }
            DataType::Utf8 => {
                let offsets = self.offsets(rows)?;
                let bytes = self.data(&offsets)?;
                check_text(&offsets, &bytes)?;
                // SAFETY: the offsets start at 0, never go back and end at the end of the bytes; these are UTF-8, and no
                // offset cuts a character; `nulls` has a bit for each row.
                #[expect(unsafe_code, reason = "see SAFETY")]
                Arc::new(unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(bytes), nulls) })
            }
            DataType::Binary => {
                let offsets = self.offsets(rows)?;
                let bytes = self.data(&offsets)?;
                Arc::new(BinaryArray::new(offsets, Buffer::from_vec(bytes), nulls))
            }
            DataType::List(item) => {
                let offsets = self.offsets(rows)?;
                let items = self.column(item, end(&offsets)).map_err(|e| format!("its items: {e}"))?;
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls).map_err(|e| e.to_string())?)
            }
            DataType::Struct(children) => {
                let columns = children
                    .iter()
                    .map(|c| self.column(c, rows).map_err(|e| format!("its field `{}`: {e}", c.name())))
                    .collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new(children.clone(), columns, nulls).map_err(|e| e.to_string())?)
            }
            other => unreachable!("schemas of guests have no columns of type {other}"),
        })
    }

    fn nulls(&mut self, field: &Field, rows: usize) -> Result<Option<NullBuffer>, String> {
        let bits = self.next();
        if bits.is_empty() {
            return Ok(None);
        }
        let nulls = NullBuffer::new(bitmap("the validity", bits, rows)?);
        if nulls.null_count() == 0 {
            return Ok(None);
        }
        if !field.is_nullable() {
            let row = nulls.iter().position(|valid| !valid).unwrap_or(0);
            return Err(format!("row {row} has no value, but the column is not nullable"));
        }
        Ok(Some(nulls))
    }

    fn primitive<T: ArrowPrimitiveType>(&mut self, rows: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
        let values = numbers::<T::Native>("the values", rows, self.next())?;
        Ok(Arc::new(PrimitiveArray::<T>::new(values, nulls)))
    }

    fn offsets(&mut self, rows: usize) -> Result<OffsetBuffer<i32>, String> {
        let offsets: ScalarBuffer<i32> = numbers("the offsets", rows + 1, self.next())?;
        if offsets[0] != 0 {
            return Err(format!("the first offset is {} instead of 0", offsets[0]));
        }
        // No early way out: a loop without one is vectorised.
        let ordered = offsets.windows(2).fold(true, |ordered, w| ordered & (w[0] <= w[1]));
        if !ordered {
            let row = offsets.windows(2).position(|w| w[0] > w[1]).unwrap_or(0);
            return Err(format!("row {row} ends before it starts (offsets {} and {})", offsets[row], offsets[row + 1]));
        }
        // SAFETY: there is at least one offset, the first is 0, and none is smaller than the one before it.
        #[expect(unsafe_code, reason = "see SAFETY")]
        Ok(unsafe { OffsetBuffer::new_unchecked(offsets) })
    }

    /// The bytes that offsets speak of.
    fn data(&mut self, offsets: &OffsetBuffer<i32>) -> Result<Vec<u8>, String> {
        let bytes = self.next();
        let end = end(offsets);
        if bytes.len() != end {
            return Err(format!("the last offset is {end}, but there are {} bytes", bytes.len()));
        }
        Ok(bytes)
    }
}

fn end(offsets: &OffsetBuffer<i32>) -> usize {
    offsets.last().map_or(0, |o| o.as_usize())
}

fn bitmap(what: &str, bytes: Vec<u8>, rows: usize) -> Result<BooleanBuffer, String> {
    if bytes.len() < rows.div_ceil(8) {
        return Err(format!("{what} have {} bytes instead of {}, a bit for each of {rows} rows", bytes.len(), rows.div_ceil(8)));
    }
    Ok(BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows))
}

/// Checks that all the bytes are UTF-8, and that no offset cuts a character.
fn check_text(offsets: &[i32], bytes: &[u8]) -> Result<(), String> {
    // A character of ASCII is one byte, and cannot be cut.
    if bytes.is_ascii() {
        return Ok(());
    }
    let row_at = |at: usize| offsets.partition_point(|o| o.as_usize() <= at) - 1;
    if simdutf8::basic::from_utf8(bytes).is_err() {
        let at = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
        return Err(format!("row {} is not valid UTF-8 (byte {at} of the column)", row_at(at)));
    }
    let starts_character = |o: &i32| bytes.get(o.as_usize()).is_none_or(|&b| (b as i8) >= -0x40);
    let whole = offsets.iter().fold(true, |whole, o| whole & starts_character(o));
    if !whole {
        let row = offsets.iter().position(|o| !starts_character(o)).unwrap_or(0);
        return Err(format!("row {row} starts in the middle of a character"));
    }
    Ok(())
}
