//! Points in time, windows, and short names for durations.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bindings::exports::weir::dataflow::definition as wit;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(i64);

impl EventTime {
    /// Before everything: the watermark before there is one.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything: the watermark at the end of the input. A timer at this time fires then.
    pub const MAX: Self = Self(i64::MAX);

    /// The time `millis` milliseconds after 1970.
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[inline]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The greatest multiple of `step` (counted from 1970) that is not later.
    #[inline]
    pub fn floor(self, step: Duration) -> Self {
        let step = to_millis(step).max(1);
        Self(self.0.saturating_sub(self.0.rem_euclid(step)))
    }
}

impl Add<Duration> for EventTime {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(to_millis(duration)))
    }
}

impl Sub<Duration> for EventTime {
    type Output = Self;

    #[inline]
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(to_millis(duration)))
    }
}

/// A span of event (or processing) time: from `start` up to, but not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// the first point in time that belongs to it
    pub start: EventTime,
    /// the first point in time that does not belong to it any more
    pub end: EventTime,
}

/// Which clock a timer or a window follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// the watermark
    Event,
    /// the machine's clock
    Processing,
}

/// A clock, as the boundary names it.
pub(crate) fn wire_domain(domain: TimeDomain) -> wit::TimeDomain {
    match domain {
        TimeDomain::Event => wit::TimeDomain::Event,
        TimeDomain::Processing => wit::TimeDomain::Processing,
    }
}

/// So many milliseconds.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// So many seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// So many minutes.
pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// So many hours.
pub const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

/// So many days of 24 hours.
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

/// A duration in whole milliseconds.
pub(crate) fn to_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
