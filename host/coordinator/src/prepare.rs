//! From a spec and the bytes of its components to a job that can be deployed.

use tokio::sync::Semaphore;
use weir_connector::registry::{Stream, find};
use weir_connector::{Attempt, Context, Files};
use weir_plan::{JobPlan, JobSpec};
use weir_sandbox::{Component, GuestErrorKind, LogSink, Sandbox};

use crate::error::{self, Error, ErrorKind};

/// A job that can be deployed.
#[derive(Debug)]
pub struct Prepared {
    /// what runs
    pub plan: JobPlan,
    /// the components, in the order of the plan's
    pub components: Vec<Component>,
}

/// How many components are compiled at once. One compilation takes all cores by itself; a second one fills the gaps.
const COMPILATIONS_MAX: usize = 2;

static COMPILATIONS: Semaphore = Semaphore::const_new(COMPILATIONS_MAX);

/// Compiles a component, on a thread where that harms nobody, when its turn has come.
///
/// # Errors
/// If the bytes are no component of a job.
pub async fn load(sandbox: &Sandbox, wasm: Vec<u8>) -> Result<Component, Error> {
    let turn = COMPILATIONS.acquire().await.expect("it is never closed");
    let sandbox = sandbox.clone();
    // A caller who goes away does not end the compilation, so that the turn goes with it.
    let loaded = tokio::task::spawn_blocking(move || {
        let loaded = sandbox.load(&wasm);
        drop(turn);
        loaded
    })
    .await;
    let loaded = loaded.map_err(|e| Error::new(ErrorKind::Internal, error::STORAGE, format!("compiling was ended: {e}")))?;
    loaded.map_err(|e| match e.kind {
        weir_sandbox::ErrorKind::Invalid => Error::new(ErrorKind::Invalid, error::COMPONENT_INVALID, e.message),
        weir_sandbox::ErrorKind::Internal => Error::new(ErrorKind::Internal, error::STORAGE, e.message),
    })
}

/// Asks the components for their graphs, plans the job, and checks what its sources and sinks are bound to. `components` are those of
/// [`JobSpec::component_specs`], in that order; `files` are those that the job will have, of which none is touched yet.
///
/// # Errors
/// If a component refuses its arguments, the spec does not fit the graphs, or a connector refuses its options or the columns.
pub async fn prepare(spec: &JobSpec, components: Vec<Component>, files: &Files, log: &LogSink) -> Result<Prepared, Error> {
    let limits = weir_worker::limits(&spec.limits);
    let mut graphs = vec![];
    for ((name, component_spec), component) in spec.component_specs().iter().zip(&components) {
        let graph = component.describe(&component_spec.arguments(), &limits, log).await;
        graphs.push(graph.map_err(|e| {
            let which = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
            let what = if e.kind == GuestErrorKind::Returned { "refused its arguments" } else { "did not describe its graph" };
            Error::new(ErrorKind::Invalid, error::COMPONENT_NOT_DESCRIBED, format!("the component{which} {what}: {}", e.message))
        })?);
    }
    let plan = weir_plan::plan(spec, &graphs).map_err(|e| Error::new(ErrorKind::Invalid, error::SPEC_UNFIT, e.to_string()))?;
    check_bindings(&plan, files)?;
    Ok(Prepared { plan, components })
}

/// Has connectors look at what the job wants of them.
fn check_bindings(plan: &JobPlan, files: &Files) -> Result<(), Error> {
    let attempt = Attempt { job: plan.name.clone(), ..Attempt::default() };
    let context = |name: &str| Context { attempt: attempt.clone(), ..Context::new(name, files.clone()) };
    let refused = |what: &str, name: &str, error: &weir_connector::Error| {
        Error::new(ErrorKind::Invalid, error::BINDING_WRONG, format!("{what} \"{name}\": {error}"))
    };
    for source in &plan.sources {
        let binding = &plan.spec.sources[&source.name];
        let streams: Vec<_> = source.streams.iter().map(Stream::from).collect();
        find(&binding.connector)
            .and_then(|connector| connector.check_source(&binding.options, &streams, &context(&source.name)))
            .map_err(|e| refused("source", &source.name, &e))?;
    }
    for sink in &plan.sinks {
        let binding = &plan.spec.sinks[&sink.name];
        find(&binding.connector)
            .and_then(|connector| connector.check_sink(&binding.options, &sink.schema, &context(&sink.name)))
            .map_err(|e| refused("sink", &sink.name, &e))?;
    }
    Ok(())
}
