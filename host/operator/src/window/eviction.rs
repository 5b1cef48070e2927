//! Moves the state of cold slots from the guest to the state backend, and back when their keys return.

use weir_state::{Slot, SlotTable, StateBackend, StateKey};
use weir_types::KeyGroupRange;
use weir_types::call::States;

use super::policy::Tally;
use crate::Error;

/// The limit on slots in the guest, and where the others are.
pub(super) struct Eviction {
    pub backend: Box<dyn StateBackend>,
    /// the operator's number in the backend
    pub operator: u32,
    pub max_parallelism: u16,
    /// slots that the guest may hold between two batches
    pub slots_max: usize,
    /// slots that were moved to the backend
    pub moved: u64,
}

/// Names the state of one slot in the backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// a slot of the table whose key it is
    pub key: Slot,
    pub namespace: i64,
}

/// Entries taken from the backend.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// which of the places that were asked for had an entry
    pub found: Vec<usize>,
    pub tallies: Vec<Tally>,
    pub states: States,
}

impl Taken {
    fn new() -> Self {
        Self { states: States { offsets: vec![0], bytes: vec![] }, ..Self::default() }
    }

    /// Adds an entry; false if its bytes are not those of one.
    fn push(&mut self, place: usize, value: &[u8]) -> bool {
        let Some((tally, state)) = Tally::decode(value) else { return false };
        self.states.bytes.extend_from_slice(state);
        let Ok(end) = u32::try_from(self.states.bytes.len()) else { return false };
        self.states.offsets.push(end);
        self.found.push(place);
        self.tallies.push(tally);
        true
    }

    fn checked(self, intact: bool) -> Result<Self, Error> {
        match intact {
            true => Ok(self),
            false => Err(weir_state::Error::Corrupt("a window's state is cut short, or larger than 4 GiB".into()).into()),
        }
    }
}

impl Eviction {
    /// How many slots have to leave: so many that not every batch has to evict.
    pub fn surplus(&self, slots: usize) -> usize {
        if slots <= self.slots_max { 0 } else { slots - (self.slots_max - self.slots_max / 8) }
    }

    fn groups(&self) -> KeyGroupRange {
        KeyGroupRange { start: 0, end: self.max_parallelism }
    }

    /// The steps in which so many entries are to be brought back: ranges of key groups, of about half of the limit each, or one if that is to
    /// be `at_once`. None if there is nothing to bring back.
    pub fn steps(&self, evicted: u64, at_once: bool) -> Vec<KeyGroupRange> {
        let groups = u64::from(self.max_parallelism);
        let steps = evicted.div_ceil((self.slots_max as u64 / 2).max(1)).min(if at_once { 1 } else { groups });
        let bound = |step: u64| (groups * step / steps) as u16;
        (0..steps).map(|step| KeyGroupRange { start: bound(step), end: bound(step + 1) }).collect()
    }

    /// The keys of `places` as bytes, one after another, and where each ends.
    fn key_bytes(table: &SlotTable, places: &[Place]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (vec![], vec![0]);
        for place in places {
            table.key_bytes(place.key, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn keys<'a>(
        &self,
        table: &'a SlotTable,
        places: &'a [Place],
        bytes: &'a [u8],
        ends: &'a [usize],
    ) -> impl Iterator<Item = StateKey<'a>> {
        let (operator, max_parallelism) = (self.operator, self.max_parallelism);
        places.iter().zip(ends.windows(2)).map(move |(place, range)| StateKey {
            group: table.key_group(place.key, max_parallelism),
            operator,
            namespace: place.namespace,
            key: &bytes[range[0]..range[1]],
        })
    }

    /// Writes the states of `places`.
    pub fn put(&mut self, table: &SlotTable, places: &[Place], tallies: &[Tally], states: &States) -> Result<(), Error> {
        self.moved += places.len() as u64;
        let (bytes, ends) = Self::key_bytes(table, places);
        let mut values = Vec::with_capacity(states.bytes.len() + places.len() * Tally::BYTES);
        let mut value_ends = vec![0];
        for (tally, range) in tallies.iter().zip(states.offsets.windows(2)) {
            tally.encode(&mut values);
            values.extend_from_slice(&states.bytes[range[0] as usize..range[1] as usize]);
            value_ends.push(values.len());
        }
        let keys: Vec<_> = self.keys(table, places, &bytes, &ends).collect();
        let mut entries = keys.into_iter().zip(value_ends.windows(2)).map(|(key, range)| (key, &values[range[0]..range[1]]));
        Ok(self.backend.put(&mut entries)?)
    }

    /// Takes those of `places` that are in the backend out of it.
    pub fn take(&mut self, table: &SlotTable, places: &[Place]) -> Result<Taken, Error> {
        let (bytes, ends) = Self::key_bytes(table, places);
        let keys: Vec<_> = self.keys(table, places, &bytes, &ends).collect();
        let (mut taken, mut intact) = (Taken::new(), true);
        self.backend.get(&keys, &mut |place, value| intact &= taken.push(place, value))?;
        let taken = taken.checked(intact)?;
        let found: Vec<_> = taken.found.iter().map(|&place| keys[place]).collect();
        self.backend.delete(&found)?;
        Ok(taken)
    }

    /// Takes the entries of a namespace in these key groups out of the backend, with the bytes of their keys.
    pub fn take_namespace(&mut self, namespace: i64, groups: KeyGroupRange) -> Result<(Vec<Vec<u8>>, Taken), Error> {
        let (mut keys, mut taken, mut intact) = (vec![], Taken::new(), true);
        let mut each = |at: StateKey<'_>, value: &[u8]| {
            intact &= taken.push(keys.len(), value);
            keys.push(at.key.to_vec());
        };
        self.backend.scan(groups, self.operator, Some(namespace), &mut each)?;
        let taken = taken.checked(intact)?;
        self.backend.delete_all(groups, self.operator, Some(namespace))?;
        Ok((keys, taken))
    }

    /// Drops all entries of a namespace.
    pub fn drop_namespace(&mut self, namespace: i64) -> Result<(), Error> {
        Ok(self.backend.delete_all(self.groups(), self.operator, Some(namespace))?)
    }

    /// Drops the entries of `places`.
    pub fn drop_places(&mut self, table: &SlotTable, places: &[Place]) -> Result<(), Error> {
        let (bytes, ends) = Self::key_bytes(table, places);
        let keys: Vec<_> = self.keys(table, places, &bytes, &ends).collect();
        Ok(self.backend.delete(&keys)?)
    }
}
