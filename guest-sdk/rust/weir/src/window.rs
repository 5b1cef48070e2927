//! Windows: which rows belong together, when their result is emitted, and the head that keeps their accumulators.

use std::time::Duration;

use crate::bindings::exports::weir::dataflow::chains::{Input, Panes, Reply, States};
use crate::bindings::exports::weir::dataflow::definition::{self as wit, ChainInput};
use crate::bindings::weir::dataflow::types::Batch;
use crate::chain::{Chain, slots_of, times_of};
use crate::head::{Body, Description, Head};
use crate::key::Key;
use crate::migration::{Codec, Migrations, NOT_NAMED};
use crate::output::Terminal;
use crate::pipeline::Pipeline;
use crate::projection::Projection;
use crate::record::Row;
use crate::state::{Slots, State, unassigned};
use crate::time::{EventTime, Window, to_millis};
use crate::value::{Buffers, Column};

/// Puts rows into windows: [`Tumbling`], [`Sliding`], [`Session`], [`Global`] or [`CountWindow`].
pub trait Assigner {
    /// What the graph says about it, and when and by which clock its windows are emitted unless the job says otherwise.
    fn describe(&self) -> (wit::Assigner, Trigger, wit::TimeDomain);
}

fn positive_millis(duration: Duration) -> u64 {
    to_millis(duration).max(0).unsigned_abs()
}

/// Windows side by side: every row is in exactly one.
#[derive(Clone, Copy, Debug)]
pub struct Tumbling {
    size: Duration,
    offset_ms: i64,
}

impl Tumbling {
    /// Windows of this length; they start at multiples of it since 1970 (UTC).
    pub const fn new(size: Duration) -> Self {
        Self { size, offset_ms: 0 }
    }

    /// Starts the windows this many milliseconds later (or earlier), for example for days of a time zone.
    #[must_use]
    pub const fn offset_ms(self, offset_ms: i64) -> Self {
        Self { offset_ms, ..self }
    }
}

impl Assigner for Tumbling {
    fn describe(&self) -> (wit::Assigner, Trigger, wit::TimeDomain) {
        let tumbling = wit::Tumbling { size_ms: positive_millis(self.size), offset_ms: self.offset_ms };
        (wit::Assigner::Tumbling(tumbling), Trigger::on_time(), wit::TimeDomain::Event)
    }
}

/// Windows of one length that start at a shorter distance: a row is in several.
#[derive(Clone, Copy, Debug)]
pub struct Sliding {
    size: Duration,
    slide: Duration,
    offset_ms: i64,
}

impl Sliding {
    /// Windows of length `size`, one every `slide`. They are computed from slices, so a row is accumulated once.
    pub const fn new(size: Duration, slide: Duration) -> Self {
        Self { size, slide, offset_ms: 0 }
    }

    /// Starts the windows this many milliseconds later (or earlier).
    #[must_use]
    pub const fn offset_ms(self, offset_ms: i64) -> Self {
        Self { offset_ms, ..self }
    }
}

impl Assigner for Sliding {
    fn describe(&self) -> (wit::Assigner, Trigger, wit::TimeDomain) {
        let (size_ms, slide_ms) = (positive_millis(self.size), positive_millis(self.slide));
        (
            wit::Assigner::Sliding(wit::Sliding { size_ms, slide_ms, offset_ms: self.offset_ms }),
            Trigger::on_time(),
            wit::TimeDomain::Event,
        )
    }
}

/// Windows that end when no row came for a while.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    gap: Duration,
}

impl Session {
    /// A session ends `gap` after its last row.
    pub const fn gap(gap: Duration) -> Self {
        Self { gap }
    }
}

impl Assigner for Session {
    fn describe(&self) -> (wit::Assigner, Trigger, wit::TimeDomain) {
        (wit::Assigner::Session(positive_millis(self.gap)), Trigger::on_time(), wit::TimeDomain::Event)
    }
}

/// One window without end. Its result is emitted at the end of the input, or when a trigger says so.
#[derive(Clone, Copy, Debug)]
pub struct Global;

impl Assigner for Global {
    fn describe(&self) -> (wit::Assigner, Trigger, wit::TimeDomain) {
        (wit::Assigner::Global, Trigger::on_time(), wit::TimeDomain::Event)
    }
}

/// Count windows: each time a key has got this many rows, their result is emitted and a new window begins. They have no other
/// trigger.
#[derive(Clone, Copy, Debug)]
pub struct CountWindow(pub u64);

impl Assigner for CountWindow {
    fn describe(&self) -> (wit::Assigner, Trigger, wit::TimeDomain) {
        // They do not look at the time; by the clock, rows need no event times.
        (wit::Assigner::Global, Trigger::never().every_count(self.0).purging(), wit::TimeDomain::Processing)
    }
}

/// When the result of a window is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    on_time: bool,
    early_every: Option<Duration>,
    every_count: Option<u64>,
    purging: bool,
}

impl Trigger {
    /// Once the watermark (or the clock, for windows in processing time) has passed the window's end. This is what
    /// windows do unless told otherwise.
    pub const fn on_time() -> Self {
        Self { on_time: true, ..Self::never() }
    }

    /// Never, but for what is added.
    pub const fn never() -> Self {
        Self { on_time: false, early_every: None, every_count: None, purging: false }
    }

    /// Also early: every `interval` of processing time, while the window is open and has changed.
    #[must_use]
    pub const fn early_every(self, interval: Duration) -> Self {
        Self { early_every: Some(interval), ..self }
    }

    /// Also each time the window of a key has got `rows` rows.
    #[must_use]
    pub const fn every_count(self, rows: u64) -> Self {
        Self { every_count: Some(rows), ..self }
    }

    /// Clears the window whenever it is emitted, so that each result is of the rows since the last one.
    #[must_use]
    pub const fn purging(self) -> Self {
        Self { purging: true, ..self }
    }

    /// After how many rows windows are emitted.
    pub(crate) const fn count(self) -> Option<u64> {
        self.every_count
    }

    pub(crate) fn describe(self) -> wit::Trigger {
        wit::Trigger {
            on_time: self.on_time,
            early_every_ms: self.early_every.map(positive_millis),
            every_count: self.every_count,
            purging: self.purging,
        }
    }
}

/// What a window keeps and what becomes of it; aggregates, reductions, window processes and joins are made into it.
pub trait WindowFunction: 'static {
    /// what the rows are keyed by
    type Key: Key;
    /// what it reads of the rows of input 0
    type Left: Row;
    /// what it reads of the rows of input 1, if there is one
    type Right: Row;
    /// what is kept for a key and window; the default is that of no rows
    type Accumulator: State;
    /// what it emits
    type Item: 'static;
    /// whether the accumulator is the rows themselves
    const KEEPS_ROWS: bool = false;
    /// whether it emits at most one item for a window
    const AT_MOST_ONE: bool = false;

    /// The columns of the inputs that it reads, by name.
    fn columns(&self) -> Result<[Vec<Column>; 2], String> {
        Ok([Self::Left::columns(), Self::Right::columns()])
    }
    /// Adds a row of input 0.
    fn left(&mut self, accumulator: &mut Self::Accumulator, row: Self::Left);
    /// Adds a row of input 1.
    fn right(&mut self, _accumulator: &mut Self::Accumulator, _row: Self::Right) {}
    /// Adds what is in `other`.
    fn merge(&mut self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);
    /// What the accumulator was in earlier versions of the job.
    fn migrations() -> Migrations<Self::Accumulator> {
        Migrations::none()
    }
    /// The results of a window.
    fn emit(&mut self, key: &Self::Key, window: Window, accumulator: &Self::Accumulator, out: &mut impl FnMut(Self::Item));
}

/// The head of a chain that starts with a window.
pub struct WindowHead<F> {
    pub(crate) function: F,
    pub(crate) window: wit::WindowHead,
    pub(crate) inputs: Vec<ChainInput>,
    /// how the columns of the only input are read; of two inputs, each is read as it comes
    pub(crate) projection: Projection,
}

impl<F: WindowFunction> Head for WindowHead<F> {
    type Item = F::Item;
    const COUNTED: bool = F::AT_MOST_ONE;

    fn describe(&self) -> Description {
        let head = wit::Head::Window(self.window);
        Description {
            head,
            inputs: self.inputs.clone(),
            passable: None,
            timed: true,
            state_schema: Some(Codec::<F::Accumulator>::schema()),
        }
    }

    fn start<P: Pipeline<Head = Self>, W: Terminal<P::Out>>(self, body: Body<P, W>) -> Box<dyn Chain> {
        Box::new(Running { function: self.function, projection: self.projection, slots: Slots::new(), body })
    }
}

/// A running chain that starts with a window.
struct Running<F: WindowFunction, P: Pipeline, W> {
    function: F,
    projection: Projection,
    slots: Slots<F::Key, F::Accumulator>,
    body: Body<P, W>,
}

impl<F: WindowFunction, P: Pipeline<Head = WindowHead<F>>, W: Terminal<P::Out>> Running<F, P, W> {
    /// Adds each row to the accumulator of its slot.
    fn add<R: Row>(&mut self, input: Input, add: impl FnMut(&mut F, &mut F::Accumulator, R)) -> Result<(), String> {
        let rows = input.rows.rows as usize;
        let reader = R::open(&mut Buffers::new(rows, self.projection.expand(input.rows.buffers)))?;
        if slots_of(&input.slots).len() != rows {
            return Err("rows of a window came without their slots".into());
        }
        self.add_all(&reader, &input.slots, add)
    }

    /// The loop of it: a function of its own, as that of [`Rows`](crate::rows::Rows) is.
    #[inline(never)]
    fn add_all<R: Row>(
        &mut self,
        reader: &R::Reader,
        slots: &[u8],
        mut add: impl FnMut(&mut F, &mut F::Accumulator, R),
    ) -> Result<(), String> {
        let (_, accumulators) = self.slots.all();
        for (row, slot) in slots_of(slots).enumerate() {
            let accumulator = accumulators.get_mut(slot as usize).ok_or_else(|| unassigned(slot))?;
            add(&mut self.function, accumulator, R::read(reader, row));
        }
        Ok(())
    }

    /// Pushes the results of panes.
    #[inline(never)]
    fn emit_all(&mut self, panes: &Panes) -> Result<(), String> {
        let Self { function, slots, body, .. } = self;
        let (keys, accumulators) = slots.all();
        let get = |slot: u32| keys.get(slot as usize).zip(accumulators.get(slot as usize)).ok_or_else(|| unassigned(slot));
        let (groups, members) = (panes.groups.as_chunks::<4>().0, panes.slots.as_chunks::<4>().0);
        let bounds = times_of(&panes.starts).zip(times_of(&panes.ends));
        for (pane, (group, (start, end))) in groups.array_windows::<2>().zip(bounds).enumerate() {
            let [from, to] = group.map(|place| u32::from_le_bytes(place) as usize);
            let group = members.get(from..to).ok_or("a pane has slots outside of the list")?;
            let (first, rest) = group.split_first().ok_or("a pane has no slots")?;
            let window = Window { start: EventTime::from_millis(start), end: EventTime::from_millis(end) };
            body.cx.origin = pane as u32;
            body.cx.time = end.saturating_sub(1);
            let (key, mut accumulator) = get(u32::from_le_bytes(*first))?;
            let mut merged;
            if !rest.is_empty() {
                merged = F::Accumulator::default();
                for slot in group {
                    function.merge(&mut merged, get(u32::from_le_bytes(*slot))?.1);
                }
                accumulator = &merged;
            }
            function.emit(key, window, accumulator, &mut |item| body.push(item));
        }
        Ok(())
    }
}

impl<F: WindowFunction, P: Pipeline<Head = WindowHead<F>>, W: Terminal<P::Out>> Chain for Running<F, P, W> {
    fn open(&mut self, schemas: &[String]) -> Result<(), String> {
        let own = Codec::<F::Accumulator>::schema();
        let schemas: Vec<_> = schemas.iter().map(|schema| Some(schema.as_str())).collect();
        let number = schemas.iter().position(|schema| *schema == Some(&own)).ok_or(NOT_NAMED)?;
        self.slots.codec.open(number, &schemas, F::migrations())
    }

    fn accumulate(&mut self, input: Input) -> Result<(), String> {
        match input.port {
            0 => self.add::<F::Left>(input, F::left),
            _ => self.add::<F::Right>(input, F::right),
        }
    }

    fn emit(&mut self, panes: &Panes) -> Result<Reply, String> {
        let count = slots_of(&panes.groups).len().saturating_sub(1);
        self.body.begin(count, panes.watermark, panes.now);
        self.emit_all(panes)?;
        self.body.finish(Some(count))
    }

    fn merge_slots(&mut self, targets: &[u8], sources: &[u8]) -> Result<(), String> {
        let Self { function, slots, .. } = self;
        slots.merge(targets, sources, |target, source| function.merge(target, source))
    }
    fn assign_slots(&mut self, slots: &[u8], keys: Batch) -> Result<(), String> {
        self.slots.assign(slots, keys)
    }
    fn clear_slots(&mut self, slots: &[u8]) -> Result<(), String> {
        self.slots.clear(slots)
    }
    fn export_slots(&mut self, slots: &[u8]) -> Result<States, String> {
        self.slots.export(slots, |_, _| {})
    }
    fn import_slots(&mut self, slots: &[u8], states: &States) -> Result<(), String> {
        let Self { function, slots: own, .. } = self;
        own.import(slots, states, |_, accumulator, stored, _| {
            function.merge(accumulator, &stored);
            Ok(())
        })
    }
}
