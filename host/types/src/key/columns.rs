//! The hashes of keys that are made of columns.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::DataType;

use super::{combine, hash_bytes, hash_u64};
use crate::lanes::vectorized;

/// What a null hashes to: the bits of π, as good as any.
const NULL: u64 = 0x243F_6A88_85A3_08D3;

/// Whether a column of this type can be (part of) a key: numbers, text, bytes, booleans and event times, not lists and records.
pub fn can_be_key(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Boolean | Utf8 | Utf8View | Binary | BinaryView | Timestamp(_, _) => true,
        other => other.is_integer() || matches!(other, Float32 | Float64),
    }
}

/// Writes the hash of each row's key into `hashes`, in the place of what was there.
///
/// The hash of a key of one column is that of its value; each further column is combined with it. A key of no columns
/// (all rows are one key) hashes to that of 0.
///
/// # Panics
/// If a column is of a type that [`can_be_key`] refuses; plans are checked against it.
pub fn hash_columns(rows: usize, columns: &[ArrayRef], hashes: &mut Vec<u64>) {
    hashes.resize(rows, 0);
    let Some((first, rest)) = columns.split_first() else {
        hashes.fill(hash_u64(0));
        return;
    };
    for_each_hash(
        first,
        hashes,
        #[inline(always)]
        |hash, of_value| *hash = of_value,
    );
    for column in rest {
        for_each_hash(
            column,
            hashes,
            #[inline(always)]
            |hash, of_value| *hash = combine(*hash, of_value),
        );
    }
}

/// Calls `each` with the hash of every row and that of its value of `column`.
fn for_each_hash(column: &ArrayRef, hashes: &mut [u64], each: impl Fn(&mut u64, u64)) {
    fn primitive<T: ArrowPrimitiveType>(
        column: &ArrayRef,
        bits: impl Fn(T::Native) -> u64,
        hashes: &mut [u64],
        each: impl Fn(&mut u64, u64),
    ) {
        let array = column.as_primitive::<T>();
        if array.null_count() == 0 {
            let values = &array.values()[..];
            vectorized(
                #[inline(always)]
                move || {
                    for (hash, &value) in hashes.iter_mut().zip(values) {
                        each(hash, hash_u64(bits(value)));
                    }
                },
            );
        } else {
            hashes.iter_mut().zip(array).for_each(|(hash, v)| each(hash, v.map_or(NULL, |v| hash_u64(bits(v)))));
        }
    }
    fn bytes<'a, B: AsRef<[u8]> + ?Sized + 'a>(
        values: impl Iterator<Item = Option<&'a B>>,
        hashes: &mut [u64],
        each: impl Fn(&mut u64, u64),
    ) {
        hashes.iter_mut().zip(values).for_each(|(hash, v)| each(hash, v.map_or(NULL, |v| hash_bytes(v.as_ref()))));
    }
    match column.data_type() {
        DataType::Int8 => primitive::<Int8Type>(column, |v| v as u64, hashes, each),
        DataType::Int16 => primitive::<Int16Type>(column, |v| v as u64, hashes, each),
        DataType::Int32 => primitive::<Int32Type>(column, |v| v as u64, hashes, each),
        DataType::Int64 => primitive::<Int64Type>(column, |v| v as u64, hashes, each),
        DataType::UInt8 => primitive::<UInt8Type>(column, u64::from, hashes, each),
        DataType::UInt16 => primitive::<UInt16Type>(column, u64::from, hashes, each),
        DataType::UInt32 => primitive::<UInt32Type>(column, u64::from, hashes, each),
        DataType::UInt64 => primitive::<UInt64Type>(column, |v| v, hashes, each),
        DataType::Float32 => primitive::<Float32Type>(column, |v| u64::from(v.to_bits()), hashes, each),
        DataType::Float64 => primitive::<Float64Type>(column, f64::to_bits, hashes, each),
        DataType::Timestamp(_, _) => primitive::<TimestampMillisecondType>(column, |v| v as u64, hashes, each),
        DataType::Boolean => {
            let values = column.as_boolean().iter();
            hashes.iter_mut().zip(values).for_each(|(hash, v)| each(hash, v.map_or(NULL, |v| hash_u64(u64::from(v)))));
        }
        DataType::Utf8 => bytes(column.as_string::<i32>().iter(), hashes, each),
        DataType::Utf8View => bytes(column.as_string_view().iter(), hashes, each),
        DataType::Binary => bytes(column.as_binary::<i32>().iter(), hashes, each),
        DataType::BinaryView => bytes(column.as_binary_view().iter(), hashes, each),
        other => panic!("a column of type {other} cannot be a key"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array, StringArray, StringViewArray};

    use super::*;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = vec![];
        hash_columns(columns.first().map_or(0, |c| c.len()), columns, &mut out);
        out
    }

    /// A key's hash does not depend on the width of its integer or the layout of its text.
    #[test]
    fn layouts_agree() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![Some(-5), None, Some(7)]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(-5), None, Some(7)]));
        assert_eq!(hashes(&[narrow]), hashes(std::slice::from_ref(&wide)));
        let text = ["", "abc", "a text longer than twelve bytes"];
        let flat: ArrayRef = Arc::new(StringArray::from(text.to_vec()));
        let view: ArrayRef = Arc::new(StringViewArray::from(text.to_vec()));
        assert_eq!(hashes(&[flat.clone(), wide.clone()]), hashes(&[view, wide.clone()]));
        assert_ne!(hashes(&[flat.clone(), wide.clone()]), hashes(&[wide, flat]));
    }
}
