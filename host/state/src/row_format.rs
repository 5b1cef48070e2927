//! Whether bytes are a row in Arrow's row format.
//!
//! Arrow decodes only what it has encoded itself: other bytes make it panic, or make text that is not UTF-8. Keys come from disks, so they are
//! looked at before. The format is that which `arrow_row` documents; keys in it are part of the format of savepoints.

use arrow_schema::DataType;

/// What text and bytes start with, unless they are null or empty.
const NON_EMPTY: u8 = 2;

/// The byte behind a block that is not the last one; behind the last one there is its length.
const CONTINUES: u8 = 0xff;

/// The sizes of the blocks that text and bytes are cut into: of the first ones, and how many these are; and of all others.
const SMALL_BLOCK_BYTES: usize = 8;
const SMALL_BLOCKS: usize = 4;
const BLOCK_BYTES: usize = 32;

/// Whether `row` is a row of columns of these types, in ascending order, nulls first.
pub(crate) fn is_row(types: &[DataType], row: &[u8]) -> bool {
    let (mut rest, mut value) = (row, vec![]);
    for data_type in types {
        let after = match data_type {
            DataType::Utf8 | DataType::Utf8View => variable(rest, &mut value).filter(|_| std::str::from_utf8(&value).is_ok()),
            DataType::Binary | DataType::BinaryView => variable(rest, &mut value),
            DataType::Boolean => fixed(rest, 1),
            other => other.primitive_width().and_then(|width| fixed(rest, width)),
        };
        match after {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// What follows a value of a fixed width, which has a byte before it that tells null.
fn fixed(row: &[u8], width: usize) -> Option<&[u8]> {
    row.get(1 + width..)
}

/// What follows text or bytes, which are written to `value`.
fn variable<'a>(row: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    value.clear();
    let (&first, mut rest) = row.split_first()?;
    if first != NON_EMPTY {
        return Some(rest);
    }
    for block in 0.. {
        let size = if block < SMALL_BLOCKS { SMALL_BLOCK_BYTES } else { BLOCK_BYTES };
        let (bytes, after) = rest.split_at_checked(size + 1)?;
        rest = after;
        match bytes[size] {
            CONTINUES => value.extend_from_slice(&bytes[..size]),
            length => {
                value.extend_from_slice(bytes[..size].get(..usize::from(length))?);
                return Some(rest);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int16Array, StringArray};
    use arrow_row::{RowConverter, SortField};

    use super::*;

    fn columns() -> Vec<ArrayRef> {
        let texts = (0..200).map(|i| (i % 7 > 0).then(|| "é".repeat(i)));
        let bytes = (0..200).map(|i| (i % 5 > 0).then(|| vec![0xff; 200 - i]));
        vec![
            Arc::new(texts.collect::<StringArray>()),
            Arc::new((0..200).map(|i| (i % 3 > 0).then_some(i % 2 == 0)).collect::<BooleanArray>()),
            Arc::new((0..200).map(|i| (i % 4 > 0).then_some(i)).collect::<Int16Array>()),
            Arc::new(bytes.collect::<BinaryArray>()),
            Arc::new((0..200).map(|i| (i % 6 > 0).then_some(f64::from(i))).collect::<Float64Array>()),
        ]
    }

    /// Rows are known as such; whatever else is taken for one can be decoded without a panic, and into text that is UTF-8.
    #[test]
    fn knows_rows() {
        let columns = columns();
        let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect()).unwrap();
        let rows = converter.convert_columns(&columns).unwrap();
        let decode = |row: &[u8]| converter.convert_rows([converter.parser().parse(row)]).unwrap()[0].to_data().validate_full();
        for row in rows.iter().map(|row| row.data().to_vec()) {
            assert!(is_row(&types, &row));
            for cut in 0..row.len() {
                assert!(!is_row(&types, &row[..cut]));
            }
            assert!(!is_row(&types, &[&row[..], b"\0"].concat()));
            for (at, altered) in (0..row.len()).flat_map(|at| [0, 1, 2, 9, 33, 0x80, 0xff].map(|byte| (at, byte))) {
                let mut row = row.clone();
                row[at] = altered;
                if is_row(&types, &row) {
                    decode(&row).unwrap();
                }
            }
        }
        assert!(!is_row(&types, b"") && is_row(&[], b""));
    }
}
