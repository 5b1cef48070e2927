//! The engine that all instances of a process share.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use weir_types::text;

use crate::cache::Cache;
use crate::component::Component;
use crate::error::Error;
use crate::host::{self, Host, PARTS_MAX};
use crate::options::Options;

/// Compiles components and runs them. Cheap to clone; there should be one in a process.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    engine: Engine,
    linker: Linker<Host>,
    cache: Option<Cache>,
    options: Options,
    /// the ticker ends when this is dropped
    _ticker: mpsc::Sender<()>,
}

impl Sandbox {
    /// Makes the engine and starts its ticker.
    ///
    /// # Errors
    /// If the machine cannot reserve the address space that `options` ask for, or the cache directory cannot be made.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let engine = Engine::new(&config(options))
            .map_err(|e| Error::internal(format!("the sandbox cannot start with these options: {}", one_line(&e))))?;
        let linker = host::linker(&engine).map_err(|e| Error::internal(one_line(&e)))?;
        let cache =
            options.cache_dir.as_deref().map(|dir: &Path| Cache::open(dir, options.cache_bytes_max, &engine)).transpose()?;
        let ticker = start_ticker(&engine, Duration::from_millis(options.tick_ms.max(1)))?;
        Ok(Self(Arc::new(Inner { engine, linker, cache, options: options.clone(), _ticker: ticker })))
    }

    /// Compiles a component (binary, or in WebAssembly's text format), or takes it from the cache.
    ///
    /// Takes as long as the compiler takes, from milliseconds to seconds for the large ones: not for a thread that serves others.
    ///
    /// # Errors
    /// If it is no component, imports what there is not, or does not export what a job must.
    pub fn load(&self, wasm: &[u8]) -> Result<Component, Error> {
        Component::load(self, wasm)
    }

    /// Why a compiled component could not be kept for the next time, if one could not since this was asked last: for whoever runs the process to be told.
    pub fn take_unkept(&self) -> Option<String> {
        self.cache().and_then(Cache::take_unkept)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn linker(&self) -> &Linker<Host> {
        &self.0.linker
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    /// The options that it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }
}

fn config(options: &Options) -> Config {
    let instances = options.max_instances.max(1);
    let mut pool = PoolingAllocationConfig::new();
    // Most components are one core module with one memory and one table. Large toolchains link several modules around one
    // memory; they take a larger share of the totals, which only bound address space.
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .total_core_instances(instances.saturating_mul(16))
        .max_core_instances_per_component(PARTS_MAX as u32)
        .max_memories_per_component(PARTS_MAX as u32)
        .max_tables_per_component(PARTS_MAX as u32)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(50_000)
        .max_memory_size(options.max_memory_bytes)
        // Slots that nobody uses give their memory back.
        .max_unused_warm_slots(16);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    codegen(&mut config);
    config
}

/// The settings that compiled code depends on: the same wherever it is compiled.
pub(crate) fn codegen(config: &mut Config) {
    config
        .memory_init_cow(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // Guests export plain functions; support for concurrent ones would cost every call a task.
        .concurrency_support(false)
        // The same bits on every machine, so that a replay sees them again.
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false);
}

/// Starts the thread that lets running guests notice that time passes. It ends when the sender is dropped.
fn start_ticker(engine: &Engine, tick: Duration) -> Result<mpsc::Sender<()>, Error> {
    let (sender, receiver) = mpsc::channel::<()>();
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("weir-ticker".into())
        .spawn(move || {
            while receiver.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })
        .map_err(|e| Error::internal(format!("no thread for the sandbox's ticker: {e}")))?;
    Ok(sender)
}

/// An error of the engine with all its causes, on one line; names in it may be a guest's.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<_> = error.chain().map(|e| e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    text::shown(&causes.join(": ")).into_owned()
}
