//! Rows that an operator with state is not given any more.
//!
//! A call that fails may leave a part of the state changed, or take all of it along: the row to blame cannot just be left out. So the attempt fails, and the
//! next one goes on from a checkpoint, with state that is whole. It is told of the row, and lets it pass by when it comes again. A row is known by its columns
//! and its event time, since it may come in another batch, or to another subtask.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, DataType};
use weir_sandbox::GuestError;
use weir_types::Batch;
use weir_types::key::{can_be_key, combine, hash_columns, hash_u64};

use crate::Error;
use crate::context::GivenUp;

/// A row on which an operator has failed, and which it is not given again.
#[derive(Clone, Debug)]
pub struct Barred {
    /// the operator, by the name of its state
    pub operator: String,
    /// the input that the row came by
    pub port: usize,
    /// the row, alone
    pub row: Batch,
    /// what happened
    pub error: GuestError,
}

impl PartialEq for Barred {
    fn eq(&self, other: &Self) -> bool {
        self.operator == other.operator && self.port == other.port && is_same(&self.row, &other.row, 0)
    }
}

/// The rows that an operator is not given.
pub struct BarredRows {
    /// by the hash of a row; of rows that are the same, one
    by_hash: HashMap<u64, Vec<Arc<Barred>>>,
    hashes: Vec<u64>,
}

impl BarredRows {
    /// These rows; nothing if there are none.
    pub fn new(rows: impl Iterator<Item = Arc<Barred>>) -> Option<Box<Self>> {
        let mut all = Self { by_hash: HashMap::new(), hashes: vec![] };
        for barred in rows {
            hash_rows(&barred.row, &mut all.hashes);
            all.by_hash.entry(all.hashes[0]).or_default().push(barred);
        }
        (!all.by_hash.is_empty()).then(|| Box::new(all))
    }

    /// Parts a batch into the rows that the operator is given, and those that it is not; nothing if it is given all.
    ///
    /// # Errors
    /// If the rows are too large for their layout.
    pub fn part(&mut self, port: usize, batch: &Batch) -> Result<Option<(Batch, Vec<GivenUp>)>, Error> {
        hash_rows(batch, &mut self.hashes);
        let find = |(row, hash): (usize, &u64)| {
            let found = self.by_hash.get(hash)?.iter().find(|barred| barred.port == port && is_same(&barred.row, batch, row))?;
            Some((row, found))
        };
        let barred: Vec<_> = self.hashes.iter().enumerate().filter_map(find).collect();
        if barred.is_empty() {
            return Ok(None);
        }
        let mut next = barred.iter().map(|(row, _)| *row).peekable();
        let kept = (0..batch.rows()).filter(|row| next.next_if_eq(row).is_none()).map(|row| row as u32);
        let kept = batch.take(&UInt32Array::from_iter_values(kept))?;
        let given_up =
            barred.iter().map(|(row, barred)| GivenUp { port, at: *row, row: batch.slice(*row, 1), error: barred.error.clone() });
        Ok(Some((kept, given_up.collect())))
    }
}

/// A row of a batch, alone: without the buffers of the others.
///
/// # Errors
/// If it cannot be copied.
pub fn alone(batch: &Batch, row: usize) -> Result<Batch, ArrowError> {
    let copy = |column: &ArrayRef| {
        let column = column.slice(row, 1);
        match column.data_type() {
            // A view shares what it points to.
            DataType::Utf8View => arrow_cast::cast(&column, &DataType::Utf8),
            DataType::BinaryView => arrow_cast::cast(&column, &DataType::Binary),
            _ => arrow_select::take::take(&column, &UInt32Array::from(vec![0]), None),
        }
    };
    let columns = batch.columns().iter().map(copy).collect::<Result<_, _>>()?;
    Ok(Batch::new(1, columns, batch.times().map(|times| vec![times[row]].into())))
}

/// The hash of each row: of its event time, and of all columns that can be hashed.
fn hash_rows(batch: &Batch, hashes: &mut Vec<u64>) {
    let columns: Vec<_> = batch.columns().iter().filter(|column| can_be_key(column.data_type())).cloned().collect();
    hash_columns(batch.rows(), &columns, hashes);
    if let Some(times) = batch.times() {
        hashes.iter_mut().zip(times.iter()).for_each(|(hash, &time)| *hash = combine(*hash, hash_u64(time as u64)));
    }
}

/// Whether a row is the same as that of `batch` at `at`, whatever the layouts of their texts.
fn is_same(row: &Batch, batch: &Batch, at: usize) -> bool {
    let time = |batch: &Batch, row: usize| batch.times().map(|times| times[row]);
    time(row, 0) == time(batch, at)
        && row.columns().len() == batch.columns().len()
        && row.columns().iter().zip(batch.columns()).all(|(a, b)| {
            let b = b.slice(at, 1);
            if a.data_type() == b.data_type() { *a == b } else { arrow_cast::cast(&b, a.data_type()).is_ok_and(|b| *a == b) }
        })
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray, StringViewArray};
    use weir_sandbox::GuestErrorKind;

    use super::*;

    fn barred(row: Batch) -> Arc<Barred> {
        let error = GuestError::new(GuestErrorKind::Trap, "ouch");
        Arc::new(Barred { operator: "sum".into(), port: 0, row, error })
    }

    fn rows(rows: &[(i64, Option<&str>, f64)], is_view: bool, times: Option<i64>) -> Batch {
        let texts = rows.iter().map(|row| row.1);
        let texts: ArrayRef = match is_view {
            true => Arc::new(texts.collect::<StringViewArray>()),
            false => Arc::new(texts.collect::<StringArray>()),
        };
        let numbers = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let floats = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)));
        let times = times.map(|time| vec![time; rows.len()].into());
        Batch::new(rows.len(), vec![numbers, texts, floats], times)
    }

    /// Goal: exactly the rows that are the same in all columns and in their event time are left out, each with the error that it was barred for; others stay
    /// in their order.
    #[test]
    fn the_same_rows_are_left_out() {
        let bad = [(1, Some("a"), f64::NAN), (2, None, 0.5)];
        let each = (0..2).map(|row| barred(alone(&rows(&bad, true, Some(7)), row).expect("a row can be copied")));
        let mut barred = BarredRows::new(each).expect("there are some");
        let all = [(1, Some("a"), 1.0), bad[0], (1, Some("b"), f64::NAN), bad[1], bad[0], (2, Some(""), 0.5), (3, None, 0.5)];
        for is_view in [false, true] {
            let (kept, given_up) =
                barred.part(0, &rows(&all, is_view, Some(7))).expect("rows can be taken").expect("some are barred");
            assert_eq!(kept.column(0).as_primitive::<Int64Type>().values(), &[1, 1, 2, 3]);
            assert_eq!(kept.times().map(|times| times.len()), Some(4));
            assert_eq!(given_up.iter().map(|given_up| given_up.at).collect::<Vec<_>>(), [1, 3, 4]);
            let numbers = given_up.iter().map(|given_up| given_up.row.column(0).as_primitive::<Int64Type>().value(0));
            assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 1]);
            assert!(given_up.iter().all(|given_up| given_up.error.message == "ouch"));
            for (port, times) in [(1, Some(7)), (0, Some(8)), (0, None)] {
                let parted = barred.part(port, &rows(&all, is_view, times)).expect("rows can be taken");
                assert!(parted.is_none(), "port {port}, {times:?}");
            }
        }
        assert!(BarredRows::new(std::iter::empty()).is_none());
    }
}
