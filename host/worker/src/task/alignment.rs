//! When the barrier of a checkpoint has come on all channels of a gate.
//!
//! Barriers of one channel come in the order of their checkpoints. One is left out by a channel that has ended, and by one whose sender was held up until a later
//! checkpoint was asked for: the earlier one has been given up by then. So a checkpoint's turn has come when each channel has shown its barrier or a later one,
//! or has ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weir_exchange::Barrier;

/// What stands for the barrier after the last one.
const ENDED: u64 = u64::MAX;

/// Follows the barriers of a gate's channels.
#[derive(Debug)]
pub(super) struct Alignment {
    /// by channel: its last barrier's checkpoint
    last: Vec<u64>,
    /// barriers that have come on some channels, with when the first one did
    begun: VecDeque<(Barrier, Instant)>,
    /// the last checkpoint whose turn has come
    done: u64,
}

impl Alignment {
    /// For this many channels.
    pub fn new(channels: usize) -> Self {
        Self { last: vec![0; channels], begun: VecDeque::new(), done: 0 }
    }

    /// A barrier has come.
    pub fn barrier(&mut self, channel: usize, barrier: Barrier) {
        self.last[channel] = barrier.checkpoint;
        if self.begun.back().is_none_or(|(last, _)| last.checkpoint < barrier.checkpoint) && self.done < barrier.checkpoint {
            self.begun.push_back((barrier, Instant::now()));
        }
    }

    /// Whether a channel has shown the barrier of a checkpoint whose turn is yet to come: what follows there is not for that one. A barrier that comes after
    /// its turn, or only after a later one has come elsewhere, holds nothing up.
    pub fn waits(&self, channel: usize) -> bool {
        let last = self.last[channel];
        last != ENDED && self.begun.front().is_some_and(|(barrier, _)| barrier.checkpoint <= last)
    }

    /// A channel has ended.
    pub fn end(&mut self, channel: usize) {
        self.last[channel] = ENDED;
    }

    /// The next barrier that has come on all channels, and for how long the first of them has waited.
    pub fn pop(&mut self) -> Option<(Barrier, Duration)> {
        let (barrier, _) = self.begun.front()?;
        if self.last.iter().any(|last| *last < barrier.checkpoint) {
            return None;
        }
        self.done = barrier.checkpoint;
        self.begun.pop_front().map(|(barrier, since)| (barrier, since.elapsed()))
    }

    /// The newest barrier that has come on some channels and whose turn is yet to come, and since when. The checkpoints of older ones have been given up.
    pub fn newest(&self) -> Option<(Barrier, Instant)> {
        self.begun.back().copied()
    }

    /// The last checkpoint whose turn has come.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// A checkpoint's turn has come although its barrier has not come everywhere. Returns the channels where it has not.
    pub fn skip_to(&mut self, checkpoint: u64) -> Vec<usize> {
        self.done = checkpoint;
        self.begun.retain(|(barrier, _)| barrier.checkpoint > checkpoint);
        self.last.iter().enumerate().filter(|(_, last)| **last < checkpoint).map(|(channel, _)| channel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(checkpoint: u64) -> Barrier {
        Barrier { checkpoint, stops: false, overtakes: false }
    }

    fn waiting(alignment: &Alignment) -> Vec<bool> {
        (0..alignment.last.len()).map(|channel| alignment.waits(channel)).collect()
    }

    /// A barrier that comes after its turn, because it was overtaken and its checkpoint given up, holds no channel up: the next one comes behind it.
    #[test]
    fn barriers_of_the_past_hold_nothing_up() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, barrier(1));
        assert_eq!(alignment.skip_to(1), [1]);
        alignment.barrier(0, barrier(2));
        alignment.barrier(1, barrier(1));
        assert_eq!(waiting(&alignment), [true, false]);
        alignment.barrier(1, barrier(2));
        assert_eq!(alignment.pop().map(|(barrier, _)| barrier.checkpoint), Some(2));
        assert_eq!(waiting(&alignment), [false, false]);
    }

    /// Where a channel leaves a barrier out, it waits for the others at the next one; and they do not wait at the one that it has left out, if they are late.
    #[test]
    fn barriers_are_left_out() {
        let mut alignment = Alignment::new(2);
        alignment.barrier(0, barrier(1));
        alignment.barrier(1, barrier(2));
        assert_eq!(waiting(&alignment), [true, true]);
        assert_eq!(alignment.pop().map(|(barrier, _)| barrier.checkpoint), Some(1));
        assert_eq!(waiting(&alignment), [false, true]);
        alignment.barrier(0, barrier(2));
        assert_eq!(alignment.pop().map(|(barrier, _)| barrier.checkpoint), Some(2));
        assert_eq!(waiting(&alignment), [false, false]);

        alignment.barrier(1, barrier(4));
        alignment.barrier(0, barrier(3));
        assert_eq!(waiting(&alignment), [false, true]);
        alignment.barrier(0, barrier(4));
        assert_eq!(alignment.pop().map(|(barrier, _)| barrier.checkpoint), Some(4));
    }

    /// A checkpoint's turn comes with its last barrier, or with the end of the channel that has not shown it; and one after the other.
    #[test]
    fn turns() {
        let mut alignment = Alignment::new(3);
        let pop = |alignment: &mut Alignment| alignment.pop().map(|(barrier, _)| barrier.checkpoint);
        alignment.barrier(0, barrier(1));
        alignment.barrier(2, barrier(1));
        assert_eq!(pop(&mut alignment), None);
        alignment.barrier(1, barrier(1));
        assert_eq!((pop(&mut alignment), pop(&mut alignment)), (Some(1), None));
        // Without holding channels, later barriers come before earlier ones are complete.
        alignment.barrier(0, barrier(2));
        alignment.barrier(0, barrier(4));
        alignment.barrier(1, barrier(2));
        alignment.barrier(1, barrier(4));
        assert_eq!(pop(&mut alignment), None);
        alignment.end(2);
        assert_eq!((pop(&mut alignment), pop(&mut alignment), pop(&mut alignment)), (Some(2), Some(4), None));
    }
}
