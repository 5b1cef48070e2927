//! Whose timers they are.
//!
//! Timers outlive the slot of their key: when a key is evicted, its slot goes to another one. So timers belong to *owners*. A key has an owner as long as
//! timers of it are set; while the key has a slot, the owner names the slot, and when it is evicted, the owner keeps the key's bytes, by which the
//! key is brought back once a timer is due.
//!
//! Timers and these keys are in the host's memory, some ten bytes a timer and some fifty a key. In the backend each timer costs a write: only
//! those that are far off go there, where there are very many (see `far`), and they have no owner.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weir_state::{NO_SLOT, Slot, SlotTable};
use weir_types::KeyGroup;

use crate::Error;

/// Keys that are named at once: as many as a processor's cache has room for.
const KEYS_AT_ONCE: usize = 4096;

/// An owner's number; numbers are used again.
pub(super) type OwnerId = u32;

/// What stands for "no owner".
const NO_OWNER: OwnerId = OwnerId::MAX;

#[derive(Debug)]
struct Owner {
    /// the key's slot; [`NO_SLOT`] if it was evicted
    slot: Slot,
    /// how many timers are set
    timers: u32,
    /// the key, if it was evicted
    key: Box<[u8]>,
}

/// The owners of timers.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: Vec<Owner>,
    free: Vec<OwnerId>,
    of_slots: Vec<OwnerId>,
    /// those of evicted keys, by key
    away: HashTable<OwnerId>,
    hasher: RandomState,
    /// those whose timers are gone, while they are kept
    gone: Option<Vec<OwnerId>>,
}

impl Owners {
    /// The owner of a slot's timers, if there are any.
    pub fn get(&self, slot: Slot) -> Option<OwnerId> {
        self.of_slots.get(slot as usize).copied().filter(|&id| id != NO_OWNER)
    }

    /// The owner of a slot's timers.
    pub fn get_or_make(&mut self, slot: Slot) -> OwnerId {
        if let Some(id) = self.get(slot) {
            return id;
        }
        let id = self.add(Owner { slot, timers: 0, key: Box::default() });
        if slot as usize >= self.of_slots.len() {
            self.of_slots.resize(slot as usize + 1, NO_OWNER);
        }
        self.of_slots[slot as usize] = id;
        id
    }

    fn add(&mut self, owner: Owner) -> OwnerId {
        match self.free.pop() {
            Some(id) => {
                self.owners[id as usize] = owner;
                id
            }
            None => {
                self.owners.push(owner);
                // An owner takes more than 16 bytes, so that memory ends long before these numbers do.
                self.owners.len() as OwnerId - 1
            }
        }
    }

    /// A timer of the owner was set.
    pub fn add_timer(&mut self, id: OwnerId) {
        self.owners[id as usize].timers += 1;
    }

    /// From now on, who owns timers now can be asked for its [slot](Self::slot) or [key](Self::key), also when its timers are gone.
    pub fn keep_gone(&mut self) {
        self.gone.get_or_insert_default();
    }

    /// Nobody asks any more for owners whose timers are gone.
    pub fn drop_gone(&mut self) {
        for id in self.gone.take().into_iter().flatten() {
            self.owners[id as usize].key = Box::default();
            self.free.push(id);
        }
    }

    /// A timer of the owner has fired, was deleted or has gone to the backend; an owner without timers is gone. The table has its key, if that has a slot.
    pub fn remove_timer(&mut self, id: OwnerId, table: &SlotTable) {
        let Self { owners, hasher, gone, .. } = self;
        let owner = &mut owners[id as usize];
        owner.timers -= 1;
        if owner.timers > 0 {
            return;
        }
        if owner.slot == NO_SLOT {
            if let Ok(entry) = self.away.find_entry(hasher.hash_one(&*owner.key), |&other| other == id) {
                entry.remove();
            }
        } else {
            self.of_slots[owner.slot as usize] = NO_OWNER;
        }
        match gone {
            Some(gone) => {
                if owner.slot != NO_SLOT {
                    let mut key = vec![];
                    table.key_bytes(owner.slot, &mut key);
                    (owner.slot, owner.key) = (NO_SLOT, key.into());
                }
                gone.push(id);
            }
            None => {
                owner.key = Box::default();
                self.free.push(id);
            }
        }
    }

    /// The slot of the owner's key, if it has one.
    pub fn slot(&self, id: OwnerId) -> Option<Slot> {
        Some(self.owners[id as usize].slot).filter(|&slot| slot != NO_SLOT)
    }

    /// The bytes of the owner's key, if it was evicted.
    pub fn key(&self, id: OwnerId) -> &[u8] {
        &self.owners[id as usize].key
    }

    /// The owner of the timers of a key without a slot, as they come from a snapshot.
    pub fn get_or_make_away(&mut self, key: &[u8]) -> OwnerId {
        let Self { owners, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        if let Some(&id) = self.away.find(hash, |&id| *owners[id as usize].key == *key) {
            return id;
        }
        let id = self.add(Owner { slot: NO_SLOT, timers: 0, key: key.into() });
        let Self { owners, hasher, .. } = self;
        self.away.insert_unique(hash, id, |&id| hasher.hash_one(&*owners[id as usize].key));
        id
    }

    /// Calls `each` with the index, the key group and the key, in two parts, of each of these owners, in any order.
    ///
    /// # Errors
    /// If a key is not one of the table's.
    pub fn for_each_key(
        &self,
        of: &[OwnerId],
        table: &SlotTable,
        max_parallelism: u16,
        mut each: impl FnMut(usize, KeyGroup, [&[u8]; 2]),
    ) -> Result<(), Error> {
        for (first, part) in (0..).step_by(KEYS_AT_ONCE).zip(of.chunks(KEYS_AT_ONCE)) {
            let (here, away): (Vec<usize>, Vec<usize>) = (0..part.len()).partition(|&i| self.slot(part[i]).is_some());
            let slots: Vec<Slot> = here.iter().filter_map(|&i| self.slot(part[i])).collect();
            table.for_each_key(&slots, max_parallelism, |i, group, key| each(first + here[i], group, key));
            if away.is_empty() {
                continue;
            }
            // Only keys that have slots have their groups at hand.
            let keys: Vec<&[u8]> = away.iter().map(|&i| self.key(part[i])).collect();
            let mut groups = Vec::with_capacity(keys.len());
            table.key_groups(&keys, max_parallelism, &mut groups)?;
            for ((i, key), group) in away.into_iter().zip(keys).zip(groups) {
                each(first + i, group, [key, &[]]);
            }
        }
        Ok(())
    }

    /// Whether keys with timers are evicted.
    pub fn any_away(&self) -> bool {
        !self.away.is_empty()
    }

    /// The key of a slot is evicted.
    pub fn leave(&mut self, slot: Slot, key: &[u8]) {
        let Some(id) = self.get(slot) else { return };
        self.of_slots[slot as usize] = NO_OWNER;
        let owner = &mut self.owners[id as usize];
        owner.slot = NO_SLOT;
        owner.key = key.into();
        let Self { owners, hasher, .. } = self;
        self.away.insert_unique(hasher.hash_one(key), id, |&id| hasher.hash_one(&*owners[id as usize].key));
    }

    /// A key has got a slot.
    pub fn come_back(&mut self, slot: Slot, key: &[u8]) {
        let Self { owners, hasher, .. } = self;
        let entry = self.away.find_entry(hasher.hash_one(key), |&id| *owners[id as usize].key == *key);
        let Ok(entry) = entry else { return };
        let (id, _) = entry.remove();
        let owner = &mut self.owners[id as usize];
        owner.slot = slot;
        owner.key = Box::default();
        if slot as usize >= self.of_slots.len() {
            self.of_slots.resize(slot as usize + 1, NO_OWNER);
        }
        self.of_slots[slot as usize] = id;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use arrow_schema::DataType;
    use weir_state::Namespaces;

    use super::*;

    /// An owner is found by slot, then by key, then by another slot, and is gone with its last timer.
    #[test]
    fn follow_their_key() {
        let table = SlotTable::new(&[DataType::Int64]).expect("a number can be a key");
        let mut owners = Owners::default();
        let id = owners.get_or_make(3);
        owners.add_timer(id);
        owners.add_timer(id);
        assert_eq!(owners.get_or_make(3), id);
        owners.leave(3, b"key");
        owners.leave(4, b"another without timers");
        assert_eq!((owners.get(3), owners.slot(id), owners.key(id)), (None, None, &b"key"[..]));
        owners.come_back(5, b"other");
        owners.come_back(7, b"key");
        assert_eq!((owners.get(7), owners.slot(id), owners.any_away()), (Some(id), Some(7), false));
        owners.remove_timer(id, &table);
        assert_eq!(owners.get(7), Some(id));
        owners.remove_timer(id, &table);
        assert_eq!(owners.get(7), None);
        assert_eq!(owners.get_or_make(0), id, "numbers are used again");
        owners.add_timer(id);
        owners.leave(0, b"key");
        owners.remove_timer(id, &table);
        assert!(!owners.any_away(), "it is gone although its key has no slot");
        assert_eq!(owners.get_or_make_away(b"key"), id);
    }

    /// While they are kept, owners that are gone can be asked for their keys, and their numbers are not used again; others do not notice.
    #[test]
    fn are_kept() {
        let mut table = SlotTable::new(&[DataType::Int64]).expect("a number can be a key");
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![70, 71]));
        let (mut slots, mut created) = (vec![], vec![]);
        table.assign(2, &[keys], Namespaces::Constant(0), &mut slots, &mut created).expect("there is room");
        let mut owners = Owners::default();
        let here = owners.get_or_make(slots[0]);
        let away = owners.get_or_make_away(b"away");
        owners.add_timer(here);
        owners.add_timer(away);
        owners.keep_gone();
        owners.remove_timer(here, &table);
        owners.remove_timer(away, &table);
        let mut key = vec![];
        table.key_bytes(slots[0], &mut key);
        assert_eq!((owners.slot(here), owners.key(here)), (None, &key[..]));
        assert_eq!((owners.slot(away), owners.key(away)), (None, &b"away"[..]));
        assert!(!owners.any_away() && owners.get(slots[0]).is_none());
        let others = [owners.get_or_make(slots[0]), owners.get_or_make_away(b"away")];
        assert!(others.iter().all(|id| ![here, away].contains(id)));
        owners.drop_gone();
        assert!([here, away].contains(&owners.get_or_make(slots[1])), "numbers are used again");
        owners.add_timer(others[0]);
        owners.remove_timer(others[0], &table);
        assert_eq!(owners.get(slots[0]), None);
    }
}
