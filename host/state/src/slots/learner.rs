//! Whose entries a backend has, found out by reading their keys: after a restore, when no slot tells, and
//! where entries expire unseen.

use arrow_array::Array;
use weir_types::key::hash_columns;

use super::Entry;
use super::filter::Filter;
use crate::Error;
use crate::key_codec::{KeyCodec, KeyShape, widen};

/// Takes in the keys of a namespace, on any thread. See [`SlotTable::begin_learning`](super::SlotTable::begin_learning).
#[derive(Debug)]
pub struct Learner {
    pub(super) codec: KeyCodec,
    pub(super) null_hash: u64,
    /// what the filter may take
    pub(super) bytes_max: usize,
    pub(super) filter: Filter,
    /// how many keys it has taken in
    pub(super) count: u64,
    /// what stands for the latest keys in the table; kept for its memory only
    pub(super) hashes: Vec<u64>,
}

/// What it has found out.
#[derive(Debug)]
pub struct Learned {
    pub(super) filter: Filter,
    /// how many keys there were
    pub(super) count: u64,
}

impl Learner {
    /// Takes in keys as [`key_bytes`](super::SlotTable::key_bytes) wrote them, each of which comes once. False if that would take too much memory: then it
    /// cannot be found out.
    ///
    /// # Errors
    /// If bytes are not those of a key.
    pub fn add(&mut self, keys: &[&[u8]]) -> Result<bool, Error> {
        let columns = self.codec.decode(keys.iter().copied())?;
        match self.codec.shape() {
            KeyShape::Integer => {
                widen(&columns[0], &mut self.hashes);
                for null in (0..columns[0].len()).filter(|&i| columns[0].is_null(i)) {
                    self.hashes[null] = self.null_hash;
                }
            }
            KeyShape::Unit => self.hashes = vec![0; keys.len()],
            KeyShape::Text | KeyShape::Rows => hash_columns(keys.len(), &columns, &mut self.hashes),
        }
        self.count += keys.len() as u64;
        Ok(self.hashes.iter().all(|&key| self.filter.insert(Entry::hash(key), self.bytes_max)))
    }

    /// These were all.
    pub fn finish(self) -> Learned {
        Learned { filter: self.filter, count: self.count }
    }
}
