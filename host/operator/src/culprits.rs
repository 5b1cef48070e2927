//! Rows on which operators with state have failed.
//!
//! A call that fails may leave a part of the state changed, or take all of it along: it cannot just be made again, with the row to blame or without it. So the
//! attempt fails, and the next one goes on from a checkpoint, with state that is whole. It is told of the row, and gives it to the operator again as often as
//! there are retries; after that the row is *barred*, and passes by when it comes again. A row is known by its columns and its event time, since it may come in
//! another batch, or to another subtask.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, DataType};
use weir_plan::job::OnError;
use weir_sandbox::GuestError;
use weir_types::Batch;
use weir_types::key::{can_be_key, combine, hash_columns, hash_u64};

use crate::Error;
use crate::context::GivenUp;

/// A row on which an operator has failed.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// the operator, by the name of its state
    pub operator: String,
    /// the input that the row came by
    pub port: usize,
    /// the row, alone
    pub row: Batch,
    /// what happened, the last time
    pub error: GuestError,
    /// what the operator is to do about it
    pub on_error: OnError,
    /// how many attempts have failed on it
    pub failures: u32,
}

impl Culprit {
    /// How often the operator is given it again, until this attempt.
    fn retries(&self) -> u32 {
        self.failures.min(u32::from(self.on_error.retries))
    }

    /// Whether the operator is not given it any more.
    fn is_barred(&self) -> bool {
        self.failures > u32::from(self.on_error.retries)
    }
}

impl PartialEq for Culprit {
    /// Whether it is the same row of the same operator, whatever has happened on it.
    fn eq(&self, other: &Self) -> bool {
        self.operator == other.operator && self.port == other.port && is_same(&self.row, &other.row, 0)
    }
}

/// The rows on which an operator has failed in older attempts.
pub struct Culprits {
    /// by the hash of a row; of rows that are the same, one
    by_hash: HashMap<u64, Vec<Known>>,
    hashes: Vec<u64>,
}

struct Known {
    culprit: Arc<Culprit>,
    /// how often it was given again, until that is counted
    retries: u32,
}

/// What becomes of the rows of a batch.
pub struct Parted {
    /// those that the operator is given; none = all
    pub given: Option<Batch>,
    /// those that are barred
    pub given_up: Vec<GivenUp>,
    /// how often culprits among them were given to the operator again, now and in older attempts; counted when they come for the first time
    pub retries: u64,
}

impl Culprits {
    /// These rows; nothing if there are none.
    pub fn new(rows: impl Iterator<Item = Arc<Culprit>>) -> Option<Box<Self>> {
        let mut all = Self { by_hash: HashMap::new(), hashes: vec![] };
        for culprit in rows {
            hash_rows(&culprit.row, &mut all.hashes);
            let retries = culprit.retries();
            all.by_hash.entry(all.hashes[0]).or_default().push(Known { culprit, retries });
        }
        (!all.by_hash.is_empty()).then(|| Box::new(all))
    }

    /// Parts a batch into the rows that the operator is given, and those that are barred.
    ///
    /// # Errors
    /// If the rows are too large for their layout.
    pub fn part(&mut self, port: usize, batch: &Batch) -> Result<Parted, Error> {
        hash_rows(batch, &mut self.hashes);
        let mut given_up: Vec<GivenUp> = vec![];
        let mut retries = 0;
        for (at, hash) in self.hashes.iter().enumerate() {
            let Some(same) = self.by_hash.get_mut(hash) else { continue };
            let found = same.iter_mut().find(|known| known.culprit.port == port && is_same(&known.culprit.row, batch, at));
            let Some(Known { culprit, retries: uncounted }) = found else { continue };
            retries += u64::from(std::mem::take(uncounted));
            if culprit.is_barred() {
                given_up.push(GivenUp { port, at, row: batch.slice(at, 1), error: culprit.error.clone() });
            }
        }
        if given_up.is_empty() {
            return Ok(Parted { given: None, given_up, retries });
        }
        let mut next = given_up.iter().map(|row| row.at).peekable();
        let given = (0..batch.rows()).filter(|row| next.next_if_eq(row).is_none()).map(|row| row as u32);
        let given = batch.take(&UInt32Array::from_iter_values(given))?;
        Ok(Parted { given: Some(given), given_up, retries })
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

    /// A row on which so many attempts have failed, and which may be tried again so often.
    fn culprit(row: Batch, failures: u32, retries: u16) -> Arc<Culprit> {
        let error = GuestError::new(GuestErrorKind::Trap, "ouch");
        let on_error = OnError { retries, ..OnError::default() };
        Arc::new(Culprit { operator: "sum".into(), port: 0, row, error, on_error, failures })
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
        let each = (0..2).map(|row| culprit(alone(&rows(&bad, true, Some(7)), row).expect("a row can be copied"), 1, 0));
        let mut culprits = Culprits::new(each).expect("there are some");
        let all = [(1, Some("a"), 1.0), bad[0], (1, Some("b"), f64::NAN), bad[1], bad[0], (2, Some(""), 0.5), (3, None, 0.5)];
        for is_view in [false, true] {
            let parted = culprits.part(0, &rows(&all, is_view, Some(7))).expect("rows can be taken");
            let given = parted.given.expect("some are barred");
            assert_eq!(given.column(0).as_primitive::<Int64Type>().values(), &[1, 1, 2, 3]);
            assert_eq!(given.times().map(|times| times.len()), Some(4));
            let given_up = parted.given_up;
            assert_eq!(given_up.iter().map(|given_up| given_up.at).collect::<Vec<_>>(), [1, 3, 4]);
            let numbers = given_up.iter().map(|given_up| given_up.row.column(0).as_primitive::<Int64Type>().value(0));
            assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 1]);
            assert!(given_up.iter().all(|given_up| given_up.error.message == "ouch"));
            for (port, times) in [(1, Some(7)), (0, Some(8)), (0, None)] {
                let parted = culprits.part(port, &rows(&all, is_view, times)).expect("rows can be taken");
                assert!(parted.given.is_none() && parted.given_up.is_empty(), "port {port}, {times:?}");
            }
        }
        assert!(Culprits::new(std::iter::empty()).is_none());
    }

    /// Goal: a row is given again until there are no retries left, and is barred then; how often it was tried again is counted when it comes, and once.
    #[test]
    fn rows_are_given_again_before_they_are_barred() {
        let batch = rows(&[(1, None, 0.5), (2, None, 0.5), (2, None, 0.5)], false, Some(7));
        for (failures, retries, given, counted) in [(1, 0, 1, 0), (1, 2, 3, 1), (2, 2, 3, 2), (3, 2, 1, 2)] {
            let what = format!("{failures} failures of {retries} retries");
            let row = alone(&batch, 1).expect("a row can be copied");
            let mut culprits = Culprits::new(std::iter::once(culprit(row, failures, retries))).expect("there is one");
            for counted in [counted, 0] {
                let parted = culprits.part(0, &batch).expect("rows can be taken");
                assert_eq!(parted.given.map_or(3, |given| given.rows()), given, "{what}");
                assert_eq!((parted.given_up.len(), parted.retries), (3 - given, counted), "{what}");
            }
        }
    }
}
