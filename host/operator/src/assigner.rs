//! Watermarks from event times, split by split.

use weir_protocol::watermark::{Change, Merge};
use weir_types::graph::Watermarks;
use weir_types::{EventTime, Watermark};

/// Follows the event times of each split, and says how far time has come in all of them.
#[derive(Debug)]
pub struct Assigner {
    watermarks: Watermarks,
    merge: Merge,
}

impl Assigner {
    /// For these splits, of which some (`false`) never give rows to the assigner.
    pub fn new(watermarks: Watermarks, splits: &[bool]) -> Self {
        Self { watermarks, merge: Merge::of(splits) }
    }

    /// There is another split, with this number; those from there on move up. Not all give rows to the assigner (`reaches`).
    pub fn add(&mut self, split: usize, reaches: bool) -> Change {
        self.merge.insert(split, reaches)
    }

    /// What a chain said after rows of `split`: the greatest event time of the rows, or the split's new watermark.
    pub fn progress(&mut self, split: usize, progress: EventTime) -> Change {
        let watermark = match self.watermarks {
            Watermarks::Bounded(delay_ms) => progress.saturating_sub_unsigned(delay_ms).saturating_sub(1),
            Watermarks::Generated => progress,
        };
        // Only the end of the input is the end of time. Rows that a clock made do not make an idle split active.
        self.merge.observe(split, Watermark(watermark.min(EventTime::MAX - 1)))
    }

    /// A split has no rows for the moment.
    pub fn idle(&mut self, split: usize) -> Change {
        self.merge.idle(split)
    }

    /// A split has rows again.
    pub fn active(&mut self, split: usize) -> Change {
        self.merge.active(split)
    }

    /// A split has ended.
    pub fn ended(&mut self, split: usize) -> Change {
        self.merge.advance(split, Watermark::END)
    }

    /// All splits have ended.
    pub fn end(&mut self) -> Change {
        self.merge.end()
    }
}
