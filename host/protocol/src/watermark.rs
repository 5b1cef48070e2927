//! Merging the watermarks of several inputs (channels, splits, feeds) into one.
//!
//! The merged watermark is the least of those of the active inputs. An idle input does not hold it back, and an input that has
//! ended counts as being at the end of time. It never goes back.

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
}

impl Merge {
    /// Merges this many inputs, of which nothing is known yet.
    pub fn new(inputs: usize) -> Self {
        Self { inputs: vec![Input { watermark: Watermark::NONE, idle: false }; inputs], current: Watermark::NONE }
    }

    /// The merged watermark.
    pub fn current(&self) -> Watermark {
        self.current
    }

    /// An input has a watermark, and is active. Returns the merged watermark if it advances.
    pub fn advance(&mut self, input: usize, watermark: Watermark) -> Option<Watermark> {
        let known = &mut self.inputs[input];
        known.watermark = known.watermark.max(watermark);
        known.idle = false;
        self.merge()
    }

    /// An input has nothing to give for the time being. Returns the merged watermark if it advances.
    pub fn idle(&mut self, input: usize) -> Option<Watermark> {
        self.inputs[input].idle = true;
        self.merge()
    }

    /// Whether all inputs are idle (those that have ended aside, if at least one has not).
    pub fn is_idle(&self) -> bool {
        let mut open = self.inputs.iter().filter(|i| i.watermark != Watermark::END).peekable();
        open.peek().is_some() && open.all(|i| i.idle)
    }

    /// The least watermark of the active inputs; while all are idle, it stays where it is.
    fn merge(&mut self) -> Option<Watermark> {
        let least = self.inputs.iter().filter(|i| !i.idle).map(|i| i.watermark).min()?;
        if least == Watermark::END && self.inputs.iter().any(|i| i.idle && i.watermark != Watermark::END) {
            return None;
        }
        (least > self.current).then(|| {
            self.current = least;
            least
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least active input decides; idle ones do not; an ended one does not; all ended is the end.
    #[test]
    fn merges() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.advance(0, Watermark(5)), None);
        assert_eq!(merge.advance(1, Watermark(3)), Some(Watermark(3)));
        assert_eq!(merge.advance(1, Watermark(2)), None);
        assert_eq!(merge.idle(1), Some(Watermark(5)));
        assert!(!merge.is_idle());
        assert_eq!(merge.advance(0, Watermark::END), None, "an idle input may still give rows");
        assert!(merge.is_idle());
        assert_eq!(merge.advance(1, Watermark(9)), Some(Watermark(9)));
        assert_eq!(merge.advance(1, Watermark::END), Some(Watermark::END));
    }
}
