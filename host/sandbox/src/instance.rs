//! An instance of a component at work: the calls of `wit/chains.wit`, with everything checked on the way out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::ArrayRef;
use arrow_buffer::ToByteSlice as _;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Lower, TypedFunc};
use weir_types::call::{DueTimers, Input, Panes, Reply, Slot, States};
use weir_types::graph::{Graph, TimeDomain};

use crate::encode::{encode, prepare};
use crate::engine::Sandbox;
use crate::error::{GuestError, GuestErrorKind};
use crate::exports::{ExportIndices, Exports, Returned};
use crate::failure::{Failure, message_of_guest};
use crate::graph::{self, chain_name};
use crate::host::{self, Host};
use crate::log::LogSink;
use crate::options::Limits;
use crate::reply::{self, Layout, Sources};
use crate::wit;

/// A guest in its sandbox, for one subtask.
///
/// Its calls are made one at a time (they take `&mut self`), and yield to the executor at every tick. An error whose kind
/// [ends the instance](GuestErrorKind::ends_instance) leaves nothing to call: start another one. The same is true of a
/// call whose future was dropped half-way.
///
/// Calls name a chain by its index in the graph and an input by its index in the chain; an index that is not there is a
/// bug of the caller, and panics.
pub struct Instance {
    guest: Guest,
    exports: Exports,
    graph: Graph,
    layouts: Vec<Layout>,
    /// for the buffers that cannot be lent; kept for its capacity
    scratch: Vec<u8>,
}

/// The store, and what is known of the guest in it.
struct Guest {
    store: Store<Host>,
    limits: Limits,
    /// why it cannot be called any more
    ended: Option<String>,
    calls: u64,
}

impl Instance {
    pub(crate) async fn start(
        sandbox: &Sandbox,
        pre: &InstancePre<Host>,
        indices: &ExportIndices,
        args: &[(String, String)],
        limits: &Limits,
        log: &LogSink,
    ) -> Result<Self, GuestError> {
        let limits = Limits { memory_bytes: limits.memory_bytes.min(sandbox.options().max_memory_bytes), ..limits.clone() };
        let store = host::store(sandbox.engine(), &limits, log);
        let mut guest = Guest { store, limits, ended: None, calls: 0 };
        let exports = guest.instantiate(pre, indices).await?;
        let arguments: Vec<_> = args.iter().map(|(name, value)| wit::Argument { name, value }).collect();
        let place = || "`describe`".to_owned();
        let graph = guest.call(place, exports.describe, (arguments.as_slice(),)).await?;
        let graph = graph::from_guest(graph).map_err(|e| contract(&place(), &e))?;
        let layouts = (0..graph.chains.len()).map(|chain| Layout::new(&graph, chain)).collect();
        Ok(Self { guest, exports, graph, layouts, scratch: vec![] })
    }

    /// The graph that it described.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn into_graph(self) -> Graph {
        self.graph
    }

    /// Makes a chain ready, for subtask `subtask` of `parallelism`. `schemas` are those of the states that may be imported: the chain's own among them, if it says
    /// what that is.
    ///
    /// # Errors
    /// As every call: if the guest fails, is stopped, or says no.
    pub async fn open(&mut self, chain: u32, subtask: u16, parallelism: u16, schemas: &[String]) -> Result<(), GuestError> {
        let subtask = wit::Subtask { index: subtask.into(), parallelism: parallelism.into() };
        let Self { guest, graph, exports, .. } = self;
        guest.call(|| place(graph, chain, "open"), exports.open, (chain, subtask, schemas)).await
    }

    /// Rows for a `transform` or `process` head.
    ///
    /// # Errors
    /// As every call, and if the reply breaks a rule.
    pub async fn process(&mut self, chain: u32, input: Input<'_>) -> Result<Reply, GuestError> {
        let reply = self.rows(chain, "process", self.exports.process, input).await?;
        self.check(chain, "process", Sources::Rows(input.rows), reply)
    }

    /// Rows for a `window` head: adds each to the accumulator of its slot.
    ///
    /// # Errors
    /// As every call.
    pub async fn accumulate(&mut self, chain: u32, input: Input<'_>) -> Result<(), GuestError> {
        self.rows(chain, "accumulate", self.exports.accumulate, input).await
    }

    /// Gives slots to these keys (the columns of the input's key, a row for each slot), with fresh state.
    ///
    /// # Errors
    /// As every call.
    pub async fn assign_slots(&mut self, chain: u32, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        let Self { guest, exports, graph, layouts, scratch } = self;
        let place = || place(graph, chain, "assign-slots");
        let layout = &mut layouts[chain as usize];
        let keys = prepare(keys).map_err(|e| contract(&place(), &e))?;
        let encoded = encode(&layout.key, &keys, slots.len(), scratch).map_err(|e| contract(&place(), &e))?;
        let buffers = encoded.buffers(scratch);
        let keys = wit::BatchIn { rows: slots.len() as u32, buffers: &buffers };
        guest.call(place, exports.assign_slots, (chain, slots.to_byte_slice(), keys)).await?;
        layout.slots = slots.iter().fold(layout.slots, |count, slot| count.max(slot.saturating_add(1)));
        Ok(())
    }

    /// The results of panes, of a `window` head. Does not change any slot.
    ///
    /// # Errors
    /// As every call, and if the reply breaks a rule.
    pub async fn emit(&mut self, chain: u32, panes: Panes<'_>) -> Result<Reply, GuestError> {
        let params = wit::Panes {
            groups: panes.groups.to_byte_slice(),
            slots: panes.slots.to_byte_slice(),
            starts: panes.starts.to_byte_slice(),
            ends: panes.ends.to_byte_slice(),
            watermark: panes.watermark,
            now: panes.now,
        };
        let Self { guest, graph, exports, .. } = self;
        guest.set_now(panes.now);
        let reply = guest.call(|| place(graph, chain, "emit"), exports.emit, (chain, params)).await?;
        self.check(chain, "emit", Sources::Times(panes.ends.len()), reply)
    }

    /// Merges the accumulator of `sources[i]` into `targets[i]`, in this order.
    ///
    /// # Errors
    /// As every call.
    pub async fn merge_slots(&mut self, chain: u32, targets: &[Slot], sources: &[Slot]) -> Result<(), GuestError> {
        let Self { guest, graph, exports, .. } = self;
        let params = (chain, targets.to_byte_slice(), sources.to_byte_slice());
        guest.call(|| place(graph, chain, "merge-slots"), exports.merge_slots, params).await
    }

    /// Frees slots: the guest may forget their state.
    ///
    /// # Errors
    /// As every call.
    pub async fn clear_slots(&mut self, chain: u32, slots: &[Slot]) -> Result<(), GuestError> {
        let Self { guest, graph, exports, .. } = self;
        guest.call(|| place(graph, chain, "clear-slots"), exports.clear_slots, (chain, slots.to_byte_slice())).await
    }

    /// The state of slots, as bytes.
    ///
    /// # Errors
    /// As every call, and if the reply breaks a rule.
    pub async fn export_slots(&mut self, chain: u32, slots: &[Slot]) -> Result<States, GuestError> {
        let Self { guest, graph, exports, .. } = self;
        let place = || place(graph, chain, "export-slots");
        let exported = guest.call(place, exports.export_slots, (chain, slots.to_byte_slice())).await?;
        reply::states(slots.len(), exported).map_err(|e| contract(&place(), &e))
    }

    /// Merges exported states into slots that were assigned before.
    ///
    /// # Errors
    /// As every call.
    pub async fn import_slots(&mut self, chain: u32, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        let Self { guest, graph, exports, .. } = self;
        let states = wit::StatesIn { offsets: states.offsets.to_byte_slice(), bytes: &states.bytes, expiries: None };
        let params = (chain, slots.to_byte_slice(), states);
        guest.call(|| place(graph, chain, "import-slots"), exports.import_slots, params).await
    }

    /// Timers that are due, of a `process` head.
    ///
    /// # Errors
    /// As every call, and if the reply breaks a rule.
    pub async fn timers_fired(&mut self, chain: u32, timers: DueTimers<'_>) -> Result<Reply, GuestError> {
        let params = wit::DueTimers {
            slots: timers.slots.to_byte_slice(),
            times: timers.times.to_byte_slice(),
            domain: match timers.domain {
                TimeDomain::Event => wit::TimeDomain::Event,
                TimeDomain::Processing => wit::TimeDomain::Processing,
            },
            cleanup: timers.cleanup,
            watermark: timers.watermark,
            now: timers.now,
        };
        let Self { guest, graph, exports, .. } = self;
        guest.set_now(timers.now);
        let reply = guest.call(|| place(graph, chain, "timers-fired"), exports.timers_fired, (chain, params)).await?;
        self.check(chain, "timers-fired", Sources::Times(timers.slots.len()), reply)
    }

    /// Its linear memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.guest.store.data().memory.bytes()
    }

    /// The most linear memory that it may have, in bytes: its limit, or the sandbox's if that is less.
    pub fn memory_bytes_max(&self) -> usize {
        self.guest.limits.memory_bytes
    }

    /// Lets its calls run for so long from now on.
    pub fn set_call_deadline(&mut self, deadline: Duration) {
        self.guest.limits.call_deadline = deadline;
        self.guest.store.data_mut().call_deadline = deadline;
    }

    /// The CPU time of all its calls: neither the time in which they had yielded to others, nor that in which another thread had the core.
    pub fn cpu(&self) -> Duration {
        self.guest.store.data().meter.cpu()
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.guest.calls
    }

    /// Whether it can be called: it has not crashed, nor been stopped.
    pub fn is_usable(&self) -> bool {
        self.guest.ended.is_none()
    }

    /// A call that carries rows in.
    async fn rows<R>(
        &mut self,
        chain: u32,
        function: &'static str,
        export: TypedFunc<(u32, wit::Input<'static>), Returned<R>>,
        input: Input<'_>,
    ) -> Result<R, GuestError>
    where
        Returned<R>: ComponentNamedList + Lift + 'static,
    {
        let Self { guest, graph, layouts, scratch, .. } = self;
        let place = || place(graph, chain, function);
        let fields = &layouts[chain as usize].inputs[input.port as usize];
        let columns = prepare(input.columns).map_err(|e| contract(&place(), &e))?;
        let encoded = encode(fields, &columns, input.rows, scratch).map_err(|e| contract(&place(), &e))?;
        let buffers = encoded.buffers(scratch);
        let params = wit::Input {
            port: input.port,
            split: input.split,
            rows: wit::BatchIn { rows: input.rows as u32, buffers: &buffers },
            times: input.times.unwrap_or_default().to_byte_slice(),
            slots: input.slots.unwrap_or_default().to_byte_slice(),
            watermark: input.watermark,
            now: input.now,
        };
        guest.set_now(input.now);
        guest.call(place, export, (chain, params)).await
    }

    fn check(&mut self, chain: u32, function: &'static str, sources: Sources, reply: wit::Reply) -> Result<Reply, GuestError> {
        let checked = self.layouts[chain as usize].check(sources, reply);
        checked.map_err(|e| contract(&place(&self.graph, chain, function), &e))
    }
}

impl Guest {
    async fn instantiate(&mut self, pre: &InstancePre<Host>, indices: &ExportIndices) -> Result<Exports, GuestError> {
        self.store.set_epoch_deadline(1);
        let meter = Arc::clone(&self.store.data().meter);
        let instance = meter.run(pre.instantiate_async(&mut self.store)).await;
        let exports = instance.and_then(|i| indices.of(&i, &mut self.store));
        exports.map_err(|e| {
            Failure { error: &e, place: "the start of the component", limits: &self.limits, starting: true }
                .explain(self.store.data_mut())
        })
    }

    /// Makes one call. `place` is asked only if it fails.
    async fn call<P, R>(
        &mut self,
        place: impl Fn() -> String,
        function: TypedFunc<P, Returned<R>>,
        params: P,
    ) -> Result<R, GuestError>
    where
        P: ComponentNamedList + Lower,
        Returned<R>: ComponentNamedList + Lift + 'static,
    {
        if let Some(reason) = &self.ended {
            let message = format!("{}: the instance has ended and cannot be called: {reason}", place());
            return Err(GuestError::new(GuestErrorKind::Trap, message));
        }
        // For a call whose future is dropped before it is over.
        self.ended = Some("a call was broken off".into());
        self.calls += 1;
        self.store.set_epoch_deadline(1);
        self.store.data_mut().begin_call();
        let meter = Arc::clone(&self.store.data().meter);
        match meter.run(function.call_async(&mut self.store, params)).await {
            Ok((returned,)) => {
                self.ended = None;
                returned.map_err(|message| {
                    GuestError::new(GuestErrorKind::Returned, format!("{}: {}", place(), message_of_guest(&message)))
                })
            }
            Err(error) => {
                let failure = Failure { error: &error, place: &place(), limits: &self.limits, starting: false };
                let error = failure.explain(self.store.data_mut());
                self.ended = Some(error.message.clone());
                Err(error)
            }
        }
    }

    fn set_now(&mut self, now: i64) {
        self.store.data_mut().wasi.set_now(now);
    }
}

/// Where a call was made, for messages.
fn place(graph: &Graph, chain: u32, function: &str) -> String {
    format!("`{function}` of {}", chain_name(chain as usize, &graph.chains[chain as usize].operators))
}

/// A broken rule of the boundary.
fn contract(place: &str, what: &str) -> GuestError {
    GuestError::new(GuestErrorKind::Contract, format!("{place}: {what}"))
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("graph", &self.graph.name).field("calls", &self.guest.calls).finish_non_exhaustive()
    }
}
