//! Merging the watermarks of several inputs (channels, splits, feeds) into one.
//!
//! The merged watermark is the least of those of the active inputs. An idle input does not hold it back: while all are idle, it is the greatest of
//! theirs, whichever became idle first. An input that has ended does not count; when all have, that is the end of time. The merged watermark never goes
//! back. An input is idle from when it says so until it gives a watermark again, be it the same as before.

use weir_types::Watermark;

/// What is known of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Input {
    watermark: Watermark,
    idle: bool,
}

/// Merges watermarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    inputs: Vec<Input>,
    current: Watermark,
    idle: bool,
}

/// What those who read a merge's output are to be told, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Change {
    /// the merged watermark: it has advanced, or what was idle is active again
    pub watermark: Option<Watermark>,
    /// the output is idle
    pub idle: bool,
}

impl Merge {
    /// Merges this many inputs, of which nothing is known yet.
    pub fn new(inputs: usize) -> Self {
        Self::of(&vec![true; inputs])
    }

    /// Merges these inputs, of which some (`false`) have ended before they began.
    pub fn of(inputs: &[bool]) -> Self {
        let input = |&open: &bool| Input { watermark: if open { Watermark::NONE } else { Watermark::END }, idle: false };
        Self { inputs: inputs.iter().map(input).collect(), current: Watermark::NONE, idle: false }
    }

    /// The merged watermark.
    pub fn current(&self) -> Watermark {
        self.current
    }

    /// Whether all inputs that have not ended are idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// An input has a watermark, and is active.
    pub fn advance(&mut self, input: usize, watermark: Watermark) -> Change {
        self.inputs[input].idle = false;
        self.observe(input, watermark)
    }

    /// An input has a watermark; if it is idle, it stays so.
    pub fn observe(&mut self, input: usize, watermark: Watermark) -> Change {
        let known = &mut self.inputs[input];
        known.watermark = known.watermark.max(watermark);
        self.settle()
    }

    /// There is another input, at this place among the others. It is active, unless it has ended before it began (not `open`); what was merged stays.
    pub fn insert(&mut self, place: usize, open: bool) -> Change {
        let watermark = if open { Watermark::NONE } else { Watermark::END };
        self.inputs.insert(place, Input { watermark, idle: false });
        self.settle()
    }

    /// An input has nothing to give for the time being.
    pub fn idle(&mut self, input: usize) -> Change {
        self.inputs[input].idle = true;
        self.settle()
    }

    /// An input gives rows again, or is about to.
    pub fn active(&mut self, input: usize) -> Change {
        self.advance(input, Watermark::NONE)
    }

    /// All inputs have ended.
    pub fn end(&mut self) -> Change {
        self.inputs.iter_mut().for_each(|input| input.watermark = Watermark::END);
        self.settle()
    }

    fn settle(&mut self) -> Change {
        let open = || self.inputs.iter().filter(|i| i.watermark != Watermark::END);
        let least = open().filter(|i| !i.idle).map(|i| i.watermark).min();
        let greatest = open().map(|i| i.watermark).max();
        let is_idle = least.is_none() && greatest.is_some();
        let merged = least.or(greatest).unwrap_or(Watermark::END);
        let advances = merged > self.current;
        let was_idle = std::mem::replace(&mut self.idle, is_idle);
        self.current = self.current.max(merged);
        Change {
            watermark: (advances || was_idle && !is_idle).then_some(self.current),
            // A watermark makes its receiver count the sender as active.
            idle: is_idle && (advances || !was_idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Change = Change { watermark: None, idle: false };
    const IDLE: Change = Change { watermark: None, idle: true };

    fn at(watermark: i64) -> Change {
        Change { watermark: Some(Watermark(watermark)), idle: false }
    }

    /// The least active input decides; idle ones do not; an ended one does not; all ended is the end.
    #[test]
    fn merges() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.advance(0, Watermark(5)), NOTHING);
        assert_eq!(merge.advance(1, Watermark(3)), at(3));
        assert_eq!(merge.advance(1, Watermark(2)), NOTHING);
        assert_eq!(merge.idle(1), at(5));
        assert!(!merge.is_idle());
        assert_eq!(merge.advance(0, Watermark::END), IDLE, "an idle input may still give rows");
        assert!(merge.is_idle());
        assert_eq!(merge.advance(1, Watermark(9)), at(9));
        assert_eq!(merge.advance(1, Watermark::END), Change { watermark: Some(Watermark::END), idle: false });
    }

    /// An input that is active again holds the watermark back again, though its own has not advanced; and an output that was idle says so.
    #[test]
    fn activity_is_told() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.advance(0, Watermark(5)), NOTHING);
        assert_eq!(merge.advance(1, Watermark(5)), at(5));
        assert_eq!(merge.idle(0), NOTHING);
        assert_eq!(merge.idle(1), IDLE);
        assert_eq!(merge.idle(1), NOTHING, "told once");
        assert_eq!(merge.active(0), at(5), "the same watermark again");
        assert_eq!(merge.advance(0, Watermark(8)), at(8));
        assert_eq!(merge.advance(1, Watermark(5)), NOTHING);
        assert_eq!(merge.advance(0, Watermark(9)), NOTHING, "input 1 holds it back again");
        assert_eq!(merge.advance(1, Watermark(9)), at(9));
    }

    /// While all are idle, the greatest counts, in whatever order they became so.
    #[test]
    fn the_order_of_idleness_does_not_matter() {
        for (first, second) in [(0, 1), (1, 0)] {
            let mut merge = Merge::new(2);
            let _ = (merge.advance(0, Watermark(9)), merge.advance(1, Watermark(4)));
            let _ = (merge.idle(first), merge.idle(second));
            assert_eq!((merge.current(), merge.is_idle()), (Watermark(9), true), "{first} first");
            assert_eq!(merge.observe(0, Watermark(12)), Change { watermark: Some(Watermark(12)), idle: true });
        }
    }

    /// An input that comes later is waited for from then on, whatever was idle; time does not go back.
    #[test]
    fn inputs_may_come_later() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.idle(0), NOTHING, "what may still come");
        assert_eq!(merge.advance(1, Watermark(5)), at(5));
        assert_eq!(merge.insert(1, true), NOTHING);
        assert_eq!(merge.advance(2, Watermark(9)), NOTHING, "the former input 1 waits for the new one");
        assert_eq!(merge.advance(1, Watermark(3)), NOTHING);
        assert_eq!(merge.advance(1, Watermark(7)), at(7));
        assert_eq!(merge.insert(3, false), NOTHING, "it never begins");
        let mut idle = Merge::new(1);
        assert_eq!(idle.idle(0), IDLE);
        assert_eq!(idle.insert(1, true), at(Watermark::NONE.0), "active again");
        assert_eq!(idle.advance(1, Watermark::END), IDLE, "more may come");
    }

    /// Inputs that have ended before they began do not count; where there are no others, the end is still told.
    #[test]
    fn some_never_begin() {
        let mut merge = Merge::of(&[false, true]);
        assert_eq!(merge.advance(1, Watermark(3)), at(3));
        assert_eq!(Merge::of(&[false]).end(), at(i64::MAX));
    }
}
