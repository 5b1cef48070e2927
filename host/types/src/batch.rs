//! Rows in flight.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::time::EventTime;

/// Rows that travel together: columns of equal length, and the rows' event times once they have any.
///
/// The schema is not part of it: it is fixed for each edge of the plan. Strings may be in Arrow's `Utf8` or
/// `Utf8View` layout; code that reads them handles both.
#[derive(Clone, Debug)]
pub struct Batch {
    rows: usize,
    columns: Vec<ArrayRef>,
    times: Option<ScalarBuffer<EventTime>>,
}

impl Batch {
    /// Makes a batch of `rows` rows.
    ///
    /// # Panics
    /// If a column or `times` is not `rows` long: that is a bug of the caller, never of a guest or of input.
    pub fn new(rows: usize, columns: Vec<ArrayRef>, times: Option<ScalarBuffer<EventTime>>) -> Self {
        assert!(columns.iter().all(|c| c.len() == rows), "a column differs from the batch in length");
        assert!(times.as_ref().is_none_or(|t| t.len() == rows), "the event times differ from the batch in length");
        Self { rows, columns, times }
    }

    /// A batch of no rows.
    pub fn empty(schema: &SchemaRef) -> Self {
        Self::new(0, schema.fields().iter().map(|f| new_empty_array(f.data_type())).collect(), None)
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The columns.
    pub fn columns(&self) -> &[ArrayRef] {
        &self.columns
    }

    /// One column.
    pub fn column(&self, index: usize) -> &ArrayRef {
        &self.columns[index]
    }

    /// The rows' event times, where they have been assigned.
    pub fn times(&self) -> Option<&ScalarBuffer<EventTime>> {
        self.times.as_ref()
    }

    /// The same rows with these event times.
    #[must_use]
    pub fn with_times(self, times: Option<ScalarBuffer<EventTime>>) -> Self {
        Self::new(self.rows, self.columns, times)
    }

    /// These columns of the batch, in this order.
    #[must_use]
    pub fn project(&self, columns: &[usize]) -> Self {
        Self {
            rows: self.rows,
            columns: columns.iter().map(|&i| Arc::clone(&self.columns[i])).collect(),
            times: self.times.clone(),
        }
    }

    /// `length` rows from `offset` on, without a copy.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            rows: length,
            columns: self.columns.iter().map(|c| c.slice(offset, length)).collect(),
            times: self.times.as_ref().map(|t| t.slice(offset, length)),
        }
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Errors
    /// If an index is out of range, or the result is too large for its layout (2 GiB of text).
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        Ok(Self {
            rows: indices.len(),
            columns: self.columns.iter().map(|c| arrow_select::take::take(c, indices, None)).collect::<Result<_, _>>()?,
            times: self.times.as_ref().map(|t| take_times(t, indices)),
        })
    }

    /// About how many bytes the rows are, those of a slice without the rest of its buffers. Text in the view layout counts its views: what they point
    /// to is shared.
    pub fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(column_bytes).sum();
        columns + self.times.as_ref().map_or(0, |t| t.len() * 8)
    }
}

fn column_bytes(column: &ArrayRef) -> usize {
    let rows = column.len();
    let values = match column.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8View | DataType::BinaryView => rows * 16,
        DataType::Utf8 => text_bytes(column.as_string::<i32>().value_offsets()),
        DataType::Binary => text_bytes(column.as_binary::<i32>().value_offsets()),
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => return column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size()),
        },
    };
    values + column.nulls().map_or(0, |nulls| nulls.len().div_ceil(8))
}

/// The bytes of texts and of their offsets.
fn text_bytes(offsets: &[i32]) -> usize {
    let bytes = offsets.last().zip(offsets.first()).map_or(0, |(end, start)| end - start);
    bytes as usize + size_of_val(offsets)
}

/// The event times at `indices`.
///
/// # Panics
/// If an index is out of range.
pub fn take_times(times: &ScalarBuffer<EventTime>, indices: &UInt32Array) -> ScalarBuffer<EventTime> {
    indices.values().iter().map(|&i| times[i as usize]).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    /// A slice counts its own rows, whatever its buffers hold besides.
    #[test]
    fn slices_count_their_rows() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|_| "0123456789")));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = Batch::new(1000, vec![texts, numbers], Some(vec![0; 1000].into()));
        // Ten bytes of text and an offset, a number, an event time; and one offset more.
        assert_eq!(batch.slice(300, 100).bytes(), 100 * (10 + 4 + 8 + 8) + 4);
        assert_eq!(batch.bytes(), 1000 * (10 + 4 + 8 + 8) + 4);
    }
}
