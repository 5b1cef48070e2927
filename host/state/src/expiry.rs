//! When entries are of no use any more.
//!
//! State with a time to live is dropped by timers while it is in slots. What was evicted needs none: its entry says when nothing is left of it, and the backend
//! drops it then, whenever it suits it (RocksDB: while it rewrites files anyway, by a compaction filter). Until it does, it does not show it.
//!
//! What has expired is decided by the job's time, not by the machine's, lest a replay finds less than the first run did: see [`Clocks`].
//!
//! ```text
//! 0     1        9        17
//! | 0 | value …                      it stays
//! | 1 | first  | last   | value …    it expires by event time
//! | 2 | first  | last   | value …    it expires by processing time
//!       i64, little-endian
//! ```

use weir_types::EventTime;
use weir_types::graph::TimeDomain;

/// When what an entry has expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// by which clock
    pub domain: TimeDomain,
    /// when some of it may: while it is in a slot, its owner wants to know
    pub first: EventTime,
    /// when all of it has
    pub last: EventTime,
}

/// How far time has got, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// the watermark
    pub event: EventTime,
    /// processing time
    pub processing: EventTime,
}

impl Clocks {
    /// Nothing has expired.
    pub const START: Self = Self { event: EventTime::MIN, processing: EventTime::MIN };

    /// What one of them shows.
    pub fn of(&self, domain: TimeDomain) -> EventTime {
        match domain {
            TimeDomain::Event => self.event,
            TimeDomain::Processing => self.processing,
        }
    }

    /// Sets one of them, which never goes back.
    pub fn advance(&mut self, domain: TimeDomain, to: EventTime) {
        let clock = match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        };
        *clock = to.max(*clock);
    }

    /// Clocks that show what was reached by these and by others.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self { event: self.event.min(other.event), processing: self.processing.min(other.processing) }
    }

    /// Whether nothing has expired yet of what this is of.
    #[inline]
    pub fn are_before(&self, expiry: Expiry) -> bool {
        self.of(expiry.domain) < expiry.first
    }

    /// Whether all has expired of what this is of.
    #[inline]
    pub fn have_passed(&self, expiry: Expiry) -> bool {
        expiry.last <= self.of(expiry.domain)
    }
}

/// The most bytes of an expiry.
pub const BYTES_MAX: usize = 1 + 2 * size_of::<EventTime>();

const STAYS: u8 = 0;
const BY_EVENT: u8 = 1;
const BY_PROCESSING: u8 = 2;

/// Writes what a value begins with: when it expires, if it does.
#[inline]
pub fn encode(expiry: Option<Expiry>, out: &mut Vec<u8>) {
    let Some(Expiry { domain, first, last }) = expiry else { return out.push(STAYS) };
    out.push(match domain {
        TimeDomain::Event => BY_EVENT,
        TimeDomain::Processing => BY_PROCESSING,
    });
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&last.to_le_bytes());
}

/// When a value expires, if it does, and what is behind that. None if it does not begin so.
#[inline]
pub fn decode(value: &[u8]) -> Option<(Option<Expiry>, &[u8])> {
    let (&tag, rest) = value.split_first()?;
    let domain = match tag {
        STAYS => return Some((None, rest)),
        BY_EVENT => TimeDomain::Event,
        BY_PROCESSING => TimeDomain::Processing,
        _ => return None,
    };
    let (first, rest) = rest.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    Some((Some(Expiry { domain, first: EventTime::from_le_bytes(*first), last: EventTime::from_le_bytes(*last) }), rest))
}

/// Whether all has expired of a value that begins with its expiry. What does not begin so has not.
#[inline]
pub fn is_over(value: &[u8], clocks: &Clocks) -> bool {
    matches!(decode(value), Some((Some(expiry), _)) if clocks.have_passed(expiry))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written is read, with what is behind it; what is no expiry is none, and over never.
    #[test]
    fn are_read_as_written() {
        let (domain, first, last) = (TimeDomain::Processing, -5, 70);
        for expiry in [None, Some(Expiry { domain, first, last }), Some(Expiry { domain: TimeDomain::Event, first, last })] {
            let mut value = vec![];
            encode(expiry, &mut value);
            value.extend_from_slice(b"state");
            assert_eq!(decode(&value), Some((expiry, &b"state"[..])));
            let over_at = |event, processing| is_over(&value, &Clocks { event, processing });
            let by_event = expiry.is_some_and(|expiry| expiry.domain == TimeDomain::Event);
            assert!(!over_at(69, 69));
            assert_eq!((over_at(70, 69), over_at(69, 70)), (by_event, expiry.is_some() && !by_event));
        }
        for damaged in [&b""[..], &[3], &[1, 0, 0], &[2; 16]] {
            assert!(
                decode(damaged).is_none() && !is_over(damaged, &Clocks { event: EventTime::MAX, processing: EventTime::MAX })
            );
        }
    }

    /// Clocks do not go back; those of several have reached what each has.
    #[test]
    fn clocks_advance() {
        let mut clocks = Clocks::START;
        clocks.advance(TimeDomain::Event, 7);
        clocks.advance(TimeDomain::Event, 3);
        clocks.advance(TimeDomain::Processing, 5);
        assert_eq!(clocks, Clocks { event: 7, processing: 5 });
        assert_eq!(clocks.least(Clocks { event: 9, processing: 2 }), Clocks { event: 7, processing: 2 });
    }
}
