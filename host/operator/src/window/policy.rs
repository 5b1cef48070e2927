//! When a window is emitted, how long it accepts rows, and what has to be known of its rows for that.
//!
//! *Time* here is the progress of the window's own clock: the watermark, or processing time. A window is *past* once time has reached its last
//! moment, and *expired* once the allowed lateness has passed as well; between the two, each row emits it anew.

use weir_types::EventTime;
use weir_types::graph::Window;

use crate::eviction::Note;

/// What a window's trigger and lateness demand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub on_time: bool,
    pub early_every_ms: Option<i64>,
    pub every_count: Option<u64>,
    pub purging: bool,
    lateness_ms: i64,
}

/// What is known of the rows in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// rows since the last emission because of their number; before an exchange: rows since the last export
    pub rows: u64,
    /// whether rows came since the last emission
    pub changed: bool,
    /// whether there are rows that were not purged
    pub filled: bool,
}

impl Policy {
    pub fn of(window: &Window) -> Self {
        Self {
            on_time: window.trigger.on_time,
            early_every_ms: window.trigger.early_every_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).max(1)),
            every_count: window.trigger.every_count,
            purging: window.trigger.purging,
            lateness_ms: window.allowed_lateness_ms.max(0),
        }
    }

    /// Whether time has reached the last moment of a window that ends then.
    #[inline]
    pub fn is_past(end: EventTime, time: EventTime) -> bool {
        end.saturating_sub(1) <= time
    }

    /// The time from which on a window that ends then takes no more rows.
    #[inline]
    pub fn expiry(&self, end: EventTime) -> EventTime {
        end.saturating_sub(1).saturating_add(self.lateness_ms)
    }

    /// Whether a window that ends then takes no more rows.
    #[inline]
    pub fn is_expired(&self, end: EventTime, time: EventTime) -> bool {
        self.expiry(end) <= time
    }

    /// Whether windows can be emitted while the rows of a batch are still coming in.
    pub fn emits_on_late_rows(&self) -> bool {
        self.on_time && self.lateness_ms > 0
    }

    /// Whether each window is emitted once, when time has passed it: then all of its rows count, and nothing has to be known of them.
    pub fn emits_once(&self) -> bool {
        self.early_every_ms.is_none() && self.every_count.is_none() && !(self.purging && self.lateness_ms > 0)
    }

    /// Notes rows that came into a slot; returns whether their number emits the window.
    #[inline]
    pub fn add(&self, tally: &mut Tally, rows: u64) -> bool {
        tally.rows += rows;
        tally.changed = true;
        tally.filled = true;
        let full = self.every_count.is_some_and(|count| tally.rows >= count);
        if full {
            tally.rows = 0;
        }
        full
    }

    /// The next moment of processing time at which changed windows are emitted early: on a grid that does not depend on when rows came.
    pub fn next_early(&self, now: EventTime) -> Option<EventTime> {
        self.early_every_ms.map(|every| now.div_euclid(every).saturating_add(1).saturating_mul(every))
    }
}

impl Tally {
    /// Of a slot with rows of which nothing has to be known.
    pub const UNKNOWN: Self = Self { rows: 0, changed: false, filled: true };

    /// Takes in the tally of a window that is merged into this one. That it has changed is left to the row that merges them.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.filled |= other.filled;
    }
}

impl Note for Tally {
    const BYTES: usize = 9;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend(self.rows.to_le_bytes());
        out.push(u8::from(self.changed) | u8::from(self.filled) << 1);
    }

    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (rows, rest) = bytes.split_first_chunk::<8>()?;
        let (flags, rest) = rest.split_first()?;
        let rows = u64::from_le_bytes(*rows);
        // Nobody has counted so many rows; where the bytes are wrong, counting on must not overflow.
        let is_tally = rows <= u64::MAX / 4 && *flags < 4;
        is_tally.then_some((Self { rows, changed: flags & 1 != 0, filled: flags & 2 != 0 }, rest))
    }
}
