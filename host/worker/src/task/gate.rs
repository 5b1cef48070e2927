//! The root of a task behind exchanges.

use weir_exchange::{Gate, Message};
use weir_plan::job::Origin;
use weir_protocol::watermark::Merge;
use weir_types::Watermark;

use super::Step;
use super::alignment::Alignment;
use super::nodes::Nodes;
use crate::error::Failure;

/// Messages taken in one step: enough to keep going, few enough to look at the clock and commands now and then.
const MESSAGES_PER_STEP_MAX: usize = 16;

/// Takes messages from the channels of a subtask. The watermark of an edge is merged from those of its channels; where event times are assigned behind it,
/// each channel counts as a split.
pub(super) struct GateRoot {
    gate: Gate,
    channels: Vec<Channel>,
    edges: Vec<Merge>,
    open: usize,
    alignment: Alignment,
    /// whether channels whose barrier has come wait for the others
    aligns: bool,
    /// a message that `ready` took
    next: Option<(usize, Message)>,
}

/// What is known of a channel.
struct Channel {
    edge: usize,
    /// its place in the edge's merge
    place: usize,
    is_idle: bool,
}

impl GateRoot {
    /// `edge_of_channel` says which of the vertex's edges each channel belongs to; `aligns`, whether channels whose barrier has come wait for the others.
    pub(super) fn new(gate: Gate, edge_of_channel: Vec<usize>, aligns: bool) -> Self {
        let edge_count = edge_of_channel.iter().max().map_or(0, |e| e + 1);
        let mut sizes = vec![0; edge_count];
        let channels: Vec<_> = edge_of_channel
            .into_iter()
            .map(|edge| {
                sizes[edge] += 1;
                Channel { edge, place: sizes[edge] - 1, is_idle: false }
            })
            .collect();
        let edges = sizes.into_iter().map(Merge::new).collect();
        let alignment = Alignment::new(channels.len());
        Self { gate, open: channels.len(), channels, edges, alignment, aligns, next: None }
    }

    pub(super) async fn step(&mut self, nodes: &mut Nodes) -> Result<Step, Box<Failure>> {
        let mut was_patient = false;
        for taken in 0..MESSAGES_PER_STEP_MAX {
            if let Some((barrier, alignment)) = self.alignment.pop() {
                self.gate.release();
                return Ok(Step::Barrier { barrier, alignment });
            }
            if self.open == 0 {
                return Ok(Step::End);
            }
            if !was_patient && self.next.is_none() && self.gate.is_ahead() {
                // The task that sends what is earlier may only wait for its turn. It gets one, once a step: this task is not to fall behind others.
                tokio::task::yield_now().await;
                was_patient = true;
            }
            let Some((index, message)) = self.next.take().or_else(|| self.gate.try_receive()) else {
                return Ok(if taken == 0 { Step::Nothing } else { Step::Worked });
            };
            let channel = &mut self.channels[index];
            let (edge, place) = (channel.edge, channel.place);
            match message {
                // Rows of an idle sender (a clock made them) leave it idle: it tells when it is not any more.
                Message::Batch(batch) => {
                    nodes.count_in(&batch);
                    nodes.rows(Origin::Edge(edge), batch, index as u32).await?;
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
                Message::Barrier(barrier) => {
                    self.alignment.barrier(index, barrier);
                    if self.aligns {
                        self.gate.hold(index);
                    }
                }
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

    pub(super) async fn ready(&mut self) {
        if self.next.is_none() {
            self.next = Some(self.gate.receive().await);
        }
    }
}
