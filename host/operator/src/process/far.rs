//! Timers that are far off: in the state backend, where there are too many of them for memory.
//!
//! A time divides them, the *horizon*: timers before it are near, in memory and in order; those at or after it are in the backend, by key group and by
//! *span*, a fixed length of time. So setting one is a write, and deleting one, too; nothing is looked up. When time comes to a span, all of its timers
//! become near, and the horizon is its end. When too many are near, the later half of them goes to the backend, and the horizon is before those.
//!
//! A timer in the backend belongs to its key by name alone: it holds no owner and no slot. One that is set twice is written twice, under one name.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_types::{EventTime, KeyGroup};

/// The length of a span, as a power of two of milliseconds: some 16 s. It is part of what snapshots mean.
const SPAN_BITS: u32 = 14;

/// A timer as the backend knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FarTimer {
    pub group: KeyGroup,
    pub time: EventTime,
    pub key: Vec<u8>,
    /// how many timers have led to it without time getting on
    pub repeats: u16,
}

/// What is known of the timers of one time domain that are in the backend.
#[derive(Debug)]
pub(crate) struct Far {
    /// none = all are near
    horizon: Option<EventTime>,
    /// spans with timers; those of some may have been deleted
    spans: BTreeSet<i64>,
}

impl Far {
    pub fn new() -> Self {
        Self { horizon: None, spans: BTreeSet::new() }
    }

    /// Whether a timer at this time is in the backend.
    #[inline]
    pub fn has(&self, time: EventTime) -> bool {
        self.horizon.is_some_and(|horizon| time >= horizon)
    }

    /// From now on timers at or after a time are in the backend.
    pub fn begin_at(&mut self, horizon: EventTime) {
        self.horizon = Some(self.horizon.map_or(horizon, |before| before.min(horizon)));
    }

    /// A timer is written to the backend: the namespace that it goes into.
    pub fn note(&mut self, time: EventTime) -> i64 {
        let span = time >> SPAN_BITS;
        self.spans.insert(span);
        span
    }

    /// The namespace of a timer in the backend.
    pub fn namespace(time: EventTime) -> i64 {
        time >> SPAN_BITS
    }

    /// No timer in the backend is earlier.
    pub fn next(&self) -> Option<EventTime> {
        let first = *self.spans.first()? << SPAN_BITS;
        Some(self.horizon.map_or(first, |horizon| first.max(horizon)))
    }

    /// The first span, whose timers become near.
    pub fn pop(&mut self) -> Option<i64> {
        let span = self.spans.pop_first()?;
        self.horizon = match self.spans.is_empty() {
            true => None,
            false => Some((span + 1) << SPAN_BITS),
        };
        Some(span)
    }

    /// For the scalars of a snapshot.
    pub fn to_scalars(&self) -> Value {
        json!({ "horizon": self.horizon, "spans": self.spans })
    }

    /// Takes in what [`to_scalars`](Self::to_scalars) of a subtask has said. None if it did not say that.
    pub fn add_scalars(&mut self, scalars: &Value) -> Option<()> {
        if let Some(horizon) = scalars.get("horizon")?.as_i64() {
            self.begin_at(horizon);
        }
        for span in scalars.get("spans")?.as_array()? {
            self.spans.insert(span.as_i64()?);
        }
        Some(())
    }
}

/// The key of a timer in the backend: its time, so that they are in order, and the key.
pub(crate) fn encode(time: EventTime, key: &[u8], out: &mut Vec<u8>) {
    out.extend((time as u64 ^ SIGN).to_be_bytes());
    out.extend(key);
}

/// What [`encode`] has written. None if that is too short.
pub(crate) fn decode(bytes: &[u8]) -> Option<(EventTime, &[u8])> {
    let (time, key) = bytes.split_first_chunk()?;
    Some(((u64::from_be_bytes(*time) ^ SIGN) as EventTime, key))
}

const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    /// Time goes from span to span, also before 1970; behind the last one all is near again.
    #[test]
    fn spans_become_near() {
        let mut far = Far::new();
        assert!(!far.has(i64::MAX) && far.next().is_none());
        far.begin_at(-100_000);
        for time in [-100_000, -90_000, 5, 1 << 30] {
            assert!(far.has(time));
            far.note(time);
        }
        assert!(!far.has(-100_001));
        assert_eq!(far.next(), Some(-100_000));
        assert_eq!(far.pop(), Some(-7));
        assert!(!far.has(-98_305) && far.has(-98_304));
        assert_eq!((far.pop(), far.pop()), (Some(-6), Some(0)));
        let mut other = Far::new();
        other.add_scalars(&far.to_scalars()).unwrap();
        assert_eq!(other.next(), Some(1 << 30));
        assert_eq!(other.pop(), Some(1 << 16));
        assert!(!other.has(i64::MAX));
        assert!(other.add_scalars(&json!({ "horizon": 5 })).is_none());
    }

    #[test]
    fn timers_are_in_order() {
        let encoded = |time| {
            let mut bytes = vec![];
            encode(time, b"key", &mut bytes);
            assert_eq!(decode(&bytes), Some((time, &b"key"[..])));
            bytes
        };
        assert!([i64::MIN, -1, 0, 1, i64::MAX].map(encoded).is_sorted());
        assert_eq!(decode(&[1; 7]), None);
    }
}
