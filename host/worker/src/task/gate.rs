//! The root of a task behind exchanges.

use weir_exchange::{Gate, Message};
use weir_plan::job::Origin;
use weir_protocol::watermark::Merge;
use weir_types::Watermark;

use super::Step;
use super::nodes::Nodes;
use crate::error::Failure;

/// Messages taken in one step: enough to keep going, few enough to look at the clock and commands now and then.
const MESSAGES_PER_STEP_MAX: usize = 16;

/// Takes messages from the channels of a subtask. The watermark of an edge is merged from those of its channels.
pub(super) struct GateRoot {
    gate: Gate,
    /// channel → (edge, place in the edge's merge)
    channels: Vec<(usize, usize)>,
    edges: Vec<Merge>,
    open: usize,
    /// a message that `ready` took
    next: Option<(usize, Message)>,
}

impl GateRoot {
    /// `edge_of_channel` says which of the vertex's edges each channel belongs to.
    pub(super) fn new(gate: Gate, edge_of_channel: Vec<usize>) -> Self {
        let edge_count = edge_of_channel.iter().max().map_or(0, |e| e + 1);
        let mut sizes = vec![0; edge_count];
        let channels: Vec<_> = edge_of_channel
            .into_iter()
            .map(|edge| {
                sizes[edge] += 1;
                (edge, sizes[edge] - 1)
            })
            .collect();
        let edges = sizes.into_iter().map(Merge::new).collect();
        Self { gate, open: channels.len(), channels, edges, next: None }
    }

    pub(super) async fn step(&mut self, nodes: &mut Nodes) -> Result<Step, Box<Failure>> {
        for taken in 0..MESSAGES_PER_STEP_MAX {
            let Some((channel, message)) = self.next.take().or_else(|| self.gate.try_receive()) else {
                return Ok(if taken == 0 { Step::Nothing } else { Step::Worked });
            };
            let (edge, place) = self.channels[channel];
            let origin = Origin::Edge(edge);
            match message {
                Message::Batch(batch) => {
                    nodes.count_in(&batch);
                    nodes.rows(origin, batch, 0).await?;
                }
                Message::Watermark(watermark) => {
                    if let Some(merged) = self.edges[edge].advance(place, watermark) {
                        nodes.watermark(origin, merged).await?;
                    }
                }
                Message::Idle => match self.edges[edge].idle(place) {
                    Some(merged) => nodes.watermark(origin, merged).await?,
                    None if self.edges[edge].is_idle() => nodes.idle(origin).await?,
                    None => {}
                },
                // Nothing sends barriers yet; one is passed over.
                Message::Barrier { .. } => {}
                Message::End => {
                    if let Some(merged) = self.edges[edge].advance(place, Watermark::END) {
                        nodes.watermark(origin, merged).await?;
                    }
                    self.open -= 1;
                    if self.open == 0 {
                        return Ok(Step::End);
                    }
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
