//! Which rows of a batch are picked: a bit for each.

use arrow_array::BooleanArray;
use arrow_buffer::{BooleanBuffer, Buffer};
use pulp::bytemuck::{self, Pod};

/// The rows that one word tells of.
pub(crate) const WORD: usize = 64;

/// How much room a column should have behind the values that are copied to it: lanes that are not wanted are stored there.
pub(crate) const ROOM_BEHIND: usize = 8;

/// Some rows of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// row 0 is the lowest bit of the first; bits beyond the last row are not set
    words: Vec<u64>,
    /// of how many rows it is
    of: usize,
    rows: usize,
}

impl Selection {
    /// Picks all of so many rows.
    pub fn pick_all(&mut self, of: usize) {
        self.pick(of, |words| words.extend((0..of).step_by(WORD).map(|first| u64::MAX >> (WORD - (of - first).min(WORD)))));
    }

    /// Picks none of so many rows, to [add](Self::add) some.
    pub fn pick_none(&mut self, of: usize) {
        self.pick(of, |words| words.resize(of.div_ceil(WORD), 0));
    }

    /// Picks, of so many rows, those whose bits are set in the words that `words` appends.
    #[inline(always)]
    pub fn pick(&mut self, of: usize, words: impl FnOnce(&mut Vec<u64>)) {
        self.words.clear();
        words(&mut self.words);
        debug_assert_eq!(self.words.len(), of.div_ceil(WORD), "a bit for each row");
        self.rows = self.words.iter().map(|word| word.count_ones() as usize).sum();
        self.of = of;
    }

    /// Picks one row more.
    #[inline]
    pub fn add(&mut self, row: usize) {
        self.words[row / WORD] |= 1 << (row % WORD);
        self.rows += 1;
    }

    /// How many are picked.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether all are.
    pub fn is_all(&self) -> bool {
        self.rows == self.of
    }

    /// The numbers of those that are picked, in their order.
    pub fn each(&self) -> impl Iterator<Item = usize> {
        (0..).step_by(WORD).zip(&self.words).flat_map(|(first, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(first + bit)
            })
        })
    }

    /// The same for Arrow's kernels.
    pub fn mask(&self) -> BooleanArray {
        BooleanBuffer::new(Buffer::from_slice_ref(&self.words), 0, self.of).into()
    }

    /// Appends the values of the rows that are picked to a column.
    pub fn copy<T: Pod>(&self, values: &[T], to: &mut Vec<T>) {
        #[cfg(target_arch = "x86_64")]
        if size_of::<T>() == size_of::<u64>()
            && let Some(simd) = pulp::x86::V4::try_new()
            && self.rows * SPARSE >= self.of
        {
            to.reserve(self.rows + ROOM_BEHIND);
            return simd.vectorize(wide::Copy { simd, words: &self.words, values: bytemuck::cast_slice(values), to });
        }
        to.extend(self.each().map(|row| values[row]));
    }
}

/// If fewer than one row in so many is picked, looking for them is faster than looking at all.
#[cfg(target_arch = "x86_64")]
const SPARSE: usize = 8;

/// Several rows at once, on processors with AVX-512: they can move the wanted lanes of a vector to its front.
#[cfg(target_arch = "x86_64")]
mod wide {
    use pulp::bytemuck::{self, Pod};
    use pulp::x86::V4;
    use pulp::{NullaryFnOnce, cast};

    /// values in a vector
    const LANES: usize = super::ROOM_BEHIND;

    /// See [`super::Selection::copy`].
    pub struct Copy<'a, T> {
        pub simd: V4,
        pub words: &'a [u64],
        pub values: &'a [u64],
        pub to: &'a mut Vec<T>,
    }

    impl<T: Pod> NullaryFnOnce for Copy<'_, T> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { simd, words, values, to } = self;
            let (vectors, rest) = values.as_chunks::<LANES>();
            let masks = words.iter().flat_map(|word| word.to_le_bytes());
            let mut len = to.len();
            for (mask, vector) in masks.clone().zip(vectors) {
                let front: [u64; LANES] = cast(simd.avx512f._mm512_maskz_compress_epi64(mask, cast(*vector)));
                // Stored as a whole; what is not wanted goes again.
                to.extend_from_slice(bytemuck::cast_slice(&front));
                len += mask.count_ones() as usize;
                to.truncate(len);
            }
            let mask = masks.clone().nth(vectors.len()).unwrap_or(0);
            let picked = (0..).zip(rest).filter(|(lane, _)| mask >> lane & 1 == 1);
            to.extend(picked.map(|(_, value)| bytemuck::cast::<_, T>(*value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Rows and values are those of the bits that are set, however many there are.
        #[test]
        fn picks_what_is_set(bits in prop_oneof![
            proptest::collection::vec(any::<bool>(), 0..700),
            proptest::collection::vec(proptest::bool::weighted(0.05), 0..700),
        ]) {
            let mut selection = Selection::default();
            selection.pick_all(bits.len());
            prop_assert!(selection.is_all());
            prop_assert_eq!(selection.each().collect::<Vec<_>>(), (0..bits.len()).collect::<Vec<_>>());
            selection.pick_none(bits.len());
            let rows: Vec<_> = (0..bits.len()).filter(|&row| bits[row]).collect();
            rows.iter().for_each(|&row| selection.add(row));
            prop_assert_eq!(selection.rows(), rows.len());
            prop_assert_eq!(selection.each().collect::<Vec<_>>(), rows.clone());
            prop_assert_eq!(selection.mask().len(), bits.len());
            prop_assert_eq!(selection.mask().true_count(), rows.len());
            let values: Vec<_> = (1000..1000 + bits.len() as u64).collect();
            let mut copied = vec![7];
            selection.copy(&values, &mut copied);
            let expected: Vec<_> = std::iter::once(7).chain(rows.iter().map(|&row| values[row])).collect();
            prop_assert_eq!(copied, expected);
            let mut narrow = vec![];
            selection.copy(&bits.iter().map(|&bit| u8::from(bit)).collect::<Vec<_>>(), &mut narrow);
            prop_assert_eq!(narrow, vec![1; rows.len()]);
        }
    }
}
