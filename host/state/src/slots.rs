//! Which key, and which window of it, owns which slot.
//!
//! A [`SlotTable`] maps (key, namespace) to a small number, the slot, under which the guest holds the state. The namespace is the start
//! of a window or slice, or 0 where there is none. Slots are dense and used again, so that arrays indexed by slot, here and in the guest, stay
//! as small as the state that is there.
//!
//! The work is done a batch at a time. Each namespace has a hash table of its own: rows that come one after another are mostly of one window, whose table is
//! small enough for the caches, and a window that is over is forgotten as a whole. An entry is 16 bytes: the key itself where it is an
//! integer (its hash where not), and the slot. So a look-up of an integer key touches the entry and nothing else.
//!
//! A slot may be *evicted*: its bytes went to a [`StateBackend`](crate::StateBackend) and the table forgets it, but for a count in its
//! namespace, and a few bits by which it tells evicted keys from new ones. When the key comes back it gets a new slot, marked [`Created::restore`]: the
//! backend may have its bytes. What is in a slot is what holds: a backend that [keeps copies](crate::StateBackend::keeps_copies) may have an older entry of it, and the table knows of which slots.

mod filter;
mod grouping;
mod learner;
mod lists;
#[cfg(test)]
mod tests;

use arrow_array::{Array, ArrayRef, new_null_array};
use arrow_buffer::NullBuffer;
use arrow_row::Rows;
use arrow_schema::DataType;
use hashbrown::HashTable;
use weir_types::key::{group_of, hash_columns, hash_u64};
use weir_types::{KeyGroup, call::Slot};

use crate::key_codec::{KeyCodec, KeyShape, for_each_text, widen};
use crate::{Clock, Error};
use filter::Filter;
pub use grouping::Grouping;
pub use learner::{Learned, Learner};
use lists::NamespaceLists;

/// What stands for "no slot" in results of look-ups.
pub const NO_SLOT: Slot = Slot::MAX;

/// Slots whose keys tell how long those of all are.
const SAMPLE_SLOTS: usize = 64;

/// Keys that are fetched at once.
const KEYS_AT_ONCE: usize = 32;

/// The namespaces of the rows of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Namespaces<'a> {
    /// all rows have this one
    Constant(i64),
    /// one for each row
    PerRow(&'a [i64]),
}

impl Namespaces<'_> {
    /// The namespace of a row.
    #[inline]
    pub fn at(&self, row: usize) -> i64 {
        match self {
            Self::Constant(namespace) => *namespace,
            Self::PerRow(namespaces) => namespaces[row],
        }
    }
}

/// A slot that did not exist before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// the slot
    pub slot: Slot,
    /// the row of the batch that it was made for
    pub row: u32,
    /// whether the backend may hold its bytes: its key was evicted, or looks like one that was, or it is not known which were
    pub restore: bool,
}

/// An entry of a hash table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// the key if it is an integer, else its hash
    key: u64,
    slot: Slot,
}

impl Entry {
    /// Where a key is in a table. Not the hash that rows are dealt out by: of that, all keys of a subtask have some bits in common.
    #[inline]
    fn hash(key: u64) -> u64 {
        hash_u64(key.wrapping_add(0xD6E8_FEB8_6659_FD93))
    }
}

/// Maps keys and namespaces to slots.
#[derive(Debug)]
pub struct SlotTable {
    codec: KeyCodec,
    null_hash: u64,
    /// by index of the namespace
    tables: Vec<HashTable<Entry>>,
    /// by slot: the key if it is an integer, else its hash
    keys: Vec<u64>,
    /// by slot: the bytes of the key, where it is neither an integer nor absent
    bytes: Vec<Box<[u8]>>,
    free: Vec<Slot>,
    lists: NamespaceLists,
    clock: Clock,
    /// kept for its memory only
    scratch: Vec<u64>,
}

/// The keys of a batch, taken apart.
enum BatchKeys<'a> {
    Unit,
    Integers(&'a [u64], Option<&'a NullBuffer>),
    Texts(&'a ArrayRef, &'a [u64]),
    Rows(Rows, &'a [u64]),
}

impl SlotTable {
    /// A table for keys of columns of these types; none = all rows have one key.
    ///
    /// # Errors
    /// If a type cannot be part of a key.
    pub fn new(types: &[DataType]) -> Result<Self, Error> {
        let codec = KeyCodec::new(types)?;
        let mut hashes = vec![];
        let nulls: Vec<_> = types.iter().map(|t| new_null_array(t, 1)).collect();
        hash_columns(1, &nulls, &mut hashes);
        Ok(Self {
            codec,
            null_hash: hashes[0],
            tables: vec![],
            keys: vec![],
            bytes: vec![],
            free: vec![],
            lists: NamespaceLists::default(),
            clock: Clock::default(),
            scratch: vec![],
        })
    }

    /// Writes the slot of each row into `slots` (cleared first), making those that are missing; `created` (cleared first) tells which,
    /// in the order of their rows.
    ///
    /// # Errors
    /// If the columns are not of the table's types, or slots run out.
    pub fn assign(
        &mut self,
        rows: usize,
        keys: &[ArrayRef],
        namespaces: Namespaces<'_>,
        slots: &mut Vec<Slot>,
        created: &mut Vec<Created>,
    ) -> Result<(), Error> {
        created.clear();
        self.look_up(rows, keys, namespaces, slots, Some(created))
    }

    /// Writes the slot of each row into `slots` (cleared first), and [`NO_SLOT`] where there is none.
    ///
    /// # Errors
    /// If the columns are not of the table's types.
    pub fn find(
        &mut self,
        rows: usize,
        keys: &[ArrayRef],
        namespaces: Namespaces<'_>,
        slots: &mut Vec<Slot>,
    ) -> Result<(), Error> {
        self.look_up(rows, keys, namespaces, slots, None)
    }

    fn look_up(
        &mut self,
        rows: usize,
        keys: &[ArrayRef],
        namespaces: Namespaces<'_>,
        slots: &mut Vec<Slot>,
        mut created: Option<&mut Vec<Created>>,
    ) -> Result<(), Error> {
        slots.clear();
        slots.reserve(rows);
        self.codec.check(keys)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let keys = match self.codec.shape() {
            KeyShape::Unit => BatchKeys::Unit,
            KeyShape::Integer => {
                widen(&keys[0], &mut scratch);
                BatchKeys::Integers(&scratch, keys[0].nulls())
            }
            KeyShape::Text => {
                hash_columns(rows, keys, &mut scratch);
                BatchKeys::Texts(&keys[0], &scratch)
            }
            KeyShape::Rows => {
                hash_columns(rows, keys, &mut scratch);
                BatchKeys::Rows(self.codec.rows(keys)?, &scratch)
            }
        };
        let result = self.look_up_rows(rows, &keys, namespaces, slots, &mut created);
        drop(keys);
        self.scratch = scratch;
        result
    }

    fn look_up_rows(
        &mut self,
        rows: usize,
        keys: &BatchKeys<'_>,
        namespaces: Namespaces<'_>,
        slots: &mut Vec<Slot>,
        created: &mut Option<&mut Vec<Created>>,
    ) -> Result<(), Error> {
        match *keys {
            BatchKeys::Unit => {
                for row in 0..rows {
                    slots.push(self.one(0, None, namespaces.at(row), row, created)?);
                }
            }
            BatchKeys::Integers(keys, None) => match namespaces {
                Namespaces::Constant(n) => self.integers(keys, |_| n, slots, created)?,
                Namespaces::PerRow(of) => self.integers(keys, |row| of[row], slots, created)?,
            },
            BatchKeys::Integers(keys, Some(nulls)) => {
                for (row, &key) in keys.iter().enumerate() {
                    let namespace = namespaces.at(row);
                    let slot = match nulls.is_null(row) {
                        true => self.null(namespace, row, created)?,
                        false => self.one(key, None, namespace, row, created)?,
                    };
                    slots.push(slot);
                }
            }
            BatchKeys::Texts(column, hashes) => {
                let mut result = Ok(());
                let mut row = 0;
                for_each_text(column, |text| {
                    let namespace = namespaces.at(row);
                    let slot = match column.is_null(row) {
                        true => self.null(namespace, row, created),
                        false => self.one(hashes[row], Some(text), namespace, row, created),
                    };
                    match slot {
                        Ok(slot) => slots.push(slot),
                        Err(e) => result = Err(e),
                    }
                    row += 1;
                });
                result?;
            }
            BatchKeys::Rows(ref keys, hashes) => {
                for (row, &hash) in hashes.iter().enumerate() {
                    slots.push(self.one(hash, Some(keys.row(row).data()), namespaces.at(row), row, created)?);
                }
            }
        }
        Ok(())
    }

    /// The common case: integers without nulls. Runs of the same key, and of the same namespace, cost a compare.
    #[inline]
    fn integers(
        &mut self,
        keys: &[u64],
        namespace_of: impl Fn(usize) -> i64,
        slots: &mut Vec<Slot>,
        created: &mut Option<&mut Vec<Created>>,
    ) -> Result<(), Error> {
        let Some(&first) = keys.first() else { return Ok(()) };
        let mut namespace = namespace_of(0);
        let mut index = self.lists.index(namespace);
        let mut key = first;
        let mut slot = NO_SLOT;
        for (row, &k) in keys.iter().enumerate() {
            let n = namespace_of(row);
            if n != namespace {
                namespace = n;
                index = self.lists.index(namespace);
                slot = NO_SLOT;
            }
            if k != key || slot == NO_SLOT {
                key = k;
                let known = index.and_then(|i| self.tables[i as usize].find(Entry::hash(k), |e| e.key == k).map(|e| e.slot));
                slot = match (known, created.as_deref_mut()) {
                    (Some(slot), _) => {
                        self.clock.touch(slot);
                        slot
                    }
                    (None, None) => NO_SLOT,
                    (None, Some(created)) => {
                        let slot = self.create(k, None, namespace, row, created)?;
                        index = self.lists.index(namespace);
                        slot
                    }
                };
            }
            slots.push(slot);
        }
        Ok(())
    }

    /// The slot of one key that is not null.
    #[inline]
    fn one(
        &mut self,
        key: u64,
        bytes: Option<&[u8]>,
        namespace: i64,
        row: usize,
        created: &mut Option<&mut Vec<Created>>,
    ) -> Result<Slot, Error> {
        if let Some(slot) = self.lists.index(namespace).and_then(|index| self.entry(key, bytes, index)) {
            self.clock.touch(slot);
            return Ok(slot);
        }
        match created {
            None => Ok(NO_SLOT),
            Some(created) => self.create(key, bytes, namespace, row, created),
        }
    }

    #[inline]
    fn entry(&self, key: u64, bytes: Option<&[u8]>, namespace: u32) -> Option<Slot> {
        let same = |e: &Entry| e.key == key && bytes.is_none_or(|bytes| *self.bytes[e.slot as usize] == *bytes);
        self.tables[namespace as usize].find(Entry::hash(key), same).map(|e| e.slot)
    }

    /// The slot of the key of one column whose value is null: kept beside the table, since no integer stands for it.
    fn null(&mut self, namespace: i64, row: usize, created: &mut Option<&mut Vec<Created>>) -> Result<Slot, Error> {
        let known = self.lists.index(namespace).map_or(NO_SLOT, |index| self.lists.null(index));
        match created {
            _ if known != NO_SLOT => {
                self.clock.touch(known);
                Ok(known)
            }
            None => Ok(NO_SLOT),
            Some(created) => {
                let bytes = (self.codec.shape() == KeyShape::Text).then_some(&[][..]);
                let slot = self.take_slot(self.null_hash, bytes)?;
                let (index, evicted) = self.append(namespace, slot, Entry::hash(self.null_hash));
                self.lists.set_null(index, slot);
                created.push(Created { slot, row: row as u32, restore: evicted });
                Ok(slot)
            }
        }
    }

    #[cold]
    fn create(
        &mut self,
        key: u64,
        bytes: Option<&[u8]>,
        namespace: i64,
        row: usize,
        created: &mut Vec<Created>,
    ) -> Result<Slot, Error> {
        let slot = self.take_slot(key, bytes)?;
        let hash = Entry::hash(key);
        let (index, evicted) = self.append(namespace, slot, hash);
        self.tables[index as usize].insert_unique(hash, Entry { key, slot }, |e| Entry::hash(e.key));
        created.push(Created { slot, row: row as u32, restore: evicted });
        Ok(slot)
    }

    /// Puts a slot into the list of a namespace, which has a table then; returns the namespace's index, and whether the key, which has this hash, may have
    /// been evicted from it.
    fn append(&mut self, namespace: i64, slot: Slot, hash: u64) -> (u32, bool) {
        let (index, evicted) = self.lists.append(namespace, slot, hash);
        self.open_table(index);
        (index, evicted)
    }

    /// A namespace that is known has a table.
    fn open_table(&mut self, index: u32) {
        if index as usize >= self.tables.len() {
            self.tables.resize_with(index as usize + 1, HashTable::new);
        }
    }

    fn take_slot(&mut self, key: u64, bytes: Option<&[u8]>) -> Result<Slot, Error> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot::try_from(self.keys.len()).ok().filter(|&s| s != NO_SLOT).ok_or(Error::SlotsExhausted)?;
                self.keys.push(0);
                if bytes.is_some() {
                    self.bytes.push(Box::default());
                }
                slot
            }
        };
        self.keys[slot as usize] = key;
        if let Some(bytes) = bytes {
            self.bytes[slot as usize] = bytes.into();
        }
        self.clock.insert(slot);
        Ok(slot)
    }

    /// The slot that the key of `slot` has in another namespace.
    pub fn sibling(&self, slot: Slot, namespace: i64) -> Option<Slot> {
        let index = self.lists.index(namespace)?;
        if self.is_null(slot) {
            return Some(self.lists.null(index)).filter(|&s| s != NO_SLOT);
        }
        let key = self.keys[slot as usize];
        self.entry(key, self.bytes.get(slot as usize).map(|b| &**b), index)
    }

    /// Whether two slots whose `keys` are equal have the same key.
    #[inline]
    fn agree_beyond_key(&self, a: Slot, b: Slot) -> bool {
        match self.codec.shape() {
            KeyShape::Unit => true,
            // An integer may look like the null's hash.
            KeyShape::Integer => self.keys[a as usize] != self.null_hash || self.is_null(a) == self.is_null(b),
            KeyShape::Text => self.bytes[a as usize] == self.bytes[b as usize] && self.is_null(a) == self.is_null(b),
            KeyShape::Rows => self.bytes[a as usize] == self.bytes[b as usize],
        }
    }

    fn is_null(&self, slot: Slot) -> bool {
        self.lists.null(self.lists.index_of(slot)) == slot
    }

    /// Frees slots. Their numbers will be given to other keys.
    pub fn remove(&mut self, slots: &[Slot]) {
        let emptied = self.empty_namespace(slots);
        for &slot in slots {
            let index = self.lists.index_of(slot);
            if self.lists.null(index) == slot {
                self.lists.set_null(index, NO_SLOT);
            } else if !emptied {
                let hash = Entry::hash(self.keys[slot as usize]);
                let entry = self.tables[index as usize].find_entry(hash, |e| e.slot == slot);
                entry.expect("every slot in use that is not of a null has an entry").remove();
            }
            self.lists.unlink(slot);
            self.clock.remove(slot);
            self.free.push(slot);
        }
    }

    /// Empties the table of a namespace, if these are all of its slots: its window is over. Returns whether they are.
    fn empty_namespace(&mut self, slots: &[Slot]) -> bool {
        let Some(index) = slots.first().map(|&slot| self.lists.index_of(slot)) else { return false };
        if self.lists.count(index) != slots.len() || slots.iter().any(|&slot| self.lists.index_of(slot) != index) {
            return false;
        }
        let table = &mut self.tables[index as usize];
        // The next namespace with this index is likely to have as many keys; what is much more than that goes back.
        if table.capacity() / 8 > slots.len() {
            *table = HashTable::new()
        } else {
            table.clear()
        }
        true
    }

    /// Appends up to `count` slots to `cold`, those first that were not looked up for long.
    pub fn coldest(&mut self, count: usize, cold: &mut Vec<Slot>) {
        self.clock.coldest(count, cold);
    }

    /// Whether a slot belongs to a key at the moment.
    pub fn contains(&self, slot: Slot) -> bool {
        self.clock.contains(slot)
    }

    /// Up to `count` slots from all over.
    pub fn sample(&self, count: usize) -> impl Iterator<Item = Slot> {
        self.clock.sample(count)
    }

    /// Notes that a slot's state, or what the operator keeps with it, has changed although nobody looked it up.
    pub fn mark_changed(&mut self, slot: Slot) {
        self.clock.mark_changed(slot);
    }

    /// Notes that the backend has entries of these slots, which may be older than what the slots hold.
    pub fn mark_copied(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|&slot| self.clock.mark_copied(slot));
    }

    /// Whether the backend has an entry of a slot, or gets one because it was among [those that changed](Self::take_changed).
    pub fn has_copy(&self, slot: Slot) -> bool {
        self.clock.has_copy(slot)
    }

    /// Whether the backend has an entry of a slot, or gets one, that is as the slot is.
    pub fn has_current_copy(&self, slot: Slot) -> bool {
        self.clock.has_current_copy(slot)
    }

    /// The slots that were looked up or marked since the last call, and so may have changed. The backend gets copies of them.
    pub fn take_changed(&mut self) -> Vec<Slot> {
        self.clock.take_changed()
    }

    /// Notes that copies of these slots as they are now are wanted before they change.
    pub fn mark_due(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|&slot| self.clock.mark_due(slot));
    }

    /// Appends those of these slots of which a copy is wanted to `due`: it is about to be made.
    pub fn take_due(&mut self, slots: &[Slot], due: &mut Vec<Slot>) {
        self.clock.take_due(slots, due);
    }

    /// As [`remove`](Self::remove), of slots whose bytes are now in the backend.
    pub fn evict(&mut self, slots: &[Slot]) {
        for &slot in slots {
            self.lists.count_evicted(slot, Entry::hash(self.keys[slot as usize]));
        }
        self.remove(slots);
    }

    /// Notes that the bytes of these slots were found in the backend and taken from it.
    pub fn restored(&mut self, slots: &[Slot]) {
        for &slot in slots {
            self.lists.count_restored(slot, Entry::hash(self.keys[slot as usize]));
        }
    }

    /// Notes that the backend has no entries of this namespace any more.
    pub fn forget_evicted(&mut self, namespace: i64) {
        self.lists.forget_evicted(namespace);
    }

    /// Notes that so many entries of a namespace have come into the backend that were in no slot of this table: those of a snapshot. Until all are back, or
    /// forgotten, or [found out](Self::begin_learning), each new key may be one of them.
    ///
    /// If the count is not `is_sure`, there may be more.
    pub fn add_evicted(&mut self, namespace: i64, count: u64, is_sure: bool) {
        self.lists.add_evicted(namespace, count, is_sure);
        if let Some(index) = self.lists.index(namespace) {
            self.open_table(index);
        }
    }

    /// To find out whose entries of a namespace the backend has, of which there are so many at least: gives what takes in their keys. Those that are in the
    /// backend all the time from now until [`learned`](Self::learned), and do not expire, have to be among them. None if it is being found out, if there
    /// are no entries, or no room to know them all.
    ///
    /// # Errors
    /// If there can be no other codec of the table's types.
    pub fn begin_learning(&mut self, namespace: i64, at_least: u64) -> Result<Option<Learner>, Error> {
        let Some(bytes_max) = self.lists.begin_learning(namespace, at_least) else { return Ok(None) };
        let codec = self.codec.again()?;
        let (filter, hashes) = (Filter::default(), vec![]);
        Ok(Some(Learner { codec, null_hash: self.null_hash, bytes_max, filter, count: 0, hashes }))
    }

    /// What was found out, or that it could not be.
    pub fn learned(&mut self, namespace: i64, learned: Option<Learned>) {
        self.lists.learned(namespace, learned.map(|Learned { filter, count }| (filter, count)));
    }

    /// How many entries of a namespace are in the backend, at most: those that have expired are among them until it is found out.
    pub fn evicted(&self, namespace: i64) -> u64 {
        self.lists.index(namespace).map_or(0, |index| self.lists.evicted(index))
    }

    /// Whether each new key of a namespace may be an evicted one.
    pub fn knows_nothing(&self, namespace: i64) -> bool {
        self.lists.index(namespace).is_some_and(|index| self.lists.knows_nothing(index))
    }

    /// Keeps what the table takes to know evicted keys by within so many bytes, or twice that while it is found out anew. Beyond it, each new key may be one.
    pub fn limit_filters(&mut self, bytes: usize) {
        self.lists.limit_filters(bytes);
    }

    /// What the table takes to know evicted keys by, in bytes.
    pub fn filter_bytes(&self) -> usize {
        self.lists.filter_bytes()
    }

    /// The slots of a namespace, in the order in which they were made.
    pub fn slots_of(&self, namespace: i64) -> impl Iterator<Item = Slot> {
        self.lists.slots(namespace)
    }

    /// How many slots a namespace has.
    pub fn count_of(&self, namespace: i64) -> usize {
        self.lists.index(namespace).map_or(0, |index| self.lists.count(index))
    }

    /// The namespace of a slot.
    pub fn namespace(&self, slot: Slot) -> i64 {
        self.lists.namespace(slot)
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.clock.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty()
    }

    /// One more than the greatest slot that was ever in use: how long an array indexed by slot has to be.
    pub fn slot_bound(&self) -> usize {
        self.keys.len()
    }

    /// The key columns of these slots, in the table's types.
    ///
    /// # Errors
    /// If the keys are too large for the layout (2 GiB of text).
    pub fn key_columns(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>, Error> {
        let bytes = |slot: &Slot| &*self.bytes[*slot as usize];
        match self.codec.shape() {
            KeyShape::Unit => Ok(vec![]),
            KeyShape::Integer => {
                Ok(vec![self.codec.integers(slots.iter().map(|&s| (!self.is_null(s)).then(|| self.keys[s as usize])))])
            }
            KeyShape::Text => Ok(vec![self.codec.texts(slots.iter().map(|s| (!self.is_null(*s)).then(|| bytes(s))))?]),
            KeyShape::Rows => self.codec.columns_of_rows(slots.iter().map(bytes)),
        }
    }

    /// Appends the bytes that name a slot's key in a backend.
    pub fn key_bytes(&self, slot: Slot, out: &mut Vec<u8>) {
        let mut integer = [0; 8];
        let (_, parts) = self.name(slot, self.is_null(slot), &mut integer);
        parts.into_iter().for_each(|part| out.extend_from_slice(part));
    }

    /// Calls `each` with the index, the key group and the key, in two parts, of each of these slots: as [`key_group`](Self::key_group) and
    /// [`key_bytes`](Self::key_bytes) tell them, but of many at a time. So a processor fetches what lies in many places at once, and does not wait for one
    /// after the other.
    pub fn for_each_key(&self, slots: &[Slot], max_parallelism: u16, mut each: impl FnMut(usize, KeyGroup, [&[u8]; 2])) {
        let (any_null, has_bytes) = (self.lists.any_null(), matches!(self.codec.shape(), KeyShape::Text | KeyShape::Rows));
        for (part, slots) in slots.chunks(KEYS_AT_ONCE).enumerate() {
            if has_bytes {
                // Keys are seldom so long that there would be more lines between these.
                let touched = slots.iter().fold(0, |all, &slot| all ^ ends(&self.bytes[slot as usize]));
                std::hint::black_box(touched);
            }
            for (i, &slot) in slots.iter().enumerate() {
                let mut integer = [0; 8];
                let (hash, key) = self.name(slot, any_null && self.is_null(slot), &mut integer);
                each(part * KEYS_AT_ONCE + i, group_of(hash, max_parallelism), key);
            }
        }
    }

    /// The hash of a slot's key, and the bytes that name it, in two parts.
    #[inline]
    fn name<'a>(&'a self, slot: Slot, is_null: bool, integer: &'a mut [u8; 8]) -> (u64, [&'a [u8]; 2]) {
        let key = self.keys[slot as usize];
        match self.codec.shape() {
            KeyShape::Unit => (hash_u64(0), [&[], &[]]),
            KeyShape::Integer | KeyShape::Text if is_null => (key, [&[], &[]]),
            KeyShape::Integer => {
                *integer = key.to_be_bytes();
                (hash_u64(key), [integer, &[]])
            }
            // A byte before it tells empty text from null.
            KeyShape::Text => (key, [&[1], &self.bytes[slot as usize]]),
            KeyShape::Rows => (key, [&self.bytes[slot as usize], &[]]),
        }
    }

    /// The key columns of keys as [`key_bytes`](Self::key_bytes) wrote them.
    ///
    /// # Errors
    /// If bytes are not those of a key.
    pub fn decode_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        self.codec.decode(keys)
    }

    /// The key group of a slot's key.
    pub fn key_group(&self, slot: Slot, max_parallelism: u16) -> KeyGroup {
        let (hash, _) = self.name(slot, self.is_null(slot), &mut [0; 8]);
        group_of(hash, max_parallelism)
    }

    /// Appends the key groups of keys as [`key_bytes`](Self::key_bytes) wrote them to `groups`.
    ///
    /// # Errors
    /// If bytes are not exactly those that it would write for some key.
    pub fn key_groups(&self, keys: &[&[u8]], max_parallelism: u16, groups: &mut Vec<KeyGroup>) -> Result<(), Error> {
        let columns = self.codec.decode(keys.iter().copied())?;
        self.codec.check_names(keys, &columns)?;
        let mut hashes = vec![];
        hash_columns(keys.len(), &columns, &mut hashes);
        groups.extend(hashes.into_iter().map(|hash| group_of(hash, max_parallelism)));
        Ok(())
    }

    /// The memory that a slot takes beside its state, about, in bytes: in the table, and for the copy of its key that a guest keeps. Told by these slots as
    /// far as keys differ in length.
    pub fn bytes_per_slot(&self, slots: impl ExactSizeIterator<Item = Slot>) -> u64 {
        // Vectors double when they are full, so that a third of them is empty. A hash table has a byte beside each entry, and doubles when it is half full
        // of entries, and of those that were removed.
        let vectors = (size_of::<u64>() + NamespaceLists::BYTES_PER_SLOT + Clock::BYTES_PER_SLOT) * 3 / 2;
        let arrays = vectors + (size_of::<Entry>() + 1) * 2;
        if !matches!(self.codec.shape(), KeyShape::Text | KeyShape::Rows) {
            return arrays as u64;
        }
        // An allocation of its own costs about a word besides.
        let key = self.key_length(slots) + size_of::<usize>();
        (arrays + size_of::<Box<[u8]>>() * 3 / 2 + 2 * key) as u64
    }

    /// How many bytes [`key_bytes`](Self::key_bytes) writes for one of these slots, about: told by some of them, as far as keys differ in length.
    pub fn key_length(&self, slots: impl ExactSizeIterator<Item = Slot>) -> usize {
        match self.codec.shape() {
            KeyShape::Unit => 0,
            KeyShape::Integer => size_of::<u64>(),
            KeyShape::Text | KeyShape::Rows => {
                let step = slots.len().div_ceil(SAMPLE_SLOTS).max(1);
                let lengths = slots.step_by(step).map(|slot| self.bytes[slot as usize].len());
                let (sum, count) = lengths.fold((0, 0), |(sum, count), length| (sum + length, count + 1));
                1 + sum / count.max(1)
            }
        }
    }

    /// The memory that the table takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|table| size_of_val(table) + table.allocation_size()).sum::<usize>()
            + self.keys.capacity() * 8
            + self.free.capacity() * 4
            + self.bytes.iter().map(|b| b.len() + 16).sum::<usize>()
            + self.lists.bytes()
            + self.clock.bytes()
    }
}

/// Touches both ends of a key.
#[inline]
fn ends(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or_default() ^ key.last().copied().unwrap_or_default()
}
