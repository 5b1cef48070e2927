//! Where the rows of a batch come from: their split, and as long as they are in the task of their source, which of its events they are.
//!
//! Rows do not carry this: batches do, and it is looked at only when a guest has failed on a row.

use std::ops::RangeInclusive;
use std::sync::Arc;

use weir_connector::Positions;

/// Where the rows of a batch come from.
#[derive(Clone)]
pub(super) struct Provenance {
    /// the number of their split
    pub split: u32,
    /// which events of it they are; none = that is not known
    events: Option<Events>,
}

/// The events that a source gave as a batch.
#[derive(Clone)]
struct Events {
    positions: Arc<dyn Positions>,
    stream: usize,
    rows: usize,
    /// whether rows are these events one for one; otherwise they were made of some of them
    is_each: bool,
}

impl Provenance {
    /// Of rows that come by a channel, which counts as a split.
    pub fn of_channel(channel: u32) -> Self {
        Self { split: channel, events: None }
    }

    /// Of rows as a source has given them.
    pub fn of_source(split: u32, stream: usize, rows: usize, positions: Option<&Arc<dyn Positions>>) -> Self {
        let events = positions.map(|positions| Events { positions: Arc::clone(positions), stream, rows, is_each: true });
        Self { split, events }
    }

    /// Of rows that were made of such rows.
    #[must_use]
    pub fn made(mut self) -> Self {
        if let Some(events) = &mut self.events {
            events.is_each = false;
        }
        self
    }

    /// The positions of the events that row `row` may come from: a single one if it is known.
    pub fn positions(&self, row: usize) -> Option<RangeInclusive<u64>> {
        let Events { positions, stream, rows, is_each } = self.events.as_ref()?;
        let (first, last) = if *is_each { (row, row) } else { (0, rows.saturating_sub(1)) };
        Some(positions.of(*stream, first)..=positions.of(*stream, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Every(u64);

    impl Positions for Every {
        fn of(&self, stream: usize, row: usize) -> u64 {
            stream as u64 * 1000 + row as u64 * self.0
        }
    }

    /// Goal: a row of the source has a position, one that was made of a batch has the range of the batch, and what comes by a channel has none.
    #[test]
    fn positions_are_known_as_far_as_they_can_be() {
        let positions: Arc<dyn Positions> = Arc::new(Every(10));
        let provenance = Provenance::of_source(3, 1, 5, Some(&positions));
        assert_eq!(provenance.positions(2), Some(1020..=1020));
        assert_eq!(provenance.made().positions(2), Some(1000..=1040));
        assert_eq!(Provenance::of_source(3, 1, 5, None).made().positions(0), None);
        assert_eq!(Provenance::of_channel(3).positions(0), None);
    }
}
