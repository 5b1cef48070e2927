//! Which slots have gone cold, which have changed, which have a copy in the backend, and of which a checkpoint waits for one.
//!
//! The second-chance algorithm (Corbató 1968): an access sets a bit; a hand goes round, clears the bits that it finds set and picks the slots whose
//! bit is still clear from its last visit. An access costs one store of a byte, and picking is amortized over the accesses that set the bits.

use crate::Slot;

const RESIDENT: u8 = 1;
const ACCESSED: u8 = 2;
const CHANGED: u8 = 4;
const COPIED: u8 = 8;
const DUE: u8 = 16;

/// Slots whose flags are looked at together.
const AT_ONCE: usize = 8;

/// The access bits of slots.
#[derive(Debug, Default)]
pub struct Clock {
    flags: Vec<u8>,
    hand: usize,
    resident: usize,
}

impl Clock {
    /// What a slot takes, bytes.
    pub const BYTES_PER_SLOT: usize = 1;

    /// Takes in a slot, as just accessed.
    pub fn insert(&mut self, slot: Slot) {
        let index = slot as usize;
        if index >= self.flags.len() {
            self.flags.resize(index + 1, 0);
        }
        self.resident += usize::from(self.flags[index] == 0);
        self.flags[index] = RESIDENT | ACCESSED | CHANGED;
    }

    /// Forgets a slot, of which nobody waits for a copy.
    pub fn remove(&mut self, slot: Slot) {
        let flags = &mut self.flags[slot as usize];
        debug_assert!(*flags & DUE == 0, "slot {slot} is copied before it is free");
        self.resident -= usize::from(*flags != 0);
        *flags = 0;
    }

    /// Notes that a slot was accessed and may have changed. The slot must have been inserted.
    #[inline]
    pub fn touch(&mut self, slot: Slot) {
        self.flags[slot as usize] |= ACCESSED | CHANGED;
    }

    /// Notes that a slot has changed without having been accessed. The slot must have been inserted.
    pub fn mark_changed(&mut self, slot: Slot) {
        self.flags[slot as usize] |= CHANGED;
    }

    /// Notes that the backend has an entry of the slot, however old. The slot must have been inserted.
    pub fn mark_copied(&mut self, slot: Slot) {
        self.flags[slot as usize] |= COPIED;
    }

    /// Whether the backend has an entry of a slot, or gets one.
    pub fn has_copy(&self, slot: Slot) -> bool {
        self.flags[slot as usize] & COPIED != 0
    }

    /// Whether the backend has an entry of a slot, or gets one, that is as the slot is.
    pub fn has_current_copy(&self, slot: Slot) -> bool {
        self.flags[slot as usize] & (COPIED | CHANGED) == COPIED
    }

    /// Whether a slot was inserted and not removed since.
    pub fn contains(&self, slot: Slot) -> bool {
        self.flags.get(slot as usize).is_some_and(|flags| *flags != 0)
    }

    /// Up to `count` slots from all over.
    pub fn sample(&self, count: usize) -> impl Iterator<Item = Slot> {
        let step = self.flags.len().div_ceil(count.max(1)).max(1);
        (0..self.flags.len() as Slot).step_by(step).filter(|&slot| self.contains(slot))
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.resident
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.resident == 0
    }

    /// Appends up to `count` slots to `cold`, coldest first. They stay in the clock until they are removed.
    pub fn coldest(&mut self, count: usize, cold: &mut Vec<Slot>) {
        let mut wanted = count.min(self.resident);
        // After one round every bit is clear, so that two rounds find any number that there is.
        for _ in 0..2 * self.flags.len() {
            if wanted == 0 {
                break;
            }
            let index = self.hand;
            self.hand = (self.hand + 1) % self.flags.len();
            let flags = &mut self.flags[index];
            if *flags == 0 {
                continue;
            }
            if *flags & ACCESSED == 0 {
                cold.push(index as Slot);
                wanted -= 1;
                // So that the second round does not pick it again.
                *flags |= ACCESSED;
            } else {
                *flags &= !ACCESSED;
            }
        }
    }

    /// The slots that have changed since the last call, in the order of their numbers. The backend gets copies of them.
    pub fn take_changed(&mut self) -> Vec<Slot> {
        let mut changed = Vec::with_capacity(self.flags.iter().filter(|&flags| flags & CHANGED != 0).count());
        for (part, flags) in self.flags.chunks_mut(AT_ONCE).enumerate() {
            // Mostly few have.
            if flags.iter().fold(0, |any, flags| any | flags) & CHANGED == 0 {
                continue;
            }
            for (flags, slot) in flags.iter_mut().zip(part * AT_ONCE..) {
                if *flags & CHANGED != 0 {
                    *flags = *flags & !CHANGED | COPIED;
                    changed.push(slot as Slot);
                }
            }
        }
        changed
    }

    /// Notes that a copy of a slot as it is now is wanted before it changes. The slot must have been inserted.
    pub fn mark_due(&mut self, slot: Slot) {
        self.flags[slot as usize] |= DUE;
    }

    /// Appends those of these slots of which a copy is wanted to `due`: it is about to be made.
    #[inline]
    pub fn take_due(&mut self, slots: &[Slot], due: &mut Vec<Slot>) {
        for &slot in slots {
            let flags = &mut self.flags[slot as usize];
            if *flags & DUE != 0 {
                *flags &= !DUE;
                due.push(slot);
            }
        }
    }

    /// The memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.flags.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coldest(clock: &mut Clock, count: usize) -> Vec<Slot> {
        let mut cold = vec![];
        clock.coldest(count, &mut cold);
        cold
    }

    /// Slots that were accessed since the hand's last visit are spared, and none is picked twice in one call.
    #[test]
    fn gives_a_second_chance() {
        let mut clock = Clock::default();
        (0..6).for_each(|s| clock.insert(s));
        assert_eq!(coldest(&mut clock, 2), [0, 1]);
        clock.remove(0);
        clock.remove(1);
        clock.touch(3);
        assert_eq!(coldest(&mut clock, 2), [2, 4]);
        let mut all = coldest(&mut clock, 100);
        all.sort_unstable();
        assert_eq!(all, [2, 3, 4, 5]);
        assert!(coldest(&mut Clock::default(), 3).is_empty());
    }

    /// A slot has a copy once its change was reported, or somebody says so, until it is removed; a current one until it changes.
    #[test]
    fn knows_copies() {
        let mut clock = Clock::default();
        (0..2).for_each(|s| clock.insert(s));
        clock.mark_copied(1);
        assert!(!clock.has_copy(0) && clock.has_copy(1));
        assert!(!clock.has_current_copy(1), "it was brought back because somebody wants to change it");
        clock.take_changed();
        assert!(clock.has_current_copy(0) && clock.has_current_copy(1));
        clock.touch(0);
        assert!(clock.has_copy(0) && !clock.has_current_copy(0));
        clock.remove(0);
        clock.insert(0);
        assert!(!clock.has_copy(0));
    }

    /// A copy is wanted once, whatever happens to the slot meanwhile.
    #[test]
    fn wants_a_copy_once() {
        let mut clock = Clock::default();
        (0..4).for_each(|slot| clock.insert(slot));
        (0..3).for_each(|slot| clock.mark_due(slot));
        clock.touch(1);
        let mut due = vec![];
        clock.take_due(&[3, 1, 1, 0], &mut due);
        assert_eq!(due, [1, 0]);
        clock.take_due(&[0, 1, 2, 3], &mut due);
        assert_eq!(due, [1, 0, 2]);
        clock.remove(2);
        clock.insert(2);
        clock.take_due(&[2], &mut due);
        assert_eq!(due.len(), 3, "it is another slot now");
    }

    /// A change is reported once.
    #[test]
    fn reports_changes_once() {
        let mut clock = Clock::default();
        (0..3).for_each(|s| clock.insert(s));
        assert_eq!(clock.take_changed(), [0, 1, 2]);
        clock.touch(1);
        assert_eq!(clock.take_changed(), [1]);
        clock.touch(1);
        clock.mark_changed(2);
        clock.remove(1);
        assert_eq!(clock.take_changed(), [2]);
        (3..40).for_each(|slot| clock.insert(slot));
        clock.take_changed();
        [9, 30, 31, 39].into_iter().for_each(|slot| clock.touch(slot));
        assert_eq!(clock.take_changed(), [9, 30, 31, 39]);
    }
}
