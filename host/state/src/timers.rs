//! Timers: what is to happen at which time.
//!
//! A binary heap gives the next time, and a map says which timers are set. Deleting only takes a timer out of the map; its place in the heap is
//! passed over when its time comes, or when more than half of the heap is such places.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

use foldhash::fast::RandomState;
use weir_types::EventTime;

/// Below this size a heap is not worth cleaning.
const SIZE_MIN: usize = 64;

/// Timers of a `T`: a slot, for example.
#[derive(Debug)]
pub struct Timers<T> {
    /// by time, then in the order in which they were set
    heap: BinaryHeap<Reverse<(EventTime, u64, T)>>,
    /// the number of the setting that holds
    set: HashMap<(EventTime, T), u64, RandomState>,
    settings: u64,
}

impl<T: Copy + Ord + Hash> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), set: HashMap::default(), settings: 0 }
    }
}

impl<T: Copy + Ord + Hash> Timers<T> {
    /// Sets a timer. Setting it twice is setting it once; returns whether it is new.
    pub fn set(&mut self, time: EventTime, of: T) -> bool {
        let new = !self.set.contains_key(&(time, of));
        if new {
            self.settings += 1;
            self.set.insert((time, of), self.settings);
            self.heap.push(Reverse((time, self.settings, of)));
        }
        new
    }

    /// Deletes a timer; returns whether it was set.
    pub fn delete(&mut self, time: EventTime, of: T) -> bool {
        let was_set = self.set.remove(&(time, of)).is_some();
        if was_set && self.heap.len() >= SIZE_MIN && self.heap.len() > 2 * self.set.len() {
            let set = &self.set;
            self.heap.retain(|Reverse((time, setting, of))| set.get(&(*time, *of)) == Some(setting));
        }
        was_set
    }

    /// The time of the next timer.
    pub fn next(&mut self) -> Option<EventTime> {
        self.drop_deleted();
        self.heap.peek().map(|Reverse((time, _, _))| *time)
    }

    /// Takes the next timer that is due at `up_to`: the earliest one, and of several at one time the one that was set first.
    pub fn pop_due(&mut self, up_to: EventTime) -> Option<(EventTime, T)> {
        if self.next()? > up_to {
            return None;
        }
        let Reverse((time, _, of)) = self.heap.pop()?;
        self.set.remove(&(time, of));
        Some((time, of))
    }

    fn drop_deleted(&mut self) {
        while let Some(Reverse((time, setting, of))) = self.heap.peek() {
            if self.set.get(&(*time, *of)) == Some(setting) {
                break;
            }
            self.heap.pop();
        }
    }

    /// All timers, in no order: for a snapshot.
    pub fn iter(&self) -> impl Iterator<Item = (EventTime, T)> {
        self.set.keys().copied()
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Timers come by time, then in the order in which they were set; a timer that is set again after it was deleted goes last.
    #[test]
    fn come_in_order() {
        let mut timers = Timers::default();
        assert!(timers.set(5, 'b'));
        assert!(timers.set(5, 'a'));
        assert!(!timers.set(5, 'b'));
        assert!(timers.set(-3, 'z'));
        assert!(timers.delete(5, 'b'));
        assert!(!timers.delete(5, 'b'));
        assert!(timers.set(5, 'b'));
        assert_eq!(timers.next(), Some(-3));
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(5)).collect();
        assert_eq!(due, [(-3, 'z'), (5, 'a'), (5, 'b')]);
        assert!(timers.is_empty() && timers.next().is_none());
    }

    proptest! {
        /// Any history of calls agrees with a plain list.
        #[test]
        fn agree_with_a_list(calls in prop::collection::vec((0..3, 0..20i64, 0..10u32), 0..400)) {
            let mut timers = Timers::default();
            let mut model: Vec<(i64, u32)> = vec![];
            for (call, time, of) in calls {
                match call {
                    0 => {
                        let new = !model.contains(&(time, of));
                        if new {
                            model.push((time, of));
                        }
                        prop_assert_eq!(timers.set(time, of), new);
                    }
                    1 => {
                        let was_set = model.contains(&(time, of));
                        model.retain(|t| *t != (time, of));
                        prop_assert_eq!(timers.delete(time, of), was_set);
                    }
                    _ => {
                        let earliest = model.iter().copied().filter(|t| t.0 <= time).min_by_key(|t| t.0);
                        model.retain(|t| Some(*t) != earliest);
                        prop_assert_eq!(timers.pop_due(time), earliest);
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next(), model.iter().map(|t| t.0).min());
            }
        }
    }
}
