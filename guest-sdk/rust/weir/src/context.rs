//! What a call knows about the row that passes through a chain.

use crate::bindings::exports::weir::dataflow::chains::Output;
use crate::record::Record;
use crate::side::{SidePort, Tag};

/// The state of a call: which row passes, and what it has brought forth beside the main output.
#[derive(Default)]
pub struct Context {
    /// the input row (pane, timer) that passes
    pub(crate) origin: u32,
    /// its event time, where it is known
    pub(crate) time: i64,
    /// the watermark before this call
    pub(crate) watermark: i64,
    /// processing time
    pub(crate) now: i64,
    /// whether `time` is one of processing time: that of a timer
    pub(crate) by_clock: bool,
    /// the split that the rows come from
    pub(crate) split: u32,
    /// how far an event-time assigner has come
    pub(crate) progress: Option<i64>,
    /// rows that were too late
    pub(crate) late: u32,
    /// the first thing that went wrong
    pub(crate) fault: Option<String>,
    pub(crate) sides: Vec<Box<dyn SidePort>>,
    /// the output port of the first of them
    first_side: u32,
}

impl Context {
    /// The context of a chain with these side outputs, of which the first has this port.
    pub(crate) fn new(sides: Vec<Box<dyn SidePort>>, first_side: u32) -> Self {
        Self { sides, first_side, time: i64::MIN, ..Self::default() }
    }

    /// Fails the call, unless it has failed already.
    pub(crate) fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }

    /// Adds a row to a side output.
    pub(crate) fn side<S: Record>(&mut self, tag: &Tag<S>, row: &S) {
        let (origin, time) = (self.origin, self.time);
        match self.sides.iter_mut().find_map(|port| port.of(tag.id())).and_then(|port| port.downcast_mut()) {
            Some(port) => tag.write(port, row, origin, time),
            None => self
                .fail(format!("the side output `{}` is not one of this operator's: add it by `.side_output(&tag)`", tag.name())),
        }
    }

    /// The rows of the side outputs.
    pub(crate) fn finish_sides(&mut self, outputs: &mut Vec<Output>) -> Result<(), String> {
        for (i, port) in self.sides.iter_mut().enumerate() {
            outputs.extend(port.finish(self.first_side + i as u32)?);
        }
        Ok(())
    }
}
