//! What a barrier overtakes: the rows that were on their way to a task when it captured its state, and belong to the same checkpoint.
//!
//! A task that does not wait for its barriers captures its state when the first one has come. What comes on the other channels before theirs was sent before
//! the checkpoint and is processed after it; so it is kept with the checkpoint, and comes first when a job starts from it (unaligned checkpoints: Apache
//! Flink's FLIP-76).

use weir_exchange::Message;

use super::Channel;
use crate::snapshot::{Capture, Overtaken};

/// What is recorded for one checkpoint.
pub(super) struct Recording {
    pub checkpoint: u64,
    /// by channel: whether its barrier has not come
    missing: Vec<bool>,
    /// by channel: what has come before its barrier
    messages: Vec<Vec<Message>>,
    /// the task's capture, once it is made
    capture: Option<Capture>,
}

impl Recording {
    /// Of a checkpoint whose barrier has not come on these of so many channels.
    pub fn new(checkpoint: u64, channels: usize, missing: &[usize]) -> Self {
        let mut recording =
            Self { checkpoint, missing: vec![false; channels], messages: (0..channels).map(|_| vec![]).collect(), capture: None };
        missing.iter().for_each(|&channel| recording.missing[channel] = true);
        recording
    }

    /// A message was taken from a channel.
    pub fn message(&mut self, channel: usize, message: &Message) {
        if !self.missing[channel] {
            return;
        }
        match message {
            Message::Barrier(barrier) => self.missing[channel] = barrier.checkpoint < self.checkpoint,
            Message::End => self.missing[channel] = false,
            Message::Batch(_) | Message::Watermark(_) | Message::Idle => self.messages[channel].push(message.clone()),
        }
    }

    /// A channel's barrier has overtaken these messages, which are still to be taken.
    pub fn overtook(&mut self, channel: usize, messages: Vec<Message>) {
        if std::mem::take(&mut self.missing[channel]) {
            self.messages[channel].extend(messages);
        }
    }

    /// Keeps the task's capture.
    pub fn keep(&mut self, capture: Capture) {
        self.capture = Some(capture);
    }

    /// Whether all barriers have come, and the capture is made.
    pub fn is_complete(&self) -> bool {
        self.capture.is_some() && !self.missing.contains(&true)
    }

    /// The capture with what was overtaken; `channels` says where it came from.
    pub fn finish(self, channels: &[Channel]) -> Option<Capture> {
        let mut capture = self.capture?;
        let overtaken = channels.iter().zip(self.messages).filter(|(_, messages)| !messages.is_empty());
        let overtaken = overtaken.map(|(&from, messages)| Overtaken {
            edge: from.edge,
            sender: from.sender,
            senders: from.senders,
            messages,
        });
        capture.captured.in_flight.extend(overtaken);
        Some(capture)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_exchange::Barrier;
    use weir_types::{Batch, Watermark};

    use super::*;
    use crate::snapshot::Captured;

    /// What comes before a channel's barrier is recorded, wherever the barrier is seen; what comes after it is not.
    #[test]
    fn records_until_the_barrier() {
        let rows = |n| Message::Batch(Batch::new(n, vec![], None));
        let barrier = |checkpoint| Message::Barrier(Barrier { checkpoint, stops: false, overtakes: true });
        let channels: Vec<_> = (0..4).map(|sender| Channel { place: 0, edge: 9, sender, senders: 4 }).collect();
        let mut recording = Recording::new(5, 4, &[1, 2, 3]);
        recording.message(0, &rows(1));
        recording.message(1, &rows(2));
        recording.message(1, &barrier(4));
        recording.message(1, &Message::Watermark(Watermark(3)));
        recording.message(1, &barrier(5));
        recording.message(1, &rows(4));
        recording.overtook(2, vec![rows(5)]);
        recording.message(2, &rows(5));
        recording.keep(Capture {
            checkpoint: None,
            stored: 0,
            captured: Captured::default(),
            alignment: Duration::ZERO,
            copying: Duration::ZERO,
        });
        assert!(!recording.is_complete());
        recording.message(3, &Message::End);
        assert!(recording.is_complete());
        let capture = recording.finish(&channels).expect("a capture was kept");
        let counts: Vec<_> = capture.captured.in_flight.iter().map(|o| (o.sender, o.messages.len())).collect();
        assert_eq!(counts, [(1, 2), (2, 1)]);
    }
}
