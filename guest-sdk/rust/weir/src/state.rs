//! Keyed state: typed values in the component's memory, one for each slot.
//!
//! The host maps keys (and windows) to slots and asks for the bytes of slots at checkpoints; in between, state is updated in
//! place.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bindings::exports::weir::dataflow::chains::States;
use crate::bindings::weir::dataflow::types::Batch;
use crate::chain::slots_of;
use crate::key::Key;
use crate::migration::Codec;
use crate::record::Record;
use crate::stamp;
use crate::value::{Buffers, InState};

/// State of a key: any type that has a default (the state of a key that was never seen) and that serde can encode.
///
/// What other systems call value, list and map state are plain fields: `Option<T>`, `Vec<T>`, `BTreeMap<K, V>`; reducing and aggregating state are a value that is
/// updated. With a time to live, they are [`ExpiringValue`](crate::ExpiringValue), [`ExpiringList`](crate::ExpiringList) and
/// [`ExpiringMap`](crate::ExpiringMap).
///
/// A later version of the job may have another type: what is read as it is, and what takes a word, is told at [`Migrations`](crate::Migrations).
pub trait State: Default + Serialize + DeserializeOwned + 'static {}

impl<S: Default + Serialize + DeserializeOwned + 'static> State for S {}

/// The keys and states of a chain's slots.
pub(crate) struct Slots<K, S> {
    keys: Vec<K>,
    states: Vec<S>,
    pub codec: Codec<S>,
}

impl<K: Key, S: State> Slots<K, S> {
    pub fn new() -> Self {
        Self { keys: vec![], states: vec![], codec: Codec::new() }
    }

    /// The keys and states of all slots: as many of both, so that a loop over rows compares a slot with one number, which it need not look up again.
    #[inline]
    pub fn all(&mut self) -> (&[K], &mut [S]) {
        let count = self.keys.len();
        (&self.keys[..count], &mut self.states[..count])
    }

    /// The key and the state of a slot.
    #[inline]
    pub fn get(&mut self, slot: u32) -> Result<(&K, &mut S), String> {
        match (self.keys.get(slot as usize), self.states.get_mut(slot as usize)) {
            (Some(key), Some(state)) => Ok((key, state)),
            _ => Err(unassigned(slot)),
        }
    }

    /// The state of a slot.
    #[inline]
    pub fn state(&mut self, slot: u32) -> Result<&mut S, String> {
        self.states.get_mut(slot as usize).ok_or_else(|| unassigned(slot))
    }

    /// The key and the state of a slot, to look at.
    pub fn peek(&self, slot: u32) -> Result<(&K, &S), String> {
        self.keys.get(slot as usize).zip(self.states.get(slot as usize)).ok_or_else(|| unassigned(slot))
    }

    /// Gives slots to keys, with fresh state.
    pub fn assign(&mut self, slots: &[u8], keys: Batch) -> Result<(), String> {
        let rows = keys.rows as usize;
        let reader = K::open(&mut Buffers::new(rows, keys.buffers))?;
        for (row, slot) in slots_of(slots).enumerate().take(rows) {
            let slot = slot as usize;
            if slot >= self.keys.len() {
                self.keys.resize_with(slot + 1, K::default);
                self.states.resize_with(slot + 1, S::default);
            }
            self.keys[slot] = K::read(&reader, row);
            self.states[slot] = S::default();
        }
        Ok(())
    }

    /// Drops the state of slots.
    pub fn clear(&mut self, slots: &[u8]) -> Result<(), String> {
        for slot in slots_of(slots) {
            *self.state(slot)? = S::default();
        }
        Ok(())
    }

    /// The encoded state of slots, to which `append` adds what else there is of a slot. Nothing stands for the state of a key that was never seen, so that
    /// the host may forget the key.
    pub fn export(&self, slots: &[u8], mut append: impl FnMut(u32, &mut Vec<u8>)) -> Result<States, String> {
        let unseen = self.codec.encode(&S::default(), vec![])?;
        let mut offsets = Vec::with_capacity(slots.len() + 4);
        let mut bytes = vec![];
        offsets.extend_from_slice(&0u32.to_le_bytes());
        for slot in slots_of(slots) {
            let (_, state) = self.peek(slot)?;
            let start = bytes.len();
            bytes = self.codec.encode(state, bytes)?;
            match bytes[start..] == unseen {
                true => bytes.truncate(start),
                false => append(slot, &mut bytes),
            }
            let end = u32::try_from(bytes.len()).map_err(|_| "the state to export is larger than 4 GiB")?;
            offsets.extend_from_slice(&end.to_le_bytes());
        }
        Ok(States { offsets, bytes, expiries: None })
    }

    /// Decodes states and hands each to `put` with its slot, the state that is there, and what was appended to it.
    pub fn import(
        &mut self,
        slots: &[u8],
        states: &States,
        mut put: impl FnMut(u32, &mut S, S, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let offsets: Vec<u32> = slots_of(&states.offsets).collect();
        for (slot, bounds) in slots_of(slots).zip(offsets.windows(2)) {
            let bytes = states.bytes.get(bounds[0] as usize..bounds[1] as usize).ok_or("a state lies outside of the bytes")?;
            if !bytes.is_empty() {
                stamp::begin_reading();
                let (stored, rest) = self.codec.decode(bytes)?;
                put(slot, self.state(slot)?, stored, rest)?;
            }
        }
        Ok(())
    }

    /// Calls `merge` with the states of each target and its source.
    pub fn merge(&mut self, targets: &[u8], sources: &[u8], mut merge: impl FnMut(&mut S, &S)) -> Result<(), String> {
        for (target, source) in slots_of(targets).zip(slots_of(sources)) {
            let source = std::mem::take(self.state(source)?);
            merge(self.state(target)?, &source);
        }
        Ok(())
    }
}

/// Appends the bytes of a value.
pub(crate) fn encode<S: Serialize>(state: &S, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    postcard::to_extend(state, bytes).map_err(|e| format!("state cannot be encoded: {e}"))
}

/// A value from its bytes, and the bytes behind it.
pub(crate) fn decode<'a, S: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(S, &'a [u8]), String> {
    postcard::take_from_bytes(bytes).map_err(|e| format!("the stored state is not of the type that the job has now: {e}"))
}

/// What is wrong with a call that names a slot without a key.
#[cold]
pub(crate) fn unassigned(slot: u32) -> String {
    format!("slot {slot} was used before it was assigned")
}

/// A row in state, or none yet. It shares nothing with the batch that it came in.
#[derive(Clone, Debug)]
pub struct Stored<T>(Option<T>);

impl<T> Default for Stored<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Record> From<T> for Stored<T> {
    fn from(row: T) -> Self {
        let mut stored = Self::default();
        stored.set(row);
        stored
    }
}

impl<T: Record> Stored<T> {
    /// The row.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// Keeps `row`.
    pub fn set(&mut self, mut row: T) {
        <T as Record>::detach(&mut row);
        self.0 = Some(row);
    }

    /// Takes the row out.
    pub fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

/// Rows in state. They share nothing with the batches that they came in.
#[derive(Clone, Debug)]
pub struct StoredRows<T>(Vec<T>);

impl<T> Default for StoredRows<T> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<T: Record> StoredRows<T> {
    /// The rows, in the order in which they were added.
    pub fn rows(&self) -> &[T] {
        &self.0
    }

    /// Adds `row`.
    pub fn push(&mut self, mut row: T) {
        <T as Record>::detach(&mut row);
        self.0.push(row);
    }

    /// Adds the rows of another one.
    pub fn extend(&mut self, other: &Self)
    where
        T: Clone,
    {
        self.0.extend_from_slice(&other.0);
    }

    /// Takes all rows out.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }
}

/// Checks that rows of `T` can be kept.
pub(crate) fn check_storable<T: Record>() -> Result<(), String> {
    match T::columns().iter().find(|c| c.passed) {
        Some(column) => Err(format!("the field `{}` is a `Pass`, so rows with it cannot be kept in state", column.name())),
        None => Ok(()),
    }
}

impl<T: Record> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().map(InState).serialize(serializer)
    }
}

impl<'de, T: Record> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.map(|InState(row)| row)))
    }
}

impl<T: Record> Serialize for StoredRows<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(InState))
    }
}

impl<'de, T: Record> Deserialize<'de> for StoredRows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer)?.into_iter().map(|InState(row)| row).collect()))
    }
}
