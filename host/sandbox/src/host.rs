//! What the host keeps beside each instance: its limits, its log, its meter. Also the one thing that it offers to
//! guests: `host.log`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::component::{Linker, WasmStr};
use wasmtime::{Engine, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

use crate::log::{GuestLog, Level, LogSink};
use crate::meter::Meter;
use crate::wasi::{self, Wasi};
use crate::{Limits, wit};

/// The most core instances, memories and tables of one component: what the largest known toolchains need, doubled.
pub(crate) const PARTS_MAX: usize = 128;

/// The host's side of an instance.
pub(crate) struct Host {
    pub(crate) log: Arc<Mutex<GuestLog>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory: Memory,
    pub(crate) wasi: Wasi,
    pub(crate) call_deadline: Duration,
}

impl Host {
    /// Forgets what an earlier call has left behind to explain failures.
    pub(crate) fn begin_call(&mut self) {
        self.log.lock().take_last_error();
        self.memory.take_denied();
    }
}

/// A store for one instance, within the limits.
pub(crate) fn store(engine: &Engine, limits: &Limits, log: &LogSink) -> Store<Host> {
    let log = Arc::new(Mutex::new(GuestLog::new(log.clone(), limits)));
    let meter = Arc::new(Meter::new());
    let wasi = Wasi::new(&log, limits.seed, limits.log_line_bytes);
    let memory = Memory::new(limits);
    let mut store = Store::new(engine, Host { log, meter, memory, wasi, call_deadline: limits.call_deadline });
    store.limiter(|host| &mut host.memory);
    store.set_hostcall_fuel(limits.reply_bytes);
    store.epoch_deadline_callback(|store| {
        let host = store.data();
        if host.meter.running() > host.call_deadline { Err(DeadlineExceeded.into()) } else { Ok(UpdateDeadline::Yield(1)) }
    });
    store
}

/// A call ran for longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("the call ran into its deadline")]
pub(crate) struct DeadlineExceeded;

/// Links everything that a guest may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker.instance(wit::HOST)?.func_wrap("log", |store: StoreContextMut<'_, Host>, (level, line): (Level, WasmStr)| {
        let line = line.to_str(&store)?;
        store.data().log.lock().write(level, &line);
        Ok(())
    })?;
    wasi::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// How much memory an instance has, and how much it may have.
pub(crate) struct Memory {
    bytes: usize,
    bytes_max: usize,
    elements: usize,
    elements_max: usize,
    denied: Option<Denied>,
}

/// Which limit a guest ran into.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Denied {
    Memory,
    Table,
}

impl Memory {
    fn new(limits: &Limits) -> Self {
        Self { bytes: 0, bytes_max: limits.memory_bytes, elements: 0, elements_max: limits.table_elements, denied: None }
    }

    /// The linear memory of the instance.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limit that the guest ran into since this was asked before.
    pub(crate) fn take_denied(&mut self) -> Option<Denied> {
        self.denied.take()
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.bytes.saturating_add(desired - current);
        let granted = total <= self.bytes_max;
        if !granted {
            self.denied = Some(Denied::Memory);
        } else if maximum.is_none_or(|m| desired <= m) {
            self.bytes = total;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.elements.saturating_add(desired - current);
        let granted = total <= self.elements_max;
        if !granted {
            self.denied = Some(Denied::Table);
        } else if maximum.is_none_or(|m| desired <= m) {
            self.elements = total;
        }
        Ok(granted)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}
