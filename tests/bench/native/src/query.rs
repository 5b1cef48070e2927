//! A query that is planned once and runs any number of times, with guests or with native code.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use weir_base::Clock;
use weir_connector::{Context, Files};
use weir_coordinator::Prepared;
use weir_coordinator::prepare::{load, prepare};
use weir_plan::JobSpec;
use weir_plan::job::{ChainNode, NodeKind};
use weir_sandbox::{LogSink, Options, Sandbox};
use weir_types::graph::Head;
use weir_worker::deploy::NativeChains;
use weir_worker::{Deployment, Outcome, Worker};

use crate::chains;

/// What a query's functions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    /// the component's
    Guests,
    /// those of [`chains`]
    Native,
}

/// What a run gave and cost.
#[derive(Debug)]
pub struct Measured {
    /// events that the source made
    pub events: u64,
    /// rows at the sink
    pub rows: u64,
    /// the sum of their hashes
    pub checksum: u64,
    /// user and system time of the process
    pub cpu_seconds: f64,
}

/// A planned query.
pub struct Query {
    name: String,
    prepared: Prepared,
    native: NativeChains,
}

impl Query {
    /// Reads a job spec and plans the job, for so many events.
    ///
    /// # Errors
    /// If the job cannot be planned, or there is no native code for all of its functions.
    pub async fn open(path: &Path, events: u64, parallelism: u16) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let settings = [("sources.nexmark.events", events.to_string()), ("parallelism", parallelism.to_string())];
        let settings = settings.map(|(key, value)| (key.to_owned(), value));
        let spec = JobSpec::from_toml(&text, &settings).with_context(|| path.display().to_string())?;
        let [(_, component)] = &spec.component_specs()[..] else { bail!("the job has several components") };
        let name = component.args.get("query").context("the job has no argument `query`")?.to_string();

        let path = path.with_file_name(&component.component);
        let wasm = std::fs::read(&path).with_context(|| format!("cannot read the component {}", path.display()))?;
        let component = load(&Sandbox::new(&Options::default())?, wasm).await?;
        let prepared = prepare(&spec, vec![component], &Files::free("."), &LogSink::none()).await?;

        let nodes: Vec<ChainNode> = chain_nodes(&prepared).filter(|node| node.chain.head != Head::Relay).cloned().collect();
        for node in &nodes {
            ensure!(chains::native(&name, node).is_some(), "there is no native code for `{}` of {name}", node.operator_id());
        }
        let of = name.clone();
        let native: NativeChains = Arc::new(move |_, index, _| {
            let node = nodes.iter().find(|node| node.index == index)?;
            chains::native(&of, node)
        });
        Ok(Self { name, prepared, native })
    }

    /// The query's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Subtasks of each vertex.
    pub fn parallelism(&self) -> u16 {
        self.prepared.plan.spec.parallelism
    }

    /// Runs it once, from the beginning of its input to the end.
    ///
    /// # Errors
    /// If the job fails.
    pub async fn run(&self, functions: Functions) -> Result<Measured> {
        let Prepared { plan, components } = &self.prepared;
        let slots = plan.vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(1);
        let deployment = Deployment {
            plan: plan.clone(),
            components: components.clone(),
            context: Context {
                files: Files::free("."),
                stdout: Arc::new(Mutex::new(std::io::sink())),
                name: String::new(),
                attempt: weir_connector::Attempt::default(),
            },
            storage: None,
            restore: None,
            has_run: false,
            culprits: vec![],
            pending: vec![],
            log: LogSink::none(),
            clock: Clock::system(),
            native: (functions == Functions::Native).then(|| Arc::clone(&self.native)),
        };
        let started = cpu_time();
        let mut handle = Worker::new(slots).deploy(deployment).map_err(|failure| anyhow::anyhow!(failure.message))?;
        match handle.wait().await {
            Outcome::Finished => {}
            Outcome::Cancelled => bail!("the job was cancelled"),
            Outcome::Failed { failure } => bail!("the job failed: {}", failure.message),
        }
        let cpu_seconds = (cpu_time() - started).as_secs_f64();
        let snapshot = handle.metrics().snapshot();
        let checksum = snapshot.sinks.iter().filter_map(|sink| sink.report.checksum).reduce(u64::wrapping_add);
        Ok(Measured {
            events: snapshot.events_in,
            rows: snapshot.rows_out,
            checksum: checksum.context("the job has no sink with a checksum")?,
            cpu_seconds,
        })
    }
}

fn chain_nodes(prepared: &Prepared) -> impl Iterator<Item = &ChainNode> {
    let nodes = prepared.plan.vertices.iter().flat_map(|vertex| &vertex.nodes);
    nodes.filter_map(|node| match &node.kind {
        NodeKind::Chain(chain) => Some(&**chain),
        NodeKind::Sink(_) | NodeKind::Exchange(_) => None,
    })
}

/// User and system time of all threads of the process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
