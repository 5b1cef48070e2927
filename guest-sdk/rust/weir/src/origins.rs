//! From which input rows the rows of an output come.

use crate::bindings::exports::weir::dataflow::chains::Origins;
use crate::stride::STRIDE;
use crate::value::{FixedWriter, Writer as _};

/// Notes where rows come from.
#[derive(Debug, Default)]
pub(crate) struct OriginList {
    /// so many rows at the front come each from the input row of its own number, and are not in `others`
    identity: usize,
    others: FixedWriter<4>,
}

impl OriginList {
    /// Makes room for `rows` more rows that are pushed.
    pub fn reserve(&mut self, rows: usize) {
        self.write_identity();
        self.others.reserve(rows);
    }

    /// Adds a row that comes from input row `origin`.
    #[inline(always)]
    pub fn push(&mut self, origin: u32) {
        self.others.push(origin.to_le_bytes());
    }

    /// Adds many rows, each of which comes with its origin.
    pub fn extend<R>(&mut self, rows: &[(u32, R)]) {
        if self.others.rows().is_empty() && are_from(self.identity, rows, |(origin, _)| *origin) {
            self.identity += rows.len();
            return;
        }
        self.write_identity();
        self.others.extend(rows, |(origin, _)| origin.to_le_bytes());
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.identity + self.others.rows().len()
    }

    /// The number of rows and their origins, and starts anew; `input` is how many rows came in, where rows came in.
    pub fn finish(&mut self, input: Option<usize>) -> (u32, Origins) {
        let rows = self.rows();
        if input == Some(rows) && are_from(self.identity, self.others.rows(), |origin| u32::from_le_bytes(*origin)) {
            self.identity = 0;
            self.others.clear();
            return (rows as u32, Origins::Identity);
        }
        self.write_identity();
        (rows as u32, Origins::Picked(self.others.take()))
    }

    /// Puts the rows at the front where the others are.
    fn write_identity(&mut self) {
        if self.identity > 0 {
            let origins: Vec<u32> = (0..std::mem::take(&mut self.identity) as u32).collect();
            self.others.extend(&origins, |origin| origin.to_le_bytes());
        }
    }
}

/// Whether these rows come from the input rows from `start` on, one from each.
fn are_from<R>(start: usize, rows: &[R], origin: impl Fn(&R) -> u32) -> bool {
    let (strides, rest) = rows.as_chunks::<STRIDE>();
    let all =
        |first: usize, rows: &[R]| rows.iter().zip(first..).fold(true, |all, (one, row)| all & (origin(one) as usize == row));
    let mut firsts = (start..).step_by(STRIDE);
    strides.iter().zip(&mut firsts).all(|(rows, first)| all(first, rows)) && all(start + rows.len() - rest.len(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(parts: &[&[u32]], input: usize) -> (u32, Origins) {
        let mut list = OriginList::default();
        list.reserve(input);
        for part in parts {
            list.extend(&part.iter().map(|&origin| (origin, ())).collect::<Vec<_>>());
        }
        list.finish(Some(input))
    }

    fn picked(origins: &[u32]) -> Origins {
        Origins::Picked(origins.iter().flat_map(|origin| origin.to_le_bytes()).collect())
    }

    #[track_caller]
    fn check(parts: &[&[u32]], input: usize, expected: Origins) {
        let rows = parts.iter().map(|part| part.len() as u32).sum();
        let (seen_rows, seen) = finish(parts, input);
        assert_eq!(seen_rows, rows);
        match (seen, expected) {
            (Origins::Identity, Origins::Identity) => {}
            (Origins::Picked(seen), Origins::Picked(expected)) => assert_eq!(seen, expected),
            (seen, expected) => panic!("{seen:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn rows_of_their_own_numbers_are_not_listed() {
        check(&[&[0, 1, 2, 3, 4]], 5, Origins::Identity);
        check(&[&[0, 1, 2, 3, 4, 5], &[6, 7], &[8]], 9, Origins::Identity);
    }

    #[test]
    fn others_are() {
        check(&[&[0, 1, 2, 3, 4]], 6, picked(&[0, 1, 2, 3, 4]));
        check(&[&[0, 1, 2, 3], &[3, 4]], 6, picked(&[0, 1, 2, 3, 3, 4]));
        check(&[&[0, 0, 1, 3]], 4, picked(&[0, 0, 1, 3]));
        check(&[&[0, 1, 2, 3, 5]], 5, picked(&[0, 1, 2, 3, 5]));
        check(&[&[1, 0], &[2]], 3, picked(&[1, 0, 2]));
    }
}
