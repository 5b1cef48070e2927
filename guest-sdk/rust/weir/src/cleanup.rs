//! Cleanups: how state that has expired goes, though nobody asks for it any more.
//!
//! Each key that has something to expire has one timer for each clock, which the user's function does not see. When it fires, what has expired is dropped, and
//! the timer is set again for what is left. So a key that is written again and again costs a timer once in a lifetime of its state, and one that is never heard of
//! again is empty in the end, which is when the host forgets it, also if it was evicted. Times are rounded up, so that items which expire one by one are dropped
//! several at a time.
//!
//! The host is told when all of a state has expired, so that it may drop what was evicted without a timer: see [`end`].

use std::cell::Cell;

use crate::bindings::exports::weir::dataflow::chains::Timer as WireTimer;
use crate::state::{State, decode, encode};
use crate::time::{TimeDomain, wire_domain};

/// By clock (event time, processing time), when something expires first; [`i64::MAX`] = never.
pub(crate) type Deadlines = [i64; 2];

/// Nothing expires.
pub(crate) const NEVER: Deadlines = [i64::MAX; 2];

const DOMAINS: [TimeDomain; 2] = [TimeDomain::Event, TimeDomain::Processing];

/// The place of a clock's deadline.
pub(crate) fn place(domain: TimeDomain) -> usize {
    match domain {
        TimeDomain::Event => 0,
        TimeDomain::Processing => 1,
    }
}

/// The first multiple of `step` at or after `time`.
pub(crate) fn round_up(time: i64, step: i64) -> i64 {
    let step = step.max(1);
    (time.saturating_add(step - 1).div_euclid(step) * step).max(time)
}

/// The timers that are set, by slot.
#[derive(Default)]
pub(crate) struct Cleanups {
    /// as long as it has to be: empty where nothing expires
    by_slot: Vec<Deadlines>,
}

impl Cleanups {
    /// The timers of a slot.
    #[inline]
    pub fn get(&self, slot: u32) -> Deadlines {
        self.by_slot.get(slot as usize).copied().unwrap_or(NEVER)
    }

    /// The timer of a slot that has just one: by which clock, and when.
    pub fn only(&self, slot: u32) -> Option<(TimeDomain, i64)> {
        match self.get(slot) {
            [event, i64::MAX] if event < i64::MAX => Some((TimeDomain::Event, event)),
            [i64::MAX, processing] if processing < i64::MAX => Some((TimeDomain::Processing, processing)),
            _ => None,
        }
    }

    fn put(&mut self, slot: u32, deadlines: Deadlines) {
        let slot = slot as usize;
        if slot >= self.by_slot.len() {
            self.by_slot.resize(slot + 1, NEVER);
        }
        self.by_slot[slot] = deadlines;
    }

    /// Sets the timers of a slot to `deadlines`.
    #[cold]
    pub fn set(&mut self, slot: u32, deadlines: Deadlines, timers: &mut Vec<WireTimer>) {
        let before = self.get(slot);
        for (domain, (old, new)) in DOMAINS.into_iter().zip(before.into_iter().zip(deadlines)) {
            let timer = |time, delete| WireTimer { slot, domain: wire_domain(domain), time, delete, cleanup: true };
            if old == new {
                continue;
            }
            timers.extend((old < i64::MAX).then(|| timer(old, true)));
            timers.extend((new < i64::MAX).then(|| timer(new, false)));
        }
        self.put(slot, deadlines);
    }

    /// A timer of a slot has fired; false if it is not one that is still wanted. An instance forgets its timers with the state that they are for, and the host does
    /// not.
    pub fn fired(&mut self, slot: u32, domain: TimeDomain, time: i64) -> bool {
        let mut deadlines = self.get(slot);
        let is_wanted = deadlines[place(domain)] == time;
        if is_wanted {
            deadlines[place(domain)] = i64::MAX;
            self.put(slot, deadlines);
        }
        is_wanted
    }

    /// Slots have got other keys, or none.
    pub fn forget(&mut self, slots: impl Iterator<Item = u32>) {
        if self.by_slot.is_empty() {
            return;
        }
        for slot in slots {
            if let Some(deadlines) = self.by_slot.get_mut(slot as usize) {
                *deadlines = NEVER;
            }
        }
    }

    /// Appends the timers of a slot to its encoded state, if there are any.
    pub fn encode(&self, slot: u32, bytes: &mut Vec<u8>) {
        let deadlines = self.get(slot);
        if deadlines != NEVER {
            deadlines.iter().for_each(|deadline| bytes.extend_from_slice(&deadline.to_le_bytes()));
        }
    }

    /// Takes in what [`encode`](Self::encode) has appended.
    pub fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String> {
        match bytes.as_chunks::<8>() {
            ([], []) => Ok(()),
            (&[event, processing], []) => {
                self.put(slot, [event, processing].map(i64::from_le_bytes));
                Ok(())
            }
            _ => Err("there are bytes behind the stored state that are no timers of it".into()),
        }
    }
}

/// What is dropped of a state while it is encoded.
#[derive(Clone, Copy)]
struct Sweep {
    domain: TimeDomain,
    time: i64,
    /// when the first of what is left expires, rounded up
    next: i64,
    /// when the last of what was dropped has expired, rounded up
    last: i64,
    dropped: bool,
}

impl Sweep {
    fn at(domain: TimeDomain, time: i64) -> Self {
        Self { domain, time, next: i64::MAX, last: i64::MIN, dropped: false }
    }

    /// Encodes a state, without what this drops of it. Returns that, and what there was to drop.
    fn encode<S: State>(self, state: &S) -> Result<(Vec<u8>, Self), String> {
        SWEEP.set(Some(self));
        let encoded = encode(state, vec![]);
        let sweep = SWEEP.take();
        Ok((encoded?, sweep.expect("it was set for this state")))
    }
}

thread_local! {
    // Serde hands nothing to those that it encodes, and a component has one thread.
    static SWEEP: Cell<Option<Sweep>> = const { Cell::new(None) };
}

/// Drops what has expired of a state by a clock that shows `time`; returns when the next of it does, rounded up. What expires is found by encoding the state, so
/// that it may be anywhere in types that only serde knows.
pub(crate) fn sweep<S: State>(state: &mut S, domain: TimeDomain, time: i64) -> Result<i64, String> {
    let (bytes, sweep) = Sweep::at(domain, time).encode(state)?;
    if sweep.dropped {
        *state = decode(&bytes)?.0;
    }
    Ok(sweep.next)
}

/// When all has expired of a state that makes it different from a fresh one, whose bytes these are, by this clock and rounded up; [`i64::MAX`] = never.
pub(crate) fn end<S: State>(state: &S, fresh: &[u8], domain: TimeDomain) -> Result<i64, String> {
    let (bytes, sweep) = Sweep::at(domain, i64::MAX).encode(state)?;
    Ok(if bytes == fresh { sweep.last } else { i64::MAX })
}

/// Whether what expires at `expiry` is to be encoded: not if it is to be dropped.
pub(crate) fn is_kept(domain: TimeDomain, expiry: i64, step: i64) -> bool {
    let Some(mut sweep) = SWEEP.get().filter(|sweep| sweep.domain == domain) else { return true };
    let is_kept = sweep.time < expiry;
    match is_kept {
        true => sweep.next = sweep.next.min(round_up(expiry, step)),
        false => (sweep.dropped, sweep.last) = (true, sweep.last.max(round_up(expiry, step))),
    }
    SWEEP.set(Some(sweep));
    is_kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timers follow the deadlines of their slot, survive export and import, and only those that are still wanted count.
    #[test]
    fn timers_of_a_slot() {
        let mut cleanups = Cleanups::default();
        let mut timers = vec![];
        cleanups.set(2, [30, i64::MAX], &mut timers);
        cleanups.set(2, [20, 50], &mut timers);
        let told: Vec<_> = timers.iter().map(|t| (t.slot, t.time, t.delete, t.cleanup)).collect();
        assert_eq!(told, [(2, 30, false, true), (2, 30, true, true), (2, 20, false, true), (2, 50, false, true)]);
        let mut bytes = vec![];
        cleanups.encode(2, &mut bytes);
        cleanups.encode(1, &mut bytes);
        cleanups.forget([2].into_iter());
        assert!(!cleanups.fired(2, TimeDomain::Event, 20), "it belongs to another key");
        cleanups.decode(7, &bytes).expect("two timers");
        cleanups.decode(7, &bytes[1..]).expect_err("these are not two times");
        assert!(!cleanups.fired(7, TimeDomain::Event, 50));
        assert!(cleanups.fired(7, TimeDomain::Processing, 50) && !cleanups.fired(7, TimeDomain::Processing, 50));
        assert_eq!(cleanups.get(7), [20, i64::MAX]);
    }

    /// A state ends with the last of what expires in it, if nothing else is in it.
    #[test]
    fn states_end() {
        struct Second;
        impl crate::Expiry for Second {
            const TTL: crate::Ttl = crate::Ttl::new(crate::secs(1));
        }
        let state = |count: u64, stamps: &[i64]| -> (u64, crate::ExpiringList<u8, Second>) {
            let items: Vec<(i64, u8)> = stamps.iter().map(|&stamp| (stamp, 7)).collect();
            decode(&encode(&(count, items), vec![]).expect("it is encoded")).expect("a list is its items").0
        };
        let fresh = encode(&state(0, &[]), vec![]).expect("it is encoded");
        let end = |count, stamps: &[i64], domain| end(&state(count, stamps), &fresh, domain).expect("it is encoded");
        assert_eq!(end(0, &[100, 130, 20], TimeDomain::Processing), round_up(1130, 125));
        assert_eq!(end(0, &[100], TimeDomain::Event), i64::MAX, "not by this clock");
        assert_eq!(end(1, &[100], TimeDomain::Processing), i64::MAX, "there is something else");
        assert_eq!(end(0, &[i64::MAX], TimeDomain::Processing), i64::MAX);
        assert_eq!(end(0, &[], TimeDomain::Event), i64::MIN, "it has ended");
    }

    #[test]
    fn times_are_rounded_up() {
        for (time, step, rounded) in
            [(0, 10, 0), (1, 10, 10), (-11, 10, -10), (5, 0, 5), (i64::MAX - 1, 7, i64::MAX), (i64::MAX - 1, 10, i64::MAX - 1)]
        {
            assert_eq!(round_up(time, step), rounded, "{time} by {step}");
        }
    }
}
