//! State that expires, and the timers that it does without.
//!
//! While it is in a slot, a timer for a cleanup has its owner drop what has expired. A state of which nothing is left from some time on needs none in a backend
//! that drops it by then: it takes its timer with it when it is evicted, and costs no write and no read any more if its key never comes back. If the key
//! does, the timer is set again; one that has been due meanwhile fires before anything else happens to the key, by the clock at which it would have, so that
//! where a state was makes no difference to what is seen of it. A state that is to be cleaned up already (rows that come late leave such) stays and has its
//! timer.
//!
//! Nobody tells which entries the backend has dropped. So what the slot table knows of evicted keys (and takes memory for) is found out anew whenever it takes there
//! to be twice as many as there were.
//!
//! When a state expires was said by the code that wrote it. Another version may have other lifetimes, and be asked only what it thinks of a state that it is
//! given. So after an upgrade no state expires by itself that the version before has left: all of them are given timers for a cleanup again.

use serde_json::{Value, json};
use weir_state::Clocks;
use weir_types::EventTime;
use weir_types::graph::TimeDomain;

use crate::Error;
use crate::snapshot::{Predecessor, corrupt};

/// Under which name the scalars of a snapshot say by which clocks state has expired, and whose code has said when it does.
const NAME: &str = "expiry";

/// So few keys more are no reason to find out which are left.
const FEW: u64 = 256 << 10;

/// By which clocks state has expired, and when to find out what is left of it.
#[derive(Debug)]
pub(super) struct Expiring {
    clocks: Clocks,
    /// whether anything may expire
    is_used: bool,
    /// what the code is known by that says when state expires
    code: String,
    /// how many keys there were when it was found out last
    left: u64,
    /// whether they were too many to be known
    are_unknown: bool,
}

impl Expiring {
    /// Of what this code says.
    pub fn new(code: String) -> Self {
        Self { clocks: Clocks::START, is_used: false, code, left: 0, are_unknown: false }
    }

    /// Up to when all cleanups have fired.
    pub fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Whether anything may expire.
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// Adds to the scalars of a snapshot what is to be known of state that expires.
    pub fn save(&self, scalars: &mut Value) {
        if self.is_used {
            let Clocks { event, processing } = self.clocks;
            scalars[NAME] = json!({ "clocks": [event, processing], "code": self.code });
        }
    }

    /// Goes on from snapshots of these; returns whether other code has said when their states expire.
    pub fn restore(&mut self, predecessors: &[Predecessor<'_>]) -> Result<bool, Error> {
        let mut is_foreign = false;
        for saved in predecessors.iter().filter_map(|of| of.scalars.get(NAME)) {
            let clocks = clocks(saved).ok_or_else(|| corrupt("it does not say by which clocks its state expires"))?;
            // What none of them has is not hidden.
            self.clocks = if self.is_used { self.clocks.least(clocks) } else { clocks };
            self.is_used = true;
            is_foreign |= saved.get("code").and_then(Value::as_str) != Some(&self.code);
        }
        Ok(is_foreign)
    }

    /// All cleanups up to a time have fired; returns whether that is news for the backend. At the end of the input time stands still: its last watermark is no
    /// time by which anything could be told to be old.
    pub fn advance(&mut self, domain: TimeDomain, to: EventTime) -> bool {
        let before = self.clocks;
        if to < EventTime::MAX {
            self.clocks.advance(domain, to);
        }
        self.is_used && self.clocks != before
    }

    /// States that expire were evicted.
    pub fn note_evicted(&mut self) {
        self.is_used = true;
    }

    /// Whether it is time to find out which keys are left, where there are so many as far as is known, or nothing is known.
    pub fn wants_to_know(&self, keys: u64, is_unknown: bool) -> bool {
        self.is_used && (keys >= (2 * self.left).max(self.left + FEW) || is_unknown && !self.are_unknown)
    }

    /// It is being found out, or was: there are so many as far as is known, or nothing is known.
    pub fn find_out(&mut self, keys: u64, is_unknown: bool) {
        (self.left, self.are_unknown) = (keys, is_unknown);
    }
}

/// By which clocks the state of a snapshot with these scalars has expired, if any does.
pub(crate) fn saved_clocks(scalars: &Value) -> Option<Clocks> {
    clocks(scalars.get(NAME)?)
}

fn clocks(saved: &Value) -> Option<Clocks> {
    let clocks = saved.get("clocks")?;
    Some(Clocks { event: clocks.get(0)?.as_i64()?, processing: clocks.get(1)?.as_i64()? })
}

#[cfg(test)]
mod tests {
    use weir_types::KeyGroupRange;

    use super::*;

    /// It is found out again once there are twice as many, few do not count; and once nothing is known any more, unless it cannot be known.
    #[test]
    fn finds_out_in_proportion() {
        let mut expiring = Expiring::new(String::new());
        assert!(!expiring.wants_to_know(10 * FEW, true), "nothing expires");
        expiring.note_evicted();
        assert!(!expiring.wants_to_know(FEW - 1, false) && expiring.wants_to_know(FEW, false));
        assert!(expiring.wants_to_know(1, true));
        expiring.find_out(FEW, true);
        assert!(!expiring.wants_to_know(2 * FEW - 1, true) && expiring.wants_to_know(2 * FEW, true));
        expiring.find_out(5 * FEW, false);
        assert!(!expiring.wants_to_know(10 * FEW - 1, false) && expiring.wants_to_know(10 * FEW, false));
        assert!(expiring.wants_to_know(5 * FEW, true));
    }

    /// Time does not go back, and stands still at the end of the input.
    #[test]
    fn time_gets_on() {
        let mut expiring = Expiring::new(String::new());
        assert!(!expiring.advance(TimeDomain::Event, 4), "nothing expires");
        expiring.note_evicted();
        assert!(expiring.advance(TimeDomain::Event, 5));
        assert!(!expiring.advance(TimeDomain::Event, 5) && !expiring.advance(TimeDomain::Event, 4));
        assert!(!expiring.advance(TimeDomain::Event, EventTime::MAX));
        assert_eq!(expiring.clocks(), Clocks { event: 5, processing: EventTime::MIN });
    }

    fn predecessors(scalars: &[Value]) -> Vec<Predecessor<'_>> {
        scalars.iter().map(|scalars| Predecessor { groups: KeyGroupRange { start: 0, end: 1 }, scalars }).collect()
    }

    /// Of several snapshots that have state which expires the clocks hold that all have reached; other code is noticed.
    #[test]
    fn goes_on() {
        let saved = |event, code: &str| {
            let mut scalars = json!({});
            let mut expiring = Expiring::new(code.into());
            expiring.note_evicted();
            expiring.advance(TimeDomain::Event, event);
            expiring.save(&mut scalars);
            scalars
        };
        let mut none = json!({});
        Expiring::new("a".into()).save(&mut none);
        assert_eq!(none, json!({}));
        let restore = |scalars: &[Value]| {
            let mut expiring = Expiring::new("a".into());
            let is_foreign = expiring.restore(&predecessors(scalars));
            (is_foreign.expect("they are whole"), expiring.is_used, expiring.clocks.event)
        };
        assert_eq!(restore(std::slice::from_ref(&none)), (false, false, EventTime::MIN));
        assert_eq!(restore(&[none, saved(7, "a"), saved(5, "a")]), (false, true, 5));
        assert_eq!(restore(&[saved(7, "a"), saved(9, "b")]), (true, true, 7));
        assert_eq!(saved_clocks(&saved(7, "a")).map(|clocks| clocks.event), Some(7));
        let damaged = [json!({ "expiry": { "clocks": [1] } })];
        Expiring::new("a".into()).restore(&predecessors(&damaged)).expect_err("a clock is missing");
    }
}
