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
use weir_state::{NO_SLOT, Slot};

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

    /// A timer of the owner has fired, was deleted or has gone to the backend; an owner without timers is gone.
    pub fn remove_timer(&mut self, id: OwnerId) {
        let Self { owners, hasher, .. } = self;
        let owner = &mut owners[id as usize];
        owner.timers -= 1;
        if owner.timers > 0 {
            return;
        }
        if owner.slot == NO_SLOT {
            let key = std::mem::take(&mut owner.key);
            if let Ok(entry) = self.away.find_entry(hasher.hash_one(&*key), |&other| other == id) {
                entry.remove();
            }
        } else {
            self.of_slots[owner.slot as usize] = NO_OWNER;
        }
        self.free.push(id);
    }

    /// The slot of the owner's key, if it has one.
    pub fn slot(&self, id: OwnerId) -> Option<Slot> {
        Some(self.owners[id as usize].slot).filter(|&slot| slot != NO_SLOT)
    }

    /// The bytes of the owner's key, if it was evicted.
    pub fn key(&self, id: OwnerId) -> &[u8] {
        &self.owners[id as usize].key
    }

    /// The owners whose keys are evicted.
    pub fn away(&self) -> impl Iterator<Item = OwnerId> {
        self.away.iter().copied()
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
    use super::*;

    /// An owner is found by slot, then by key, then by another slot, and is gone with its last timer.
    #[test]
    fn follow_their_key() {
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
        owners.remove_timer(id);
        assert_eq!(owners.get(7), Some(id));
        owners.remove_timer(id);
        assert_eq!(owners.get(7), None);
        assert_eq!(owners.get_or_make(0), id, "numbers are used again");
        owners.add_timer(id);
        owners.leave(0, b"key");
        owners.remove_timer(id);
        assert!(!owners.any_away(), "it is gone although its key has no slot");
        assert_eq!(owners.get_or_make_away(b"key"), id);
    }
}
