//! The window operator: window = assigner × trigger × accumulator × timers.
//!
//! The host keeps keys, windows, times and triggers; the accumulators are slots in the guest. A batch of rows is mapped to slots and
//! accumulated in one call, and the windows that time has passed are emitted together in one call. Late rows, early results, results
//! by number of rows and purging follow the Dataflow model (Akidau et al., VLDB 2015), and come out the same however the
//! stream was cut into batches.
//!
//! In reading order: `grid` and `intervals` (where rows belong), `policy` (when windows are emitted, and for how long they accept rows),
//! `feed` and `turn` (what comes in and what is at hand), `round` (the order of guest calls), `grid_windows` and `sessions` (the two kinds
//! of windows at work), `partial` (accumulators on their way through an exchange), `eviction` (state beyond the guest's memory).

mod eviction;
mod feed;
mod grid;
mod grid_windows;
mod intervals;
mod partial;
mod policy;
mod round;
mod sessions;
mod turn;

use std::sync::Arc;

use arrow_buffer::ScalarBuffer;
use arrow_schema::DataType;
use weir_plan::job::{ChainNode, Stage};
use weir_state::{Slot, SlotTable};
use weir_types::graph::{self, Assigner, TimeDomain};
use weir_types::{Batch, EventTime, Watermark};

use crate::Error;
use crate::body::Body;
use crate::chain::Parts;
use crate::context::Context;
use crate::emission::{Emission, Emitted};
use eviction::Eviction;
use feed::Feed;
use grid::Grid;
use grid_windows::GridWindows;
use policy::Policy;
use sessions::Sessions;
use turn::Turn;

/// Slots before an exchange at which all accumulators are handed on: about what fits into a core's caches, since beyond that aggregating here
/// saves little.
const LOCAL_SLOTS_MAX: usize = 100_000;

/// Runs a `window` head, or its part before or after an exchange.
pub struct Window {
    body: Body,
    inputs: Vec<Arc<graph::Input>>,
    emission: Emission,
    policy: Policy,
    domain: TimeDomain,
    stage: Stage,
    late_port: Option<usize>,
    windows: Windows,
    eviction: Option<Eviction>,
    /// the progress of the window's clock: the watermark, or the last moment of processing time that is over
    time: EventTime,
    /// when changed windows are emitted early
    early: Option<EventTime>,
    late_rows: u64,
}

/// The windows of all keys.
enum Windows {
    Grid(GridWindows),
    Sessions(Sessions),
}

impl Window {
    /// Runs `window`, the head of the node's chain, whose keys are of these types.
    ///
    /// # Errors
    /// If a type cannot be part of a key.
    pub fn new(
        window: &graph::Window,
        node: &ChainNode,
        key_types: &[DataType],
        emission: Emission,
        parts: Parts,
    ) -> Result<Self, Error> {
        let table = SlotTable::new(key_types)?;
        let windows = match (window.assigner, Grid::of(window.assigner)) {
            (Assigner::Session { gap_ms }, _) => Windows::Sessions(Sessions::new(gap_ms, node.stage, table)),
            (_, grid) => Windows::Grid(GridWindows::new(grid.unwrap_or(Grid::Unbounded), window, node.stage, table)),
        };
        let slots_max = match node.stage {
            Stage::Local => Some(parts.slots_max.map_or(LOCAL_SLOTS_MAX, |max| max.min(LOCAL_SLOTS_MAX))),
            Stage::Complete | Stage::Merging => parts.slots_max,
        };
        let eviction = slots_max.map(|slots_max| Eviction {
            backend: parts.backend,
            operator: node.index,
            max_parallelism: parts.max_parallelism,
            slots_max,
            moved: 0,
        });
        Ok(Self {
            body: parts.body,
            inputs: node.chain.inputs.iter().cloned().map(Arc::new).collect(),
            emission,
            policy: Policy::of(window),
            domain: window.domain,
            stage: node.stage,
            late_port: window.late_port,
            windows,
            eviction,
            time: EventTime::MIN,
            early: None,
            late_rows: 0,
        })
    }

    /// Takes rows in. Emits windows that late rows change, or that have got enough rows.
    ///
    /// # Errors
    /// If the rows have no event times where the window needs them, or the guest fails.
    pub async fn on_batch(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.renew_if_full().await?;
        if self.early.is_none() {
            self.early = self.policy.next_early(context.now);
        }
        let input = &self.inputs[port];
        let feed = match (self.stage, self.domain) {
            (Stage::Merging, _) => Feed::partials(batch, input.key.len())?,
            (_, TimeDomain::Event) => {
                let times = batch.times().ok_or_else(|| Error::NoEventTime { operator: context.operator.clone() })?;
                Feed::rows(port, input, batch, times.clone())
            }
            (_, TimeDomain::Processing) => {
                // Should the clock go back, rows still belong to a moment that is not over.
                let now = context.now.max(self.time.saturating_add(1));
                Feed::rows(port, input, batch, ScalarBuffer::from(vec![now; batch.rows()]))
            }
        };
        let (windows, mut turn) = self.turn(context, out);
        match windows {
            Windows::Grid(windows) => windows.add(&feed, &mut turn).await,
            Windows::Sessions(windows) => windows.add(&feed, &mut turn).await,
        }
    }

    /// The context's watermark has advanced: emits the windows that it has passed. At the end of the input that is all of them, in processing
    /// time, too.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_watermark(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        match self.domain {
            TimeDomain::Event => self.advance(context.watermark.0, context, out).await,
            TimeDomain::Processing if context.watermark == Watermark::END => self.advance(EventTime::MAX, context, out).await,
            TimeDomain::Processing => Ok(()),
        }
    }

    /// Processing time has advanced: emits the windows that it has passed, and early results that are due.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_clock(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        if self.domain == TimeDomain::Processing {
            // Rows may still come in this very millisecond.
            self.advance(context.now.saturating_sub(1), context, out).await?;
        }
        if self.early.is_some_and(|early| early <= context.now) {
            self.early = None;
            self.renew_if_full().await?;
            let (windows, mut turn) = self.turn(context, out);
            match windows {
                Windows::Grid(windows) => windows.emit_early(&mut turn).await?,
                Windows::Sessions(windows) => windows.emit_early(&mut turn).await?,
            }
        }
        Ok(())
    }

    /// The moment of processing time at which `on_clock` has something to do.
    pub fn next_clock(&mut self) -> Option<EventTime> {
        let due = match (&mut self.windows, self.domain) {
            (_, TimeDomain::Event) => None,
            (Windows::Grid(windows), TimeDomain::Processing) => windows.next_due(&self.policy),
            (Windows::Sessions(windows), TimeDomain::Processing) => windows.next_due(),
        };
        [due.map(|due| due.saturating_add(1)), self.early].into_iter().flatten().min()
    }

    /// Before an exchange: hands on all accumulators, so that a barrier finds nothing here, and nobody misses them who does not wait for an idle sender.
    /// Elsewhere does nothing.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn hand_on(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        if self.stage != Stage::Local {
            return Ok(());
        }
        self.renew_if_full().await?;
        let (windows, mut turn) = self.turn(context, out);
        match windows {
            Windows::Grid(windows) => windows.export(EventTime::MAX, &mut turn).await,
            Windows::Sessions(windows) => windows.export_all(&mut turn).await,
        }
    }

    async fn advance(&mut self, time: EventTime, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        if time <= self.time {
            return Ok(());
        }
        self.time = time;
        self.renew_if_full().await?;
        let (windows, mut turn) = self.turn(context, out);
        match windows {
            Windows::Grid(windows) => windows.advance(&mut turn).await,
            Windows::Sessions(windows) => windows.advance(&mut turn).await,
        }
    }

    fn turn<'a>(&'a mut self, context: &'a mut Context, out: &'a mut Vec<Emitted>) -> (&'a mut Windows, Turn<'a>) {
        let turn = Turn {
            body: &mut self.body,
            emission: &self.emission,
            context,
            out,
            policy: self.policy,
            time: self.time,
            eviction: self.eviction.as_mut(),
            late_port: self.late_port,
            late_rows: &mut self.late_rows,
        };
        (&mut self.windows, turn)
    }

    /// Replaces a guest whose memory nears its limit: its slots move to a new instance.
    async fn renew_if_full(&mut self) -> Result<(), Error> {
        if !self.body.wants_renewal() {
            return Ok(());
        }
        let (live, table) = match &self.windows {
            Windows::Grid(windows) => (windows.live(), windows.table()),
            Windows::Sessions(windows) => (windows.live(), windows.table()),
        };
        let (slots, keys): (Vec<Slot>, Vec<Slot>) = live.into_iter().unzip();
        let states = self.body.export_slots(&slots).await?;
        let keys = table.key_columns(&keys)?;
        self.body.renew().await?;
        self.body.assign_slots(&slots, &keys).await?;
        self.body.import_slots(&slots, &states).await
    }

    /// How many accumulators the guest holds.
    pub fn slots(&self) -> usize {
        match &self.windows {
            Windows::Grid(windows) => windows.slots(),
            Windows::Sessions(windows) => windows.slots(),
        }
    }

    /// Slots that were moved from the guest to the state backend.
    pub fn evictions(&self) -> u64 {
        self.eviction.as_ref().map_or(0, |eviction| eviction.moved)
    }

    /// Rows that came too late for their windows.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// The user's part.
    pub fn body(&self) -> &Body {
        &self.body
    }
}
