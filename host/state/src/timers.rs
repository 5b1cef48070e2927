//! Timers: what is to happen at which time.
//!
//! A tree of times, each with what is set there, in the order in which it was. Most times have a few timers, and few have many (all keys of a
//! window's end), so that a time is a short list that is searched, and has an index once it is long. Setting a timer twice keeps it once, whatever
//! it costs: a key that sets the same timer for each of its rows must not take more room than one that does so once.
//!
//! The lists lie beside the tree and are used again, so that the tree has small nodes to move and setting a timer allocates nothing, usually. Timers that are
//! set one after another are often for one time, which is not looked up again then.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use weir_types::EventTime;

/// Timers at one time that are searched one by one. Beyond that they have an index.
const SEARCHED_MAX: usize = 32;

/// Timers of a `T`: a slot, for example.
#[derive(Debug)]
pub struct Timers<T> {
    /// for each time the place of its list
    times: BTreeMap<EventTime, u32>,
    lists: Vec<Held<T>>,
    /// lists that are empty
    free: Vec<u32>,
    /// the time at which a timer was set last, and the place of its list, if it still has one
    latest: Option<(EventTime, u32)>,
    len: usize,
}

/// What is set for one time.
#[derive(Debug)]
struct Held<T> {
    /// in the order in which they were set; none in the place of one that was deleted or has fired
    order: SmallVec<[Option<T>; 4]>,
    /// where the first one is that may be left
    first: u32,
    /// how many are left
    left: u32,
    /// where each is, once there are many
    #[expect(clippy::box_collection, reason = "there are many times, and few with an index")]
    places: Option<Box<HashMap<T, u32, RandomState>>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { order: SmallVec::new(), first: 0, left: 0, places: None }
    }
}

impl<T: Copy + Eq + Hash> Held<T> {
    fn place(&self, of: T) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&of).map(|&place| place as usize),
            None => self.order.iter().skip(self.first as usize).position(|o| *o == Some(of)).map(|i| i + self.first as usize),
        }
    }

    fn insert(&mut self, of: T) -> bool {
        if self.place(of).is_some() {
            return false;
        }
        let place = self.order.len() as u32;
        self.order.push(Some(of));
        self.left += 1;
        match &mut self.places {
            Some(places) => _ = places.insert(of, place),
            None if self.order.len() > SEARCHED_MAX => self.tidy(),
            None => {}
        }
        self.tidy_if_gappy();
        true
    }

    /// Keeps gaps in proportion to what is set.
    fn tidy_if_gappy(&mut self) {
        if self.order.len() > SEARCHED_MAX && self.order.len() > 2 * self.left as usize {
            self.tidy();
        }
    }

    /// Closes the gaps, and makes the index anew if there are many.
    fn tidy(&mut self) {
        self.order.retain(|o| o.is_some());
        self.first = 0;
        let many = self.order.len() > SEARCHED_MAX;
        self.places = many.then(|| Box::new(self.order.iter().flatten().zip(0..).map(|(of, place)| (*of, place)).collect()));
    }

    /// Makes it as new, but for room that is worth keeping.
    fn reset(&mut self) {
        self.order.clear();
        if self.order.capacity() > SEARCHED_MAX {
            self.order.shrink_to_fit();
        }
        (self.first, self.left, self.places) = (0, 0, None);
    }

    fn remove(&mut self, of: T) -> bool {
        let Some(place) = self.place(of) else { return false };
        self.take(place);
        self.tidy_if_gappy();
        true
    }

    fn take(&mut self, place: usize) -> Option<T> {
        let of = self.order[place].take()?;
        self.left -= 1;
        if let Some(places) = &mut self.places {
            places.remove(&of);
        }
        Some(of)
    }

    fn pop(&mut self) -> Option<T> {
        while let Some(held) = self.order.get(self.first as usize) {
            let is_set = held.is_some();
            self.first += 1;
            if is_set {
                return self.take(self.first as usize - 1);
            }
        }
        None
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), lists: vec![], free: vec![], latest: None, len: 0 }
    }
}

impl<T: Copy + Eq + Hash> Timers<T> {
    /// Sets a timer; returns whether it was not set before. Setting it twice is setting it once.
    pub fn set(&mut self, time: EventTime, of: T) -> bool {
        let list = match self.latest {
            Some((latest, list)) if latest == time => list,
            _ => self.list(time),
        };
        let is_new = self.lists[list as usize].insert(of);
        self.len += usize::from(is_new);
        is_new
    }

    /// The list of a time.
    fn list(&mut self, time: EventTime) -> u32 {
        let list = match self.times.entry(time) {
            Entry::Occupied(list) => *list.get(),
            Entry::Vacant(place) => {
                let list = self.free.pop().unwrap_or_else(|| {
                    self.lists.push(Held::default());
                    // A list takes more than fifty bytes, so that memory ends long before these numbers do.
                    self.lists.len() as u32 - 1
                });
                *place.insert(list)
            }
        };
        self.latest = Some((time, list));
        list
    }

    /// A list whose time has left the tree is free.
    fn give_back(&mut self, list: u32) {
        self.lists[list as usize].reset();
        self.free.push(list);
        self.latest = self.latest.filter(|(_, latest)| *latest != list);
    }

    /// Deletes a timer; returns whether it was set.
    pub fn delete(&mut self, time: EventTime, of: T) -> bool {
        let Some(&list) = self.times.get(&time) else { return false };
        let held = &mut self.lists[list as usize];
        let was_set = held.remove(of);
        if held.left == 0 {
            self.times.remove(&time);
            self.give_back(list);
        }
        self.len -= usize::from(was_set);
        was_set
    }

    /// The time of the next timer.
    pub fn next(&self) -> Option<EventTime> {
        self.times.first_key_value().map(|(time, _)| *time)
    }

    /// The time of the last timer.
    pub fn latest(&self) -> Option<EventTime> {
        self.times.last_key_value().map(|(time, _)| *time)
    }

    /// Takes all timers of the last time out.
    pub fn take_last(&mut self, mut each: impl FnMut(EventTime, T)) {
        let Some((time, list)) = self.times.pop_last() else { return };
        while let Some(of) = self.lists[list as usize].pop() {
            each(time, of);
            self.len -= 1;
        }
        self.give_back(list);
    }

    /// Takes about so many timers out, the latest ones: all of a time or none, and none of the earliest time.
    pub fn take_latest(&mut self, count: usize, mut each: impl FnMut(EventTime, T)) {
        let left = self.len.saturating_sub(count);
        while self.len > left && self.times.len() > 1 {
            self.take_last(&mut each);
        }
    }

    /// Takes the next timers that are due at `up_to`, so many at most: the earliest ones first, and of several at one time those that were set first.
    pub fn take_due(&mut self, up_to: EventTime, most: usize, mut each: impl FnMut(EventTime, T)) {
        let mut taken = 0;
        while taken < most
            && let Some(first) = self.times.first_entry()
            && *first.key() <= up_to
        {
            let (time, list) = (*first.key(), *first.get());
            let held = &mut self.lists[list as usize];
            while taken < most
                && let Some(of) = held.pop()
            {
                each(time, of);
                taken += 1;
            }
            if held.left == 0 {
                first.remove();
                self.give_back(list);
            }
        }
        self.len -= taken;
    }

    /// All timers, by time: for a snapshot.
    pub fn iter(&self) -> impl Iterator<Item = (EventTime, T)> {
        let set = |list: u32| self.lists[list as usize].order.iter().flatten();
        self.times.iter().flat_map(move |(time, list)| set(*list).map(|of| (*time, *of)))
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pop_due<T: Copy + Eq + Hash>(timers: &mut Timers<T>, up_to: EventTime) -> Option<(EventTime, T)> {
        let mut due = None;
        timers.take_due(up_to, 1, |time, of| due = Some((time, of)));
        due
    }

    /// Timers come by time, then in the order in which they were set; a timer that is set again after it was deleted goes last.
    #[test]
    fn come_in_order() {
        let mut timers = Timers::default();
        timers.set(5, 'b');
        timers.set(5, 'a');
        timers.set(5, 'b');
        timers.set(-3, 'z');
        timers.delete(5, 'b');
        timers.delete(5, 'b');
        timers.set(5, 'b');
        assert_eq!(timers.next(), Some(-3));
        let due: Vec<_> = std::iter::from_fn(|| pop_due(&mut timers, 5)).collect();
        assert_eq!(due, [(-3, 'z'), (5, 'a'), (5, 'b')]);
        assert!(timers.is_empty() && timers.next().is_none());
    }

    /// A time with very many timers: setting them again, and deleting them in any order, takes one step each (this test would run for minutes
    /// if each took as many steps as there are timers), and room for what is set alone.
    #[test]
    fn many_at_one_time() {
        const MANY: u32 = 300_000;
        let mut timers = Timers::default();
        for _ in 0..3 {
            (0..MANY).for_each(|of| _ = timers.set(7, of));
        }
        assert_eq!(timers.len(), MANY as usize);
        assert!((0..MANY).rev().filter(|of| of % 3 > 0).all(|of| timers.delete(7, of)));
        let due: Vec<_> = std::iter::from_fn(|| pop_due(&mut timers, 7)).map(|(_, of)| of).collect();
        assert_eq!(due, (0..MANY).step_by(3).collect::<Vec<_>>());
        assert!(timers.is_empty());
    }

    proptest! {
        /// Any history of calls agrees with a plain list.
        #[test]
        fn agree_with_a_list(calls in prop::collection::vec((0..3, 0..6i64, 0..60u32), 0..400)) {
            let mut timers = Timers::default();
            let mut model: Vec<(i64, u32)> = vec![];
            for (call, time, of) in calls {
                match call {
                    0 => {
                        let is_new = !model.contains(&(time, of));
                        if is_new {
                            model.push((time, of));
                        }
                        prop_assert_eq!(timers.set(time, of), is_new);
                    }
                    1 => {
                        let was_set = model.contains(&(time, of));
                        model.retain(|t| *t != (time, of));
                        prop_assert_eq!(timers.delete(time, of), was_set);
                    }
                    _ => {
                        let earliest = model.iter().copied().filter(|t| t.0 <= time).min_by_key(|t| t.0);
                        model.retain(|t| Some(*t) != earliest);
                        prop_assert_eq!(pop_due(&mut timers, time), earliest);
                    }
                }
                prop_assert_eq!((timers.iter().count(), timers.len()), (model.len(), model.len()));
                if let Some(earliest) = model.iter().map(|t| t.0).min() {
                    prop_assert_eq!(timers.next(), Some(earliest));
                }
            }
        }
    }
}
