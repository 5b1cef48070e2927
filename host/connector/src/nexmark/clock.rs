//! When events happen: the event times that they bear, and the instants at which those of a paced generator are due.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use weir_types::EventTime;

use super::lanes::Divider;

/// The event time of event 0.
const START: EventTime = 1_436_918_400_000;

/// Event times: so many events a millisecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    events_per_ms: u64,
    divider: Divider,
}

impl Timeline {
    pub const EVENTS_PER_MS_MAX: u64 = Divider::DIVISOR_MAX;

    /// `events_per_ms` is from 1 to [`Self::EVENTS_PER_MS_MAX`].
    pub fn new(events_per_ms: u64) -> Self {
        Self { events_per_ms, divider: Divider::new(events_per_ms) }
    }

    /// The times of the events from `first` on.
    pub fn from(self, first: u64) -> Clock {
        let (quotient, remainder) = (first / self.events_per_ms, first % self.events_per_ms);
        Clock { first, time: START + quotient as EventTime, remainder, divider: self.divider }
    }
}

/// The times of the events that are not too far behind a first one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    first: u64,
    /// that of the first event
    time: EventTime,
    /// how many events before the first one had its time
    remainder: u64,
    divider: Divider,
}

impl Clock {
    /// The event time of event `n`.
    #[inline(always)]
    pub fn time(self, n: u64) -> EventTime {
        self.time + self.divider.quotient(n - self.first + self.remainder) as EventTime
    }
}

/// A schedule: event n is due n / rate after the start.
///
/// It never slips: a reader that falls behind finds all events due that it has missed, and a latency that is measured from the due
/// instant counts the time that an event had to wait for its turn.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    start_unix_us: f64,
    events_per_us: f64,
    first: u64,
}

/// A reader that has given all due events sleeps at least this long, so that it does not wake for each event.
const PAUSE_MIN: Duration = Duration::from_micros(200);

/// It sleeps no longer than this, and then looks again.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);

impl Pace {
    /// The rates there can be, in events a second.
    pub const RATES: RangeInclusive<f64> = 1e-3..=1e12;

    /// Event `first` is due now. The rate is one of [`Self::RATES`].
    pub fn new(events_per_s: f64, first: u64) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix_us: since_1970.as_micros() as f64, events_per_us: events_per_s / 1e6, first }
    }

    /// The events with numbers below this are due.
    pub fn due(&self) -> u64 {
        let passed = (self.start.elapsed().as_nanos() as f64 / 1e3 * self.events_per_us) as u64;
        self.first.saturating_add(passed).saturating_add(1)
    }

    /// When to look again for event `n`, which is not due.
    pub fn pause(&self, n: u64) -> Instant {
        let due = Duration::try_from_secs_f64(self.due_us(n) / 1e6).unwrap_or(Duration::MAX);
        Instant::now() + due.saturating_sub(self.start.elapsed()).clamp(PAUSE_MIN, PAUSE_MAX)
    }

    /// The instant at which event `n` is due, in µs since 1970.
    #[inline(always)]
    pub fn due_unix_us(&self, n: u64) -> u64 {
        (self.start_unix_us + self.due_us(n)) as u64
    }

    #[inline(always)]
    fn due_us(&self, n: u64) -> f64 {
        n.saturating_sub(self.first) as f64 / self.events_per_us
    }
}
