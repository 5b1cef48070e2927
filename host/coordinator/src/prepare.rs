//! From a spec and the bytes of its components to a job that can be deployed.

use tokio::sync::Semaphore;
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

/// Asks the components for their graphs and plans the job. `components` are those of [`JobSpec::component_specs`], in that order.
///
/// # Errors
/// If a component refuses its arguments, or the spec does not fit the graphs.
pub async fn prepare(spec: &JobSpec, components: Vec<Component>, log: &LogSink) -> Result<Prepared, Error> {
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
    Ok(Prepared { plan, components })
}
