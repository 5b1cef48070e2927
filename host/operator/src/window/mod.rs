//! The window operator: window = assigner × trigger × accumulator × timers.
//!
//! The host keeps keys, windows, times and triggers; the accumulators are slots in the guest. A batch of rows is mapped to slots and
//! accumulated in one call, and the windows that time has passed are emitted together in one call. Late rows, early results, results
//! by number of rows and purging follow the Dataflow model (Akidau et al., VLDB 2015), and come out the same however the
//! stream was cut into batches.
//!
//! In reading order: `grid` and `intervals` (where rows belong), `policy` (when windows are emitted, and for how long they accept rows),
//! `feed` and `turn` (what comes in and what is at hand), `round` (the order of guest calls), `grid_windows` and `sessions` (the two kinds
//! of windows at work), `partial` (accumulators on their way through an exchange).

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
use weir_state::SlotTable;
use weir_types::graph::{self, Assigner, TimeDomain};
use weir_types::{Batch, EventTime, Watermark};

use crate::Error;
use crate::body::Body;
use crate::chain::Parts;
use crate::context::Context;
use crate::emission::{Emission, Emitted};
use crate::eviction::Eviction;
use crate::progress::Progress;
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
    eviction: Eviction,
    /// the progress of the window's clock: the watermark, or the last moment of processing time that is over
    time: EventTime,
    /// whether there is more to do about it
    advancing: bool,
    /// when changed windows are emitted early
    early: Option<EventTime>,
    /// whether they are being emitted
    emitting_early: bool,
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
        mut parts: Parts,
    ) -> Result<Self, Error> {
        let table = SlotTable::new(key_types)?;
        let windows = match (window.assigner, Grid::of(window.assigner)) {
            (Assigner::Session { gap_ms }, _) => Windows::Sessions(Sessions::new(gap_ms, table)),
            (_, grid) => Windows::Grid(GridWindows::new(grid.unwrap_or(Grid::Unbounded), window, node.stage, table)),
        };
        if node.stage == Stage::Local {
            parts.slots_max = Some(parts.slots_max.map_or(LOCAL_SLOTS_MAX, |max| max.min(LOCAL_SLOTS_MAX)));
        }
        let (eviction, body) = Eviction::new(node.index, parts);
        Ok(Self {
            body,
            inputs: node.chain.inputs.iter().cloned().map(Arc::new).collect(),
            emission,
            policy: Policy::of(window),
            domain: window.domain,
            stage: node.stage,
            late_port: window.late_port,
            windows,
            eviction,
            time: EventTime::MIN,
            advancing: false,
            early: None,
            emitting_early: false,
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

    /// The context's watermark has advanced: emits windows that it has passed. At the end of the input that is all of them, in processing
    /// time, too.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_watermark(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        match self.domain {
            TimeDomain::Event => self.advance(context.watermark.0, context, out).await,
            TimeDomain::Processing if context.watermark == Watermark::END => self.advance(EventTime::MAX, context, out).await,
            TimeDomain::Processing => Ok(Progress::Done),
        }
    }

    /// Processing time has advanced: emits windows that it has passed, and early results that are due.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_clock(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        if self.domain == TimeDomain::Processing {
            // Rows may still come in this very millisecond.
            let time = context.now.saturating_sub(1);
            if !self.emitting_early && self.advance(time, context, out).await? == Progress::More {
                return Ok(Progress::More);
            }
        }
        let begins = self.early.is_some_and(|early| early <= context.now);
        if !begins && !self.emitting_early {
            return Ok(Progress::Done);
        }
        self.renew_if_full().await?;
        let (windows, mut turn) = self.turn(context, out);
        if begins {
            match windows {
                Windows::Grid(windows) => windows.begin_early(),
                Windows::Sessions(windows) => windows.begin_early(&turn),
            }
        }
        let progress = match windows {
            Windows::Grid(windows) => windows.emit_early(&mut turn).await?,
            Windows::Sessions(windows) => windows.emit_early(&mut turn).await?,
        };
        self.early = self.early.filter(|_| !begins);
        self.emitting_early = progress == Progress::More;
        Ok(progress)
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
        if let Windows::Grid(windows) = windows {
            while windows.export(EventTime::MAX, &mut turn).await? == Progress::More {}
        }
        Ok(())
    }

    async fn advance(&mut self, time: EventTime, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        if time <= self.time && !self.advancing {
            return Ok(Progress::Done);
        }
        self.time = self.time.max(time);
        self.renew_if_full().await?;
        let (windows, mut turn) = self.turn(context, out);
        let progress = match windows {
            Windows::Grid(windows) => windows.advance(&mut turn).await?,
            Windows::Sessions(windows) => windows.advance(&mut turn).await?,
        };
        self.advancing = progress == Progress::More;
        Ok(progress)
    }

    fn turn<'a>(&'a mut self, context: &'a mut Context, out: &'a mut Vec<Emitted>) -> (&'a mut Windows, Turn<'a>) {
        let turn = Turn {
            body: &mut self.body,
            emission: &self.emission,
            context,
            out,
            policy: self.policy,
            time: self.time,
            eviction: &mut self.eviction,
            emitted: 0,
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
        self.eviction.renew(&mut self.body, table, &live, false).await
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
        self.eviction.moved()
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
