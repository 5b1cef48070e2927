//! Which row goes to which receiver, by its key.

use std::ops::Range;

use arrow_array::ArrayRef;
use weir_types::Batch;
use weir_types::key::{group_of, hash_columns, owner, range_of};

/// For so many receivers the rows of each are looked for by themselves: that takes a look at all rows, but none that has to wait for the one before, and none
/// that guesses. For more, each row is put where it belongs.
const SCANS_MAX: usize = 4;

/// Rows that are looked at before those that were found go into a list.
const ROWS_AT_ONCE: usize = 64;

/// Knows whose each key is.
pub(crate) struct Dealer {
    key: Vec<usize>,
    receivers: u16,
    max_parallelism: u16,
    /// kept for its memory only
    hashes: Vec<u64>,
}

impl Dealer {
    /// Deals out to so many receivers by these key columns.
    pub fn new(key: &[usize], receivers: u16, max_parallelism: u16) -> Self {
        Self { key: key.to_vec(), receivers, max_parallelism, hashes: vec![] }
    }

    /// Adds the numbers of each receiver's rows to its list, in their order.
    pub fn deal(&mut self, batch: &Batch, lists: &mut [&mut Vec<u32>]) {
        let Self { receivers, max_parallelism, .. } = *self;
        let columns: Vec<ArrayRef> = self.key.iter().map(|&column| batch.column(column).clone()).collect();
        hash_columns(batch.rows(), &columns, &mut self.hashes);
        if lists.len() <= SCANS_MAX {
            for (to, list) in (0..).zip(lists) {
                find(&self.hashes, &hashes_of(to, receivers, max_parallelism), list);
            }
        } else {
            for (row, &hash) in (0..).zip(&self.hashes) {
                let to = owner(group_of(hash, max_parallelism), receivers, max_parallelism);
                lists[usize::from(to)].push(row);
            }
        }
    }
}

/// The upper halves of the hashes of a receiver's keys. They pick the key group, and a receiver owns a range of those.
fn hashes_of(to: u16, receivers: u16, max_parallelism: u16) -> Range<u64> {
    let groups = range_of(to, receivers, max_parallelism);
    let first = |group: u16| (u64::from(group) << 32).div_ceil(u64::from(max_parallelism));
    first(groups.start)..first(groups.end)
}

/// Adds the numbers of the rows whose hashes are `wanted` to `list`.
fn find(hashes: &[u64], wanted: &Range<u64>, list: &mut Vec<u32>) {
    let count = wanted.end - wanted.start;
    let mut found = [0; ROWS_AT_ONCE];
    let mut row = 0;
    for part in hashes.chunks(ROWS_AT_ONCE) {
        let mut len = 0;
        for &hash in part {
            // What is not wanted is written over by the next one.
            found[len] = row;
            len += usize::from((hash >> 32).wrapping_sub(wanted.start) < count);
            row += 1;
        }
        list.extend_from_slice(&found[..len]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::UInt64Array;
    use weir_types::key::hash_u64;

    use super::*;

    /// Each receiver gets exactly its rows, in their order, however many receivers and key groups there are.
    #[test]
    fn each_gets_its_rows() {
        for (receivers, max_parallelism) in
            [(1, 1), (2, 2), (2, 128), (3, 128), (4, 1000), (3, 32768), (5, 128), (16, 128), (7, 7)]
        {
            let mut dealer = Dealer::new(&[0], receivers, max_parallelism);
            for rows in [0..1000, 0..0, 500..501, 300..5000u64] {
                let keys: ArrayRef = Arc::new(UInt64Array::from_iter_values(rows.clone()));
                let mut lists = vec![vec![]; usize::from(receivers)];
                dealer.deal(&Batch::new(keys.len(), vec![keys], None), &mut lists.iter_mut().collect::<Vec<_>>());
                for (to, list) in (0..).zip(&lists) {
                    let owns = |key: u64| owner(group_of(hash_u64(key), max_parallelism), receivers, max_parallelism) == to;
                    let wanted: Vec<u32> = (0..).zip(rows.clone()).filter(|(_, key)| owns(*key)).map(|(row, _)| row).collect();
                    assert_eq!(*list, wanted, "rows of receiver {to} of {receivers}");
                }
            }
        }
    }

    /// The ranges of hashes meet at the key groups' bounds: no hash is missing, and none is of two receivers.
    #[test]
    fn ranges_of_hashes_meet() {
        for (receivers, max_parallelism) in [(1, 1), (2, 128), (3, 128), (4, 1000), (3, 32768), (7, 7)] {
            let mut next = 0;
            for to in 0..receivers {
                let range = hashes_of(to, receivers, max_parallelism);
                assert_eq!(range.start, next);
                next = range.end;
                for half in [range.start, range.end - 1] {
                    assert_eq!(owner(group_of(half << 32, max_parallelism), receivers, max_parallelism), to, "{half:x}");
                }
            }
            assert_eq!(next, 1 << 32);
        }
    }
}
