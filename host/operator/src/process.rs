//! A process function: keyed rows in, rows and timers out, state in slots.

use arrow_array::{ArrayRef, UInt32Array};
use weir_state::{Created, Namespaces, SlotTable, Timers};
use weir_types::call::{DueTimers, Reply, Slot};
use weir_types::graph::{self, TimeDomain};
use weir_types::{Batch, EventTime};

use crate::body::Body;
use crate::context::Context;
use crate::emission::{Emission, Emitted, Source};
use crate::{Error, narrow};

/// Runs a `process` head.
pub struct Process {
    body: Body,
    inputs: Vec<graph::Input>,
    emission: Emission,
    table: SlotTable,
    event_timers: Timers<Slot>,
    processing_timers: Timers<Slot>,
    slots: Vec<Slot>,
    created: Vec<Created>,
}

impl Process {
    /// Runs the chain in `body`; `key_types` are those of its keyed inputs' key columns.
    ///
    /// # Errors
    /// If a type cannot be part of a key.
    pub fn new(
        body: Body,
        inputs: Vec<graph::Input>,
        key_types: &[arrow_schema::DataType],
        emission: Emission,
    ) -> Result<Self, Error> {
        Ok(Self {
            body,
            inputs,
            emission,
            table: SlotTable::new(key_types)?,
            event_timers: Timers::default(),
            processing_timers: Timers::default(),
            slots: vec![],
            created: vec![],
        })
    }

    /// Passes rows through the process function.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_batch(
        &mut self,
        port: usize,
        batch: &Batch,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        self.renew_if_full().await?;
        let input = &self.inputs[port];
        let columns: Vec<ArrayRef> = input.columns.iter().map(|&c| batch.column(c).clone()).collect();
        let keys: Vec<ArrayRef> = input.key.iter().map(|&c| batch.column(c).clone()).collect();
        // A broadcast input has no key: its rows are for the whole subtask.
        let keyed = input.partitioning != graph::Partitioning::Broadcast;
        if keyed {
            self.table.assign(batch.rows(), &keys, Namespaces::Constant(0), &mut self.slots, &mut self.created)?;
            assign_created(&mut self.body, &self.created, &keys).await?;
        }
        let slots = keyed.then_some(&self.slots[..]);
        match self.body.process(context.input(port, input, batch, &columns, slots)).await {
            Ok(reply) => self.on_reply(reply, &Source::Rows(batch), context, out),
            Err(Error::Guest(error)) => {
                let Some(start) = self.body.guest_start().cloned() else { return Err(context.failure(error, None)) };
                let mut distinct = self.slots.clone();
                distinct.sort_unstable();
                distinct.dedup();
                let keys = self.table.key_columns(&distinct)?;
                let input = context.input(port, &self.inputs[port], batch, &columns, keyed.then_some(&self.slots[..]));
                let assigned = keyed.then_some((&distinct[..], &keys[..]));
                let attempt = narrow::Attempt { start: &start, input, accumulates: false, assigned };
                Err(match narrow::failing_row(&attempt, &error).await {
                    Some((row, row_error)) => {
                        let text = narrow::describe_row(batch, &context.schemas[port], row);
                        context.failure(row_error, Some((row, text)))
                    }
                    None => context.failure(error, None),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn on_reply(
        &mut self,
        reply: Reply,
        source: &Source<'_>,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        context.note_progress(reply.progress);
        for timer in reply.timers {
            let timers = match timer.domain {
                TimeDomain::Event => &mut self.event_timers,
                TimeDomain::Processing => &mut self.processing_timers,
            };
            if timer.delete {
                timers.delete(timer.time, timer.slot);
            } else {
                timers.set(timer.time, timer.slot);
            }
        }
        self.emission.assemble(source, reply.outputs, out)
    }

    /// Fires the event-time timers that the context's watermark has reached.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_watermark(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        self.fire(TimeDomain::Event, context.watermark.0, context, out).await
    }

    /// Fires the processing-time timers that are due.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn on_clock(&mut self, context: &mut Context, out: &mut Vec<Emitted>) -> Result<(), Error> {
        self.fire(TimeDomain::Processing, context.now, context, out).await
    }

    /// When the next processing-time timer is due.
    pub fn next_clock(&mut self) -> Option<EventTime> {
        self.processing_timers.next()
    }

    /// Fires what is due, again and again: a timer may set another one that is due, too. At the end of time, what is set for the end of time fires, and
    /// nothing that is set then.
    async fn fire(
        &mut self,
        domain: TimeDomain,
        until: EventTime,
        context: &mut Context,
        out: &mut Vec<Emitted>,
    ) -> Result<(), Error> {
        let (mut times, mut slots) = (vec![], vec![]);
        loop {
            let timers = match domain {
                TimeDomain::Event => &mut self.event_timers,
                TimeDomain::Processing => &mut self.processing_timers,
            };
            times.clear();
            slots.clear();
            while times.len() < TIMERS_PER_CALL_MAX
                && let Some((time, slot)) = timers.pop_due(until)
            {
                times.push(time);
                slots.push(slot);
            }
            if times.is_empty() {
                return Ok(());
            }
            self.renew_if_full().await?;
            let due = DueTimers { slots: &slots, times: &times, domain, watermark: context.watermark.0, now: context.now };
            match self.body.timers_fired(due).await {
                Ok(reply) => self.on_reply(reply, &Source::Times(&times), context, out)?,
                Err(Error::Guest(error)) => return Err(context.failure(error, None)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Replaces a guest whose memory nears its limit: its slots move to a new instance.
    async fn renew_if_full(&mut self) -> Result<(), Error> {
        if !self.body.wants_renewal() {
            return Ok(());
        }
        let slots: Vec<Slot> = self.table.slots_of(0).collect();
        let states = self.body.export_slots(&slots).await?;
        let keys = self.table.key_columns(&slots)?;
        self.body.renew().await?;
        self.body.assign_slots(&slots, &keys).await?;
        self.body.import_slots(&slots, &states).await
    }

    /// How many keys have state in the guest.
    pub fn slots(&self) -> usize {
        self.table.len()
    }

    /// The user's part.
    pub fn body(&self) -> &Body {
        &self.body
    }
}

/// Timers that are handed to the guest in one call.
const TIMERS_PER_CALL_MAX: usize = 8192;

/// Tells the guest which keys new slots belong to; `keys` are the key columns of the rows that they were made for.
async fn assign_created(body: &mut Body, created: &[Created], keys: &[ArrayRef]) -> Result<(), Error> {
    if created.is_empty() {
        return Ok(());
    }
    let rows: UInt32Array = created.iter().map(|c| c.row).collect::<Vec<_>>().into();
    let keys = keys.iter().map(|k| Ok(arrow_select::take::take(k, &rows, None)?)).collect::<Result<Vec<_>, Error>>()?;
    let slots: Vec<Slot> = created.iter().map(|c| c.slot).collect();
    body.assign_slots(&slots, &keys).await
}
