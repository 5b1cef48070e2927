//! What a chain node does, whatever its head is.

use weir_plan::job::ChainNode;
use weir_sandbox::GuestErrorKind;
use weir_state::rocks::Stats;
use weir_state::{Entries, StateBackend};
use weir_types::graph::Head;
use weir_types::{Batch, EventTime};

use crate::Error;
use crate::body::Body;
use crate::context::Context;
use crate::emission::{Emission, Emitted};
use crate::process::{self, Process};
use crate::progress::Progress;
use crate::snapshot::{self, CopyTime, Misfit, Predecessor, Snapshot};
use crate::transform::Transform;
use crate::window::Window;

/// A chain at work. Which variant it is, is asked once a batch.
pub enum ChainOperator {
    /// no guest code
    Relay(Emission),
    /// stateless
    Transform(Transform),
    /// keyed state and timers
    Process(Box<Process>),
    /// accumulators of windows
    Window(Box<Window>),
}

/// What a chain is made from, besides its plan.
pub struct Parts {
    /// the user's part
    pub body: Body,
    /// where cold slots go
    pub backend: Box<dyn StateBackend>,
    /// the most slots in the guest
    pub slots_max: Option<usize>,
    /// the most bytes that they may weigh, as far as that is known
    pub bytes_max: Option<u64>,
    /// key groups of the job
    pub max_parallelism: u16,
}

impl ChainOperator {
    /// Makes the operator of a node. `parts` is asked for only if the head needs a guest.
    ///
    /// # Errors
    /// If the guest does not start, or a key cannot be one.
    pub fn new(node: &ChainNode, needed: &[Vec<bool>], parts: Option<Parts>) -> Result<Self, Error> {
        let emission = Emission::new(&node.chain, needed);
        let inputs = node.chain.inputs.clone();
        Ok(match (node.chain.head, parts) {
            (Head::Relay, _) | (_, None) => Self::Relay(emission),
            (Head::Transform, Some(parts)) => Self::Transform(Transform::new(parts.body, inputs, emission)),
            (Head::Process, Some(parts)) => Self::Process(Box::new(Process::new(parts, inputs, &key_types(node), emission)?)),
            (Head::Window(window), Some(parts)) => {
                Self::Window(Box::new(Window::new(&window, node, &key_types(node), emission, parts)?))
            }
        })
    }

    /// Whether a node of this head runs guest code.
    pub fn needs_guest(head: Head) -> bool {
        head != Head::Relay
    }

    /// Whether a node of this head makes rows of its own: at times and for keys, not one for one from the rows that it is given.
    pub fn makes_rows(head: Head) -> bool {
        matches!(head, Head::Process | Head::Window(_))
    }

    /// Whether rows leave as they came, one for one.
    pub fn keeps_rows(&self) -> bool {
        matches!(self, Self::Relay(_))
    }

    /// Rows for an input.
    ///
    /// # Errors
    /// If the guest fails, or the rows cannot be put together.
    pub async fn on_batch(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        context.batches += 1;
        let allowed = context.bar(port, batch)?;
        if allowed.as_ref().is_some_and(Batch::is_empty) {
            return Ok(());
        }
        let batch = allowed.as_ref().unwrap_or(batch);
        let mut start = 0;
        loop {
            let rows = self.step(batch.rows() - start);
            if rows == batch.rows() {
                return self.on_rows(port, batch, start, context, out).await;
            }
            self.on_rows(port, &batch.slice(start, rows), start, context, out).await?;
            start += rows;
            if start == batch.rows() {
                return Ok(());
            }
        }
    }

    /// How many of so many rows the guest may be given before cold slots leave it. A window is given all: late rows of a batch have it emitted once.
    fn step(&mut self, rows: usize) -> usize {
        match self {
            Self::Relay(_) | Self::Transform(_) | Self::Window(_) => rows,
            Self::Process(process) => process.step(rows),
        }
    }

    /// The rows of a batch from `start` on, or as many of them as there are in `rows`.
    async fn on_rows(
        &mut self,
        port: usize,
        rows: &Batch,
        start: usize,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        let result = match self {
            Self::Relay(emission) => {
                let (port, batch) = emission.relay(0, rows)?;
                if emission.assigns_times() {
                    context.note_progress(batch.times().and_then(|times| times.iter().copied().max()));
                }
                out.push((port, batch));
                Ok(())
            }
            // What goes on inside them takes kilobytes, which each caller would have to move on: a pointer to it is less.
            Self::Transform(transform) => Box::pin(transform.on_batch(port, rows, context, out)).await,
            Self::Process(process) => Box::pin(process.on_batch(port, rows, context, out)).await,
            Self::Window(window) => Box::pin(window.on_batch(port, rows, context, out)).await,
        };
        result.map_err(|error| {
            let mut error = self.explain(context.locate(error));
            if matches!(self, Self::Process(_) | Self::Window(_)) {
                context.failures.errors += 1;
                context.accuse(&error, port, rows, start);
            }
            if let Error::Rows { row: Some((row, _)), .. } = &mut error {
                *row += start;
            }
            error
        })
    }

    /// The context's watermark has advanced, or there was more to do of it.
    ///
    /// # Errors
    /// As `on_batch`.
    pub async fn on_watermark(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) => Ok(Progress::Done),
            Self::Process(process) => Box::pin(process.on_watermark(context, out)).await,
            Self::Window(window) => Box::pin(window.on_watermark(context, out)).await,
        };
        result.map_err(|error| self.explain(context.locate(error)))
    }

    /// The clock has reached what `next_clock` said, or there was more to do of it.
    ///
    /// # Errors
    /// As `on_batch`.
    pub async fn on_clock(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<Progress, Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) => Ok(Progress::Done),
            Self::Process(process) => process.on_clock(context, out).await,
            Self::Window(window) => window.on_clock(context, out).await,
        };
        result.map_err(|error| self.explain(context.locate(error)))
    }

    /// Hands on what the chain keeps for others: see [`Window::hand_on`].
    ///
    /// # Errors
    /// As `on_batch`.
    pub async fn hand_on(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) | Self::Process(_) => Ok(()),
            Self::Window(window) => window.hand_on(context, out).await,
        };
        result.map_err(|error| self.explain(context.locate(error)))
    }

    /// The state of the chain at a barrier: between two steps, when nothing is being fired or emitted, and after [`hand_on`](Self::hand_on). None of a
    /// chain that keeps no state. The chain goes on as if nothing had happened. `time` says when it may copy what has changed.
    ///
    /// # Errors
    /// If the guest or the state backend fails.
    ///
    /// # Panics
    /// If the chain is at something, and said so by [`Progress::More`].
    pub async fn snapshot(&mut self, context: &mut Context, time: CopyTime) -> Result<Option<Snapshot>, Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) => return Ok(None),
            Self::Process(process) => process.snapshot(time).await,
            Self::Window(window) => window.snapshot(context).await,
        };
        result.map(Some).map_err(|error| self.explain(context.locate(error)))
    }

    /// Whether a snapshot waits for copies of what has changed: see [`copy_on`](Self::copy_on).
    pub fn is_copying(&self) -> bool {
        match self {
            Self::Relay(_) | Self::Transform(_) | Self::Window(_) => false,
            Self::Process(process) => process.is_copying(),
        }
    }

    /// Makes some of the copies that a snapshot waits for, between two steps. To be called until there are none left, soon after each batch, and whenever
    /// there is nothing else to do.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn copy_on(&mut self, context: &mut Context) -> Result<(), Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) | Self::Window(_) => Ok(()),
            Self::Process(process) => process.copy_on().await,
        };
        result.map_err(|error| self.explain(context.locate(error)))
    }

    /// Begins to take over the state of an older attempt's subtasks: of all whose entries will come. It is the first thing that
    /// happens to a chain; [`restore_entries`](Self::restore_entries), [`restore_operator_state`](Self::restore_operator_state) and
    /// [`finish_restore`](Self::finish_restore) follow before the first row. The context's watermark is the caller's to restore, before, and its
    /// `now` has to be right.
    ///
    /// # Errors
    /// If the state is not one that this chain can take over.
    pub fn begin_restore(&mut self, predecessors: &[Predecessor<'_>], context: &Context) -> Result<(), Error> {
        for Predecessor { scalars, .. } in predecessors {
            snapshot::check(scalars, self.layout()).map_err(|reason| misfit(reason, context))?;
        }
        let result = match self {
            Self::Relay(_) | Self::Transform(_) => Ok(()),
            Self::Process(process) => process.begin_restore(predecessors),
            Self::Window(window) => window.begin_restore(predecessors),
        };
        result.map_err(|error| unrestored(error, context))
    }

    /// Takes over what the state backend has, which was opened on a database of a snapshot with these scalars; called after
    /// [`begin_restore`](Self::begin_restore), once for each database that was put into it.
    ///
    /// # Errors
    /// If that is not of this chain.
    pub fn restore_database(&mut self, scalars: &serde_json::Value, context: &Context) -> Result<(), Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) => Err(misfit(Misfit::Stateless, context)),
            Self::Process(process) => process.restore_database(scalars),
            Self::Window(window) => window.restore_database(scalars, context),
        };
        result.map_err(|error| unrestored(error, context))
    }

    /// Takes over entries, those of the subtask's own key groups; called any number of times, with any entries in any order.
    ///
    /// # Errors
    /// If they are not entries of this chain, or the state backend fails.
    pub fn restore_entries(&mut self, entries: &Entries, context: &Context) -> Result<(), Error> {
        let result = match self {
            Self::Relay(_) | Self::Transform(_) if entries.is_empty() => Ok(()),
            Self::Relay(_) | Self::Transform(_) => Err(misfit(Misfit::Stateless, context)),
            Self::Process(process) => process.restore_entries(entries),
            Self::Window(window) => window.restore_entries(entries, context),
        };
        result.map_err(|error| unrestored(error, context))
    }

    /// Takes over the operator state of one subtask; it is the same in all of them, and called at most once.
    ///
    /// # Errors
    /// If this chain has none, or the guest fails.
    pub async fn restore_operator_state(&mut self, state: &[u8], context: &Context) -> Result<(), Error> {
        let result = match self {
            Self::Process(process) if process.has_operator_state() => process.restore_operator_state(state).await,
            Self::Process(_) | Self::Window(_) => Err(misfit(Misfit::NoBroadcast, context)),
            Self::Relay(_) | Self::Transform(_) => Err(misfit(Misfit::Stateless, context)),
        };
        result.map_err(|error| self.explain(unrestored(error, context)))
    }

    /// All entries have come: the chain is ready for rows.
    ///
    /// # Errors
    /// If the state backend fails.
    pub fn finish_restore(&mut self) -> Result<(), Error> {
        match self {
            Self::Relay(_) | Self::Transform(_) | Self::Window(_) => Ok(()),
            Self::Process(process) => process.finish_restore(),
        }
    }

    /// What the namespaces of a snapshot are; none if there is none.
    fn layout(&self) -> Option<&str> {
        match self {
            Self::Relay(_) | Self::Transform(_) => None,
            Self::Process(_) => Some(process::LAYOUT),
            Self::Window(window) => Some(window.layout()),
        }
    }

    /// When processing time is to be looked at next.
    pub fn next_clock(&mut self) -> Option<EventTime> {
        match self {
            Self::Relay(_) | Self::Transform(_) => None,
            Self::Process(process) => process.next_clock(),
            Self::Window(window) => window.next_clock(),
        }
    }

    /// What helps where the state of keys has filled the guest's memory.
    fn explain(&self, mut error: Error) -> Error {
        if let (Self::Process(_) | Self::Window(_), Error::Rows { error, .. }) = (self, &mut error)
            && error.kind == GuestErrorKind::Memory
            && self.body().is_some_and(Body::nears_limit)
        {
            error
                .message
                .push_str("; raise `limits.guest_memory`, or let the state of cold keys leave it by `state.memory_limit`");
        }
        error
    }

    /// The user's part.
    pub fn body(&self) -> Option<&Body> {
        match self {
            Self::Relay(_) => None,
            Self::Transform(transform) => Some(transform.body()),
            Self::Process(process) => Some(process.body()),
            Self::Window(window) => Some(window.body()),
        }
    }

    /// How many keys (with windows) have state in the guest.
    pub fn slots(&self) -> usize {
        match self {
            Self::Relay(_) | Self::Transform(_) => 0,
            Self::Process(process) => process.slots(),
            Self::Window(window) => window.slots(),
        }
    }

    /// The room that the state backend takes, about, in bytes. Not for every batch: it is the disk's library that tells.
    pub fn backend_bytes(&self) -> u64 {
        match self {
            Self::Relay(_) | Self::Transform(_) => 0,
            Self::Process(process) => process.backend_bytes(),
            Self::Window(window) => window.backend_bytes(),
        }
    }

    /// Figures of the state backend's database, if it has one. Not for every batch either.
    pub fn database(&self) -> Option<Stats> {
        match self {
            Self::Relay(_) | Self::Transform(_) => None,
            Self::Process(process) => process.database(),
            Self::Window(window) => window.database(),
        }
    }

    /// Slots that were moved from the guest to the state backend.
    pub fn evictions(&self) -> u64 {
        match self {
            Self::Relay(_) | Self::Transform(_) => 0,
            Self::Process(process) => process.evictions(),
            Self::Window(window) => window.evictions(),
        }
    }

    /// Rows that came too late for their window, or for a process function.
    pub fn late_rows(&self) -> u64 {
        match self {
            Self::Window(window) => window.late_rows(),
            Self::Process(process) => process.late_rows(),
            Self::Relay(_) | Self::Transform(_) => 0,
        }
    }
}

/// A snapshot is not one that the chain can go on from.
fn misfit(reason: Misfit, context: &Context) -> Error {
    Error::Misfit { operator: context.operator.clone(), reason }
}

/// An error of a restore: what is corrupt is the snapshot.
fn unrestored(error: Error, context: &Context) -> Error {
    match error {
        Error::State(weir_state::Error::Corrupt(reason)) => Error::Restore { operator: context.operator.clone(), reason },
        error => context.locate(error),
    }
}

/// The types of the key columns, which are the same for all keyed inputs.
fn key_types(node: &ChainNode) -> Vec<arrow_schema::DataType> {
    let keyed = node.chain.inputs.iter().zip(&node.inputs).find(|(input, _)| !input.key.is_empty());
    keyed.map_or_else(Vec::new, |(input, schema)| {
        input.key.iter().map(|&column| schema.field(column).data_type().clone()).collect()
    })
}
