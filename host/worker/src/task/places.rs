//! Where rows come from, as a column: so they say it behind exchanges, too.
//!
//! Only over edges behind which somebody makes dead letters of rows (`Edge::carries_places`), where the column is behind all others. The exchange deals it out
//! as it does these, and what an unaligned barrier overtakes has it in the checkpoint.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringViewBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::{DataType, Field, Fields};
use weir_types::Batch;

/// Where the event is that a row comes from, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// the source's name
    pub source: Option<&'a str>,
    /// the split's id
    pub split: Option<&'a str>,
    /// the positions of the events that it may be, in the split
    pub positions: Option<RangeInclusive<u64>>,
}

/// The places of the rows of a batch.
#[derive(Clone, Debug)]
pub(super) struct Places(StructArray);

/// What the column consists of.
fn fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    let position = |name: &str| Field::new(name, DataType::Int64, true);
    vec![text("source"), text("split"), position("first"), position("last")].into()
}

/// Adds the places of rows to a batch.
pub(super) fn attach<'a>(batch: &Batch, place: impl Fn(usize) -> Place<'a>) -> Batch {
    let text = || StringViewBuilder::with_capacity(batch.rows()).with_deduplicate_strings();
    let (mut sources, mut splits) = (text(), text());
    let numbers = || Int64Builder::with_capacity(batch.rows());
    let (mut firsts, mut lasts) = (numbers(), numbers());
    for Place { source, split, positions } in (0..batch.rows()).map(place) {
        sources.append_option(source);
        splits.append_option(split);
        let position = |of: fn(&RangeInclusive<u64>) -> &u64| i64::try_from(*of(positions.as_ref()?)).ok();
        firsts.append_option(position(RangeInclusive::start));
        lasts.append_option(position(RangeInclusive::end));
    }
    let parts: Vec<ArrayRef> =
        vec![Arc::new(sources.finish()), Arc::new(splits.finish()), Arc::new(firsts.finish()), Arc::new(lasts.finish())];
    let places: ArrayRef = Arc::new(StructArray::new(fields(), parts, None));
    let columns = batch.columns().iter().cloned().chain([places]).collect();
    Batch::new(batch.rows(), columns, batch.times().cloned())
}

/// Takes the places of rows out of a batch, which has so many columns besides; none = nobody knows how many, and it has no places. What an older attempt had in
/// flight may have some although nobody asks any more, or none although somebody does.
pub(super) fn detach(batch: Batch, columns: Option<usize>) -> (Batch, Option<Places>) {
    let places = batch.columns().last().and_then(|last| last.as_struct_opt());
    match places {
        Some(places) if columns.is_some_and(|columns| batch.columns().len() == columns + 1) && *places.fields() == fields() => {
            let others = batch.columns()[..batch.columns().len() - 1].to_vec();
            (Batch::new(batch.rows(), others, batch.times().cloned()), Some(Places(places.clone())))
        }
        _ => (batch, None),
    }
}

impl Places {
    /// Where a row comes from.
    pub fn of(&self, row: usize) -> Place<'_> {
        let text = |part: usize| {
            let texts = self.0.column(part).as_string_view();
            texts.is_valid(row).then(|| texts.value(row))
        };
        let position = |part: usize| {
            let numbers = self.0.column(part).as_primitive::<Int64Type>();
            numbers.is_valid(row).then(|| numbers.value(row) as u64)
        };
        let positions = position(2).zip(position(3)).map(|(first, last)| first..=last);
        Place { source: text(0), split: text(1), positions }
    }

    /// Where a row comes from that was made of some of these: if all are in one split, the positions from the first to the last.
    pub fn of_all(&self) -> Place<'_> {
        let mut all = (0..self.0.len()).map(|row| self.of(row));
        let Some(first) = all.next() else { return Place::default() };
        all.fold(first, |all, Place { source, split, positions }| Place {
            source: all.source.filter(|_| source == all.source),
            split: all.split.filter(|_| split == all.split && source == all.source),
            positions: all
                .positions
                .zip(positions)
                .map(|(all, more)| *all.start().min(more.start())..=*all.end().max(more.end())),
        })
        .whole()
    }
}

impl Place<'_> {
    /// Positions mean nothing without their split.
    fn whole(mut self) -> Self {
        self.positions = self.positions.filter(|_| self.split.is_some());
        self
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, UInt32Array};

    use super::*;

    fn batch(rows: usize) -> Batch {
        Batch::new(rows, vec![Arc::new(Int64Array::from_iter_values(0..rows as i64))], Some(vec![7; rows].into()))
    }

    fn place(split: Option<&'static str>, position: u64) -> Place<'static> {
        Place { source: Some("bids"), split, positions: Some(position..=position + 1) }
    }

    /// Goal: what was attached is detached, row by row, also after rows were taken out; the batch is what it was.
    #[test]
    fn come_back() {
        let (file, long) = (Some("a"), Some("a path that is too long to lie in the view itself"));
        let places = [place(file, 5), Place::default(), place(long, 9), place(None, 3)];
        let with = attach(&batch(4), |row| places[row].clone());
        let (without, found) = detach(with.take(&UInt32Array::from(vec![3, 2, 0, 1])).expect("rows can be taken"), Some(1));
        assert_eq!((without.columns().len(), without.times().map(|times| times.len())), (1, Some(4)));
        let found = found.expect("they were attached");
        for (row, original) in [3, 2, 0, 1].into_iter().enumerate() {
            assert_eq!(found.of(row), places[original]);
        }
        assert_eq!(found.of_all(), Place::default(), "they come from different splits");
    }

    /// Goal: of rows that were made of some of one split, it is known between which events.
    #[test]
    fn many_are_a_range() {
        let of_all = |places: &[Place<'static>]| {
            let (_, found) = detach(attach(&batch(places.len()), |row| places[row].clone()), Some(1));
            let found = found.expect("they were attached");
            let Place { source, split, positions } = found.of_all();
            (source.map(str::to_owned), split.map(str::to_owned), positions)
        };
        let (bids, file) = (Some("bids".to_owned()), Some("a".to_owned()));
        assert_eq!(of_all(&[place(Some("a"), 7), place(Some("a"), 3)]), (bids.clone(), file, Some(3..=8)));
        assert_eq!(of_all(&[place(Some("a"), 7), place(Some("b"), 3)]), (bids.clone(), None, None));
        assert_eq!(of_all(&[place(None, 7), place(None, 3)]), (bids, None, None));
        assert_eq!(of_all(&[]), (None, None, None));
    }

    /// Goal: what has no places keeps all columns, whatever they are.
    #[test]
    fn other_columns_stay() {
        let with = attach(&batch(2), |_| Place::default());
        for (batch, columns) in [(batch(2), Some(1)), (batch(2), Some(0)), (with.clone(), Some(2)), (with, None)] {
            let width = batch.columns().len();
            let (batch, places) = detach(batch, columns);
            assert!(places.is_none() && batch.columns().len() == width);
        }
    }
}
