//! Watermarks from event times, split by split.

use weir_protocol::watermark::Merge;
use weir_types::graph::Watermarks;
use weir_types::{EventTime, Watermark};

/// Follows the event times of each split, and says how far time has come in all of them.
#[derive(Debug)]
pub struct Assigner {
    watermarks: Watermarks,
    merge: Merge,
}

impl Assigner {
    /// For this many splits.
    pub fn new(watermarks: Watermarks, splits: usize) -> Self {
        Self { watermarks, merge: Merge::new(splits.max(1)) }
    }

    /// What a chain said after rows of `split`: the greatest event time of the rows, or the split's new watermark. Returns the watermark of all
    /// splits if it advances.
    pub fn progress(&mut self, split: u32, progress: EventTime) -> Option<Watermark> {
        let watermark = match self.watermarks {
            Watermarks::Bounded(delay_ms) => progress.saturating_sub_unsigned(delay_ms).saturating_sub(1),
            Watermarks::Generated => progress,
        };
        // Only the end of the input is the end of time.
        self.merge.advance(split as usize, Watermark(watermark.min(EventTime::MAX - 1)))
    }

    /// A split has no rows for the moment.
    pub fn idle(&mut self, split: u32) -> Option<Watermark> {
        self.merge.idle(split as usize)
    }

    /// A split has ended.
    pub fn ended(&mut self, split: u32) -> Option<Watermark> {
        self.merge.advance(split as usize, Watermark::END)
    }

    /// Whether every split that has not ended is idle.
    pub fn is_idle(&self) -> bool {
        self.merge.is_idle()
    }
}
