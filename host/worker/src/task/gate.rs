//! The root of a task behind exchanges.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weir_exchange::{Barrier, Gate, Message};
use weir_plan::job::{Edge, Origin};
use weir_plan::recovery::{CheckpointMode, CheckpointSpec};
use weir_protocol::watermark::Merge;
use weir_types::Watermark;

use super::alignment::Alignment;
use super::nodes::Nodes;
use super::places::detach;
use super::provenance::Provenance;
use super::recording::Recording;
use super::{Channel as Origins, Step, TURN};
use crate::error::Failure;
use crate::snapshot::Capture;

/// Messages taken in one step: enough to keep going, few enough to look at the clock and commands now and then.
const MESSAGES_PER_STEP_MAX: usize = 16;

/// Takes messages from the channels of a subtask. The watermark of an edge is merged from those of its channels; where event times are assigned behind it,
/// each channel counts as a split.
pub(super) struct GateRoot {
    gate: Gate,
    channels: Vec<Channel>,
    edges: Vec<Merge>,
    open: usize,
    origins: Vec<Origins>,
    /// what an older attempt had in flight, which comes before all else
    replayed: VecDeque<(usize, Message)>,
    alignment: Alignment,
    /// whether channels whose barrier has come wait for the others
    aligns: bool,
    /// for how long they do so before barriers overtake rows
    patience: Duration,
    /// a barrier that was seen behind rows, and when
    seen: Option<(Barrier, Instant)>,
    /// what a barrier has overtaken
    recording: Option<Recording>,
    /// a message that `ready` took
    next: Option<(usize, Message)>,
}

/// What is known of a channel.
struct Channel {
    edge: usize,
    /// its place in the edge's merge
    place: usize,
    /// how many columns rows have, besides where they come from
    columns: Option<usize>,
    is_idle: bool,
}

impl GateRoot {
    /// `origins` says where each channel comes from, of all `edges`, and `replayed` what an older attempt had in flight, by edge and sender.
    pub(super) fn new(
        gate: Gate,
        origins: &[Origins],
        edges: &[Edge],
        spec: &CheckpointSpec,
        replayed: Vec<(u32, u16, Message)>,
    ) -> Self {
        let edge_count = origins.iter().map(|origin| origin.place + 1).max().unwrap_or(0);
        let mut sizes = vec![0; edge_count];
        let channels: Vec<_> = origins
            .iter()
            .map(|origin| {
                sizes[origin.place] += 1;
                let columns = edges[origin.edge as usize].columns;
                Channel { edge: origin.place, place: sizes[origin.place] - 1, columns, is_idle: false }
            })
            .collect();
        let channel = |edge, sender| origins.iter().position(|origin| (origin.edge, origin.sender) == (edge, sender));
        let replayed = replayed.into_iter().filter_map(|(edge, sender, message)| Some((channel(edge, sender)?, message)));
        Self {
            gate,
            open: channels.len(),
            alignment: Alignment::new(channels.len()),
            channels,
            edges: sizes.into_iter().map(Merge::new).collect(),
            origins: origins.to_vec(),
            replayed: replayed.collect(),
            aligns: spec.mode != CheckpointMode::AtLeastOnce,
            patience: spec.aligned_timeout.0,
            seen: None,
            recording: None,
            next: None,
        }
    }

    pub(super) async fn step(&mut self, nodes: &mut Nodes) -> Result<Step, Box<Failure>> {
        let mut was_patient = false;
        let since = Instant::now();
        for taken in 0..MESSAGES_PER_STEP_MAX {
            // Where messages take long, a few are a step: others want the thread.
            if since.elapsed() >= TURN {
                break;
            }
            if let Some(step) = self.checkpoint() {
                return Ok(step);
            }
            if self.open == 0 && self.replayed.is_empty() {
                return Ok(Step::End);
            }
            if !was_patient && self.next.is_none() && self.gate.is_ahead() {
                // The task that sends what is earlier may only wait for its turn. It gets one, once a step: this task is not to fall behind others.
                nodes.give_way().await;
                was_patient = true;
            }
            let Some((index, message)) = self.take() else {
                return Ok(if taken == 0 { Step::Nothing } else { Step::Worked });
            };
            if let Some(recording) = &mut self.recording {
                recording.message(index, &message);
            }
            let channel = &mut self.channels[index];
            let (edge, place) = (channel.edge, channel.place);
            match message {
                // Rows of an idle sender (a clock made them) leave it idle: it tells when it is not any more.
                Message::Batch(batch) => {
                    let (batch, places) = detach(batch, channel.columns);
                    nodes.count_in(&batch);
                    nodes.rows(Origin::Edge(edge), batch, Provenance::of_channel(index as u32, places)).await?;
                }
                Message::Watermark(watermark) => {
                    if std::mem::take(&mut channel.is_idle) {
                        nodes.split_active(index).await?;
                    }
                    nodes.time(Origin::Edge(edge), self.edges[edge].advance(place, watermark)).await?;
                }
                Message::Idle => {
                    channel.is_idle = true;
                    nodes.split_idle(index).await?;
                    nodes.time(Origin::Edge(edge), self.edges[edge].idle(place)).await?;
                }
                Message::Barrier(barrier) => self.barrier(index, barrier),
                Message::End => {
                    nodes.split_ended(index).await?;
                    nodes.time(Origin::Edge(edge), self.edges[edge].advance(place, Watermark::END)).await?;
                    self.alignment.end(index);
                    self.open -= 1;
                }
            }
        }
        Ok(Step::Worked)
    }

    /// The next message, and its channel.
    fn take(&mut self) -> Option<(usize, Message)> {
        self.replayed.pop_front().or_else(|| self.next.take()).or_else(|| self.gate.try_receive())
    }

    /// What is to be done about a checkpoint now.
    fn checkpoint(&mut self) -> Option<Step> {
        // What is replayed would have to be recorded again, and is soon through.
        if !self.replayed.is_empty() {
            return None;
        }
        if let Some((barrier, alignment)) = self.alignment.pop() {
            self.hold_who_waits();
            // A later checkpoint: the one that was recorded has been given up.
            self.recording = None;
            return Some(Step::Barrier { barrier, alignment });
        }
        // A message that was taken already comes before those in the gate.
        if let (Some(recording), None) = (&mut self.recording, &self.next) {
            for (channel, overtaken) in self.gate.overtake(recording.checkpoint) {
                recording.overtook(channel, overtaken);
            }
        }
        if self.recording.as_ref().is_some_and(Recording::is_complete) {
            let capture = self.recording.take().and_then(|recording| recording.finish(&self.origins));
            return capture.map(Step::Recorded);
        }
        let (barrier, since) = self.impatient()?;
        if since.elapsed() < self.patience {
            return None;
        }
        let missing = self.alignment.skip_to(barrier.checkpoint);
        self.hold_who_waits();
        self.seen = None;
        self.recording = Some(Recording::new(barrier.checkpoint, self.channels.len(), &missing));
        Some(Step::Barrier { barrier, alignment: since.elapsed() })
    }

    /// A barrier has come on a channel.
    fn barrier(&mut self, channel: usize, barrier: Barrier) {
        self.alignment.barrier(channel, barrier);
        // A checkpoint of which this task has told nothing yet is given up once another one begins.
        self.recording.take_if(|recording| recording.checkpoint < barrier.checkpoint);
        self.hold_who_waits();
    }

    /// Takes nothing more from the channels that wait for the others, and from the rest again.
    fn hold_who_waits(&mut self) {
        self.gate.release();
        let waiting = (0..self.channels.len()).filter(|&channel| self.aligns && self.alignment.waits(channel));
        waiting.for_each(|channel| self.gate.hold(channel));
    }

    /// The barrier of the newest checkpoint, if that is not done here and the barrier may overtake rows, and since when it could.
    ///
    /// A checkpoint is triggered only when those before it are complete or given up; and one for which this task has yet to do something is not complete. So the
    /// newest one holds for all: one that may overtake is not held up by one before it that may not, and none overtakes while one that may not is the newest.
    fn impatient(&mut self) -> Option<(Barrier, Instant)> {
        let begun = self.alignment.newest();
        let last = begun.map_or(self.alignment.done(), |(barrier, _)| barrier.checkpoint);
        let Some(waiting) = self.gate.waiting_barrier().filter(|barrier| barrier.checkpoint > last) else {
            return begun.filter(|(barrier, _)| barrier.overtakes);
        };
        if !waiting.overtakes {
            return None;
        }
        let (_, since) = *self.seen.get_or_insert_with(|| (waiting, Instant::now()));
        Some((waiting, since))
    }

    /// Keeps a capture until all is known that its barrier has overtaken; returns it if that is nothing.
    pub(super) fn keep(&mut self, capture: Capture) -> Option<Capture> {
        match &mut self.recording {
            Some(recording) if capture.checkpoint.is_some_and(|checkpoint| checkpoint.0 == recording.checkpoint) => {
                recording.keep(capture);
                None
            }
            _ => Some(capture),
        }
    }

    /// When a barrier loses its patience.
    pub(super) fn not_before(&mut self) -> Option<Instant> {
        self.impatient().map(|(_, since)| since + self.patience)
    }

    pub(super) async fn ready(&mut self) {
        if self.next.is_none() && self.replayed.is_empty() {
            self.next = Some(self.gate.receive().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_exchange::{Capacity, Sender, gate};
    use weir_protocol::checkpoint::CheckpointId;
    use weir_types::Batch;
    use weir_types::graph::Partitioning;

    use super::*;
    use crate::snapshot::Captured;

    /// The root of a task with so many channels, whose barriers have no patience.
    fn root(channels: usize) -> (GateRoot, Vec<Sender>) {
        let (gate, senders) = gate(channels, Capacity::of_batches(100));
        let origin = |sender| Origins { place: 0, edge: 0, sender, senders: channels as u16 };
        let origins: Vec<_> = (0..channels as u16).map(origin).collect();
        let partitioning = Partitioning::Rebalance;
        let edge = Edge { from: 0, to: 1, partitioning, key: vec![], columns: None, carries_places: false };
        let spec = CheckpointSpec { mode: CheckpointMode::Unaligned, ..CheckpointSpec::default() };
        assert!(spec.aligned_timeout.0.is_zero());
        (GateRoot::new(gate, &origins, &[edge], &spec, vec![]), senders)
    }

    fn rows() -> Message {
        Message::Batch(Batch::new(1, vec![], None))
    }

    /// The barrier of a checkpoint that may overtake rows, or of a savepoint.
    fn barrier(checkpoint: u64, overtakes: bool) -> Message {
        Message::Barrier(Barrier { checkpoint, stops: false, overtakes })
    }

    fn send(sender: &Sender, messages: impl IntoIterator<Item = Message>) {
        messages.into_iter().for_each(|message| sender.force(message).expect("the gate is open"));
    }

    /// Takes the next message, which is one of this channel.
    fn take(root: &mut GateRoot, channel: usize) {
        let (from, message) = root.take().expect("there is a message");
        assert_eq!(from, channel);
        if let Some(recording) = &mut root.recording {
            recording.message(from, &message);
        }
        if let Message::Barrier(barrier) = message {
            root.barrier(from, barrier);
        }
    }

    /// The checkpoint whose turn has come.
    fn turn(root: &mut GateRoot) -> Option<u64> {
        match root.checkpoint() {
            Some(Step::Barrier { barrier, .. }) => Some(barrier.checkpoint),
            Some(_) => panic!("something else is to be done"),
            None => None,
        }
    }

    /// How many messages the checkpoint that has been recorded has of each channel.
    fn recorded(root: &mut GateRoot) -> Vec<(u16, usize)> {
        let Some(Step::Recorded(capture)) = root.checkpoint() else { panic!("not all is known") };
        capture.captured.in_flight.iter().map(|overtaken| (overtaken.sender, overtaken.messages.len())).collect()
    }

    fn capture(checkpoint: u64) -> Capture {
        let (checkpoint, captured) = (Some(CheckpointId(checkpoint)), Captured::default());
        Capture { checkpoint, stored: 0, captured, alignment: Duration::ZERO, copying: Duration::ZERO }
    }

    /// A savepoint waits for its barriers, however long; a checkpoint that comes after it, when it has been given up, overtakes rows all the same, also those behind
    /// the savepoint's barriers. These hold nothing up any more.
    #[test]
    fn savepoints_that_were_given_up_hold_nothing_up() {
        let (mut root, senders) = root(2);
        send(&senders[0], [barrier(1, false), rows()]);
        take(&mut root, 0);
        send(&senders[1], [rows(), rows(), barrier(1, false), rows()]);
        assert_eq!(turn(&mut root), None, "it overtakes nothing");
        assert!(root.not_before().is_none());

        send(&senders[0], [barrier(2, true), rows()]);
        assert_eq!(turn(&mut root), Some(2));
        assert!(root.keep(capture(2)).is_none(), "it waits for what it overtakes");
        for channel in [1, 0] {
            assert_eq!(turn(&mut root), None, "its barrier has not come on the other channel");
            take(&mut root, channel);
        }
        send(&senders[1], [barrier(2, true), rows()]);
        // The barrier of the savepoint is among the messages, and is not stored.
        assert_eq!(recorded(&mut root), [(0, 1), (1, 4)]);
        for channel in [1, 0, 1, 1, 1] {
            take(&mut root, channel);
            assert_eq!(turn(&mut root), None, "the savepoint is not made any more");
        }
        assert!(root.take().is_none());
    }

    /// The same where the later barrier has come on a channel that has left the savepoint's out.
    #[test]
    fn barriers_that_have_come_overtake_savepoints() {
        let (mut root, senders) = root(3);
        send(&senders[0], [barrier(1, false)]);
        take(&mut root, 0);
        assert_eq!(turn(&mut root), None, "it overtakes nothing");
        send(&senders[1], [barrier(2, true)]);
        take(&mut root, 1);
        send(&senders[2], [rows()]);
        assert_eq!(turn(&mut root), Some(2));
    }

    /// While a savepoint is the newest, nothing overtakes rows: neither its own barriers nor those of a checkpoint that was given up before it.
    #[test]
    fn savepoints_overtake_nothing() {
        let (mut root, senders) = root(2);
        send(&senders[0], [rows(), barrier(1, true), barrier(2, false)]);
        send(&senders[1], [rows(), barrier(2, false)]);
        assert_eq!(turn(&mut root), None);
        assert!(root.not_before().is_none());
        for channel in [0, 1, 0, 1] {
            take(&mut root, channel);
        }
        assert_eq!(turn(&mut root), Some(1), "its barrier or a later one has come on all channels");
        take(&mut root, 0);
        assert_eq!(turn(&mut root), Some(2));
    }
}
