//! Rows that wait to be sent to one receiver.
//!
//! They stay in the batches in which they came, where they are picked. When they leave, each column is copied once, into memory of its final size.

use std::sync::Arc;

use arrow_array::{ArrayRef, NullArray, make_array};
use arrow_buffer::{ArrowNativeType, Buffer};
use arrow_schema::{ArrowError, DataType};
use pulp::bytemuck::Pod;
use weir_types::Batch;

use crate::selection::{ROOM_BEHIND, Selection};

/// From so many batches on, rows are copied before they leave: few rows are not to keep the memory of many others.
const PICKS_MAX: usize = 16;

/// What one receiver has not been sent yet.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// its rows in the batch that is being dealt out
    pub next: Selection,
    /// whether the last watermark waits behind its rows
    pub watermark: bool,
    picks: Vec<Pick>,
    rows: usize,
    /// what they weigh, about
    bytes: usize,
    /// what is not needed now, kept for its memory
    spare: Vec<Selection>,
}

/// Rows of a batch.
#[derive(Debug)]
struct Pick {
    batch: Batch,
    rows: Selection,
}

impl Held {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes they are, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether rows of `batch` can be put together with those that are here. Text, for one, comes in several layouts.
    pub fn fits(&self, batch: &Batch) -> bool {
        self.picks.first().is_none_or(|first| {
            let pairs = first.batch.columns().iter().zip(batch.columns());
            pairs.into_iter().all(|(a, b)| a.data_type() == b.data_type())
        })
    }

    /// Adds the rows of `batch` that are in `next`, if it [fits](Self::fits). A row of it has so many bytes on average.
    ///
    /// # Errors
    /// If rows cannot be put together.
    pub fn add(&mut self, batch: &Batch, row_bytes: usize) -> Result<(), ArrowError> {
        if self.next.rows() == 0 {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.next, self.spare.pop().unwrap_or_default());
        self.rows += rows.rows();
        self.bytes += rows.rows() * row_bytes;
        self.picks.push(Pick { batch: batch.clone(), rows });
        if self.picks.len() >= PICKS_MAX {
            let bytes = self.bytes;
            let batch = self.take()?;
            let mut rows = self.spare.pop().unwrap_or_default();
            rows.pick_all(batch.rows());
            (self.rows, self.bytes) = (batch.rows(), bytes);
            self.picks.push(Pick { batch, rows });
        }
        Ok(())
    }

    /// Takes the rows, of which there is at least one, as one batch.
    ///
    /// # Errors
    /// If the batch would be too large for its layout.
    pub fn take(&mut self) -> Result<Batch, ArrowError> {
        let batch = match &self.picks[..] {
            [only] if only.rows.is_all() => only.batch.clone(),
            picks => gather(picks, self.rows)?,
        };
        (self.rows, self.bytes) = (0, 0);
        self.spare.extend(self.picks.drain(..).map(|pick| pick.rows));
        Ok(batch)
    }
}

/// The rows of all picks in one batch.
fn gather(picks: &[Pick], rows: usize) -> Result<Batch, ArrowError> {
    let width = picks.first().map_or(0, |pick| pick.batch.columns().len());
    let columns = (0..width).map(|column| gather_column(picks, column, rows)).collect::<Result<_, _>>()?;
    // Rows with event times beside rows without are rows without: an operator that needs them says so.
    let times = picks.iter().all(|pick| pick.batch.times().is_some()).then(|| {
        let mut times = Vec::with_capacity(rows + ROOM_BEHIND);
        for Pick { batch, rows } in picks {
            let of: &[_] = batch.times().map_or(&[], |times| &times[..]);
            rows.copy(of, &mut times);
        }
        times.into()
    });
    Ok(Batch::new(rows, columns, times))
}

fn gather_column(picks: &[Pick], column: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
    let data_type = picks[0].batch.column(column).data_type();
    if *data_type == DataType::Null {
        return Ok(Arc::new(NullArray::new(rows)));
    }
    let any_nulls = picks.iter().any(|pick| pick.batch.column(column).null_count() > 0);
    match data_type.primitive_width().filter(|_| !any_nulls) {
        Some(1) => gather_values::<u8>(picks, column, rows),
        Some(2) => gather_values::<u16>(picks, column, rows),
        Some(4) => gather_values::<u32>(picks, column, rows),
        Some(8) => gather_values::<u64>(picks, column, rows),
        _ => {
            let picked = |Pick { batch, rows }: &Pick| arrow_select::filter::filter(batch.column(column), &rows.mask());
            let parts = picks.iter().map(picked).collect::<Result<Vec<_>, _>>()?;
            arrow_select::concat::concat(&parts.iter().map(|part| &**part).collect::<Vec<_>>())
        }
    }
}

/// The values of a column of numbers without nulls, whatever they stand for.
fn gather_values<T: ArrowNativeType + Pod>(picks: &[Pick], column: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
    let mut values: Vec<T> = Vec::with_capacity(rows + ROOM_BEHIND);
    for Pick { batch, rows } in picks {
        let data = batch.column(column).to_data();
        rows.copy(&data.buffer::<T>(0)[..batch.rows()], &mut values);
    }
    let first = picks[0].batch.column(column).to_data().into_builder();
    let data = first.len(rows).offset(0).nulls(None).buffers(vec![Buffer::from_vec(values)]).build()?;
    Ok(make_array(data))
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        BooleanArray, Float32Array, Int8Array, Int64Array, StringArray, StringViewArray, UInt16Array, UInt32Array,
    };
    use proptest::prelude::*;

    use super::*;

    /// Columns of every layout, with nulls in some of them; all values tell the number of their row.
    fn batch(first: i64, rows: i64, timed: bool) -> Batch {
        let numbers = first..first + rows;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(numbers.clone())),
            Arc::new(Float32Array::from_iter_values(numbers.clone().map(|n| n as f32))),
            Arc::new(UInt16Array::from_iter_values(numbers.clone().map(|n| n as u16))),
            Arc::new(Int8Array::from_iter_values(numbers.clone().map(|n| n as i8))),
            Arc::new(Int64Array::from_iter(numbers.clone().map(|n| (n % 3 > 0).then_some(n)))),
            Arc::new(BooleanArray::from_iter(numbers.clone().map(|n| Some(n % 2 == 0)))),
            Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| format!("row {n}")))),
            Arc::new(StringViewArray::from_iter_values(numbers.clone().map(|n| format!("a long text for row {n}")))),
            Arc::new(NullArray::new(rows as usize)),
        ];
        Batch::new(rows as usize, columns, timed.then(|| numbers.collect::<Vec<_>>().into()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What is taken is what was added, in its order, also where rows come from slices and from more batches than are kept.
        #[test]
        fn takes_what_was_added(batches in proptest::collection::vec(
            (proptest::collection::vec(any::<bool>(), 1..40), 0..5i64, proptest::bool::weighted(0.95)), 1..40
        )) {
            let mut held = Held::default();
            for round in 0..2 {
                let (mut next, mut wanted, mut timed) = (round * 7, vec![], true);
                for (picked, before, has_times) in &batches {
                    let rows = picked.len() as i64;
                    let whole = batch(next, before + rows, *has_times);
                    let numbers = (0..).zip(picked).filter(|(_, picked)| **picked).map(|(row, _)| row);
                    held.next.pick_none(picked.len());
                    numbers.clone().for_each(|row| held.next.add(row));
                    held.add(&whole.slice(*before as usize, picked.len()), 3).expect("rows can be put together");
                    wanted.extend(numbers.clone().map(|row| next + before + row as i64));
                    timed &= *has_times || numbers.count() == 0;
                    next += before + rows;
                }
                prop_assert_eq!((held.rows(), held.bytes()), (wanted.len(), 3 * wanted.len()));
                if wanted.is_empty() {
                    continue;
                }
                let rows = UInt32Array::from_iter_values(wanted.iter().map(|&row| (row - round * 7) as u32));
                let all = batch(round * 7, next - round * 7, timed).take(&rows).expect("these rows are there");
                let taken = held.take().expect("rows can be put together");
                prop_assert_eq!((held.rows(), held.bytes()), (0, 0));
                prop_assert_eq!(taken.columns(), all.columns());
                prop_assert_eq!(taken.times(), all.times());
            }
        }
    }
}
