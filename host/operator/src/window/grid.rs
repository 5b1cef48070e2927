//! Windows whose bounds are known from the time alone: tumbling, sliding, and the one window without end.
//!
//! The grid's *cells* are the greatest spans of time whose rows are all in the same windows: `gcd(size, slide)` wide. For sliding windows they
//! are the slices of Krishnamurthy et al. (SIGMOD 2006): a row is accumulated once, in its cell, and a window is merged from its cells.
//!
//! ```text
//! size 4, slide 2      |--- window 0 ---|
//!                               |--- window 2 ---|
//! cells of width 2     |   0    |   2   |   4    |
//! ```
//!
//! Divisions round down, so that times before 1970 fall into the right window, and bounds beyond the range of time stop at its ends.

use weir_types::EventTime;
use weir_types::graph::Assigner;

/// Start and end of a window, a cell or a session: `start <= t < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub start: EventTime,
    pub end: EventTime,
}

impl Span {
    #[inline]
    pub fn contains(self, time: EventTime) -> bool {
        self.start <= time && time < self.end
    }
}

/// A grid of windows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grid {
    /// one window without end
    Unbounded,
    /// windows of `size` that start at `offset + k * slide`
    Regular { size: i128, slide: i128, offset: i128, width: i128 },
}

impl Grid {
    /// The grid of an assigner; none for sessions, whose bounds depend on the rows.
    pub fn of(assigner: Assigner) -> Option<Self> {
        let regular = |size: i64, slide: i64, offset: i64| {
            // Plans refuse sizes below 1.
            let (size, slide) = (i128::from(size.max(1)), i128::from(slide.max(1)));
            Self::Regular { size, slide, offset: i128::from(offset), width: gcd(size, slide) }
        };
        match assigner {
            Assigner::Tumbling { size_ms, offset_ms } => Some(regular(size_ms, size_ms, offset_ms)),
            Assigner::Sliding { size_ms, slide_ms, offset_ms } => Some(regular(size_ms, slide_ms, offset_ms)),
            Assigner::Global => Some(Self::Unbounded),
            Assigner::Session { .. } => None,
        }
    }

    /// What tells this grid from others.
    pub fn name(&self) -> String {
        match *self {
            Self::Unbounded => "one window".into(),
            Self::Regular { size, slide, offset, .. } => {
                format!("windows of {size} ms every {slide} ms from {} ms", offset.rem_euclid(slide))
            }
        }
    }

    /// Whether a time can be in more than one window.
    pub fn overlaps(&self) -> bool {
        matches!(self, Self::Regular { size, slide, .. } if size > slide)
    }

    /// The cell of a time.
    pub fn cell(&self, time: EventTime) -> Span {
        match *self {
            Self::Unbounded => Span { start: EventTime::MIN, end: EventTime::MAX },
            Self::Regular { width, offset, .. } => {
                let start = (i128::from(time) - offset).div_euclid(width) * width + offset;
                Span { start: saturate(start), end: saturate(start + width) }
            }
        }
    }

    /// The window that starts there.
    pub fn window(&self, start: EventTime) -> Span {
        match *self {
            Self::Unbounded => Span { start: EventTime::MIN, end: EventTime::MAX },
            Self::Regular { size, .. } => Span { start, end: saturate(i128::from(start) + size) },
        }
    }

    /// The windows that a cell is part of, in the order of their starts. Between windows that do not touch there are cells without any.
    pub fn windows(&self, cell: EventTime) -> impl DoubleEndedIterator<Item = Span> + use<> {
        let (first, last, slide, offset, size) = match *self {
            // The one window has no size; its bounds are what saturation leaves of these.
            Self::Unbounded => (0, 0, 0, i128::from(i64::MIN), i128::from(u64::MAX)),
            Self::Regular { size, slide, offset, .. } => {
                let from_offset = i128::from(cell) - offset;
                ((from_offset - size).div_euclid(slide) + 1, from_offset.div_euclid(slide), slide, offset, size)
            }
        };
        // In 64 bits, since ranges of 128 bits iterate slowly; a window's number is less than its start.
        (first as i64..=last as i64).map(move |k| {
            let start = offset + i128::from(k) * slide;
            Span { start: saturate(start), end: saturate(start + size) }
        })
    }
}

fn saturate(time: i128) -> EventTime {
    time.clamp(i128::from(EventTime::MIN), i128::from(EventTime::MAX)) as EventTime
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sliding(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Grid {
        Grid::of(Assigner::Sliding { size_ms, slide_ms, offset_ms }).unwrap()
    }

    /// The windows of a time's cell are exactly the windows that contain the time, for sizes that divide, overlap and leave gaps, and negative times.
    #[test]
    fn cells_are_in_the_windows_of_their_times() {
        for (size, slide, offset) in [(5, 5, 0), (5, 5, 3), (10, 4, 1), (4, 2, -3), (3, 10, 0), (7, 7, -20), (9, 6, 100)] {
            let grid = sliding(size, slide, offset);
            for time in -60..60 {
                let cell = grid.cell(time);
                assert!(cell.contains(time));
                let expected: Vec<_> = (-40..40)
                    .map(|k| Span { start: offset + k * slide, end: offset + k * slide + size })
                    .filter(|w| w.contains(time))
                    .collect();
                assert_eq!(grid.windows(cell.start).collect::<Vec<_>>(), expected, "time {time}, size {size}, slide {slide}");
                assert!(expected.iter().all(|&w| grid.window(w.start) == w));
            }
        }
    }

    /// The ends of time neither overflow nor lie outside of their cells.
    #[test]
    fn ends_of_time() {
        for grid in [sliding(1000, 7, 3), sliding(i64::MAX, i64::MAX, i64::MIN)] {
            for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1] {
                let cell = grid.cell(time);
                assert!(cell.contains(time), "{time} is not in {cell:?}");
                assert!(grid.windows(cell.start).all(|w| w.start <= w.end));
            }
        }
        let all = Span { start: i64::MIN, end: i64::MAX };
        assert_eq!(Grid::Unbounded.cell(5), all);
        assert_eq!(Grid::Unbounded.windows(i64::MIN).collect::<Vec<_>>(), [all]);
    }
}
