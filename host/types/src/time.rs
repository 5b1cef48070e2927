//! Event time and watermarks.

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
pub type EventTime = i64;

/// The assertion that no row with an event time at or before it is expected any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Watermark(pub EventTime);

impl Watermark {
    /// Nothing is known yet.
    pub const NONE: Self = Self(i64::MIN);
    /// The end of a bounded input: all windows and timers fire.
    pub const END: Self = Self(i64::MAX);

    /// Where somebody goes on who was at this one. The end is that of an input which is over: who reads on nevertheless, reads another one, and time begins anew.
    pub fn resumed(self) -> Self {
        if self == Self::END { Self::NONE } else { self }
    }

    /// Whether a row at `time` arrives behind this watermark.
    pub fn is_past(self, time: EventTime) -> bool {
        self.0 >= time
    }
}
