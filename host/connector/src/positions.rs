//! Which events of a split rows are: asked only when something goes wrong with a row, and made so that it costs next to nothing until then.

use std::fmt::Debug;
use std::sync::Arc;

/// Says which events of their split the rows of a [`Fetch`](crate::Fetch) are.
pub trait Positions: Debug + Send + Sync {
    /// The position of the event that became row `row` of the batch of `stream`. Among the rows of a batch, it never falls.
    fn of(&self, stream: usize, row: usize) -> u64;
}

/// The positions of the rows of a single stream: runs of events that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    /// the position with which the last run would go on
    next: u64,
}

/// Rows whose events follow each other without a gap.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// the first row
    row: usize,
    /// its position
    position: u64,
}

impl Runs {
    /// Those of rows without gaps, of which the first is at `position`.
    pub fn from(position: u64) -> Arc<dyn Positions> {
        Arc::new(Self { runs: vec![Run { row: 0, position }], next: position })
    }

    /// The next row is number `row`, at `position`.
    #[inline]
    pub fn push(&mut self, row: usize, position: u64) {
        if position != self.next || self.runs.is_empty() {
            self.runs.push(Run { row, position });
        }
        self.next = position + 1;
    }

    /// Takes what there is.
    pub fn take(&mut self) -> Arc<dyn Positions> {
        Arc::new(std::mem::take(self))
    }
}

impl Positions for Runs {
    fn of(&self, _stream: usize, row: usize) -> u64 {
        let run = self.runs.partition_point(|run| run.row <= row).checked_sub(1).map(|at| self.runs[at]);
        run.map_or(0, |run| run.position + (row - run.row) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each row has the position that it was given, also behind gaps and in what is collected after some was taken.
    #[test]
    fn rows_have_their_positions() {
        let mut runs = Runs::default();
        for positions in [&[5, 6, 7, 9, 20, 21][..], &[22, 23], &[0, 2, 4]] {
            positions.iter().enumerate().for_each(|(row, &position)| runs.push(row, position));
            let taken = runs.take();
            assert_eq!((0..positions.len()).map(|row| taken.of(0, row)).collect::<Vec<_>>(), positions);
        }
        assert_eq!(Runs::from(7).of(0, 3), 10);
    }
}
