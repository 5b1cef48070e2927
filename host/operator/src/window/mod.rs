//! The window operator: window = assigner × trigger × accumulator × timers.
//!
//! The host keeps keys, windows, times and triggers; the accumulators are slots in the guest. A batch of rows is mapped to slots and
//! accumulated in one call, and the windows that time has passed are emitted together in one call. Late rows, early results, results
//! by number of rows and purging follow the Dataflow model (Akidau et al., VLDB 2015), and come out the same however the
//! stream was cut into batches.
//!
//! In reading order: `grid` and `intervals` (where rows belong), `clock` and `policy` (how far time is, when windows are emitted, and for how long they
//! accept rows), `feed` and `turn` (what comes in and what is at hand), `round` (the order of guest calls), `grid_windows` and `sessions` (the two kinds
//! of windows at work), `partial` and `reduction` (accumulators on their way through an exchange, and whether it pays to send them).

mod clock;
mod feed;
mod grid;
mod grid_windows;
mod intervals;
mod partial;
mod policy;
mod reduction;
mod round;
mod sessions;
mod turn;

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::DataType;
use weir_plan::job::{ChainNode, Stage};
use weir_state::rocks::Stats;
use weir_state::{Entries, SlotTable};
use weir_types::graph::{self, Assigner, TimeDomain};
use weir_types::key::{group_of, hash_columns};
use weir_types::{Batch, EventTime, KeyGroup, Watermark};

use crate::Error;
use crate::body::Body;
use crate::chain::Parts;
use crate::context::Context;
use crate::emission::{Emission, Emitted};
use crate::eviction::Eviction;
use crate::progress::Progress;
use crate::snapshot::{self, Predecessor, Snapshot, Writer, corrupt};
use clock::WindowClock;
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
    layout: String,
    eviction: Eviction,
    clock: WindowClock,
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
    Grid(Box<GridWindows>),
    Sessions(Box<Sessions>),
}

/// What the namespaces of a snapshot of such windows are.
pub(crate) fn layout(window: &graph::Window) -> String {
    match Grid::of(window.assigner) {
        Some(grid) if grid_windows::shares_cells(&grid, window) => format!("cells of {}", grid.name()),
        Some(grid) => grid.name(),
        // Those that are there keep their ends, whatever the gap is now.
        None => "sessions".into(),
    }
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
        if node.stage == Stage::Local {
            parts.slots_max = Some(parts.slots_max.map_or(LOCAL_SLOTS_MAX, |max| max.min(LOCAL_SLOTS_MAX)));
        }
        let (eviction, body) = Eviction::new(parts);
        let mut table = SlotTable::new(key_types)?;
        eviction.limit_filters(&mut table);
        let windows = match (window.assigner, Grid::of(window.assigner)) {
            (Assigner::Session { gap_ms }, _) => {
                Windows::Sessions(Box::new(Sessions::new(gap_ms, table, eviction.keeps_copies())))
            }
            (_, grid) => {
                let grid = grid.unwrap_or(Grid::Unbounded);
                Windows::Grid(Box::new(GridWindows::new(grid, window, node.stage, table)))
            }
        };
        Ok(Self {
            body,
            inputs: node.chain.inputs.iter().cloned().map(Arc::new).collect(),
            emission,
            policy: Policy::of(window),
            domain: window.domain,
            stage: node.stage,
            late_port: window.late_port,
            windows,
            layout: layout(window),
            eviction,
            clock: WindowClock::default(),
            advancing: false,
            early: None,
            emitting_early: false,
            late_rows: 0,
        })
    }

    /// Takes rows in. Emits windows that late rows change, or that have got enough rows. Before an exchange, may pass the rows on as they are.
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
        if let (Stage::Local, Windows::Grid(windows)) = (self.stage, &mut self.windows)
            && windows.passes(batch.rows())
        {
            out.push((Stage::ROWS, batch.clone()));
            return Ok(());
        }
        if !self.clock.is_uneven() {
            return self.take_in(port, batch, self.clock.time(), context, out).await;
        }
        for (time, rows) in self.clock.part(self.key_groups(port, batch)) {
            let part = batch.take(&UInt32Array::from(rows.clone()))?;
            let result = self.take_in(port, &part, time, context, out).await;
            result.map_err(|error| error.in_batch(&rows))?;
        }
        Ok(())
    }

    /// The key groups of rows, or of partial accumulators.
    fn key_groups(&self, port: usize, batch: &Batch) -> impl Iterator<Item = KeyGroup> {
        let keys: Vec<ArrayRef> = match (self.stage, port) {
            (Stage::Merging, Stage::PARTIALS) => batch.columns()[..self.inputs[0].key.len()].to_vec(),
            _ => self.inputs[port].key.iter().map(|&column| batch.column(column).clone()).collect(),
        };
        let (mut hashes, max_parallelism) = (vec![], self.eviction.max_parallelism());
        hash_columns(batch.rows(), &keys, &mut hashes);
        hashes.into_iter().map(move |hash| group_of(hash, max_parallelism))
    }

    /// Takes in rows for whose keys it is so late.
    async fn take_in(
        &mut self,
        port: usize,
        batch: &Batch,
        time: EventTime,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        self.renew_if_full().await?;
        if self.early.is_none() {
            self.early = self.policy.next_early(context.now);
        }
        let feed = match (self.stage, port, self.domain) {
            (Stage::Merging, Stage::PARTIALS, _) => Feed::partials(batch, self.inputs[0].key.len())?,
            (_, _, TimeDomain::Event) => {
                let times = batch.times().ok_or_else(|| Error::NoEventTime { operator: context.operator.clone() })?;
                Feed::rows(port, &self.inputs[port], batch, times.clone())
            }
            (_, _, TimeDomain::Processing) => {
                // Should the clock go back, rows still belong to a moment that is not over.
                let now = context.now.max(time.saturating_add(1));
                Feed::rows(port, &self.inputs[port], batch, ScalarBuffer::from(vec![now; batch.rows()]))
            }
        };
        let (windows, turn) = self.turn(context, out);
        let mut turn = Turn { time, ..turn };
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
        if time <= self.clock.time() && !self.advancing {
            return Ok(Progress::Done);
        }
        self.clock.advance(time);
        self.renew_if_full().await?;
        let (windows, mut turn) = self.turn(context, out);
        let progress = match windows {
            Windows::Grid(windows) => windows.advance(&mut turn).await?,
            Windows::Sessions(windows) => windows.advance(&mut turn).await?,
        };
        self.advancing = progress == Progress::More;
        if !self.advancing {
            self.clock.settle();
        }
        Ok(progress)
    }

    fn turn<'a>(&'a mut self, context: &'a mut Context, out: &'a mut Vec<Emitted>) -> (&'a mut Windows, Turn<'a>) {
        let turn = Turn {
            body: &mut self.body,
            emission: &self.emission,
            context,
            out,
            policy: self.policy,
            time: self.clock.time(),
            clock: &self.clock,
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

    /// What the operator knows, and all that it knows: see [`crate::snapshot`]. Before an exchange that is next to nothing, since all accumulators have been
    /// [handed on](Self::hand_on).
    ///
    /// # Errors
    /// If the guest or the backend fails.
    ///
    /// # Panics
    /// If the operator is at something.
    pub async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        assert!(!self.advancing && !self.emitting_early, "a barrier comes between two steps");
        assert!(self.stage != Stage::Local || self.slots() == 0, "accumulators are handed on before a barrier");
        let mut out = Writer::new(self.eviction.max_parallelism(), self.eviction.begin_checkpoint()?);
        match &mut self.windows {
            Windows::Grid(windows) => windows.snapshot(&mut self.body, &mut self.eviction, &mut out).await?,
            Windows::Sessions(windows) => windows.snapshot(&mut self.body, &mut self.eviction, &mut out).await?,
        }
        let time = self.settled_time(context.now);
        let mut snapshot = out.finish(&self.layout, None);
        self.clock.save(time, &mut snapshot.scalars);
        if let (Some(_), Windows::Grid(windows)) = (&snapshot.changes, &self.windows) {
            snapshot::set_counts(&mut snapshot.scalars, windows.counts());
        }
        Ok(snapshot)
    }

    /// The progress of the window's clock as far as nothing remains to be done about it. In processing time an operator looks at the clock only when a window is
    /// due; one without windows would hold back those that take them over together with its keys.
    fn settled_time(&mut self, now: EventTime) -> EventTime {
        let over = now.saturating_sub(1);
        let due = match (self.domain, &mut self.windows) {
            (TimeDomain::Event, _) => return self.clock.time(),
            (TimeDomain::Processing, Windows::Grid(windows)) => windows.next_due(&self.policy),
            (TimeDomain::Processing, Windows::Sessions(windows)) => windows.next_due(),
        };
        if due.is_none_or(|due| due > over) { self.clock.time().max(over) } else { self.clock.time() }
    }

    /// What the namespaces of a snapshot are.
    pub(crate) fn layout(&self) -> &str {
        &self.layout
    }

    /// Goes on where the clocks of an older attempt's subtasks were: see [`clock`].
    ///
    /// # Errors
    /// If their snapshots do not say where that is.
    pub fn begin_restore(&mut self, predecessors: &[Predecessor<'_>]) -> Result<(), Error> {
        match self.stage {
            // There no window is emitted, and no row is late.
            Stage::Local => Ok(()),
            Stage::Complete | Stage::Merging => self.clock.restore(predecessors),
        }
    }

    /// Takes in what the backend has, which was opened on a database of a snapshot with these scalars.
    ///
    /// # Errors
    /// If they do not say what is in it, or that is not of these windows.
    pub fn restore_database(&mut self, scalars: &serde_json::Value, context: &Context) -> Result<(), Error> {
        let may_have_changed = match &mut self.windows {
            Windows::Grid(windows) => {
                let counts = snapshot::counts(scalars)?;
                windows.restore_counts(&counts, self.clock.time())?;
                !counts.is_empty()
            }
            Windows::Sessions(windows) => windows.restore_database(&self.policy, &mut self.eviction)?,
        };
        if may_have_changed && self.early.is_none() {
            self.early = self.policy.next_early(context.now);
        }
        Ok(())
    }

    /// Takes in entries of a snapshot: their accumulators count as evicted.
    ///
    /// # Errors
    /// If they are not entries of this operator, or the backend fails.
    pub fn restore_entries(&mut self, entries: &Entries, context: &Context) -> Result<(), Error> {
        if self.stage == Stage::Local && !entries.is_empty() {
            return Err(corrupt("there is state of windows before an exchange"));
        }
        let changed = match &mut self.windows {
            Windows::Grid(windows) => windows.restore_entries(entries, self.clock.time(), &mut self.eviction)?,
            Windows::Sessions(windows) => windows.restore_entries(entries, &self.policy, &mut self.eviction)?,
        };
        if changed && self.early.is_none() {
            self.early = self.policy.next_early(context.now);
        }
        Ok(())
    }

    /// How many accumulators the guest holds.
    pub fn slots(&self) -> usize {
        match &self.windows {
            Windows::Grid(windows) => windows.slots(),
            Windows::Sessions(windows) => windows.slots(),
        }
    }

    /// The room that the state backend takes, about, in bytes.
    pub fn backend_bytes(&self) -> u64 {
        self.eviction.backend_bytes()
    }

    /// Figures of the state backend's database, if it has one.
    pub fn database(&self) -> Option<Stats> {
        self.eviction.database()
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
