//! Timers: what is to happen at which time.
//!
//! A tree of times, each with what was set and deleted there, in the order of the calls. Most times have one or two timers, and most are never deleted, so
//! that setting one is a step down the tree and a push; who set what twice, or deleted what, is looked into when the time comes.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;

use smallvec::SmallVec;
use weir_types::EventTime;

/// Calls at one time that are searched one by one. Beyond that, a deletion is noted instead of done.
const SEARCHED_MAX: usize = 32;

/// Timers of a `T`: a slot, for example.
#[derive(Debug)]
pub struct Timers<T> {
    times: BTreeMap<EventTime, Calls<T>>,
    /// timers of one time that has come, taken out of `times`
    due: VecDeque<T>,
    /// that time
    due_time: EventTime,
}

/// What was called for one time: `true` is set, `false` is deleted.
type Calls<T> = SmallVec<[(T, bool); 2]>;

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), due: VecDeque::new(), due_time: EventTime::MIN }
    }
}

impl<T: Copy + Ord + Hash> Timers<T> {
    /// Sets a timer. Setting it twice is setting it once.
    pub fn set(&mut self, time: EventTime, of: T) {
        if time == self.due_time && self.due.contains(&of) {
            return;
        }
        let calls = self.times.entry(time).or_default();
        if calls.last() != Some(&(of, true)) {
            calls.push((of, true));
        }
    }

    /// Deletes a timer, if it is set.
    pub fn delete(&mut self, time: EventTime, of: T) {
        if time == self.due_time {
            self.due.retain(|due| *due != of);
        }
        let Some(calls) = self.times.get_mut(&time) else { return };
        if calls.len() <= SEARCHED_MAX {
            calls.retain(|(set, _)| *set != of);
        } else {
            calls.push((of, false));
            // Keeps what is noted in proportion to what is set.
            if calls.iter().filter(|(_, set)| !set).count() * 2 > calls.len() {
                let held = resolve(calls);
                *calls = held.into_iter().map(|of| (of, true)).collect();
            }
        }
        if calls.is_empty() {
            self.times.remove(&time);
        }
    }

    /// The time at which to look for due timers next. Nothing may be due then, if all that was set for it has been deleted.
    pub fn next(&self) -> Option<EventTime> {
        let due = (!self.due.is_empty()).then_some(self.due_time);
        let first = self.times.first_key_value().map(|(time, _)| *time);
        due.into_iter().chain(first).min()
    }

    /// Takes the next timer that is due at `up_to`: the earliest one, and of several at one time the one that was set first.
    pub fn pop_due(&mut self, up_to: EventTime) -> Option<(EventTime, T)> {
        loop {
            // A timer that was set meanwhile may be earlier than what is due.
            let earlier = self.times.first_key_value().is_some_and(|(time, _)| *time < self.due_time);
            if let (Some(of), false) = (self.due.front().copied(), earlier)
                && self.due_time <= up_to
            {
                self.due.pop_front();
                return Some((self.due_time, of));
            }
            let first = self.times.first_entry()?;
            if *first.key() > up_to {
                return None;
            }
            let (time, calls) = first.remove_entry();
            // What was due at another time goes back to where it was.
            if !self.due.is_empty() {
                let back = self.times.entry(self.due_time).or_default();
                back.insert_many(0, self.due.drain(..).map(|of| (of, true)));
            }
            self.due_time = time;
            match calls[..] {
                [(of, true)] => self.due.push_back(of),
                _ => self.due.extend(resolve(&calls)),
            }
        }
    }

    /// All timers, in no order: for a snapshot.
    pub fn iter(&self) -> impl Iterator<Item = (EventTime, T)> {
        let due = self.due.iter().map(|of| (self.due_time, *of));
        due.chain(self.times.iter().flat_map(|(time, calls)| resolve(calls).into_iter().map(|of| (*time, of))))
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// What is set after these calls, in the order in which it was.
fn resolve<T: Copy + Ord>(calls: &[(T, bool)]) -> Vec<T> {
    let mut order: Vec<usize> = (0..calls.len()).collect();
    // Of each timer its calls in order: the first one after the last deletion is the one that holds.
    order.sort_unstable_by_key(|&i| (calls[i].0, i));
    let mut held: Vec<usize> = vec![];
    for of in order.chunk_by(|&a, &b| calls[a].0 == calls[b].0) {
        let after_deletion = of.iter().rposition(|&i| !calls[i].1).map_or(0, |deletion| deletion + 1);
        held.extend(of.get(after_deletion));
    }
    held.sort_unstable();
    held.into_iter().map(|i| calls[i].0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                        timers.set(time, of);
                    }
                    1 => {
                        model.retain(|t| *t != (time, of));
                        timers.delete(time, of);
                    }
                    _ => {
                        let earliest = model.iter().copied().filter(|t| t.0 <= time).min_by_key(|t| t.0);
                        model.retain(|t| Some(*t) != earliest);
                        prop_assert_eq!(timers.pop_due(time), earliest);
                    }
                }
                prop_assert_eq!(timers.iter().count(), model.len());
                if let Some(earliest) = model.iter().map(|t| t.0).min() {
                    prop_assert!(timers.next().is_some_and(|next| next <= earliest));
                }
            }
        }
    }
}
