//! State that expires, and the timers that it does without.
//!
//! While it is in a slot, a timer for a cleanup has its owner drop what has expired. A state of which nothing is left from some time on needs none in a backend
//! that drops it by then: it takes its timer with it when it is evicted, and costs neither memory nor a write nor a read any more if its key never comes
//! back. If the key does, the timer is set again; one that has been due meanwhile fires before anything else happens to the key, so that where a state
//! was makes no difference to what is seen of it. A state that is to be cleaned up already (rows that come late leave such) stays and has its timer.
//!
//! Nobody tells which entries the backend has dropped. So what the slot table knows of evicted keys (and takes memory for) is found out anew whenever as many
//! have been evicted as there were: that costs each of them the same, however many there are.

use weir_state::Clocks;
use weir_types::EventTime;
use weir_types::graph::TimeDomain;

/// The fewest evictions between two times that it is found out which entries are left.
const EVICTIONS_MIN: u64 = 256 << 10;

/// By which clocks state has expired, and when to find out what is left of it.
#[derive(Debug)]
pub(super) struct Expiring {
    clocks: Clocks,
    /// whether anything may expire
    is_used: bool,
    /// states that expire and were evicted since it was found out
    evicted: u64,
    /// after how many it is to be found out again
    most: u64,
}

impl Expiring {
    pub fn new() -> Self {
        Self { clocks: Clocks::START, is_used: false, evicted: 0, most: EVICTIONS_MIN }
    }

    /// Up to when all cleanups have fired.
    pub fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Takes over the clocks of a snapshot.
    pub fn restore(&mut self, clocks: Clocks) {
        (self.clocks, self.is_used) = (clocks, true);
    }

    /// All cleanups up to a time have fired; returns whether that is news for the backend. At the end of the input time stands still: its last watermark is no time by which
    /// anything could be told to be old.
    pub fn advance(&mut self, domain: TimeDomain, to: EventTime) -> bool {
        let before = self.clocks;
        if to < EventTime::MAX {
            self.clocks.advance(domain, to);
        }
        self.is_used && self.clocks != before
    }

    /// So many states that expire were evicted.
    pub fn note_evicted(&mut self, states: usize) {
        self.evicted += states as u64;
        self.is_used |= states > 0;
    }

    /// Whether it is time to find out which are left.
    pub fn wants_to_know(&self) -> bool {
        self.evicted >= self.most
    }

    /// It is being found out, of so many at most.
    pub fn find_out(&mut self, most: u64) {
        self.evicted = 0;
        self.most = most.max(EVICTIONS_MIN);
    }

    /// It was found out that there are so many.
    pub fn found_out(&mut self, left: u64) {
        self.most = left.max(EVICTIONS_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is found out again once as many were evicted as were left, few do not count.
    #[test]
    fn finds_out_in_proportion() {
        let mut expiring = Expiring::new();
        let evict = |expiring: &mut Expiring, states: u64| {
            expiring.note_evicted(states as usize);
            expiring.wants_to_know()
        };
        assert!(!evict(&mut expiring, EVICTIONS_MIN - 1));
        assert!(evict(&mut expiring, 1));
        expiring.find_out(10 * EVICTIONS_MIN);
        assert!(!evict(&mut expiring, 2 * EVICTIONS_MIN));
        expiring.found_out(3 * EVICTIONS_MIN);
        assert!(!evict(&mut expiring, EVICTIONS_MIN - 1));
        assert!(evict(&mut expiring, 1));
        expiring.find_out(0);
        assert!(!evict(&mut expiring, EVICTIONS_MIN - 1));
    }

    /// Time does not go back, and stands still at the end of the input.
    #[test]
    fn time_gets_on() {
        let mut expiring = Expiring::new();
        assert!(!expiring.advance(TimeDomain::Event, 4), "nothing expires");
        expiring.note_evicted(1);
        assert!(expiring.advance(TimeDomain::Event, 5));
        assert!(!expiring.advance(TimeDomain::Event, 5) && !expiring.advance(TimeDomain::Event, 4));
        assert!(!expiring.advance(TimeDomain::Event, EventTime::MAX));
        assert_eq!(expiring.clocks(), Clocks { event: 5, processing: EventTime::MIN });
    }
}
