//! Which row goes to which receiver, by its key.

use std::ops::Range;

use arrow_array::ArrayRef;
use weir_types::Batch;
use weir_types::key::{group_of, hash_columns, owner, range_of};

use crate::selection::{Selection, WORD};

/// For so many receivers the rows of each are looked for by themselves: that takes a look at all rows, but none that has to wait for the one before, and none
/// that guesses. For more, each row is put where it belongs.
const SCANS_MAX: usize = 4;

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

    /// Picks the rows of each receiver.
    pub fn deal(&mut self, batch: &Batch, selections: &mut [&mut Selection]) {
        let Self { receivers, max_parallelism, .. } = *self;
        let columns: Vec<ArrayRef> = self.key.iter().map(|&column| batch.column(column).clone()).collect();
        let rows = batch.rows();
        hash_columns(rows, &columns, &mut self.hashes);
        if selections.len() <= SCANS_MAX {
            for (to, selection) in (0..).zip(selections) {
                selection.pick(rows, |words| find(&self.hashes, &hashes_of(to, receivers, max_parallelism), words));
            }
        } else {
            for selection in &mut *selections {
                selection.pick_none(rows);
            }
            for (row, &hash) in self.hashes.iter().enumerate() {
                let to = owner(group_of(hash, max_parallelism), receivers, max_parallelism);
                selections[usize::from(to)].add(row);
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

/// Appends a word for every 64 hashes, with a bit for each that is `wanted`.
fn find(hashes: &[u64], wanted: &Range<u64>, words: &mut Vec<u64>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V4::try_new() {
        return simd.vectorize(wide::Find { simd, hashes, wanted, words });
    }
    words.extend(hashes.chunks(WORD).map(|hashes| word(hashes, wanted)));
}

/// The word of up to 64 hashes.
#[inline(always)]
fn word(hashes: &[u64], wanted: &Range<u64>) -> u64 {
    let is_wanted = |hash: u64| (hash >> 32).wrapping_sub(wanted.start) < wanted.end - wanted.start;
    (0..).zip(hashes).fold(0, |word, (place, &hash)| word | u64::from(is_wanted(hash)) << place)
}

/// Eight hashes at once, on processors with AVX-512: there, comparing makes bits.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::ops::Range;

    use pulp::x86::V4;
    use pulp::{NullaryFnOnce, b8, cast, u64x8};

    use super::{WORD, word};

    /// See [`super::find`].
    pub struct Find<'a> {
        pub simd: V4,
        pub hashes: &'a [u64],
        pub wanted: &'a Range<u64>,
        pub words: &'a mut Vec<u64>,
    }

    impl NullaryFnOnce for Find<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { simd, hashes, wanted, words } = self;
            let (start, count) = (simd.splat_u64x8(wanted.start), simd.splat_u64x8(wanted.end - wanted.start));
            let (whole, rest) = hashes.as_chunks::<WORD>();
            words.reserve(whole.len() + 1);
            for hashes in whole {
                let vectors: [[u64; 8]; WORD / 8] = cast(*hashes);
                let mut bytes = [0; WORD / 8];
                for (byte, vector) in bytes.iter_mut().zip(vectors) {
                    let halves: u64x8 = simd.shr_const_u64x8::<32>(cast(vector));
                    let b8(bits) = simd.cmp_lt_u64x8(simd.wrapping_sub_u64x8(halves, start), count);
                    *byte = bits;
                }
                words.push(u64::from_le_bytes(bytes));
            }
            if !rest.is_empty() {
                words.push(word(rest, wanted));
            }
        }
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
                let mut selections = vec![Selection::default(); usize::from(receivers)];
                dealer.deal(&Batch::new(keys.len(), vec![keys], None), &mut selections.iter_mut().collect::<Vec<_>>());
                for (to, selection) in (0..).zip(&selections) {
                    let owns = |key: u64| owner(group_of(hash_u64(key), max_parallelism), receivers, max_parallelism) == to;
                    let wanted: Vec<usize> = (0..).zip(rows.clone()).filter(|(_, key)| owns(*key)).map(|(row, _)| row).collect();
                    assert_eq!(selection.each().collect::<Vec<_>>(), wanted, "rows of receiver {to} of {receivers}");
                }
            }
        }
    }

    /// Looking at several hashes at once finds what looking at one after the other does.
    #[test]
    fn words_agree() {
        let hashes: Vec<u64> = (0..1000).map(hash_u64).collect();
        for (to, rows) in [(0, 0), (1, 63), (2, 64), (0, 65), (1, 1000)] {
            let wanted = hashes_of(to, 3, 128);
            let mut words = vec![];
            find(&hashes[..rows], &wanted, &mut words);
            assert_eq!(words, hashes[..rows].chunks(WORD).map(|hashes| word(hashes, &wanted)).collect::<Vec<_>>());
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
