//! What it weighs to take columns from rows of origin.
//!
//! A guest names for each row that it returns a row of origin, in four bytes, and may name the same row, with a long text, again and again. So
//! what is taken is weighed before it is taken.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::DataType;

/// No less than the bytes of these rows of these columns. Cheap for a filter, which names each row once at most and so takes no more than there
/// is; exact otherwise.
pub(crate) fn at_most(columns: &[&ArrayRef], rows: &UInt32Array) -> u64 {
    let rising = rows.values().windows(2).fold(true, |rising, w| rising & (w[0] < w[1]));
    if rising { columns.iter().map(|column| whole(column)).sum() } else { exactly(columns, rows) }
}

/// The bytes of these rows of these columns.
pub(crate) fn exactly(columns: &[&ArrayRef], rows: &UInt32Array) -> u64 {
    let Some(first) = columns.first() else { return 0 };
    let mut weights = vec![0; first.len()];
    columns.iter().for_each(|column| add(column, &mut weights));
    rows.values().iter().map(|&row| weights[row as usize]).sum()
}

/// The bytes of all rows of a column.
pub(crate) fn whole(column: &ArrayRef) -> u64 {
    let rows = column.len() as u64;
    match column.data_type() {
        DataType::Utf8 => 4 * rows + span(column.as_string::<i32>().value_offsets()),
        DataType::Binary => 4 * rows + span(column.as_binary::<i32>().value_offsets()),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            let items = list.values().slice(offsets[0] as usize, span(offsets) as usize);
            4 * rows + whole(&items)
        }
        DataType::Struct(_) => column.as_struct().columns().iter().map(whole).sum(),
        other => rows * width(other),
    }
}

/// How far offsets reach.
fn span(offsets: &[i32]) -> u64 {
    offsets.last().zip(offsets.first()).map_or(0, |(last, first)| (last - first).unsigned_abs().into())
}

/// Adds the bytes of each row to that row's weight.
fn add(column: &ArrayRef, weights: &mut [u64]) {
    let by_offsets = |offsets: &[i32], weights: &mut [u64]| {
        weights.iter_mut().zip(offsets.windows(2)).for_each(|(weight, row)| *weight += 4 + span(row));
    };
    match column.data_type() {
        DataType::Utf8 => by_offsets(column.as_string::<i32>().value_offsets(), weights),
        DataType::Binary => by_offsets(column.as_binary::<i32>().value_offsets(), weights),
        // What views point to is shared, until somebody lays it out: the next guest.
        DataType::Utf8View => {
            weights.iter_mut().zip(column.as_string_view().lengths()).for_each(|(w, l)| *w += 16 + u64::from(l))
        }
        DataType::BinaryView => {
            weights.iter_mut().zip(column.as_binary_view().lengths()).for_each(|(w, l)| *w += 16 + u64::from(l))
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let mut items = vec![0; list.values().len()];
            add(list.values(), &mut items);
            for (weight, row) in weights.iter_mut().zip(list.value_offsets().windows(2)) {
                *weight += 4 + items[row[0] as usize..row[1] as usize].iter().sum::<u64>();
            }
        }
        DataType::Struct(_) => column.as_struct().columns().iter().for_each(|field| add(field, weights)),
        other => {
            let width = width(other);
            weights.iter_mut().for_each(|weight| *weight += width);
        }
    }
}

/// The bytes of a value of a fixed width; of a boolean a whole one.
fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Null => 0,
        DataType::Utf8View | DataType::BinaryView => 16,
        other => other.primitive_width().unwrap_or(1) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{Int64Array, StringArray, StringViewArray, StructArray};
    use arrow_schema::Field;

    use super::*;

    /// Columns of three rows; the second of them is heavy.
    fn columns() -> Vec<(ArrayRef, [u64; 3])> {
        let long = "x".repeat(1000);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", &long, ""]));
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a")]);
        lists.append_value([Some(&*long), None]);
        lists.append_null();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let field = |name, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let record = StructArray::from(vec![(field("n", &numbers), numbers.clone()), (field("t", &text), text.clone())]);
        vec![
            (numbers, [8, 8, 8]),
            (text, [5, 1004, 4]),
            (Arc::new(StringViewArray::from(vec!["a", &long, ""])), [17, 1016, 16]),
            (Arc::new(lists.finish()), [9, 1012, 4]),
            (Arc::new(record), [13, 1012, 12]),
        ]
    }

    /// Each pick of a row weighs what the row does, also in a slice of a longer column, whatever its type.
    #[test]
    fn each_pick_weighs() {
        for (column, expected) in columns() {
            let rows = UInt32Array::from(vec![1, 1, 0, 2, 1]);
            assert_eq!(at_most(&[&column], &rows), 3 * expected[1] + expected[0] + expected[2], "{}", column.data_type());
            let slice = column.slice(1, 2);
            assert_eq!(at_most(&[&slice], &vec![1, 1, 0].into()), 2 * expected[2] + expected[1], "{}", column.data_type());
        }
    }

    /// Rows that are named once weigh no more than the column; of a slice, than the slice.
    #[test]
    fn a_filter_weighs_the_column() {
        for (column, expected) in columns() {
            let light = at_most(&[&column.slice(2, 1)], &vec![0].into());
            assert!(light <= expected[2], "{}: {light}", column.data_type());
            assert_eq!(exactly(&[&column], &vec![0, 1].into()), expected[0] + expected[1], "{}", column.data_type());
        }
    }
}
