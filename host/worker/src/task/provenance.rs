//! Where the rows of a batch come from: their split, and which of its events they are.
//!
//! In the task of their source batches say it, and it is looked at only when a guest has failed on a row. Behind exchanges rows say it themselves, where
//! anybody wants to know (see `places`).

use std::sync::Arc;

use weir_connector::Positions;

use super::places::{Place, Places};

/// Where the rows of a batch come from.
#[derive(Clone)]
pub(super) struct Provenance {
    /// the number of their split
    pub split: u32,
    /// which events they are; none = that is not known
    events: Option<Events>,
    /// whether rows are these events one for one; otherwise they were made of some of them
    is_each: bool,
}

#[derive(Clone)]
enum Events {
    /// those of the split that its source gave as a batch
    Given { positions: Arc<dyn Positions>, stream: usize, rows: usize },
    /// those that rows have brought with them
    Carried(Places),
}

/// What the source of a task and its splits are called, by which provenances know them.
pub(super) struct Names {
    /// none = the task reads no source
    source: Option<Box<str>>,
    /// by number, as far as the splits are being read or have been
    splits: Vec<Option<Box<str>>>,
}

impl Names {
    /// Those of a task that reads this source, and no split yet; or none.
    pub fn new(source: Option<&str>) -> Self {
        Self { source: source.map(Into::into), splits: vec![] }
    }

    /// A split is about to be read.
    pub fn add(&mut self, split: usize, id: &str) {
        if self.splits.len() <= split {
            self.splits.resize(split + 1, None);
        }
        self.splits[split] = Some(id.into());
    }

    /// The id of a split.
    pub fn split(&self, split: u32) -> Option<&str> {
        self.splits.get(split as usize)?.as_deref()
    }
}

impl Provenance {
    /// Of rows that come by a channel, which counts as a split.
    pub fn of_channel(channel: u32, places: Option<Places>) -> Self {
        Self { split: channel, events: places.map(Events::Carried), is_each: true }
    }

    /// Of rows as a source has given them.
    pub fn of_source(split: u32, stream: usize, rows: usize, positions: Option<&Arc<dyn Positions>>) -> Self {
        let events = positions.map(|positions| Events::Given { positions: Arc::clone(positions), stream, rows });
        Self { split, events, is_each: true }
    }

    /// Of rows that were made of such rows.
    #[must_use]
    pub fn made(mut self) -> Self {
        self.is_each = false;
        self
    }

    /// Where a row comes from that is one of the events, or, without a row, one that was made of some of them.
    fn place<'a>(&'a self, row: Option<usize>, names: &'a Names) -> Place<'a> {
        let here = Place { source: names.source.as_deref(), split: names.split(self.split), positions: None };
        match (&self.events, row) {
            (None, _) => here,
            (Some(Events::Given { positions, stream, rows }), row) => {
                let (first, last) = row.map_or((0, rows.saturating_sub(1)), |row| (row, row));
                Place { positions: Some(positions.of(*stream, first)..=positions.of(*stream, last)), ..here }
            }
            (Some(Events::Carried(places)), Some(row)) => places.of(row),
            (Some(Events::Carried(places)), None) => places.of_all(),
        }
    }
}

/// Where each row of a batch comes from, by its number: a single event if that is known. What all rows have in common is found out once.
pub(super) fn places<'a>(from: Option<&'a Provenance>, names: &'a Names) -> impl Fn(usize) -> Place<'a> {
    let common = match from {
        None => Some(Place::default()),
        Some(from) => (!from.is_each).then(|| from.place(None, names)),
    };
    move |row| match (&common, from) {
        (None, Some(from)) => from.place(Some(row), names),
        _ => common.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use weir_types::Batch;

    use super::super::places::{attach, detach};
    use super::*;

    #[derive(Debug)]
    struct Every(u64);

    impl Positions for Every {
        fn of(&self, stream: usize, row: usize) -> u64 {
            stream as u64 * 1000 + row as u64 * self.0
        }
    }

    /// Goal: a row of the source has a position, one that was made of a batch has the range of the batch, and what comes by a channel has what it brings.
    #[test]
    fn positions_are_known_as_far_as_they_can_be() {
        let positions: Arc<dyn Positions> = Arc::new(Every(10));
        let mut names = Names::new(Some("lines"));
        names.add(3, "c");
        let place = |positions| Place { source: Some("lines"), split: Some("c"), positions };
        let provenance = Provenance::of_source(3, 1, 5, Some(&positions));
        assert_eq!(places(Some(&provenance), &names)(2), place(Some(1020..=1020)));
        assert_eq!(places(Some(&provenance.clone().made()), &names)(2), place(Some(1000..=1040)));
        assert_eq!(places(Some(&Provenance::of_source(3, 1, 5, None).made()), &names)(0), place(None));
        assert_eq!(places(None, &names)(0), Place::default());

        let rows = Batch::new(2, vec![], None);
        let (_, carried) = detach(attach(&rows, places(Some(&provenance), &names)), Some(0));
        let (carried, others) = (Provenance::of_channel(9, carried), Names::new(None));
        assert_eq!(places(Some(&carried), &others)(1), place(Some(1010..=1010)));
        assert_eq!(places(Some(&carried.clone().made()), &others)(1), place(Some(1000..=1010)));
        assert_eq!(places(Some(&Provenance::of_channel(9, None)), &others)(0), Place::default());
    }
}
