//! `weir deploy`

use anyhow::Context;
use weir_client::{Client, StartFrom};
use weir_plan::JobSpec;

use crate::exit::Failure;
use crate::out;
use crate::server_args::ServerArgs;
use crate::spec_file::{self, SpecArgs};

/// Start a job on a server: upload its components, send its spec, print its id
///
/// The components are files or folders with a guest's sources, as with `weir run`. The paths of the job's sources and sinks are
/// relative to the server's folder for files.
///
/// Example: weir deploy job.toml --server http://127.0.0.1:8081 --set parallelism=2
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,

    /// Start from this savepoint on the server
    #[arg(long, value_name = "ID")]
    from_savepoint: Option<String>,

    /// Leave behind what the job cannot take any more: state of operators, positions of sources, rows that a sink has not committed
    #[arg(long, requires = "from_savepoint")]
    allow_non_restored_state: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let client = args.server.client();
    let spec = upload(&args.spec, &client).await?;
    let from = StartFrom { savepoint: args.from_savepoint.clone(), drops_unmatched: args.allow_non_restored_state };
    let job = client.submit_from(&spec, &from).await?;
    Ok(out::print(&format!("{}\n", job.id))?)
}

/// Uploads a spec's components; returns the spec as the server takes it, which names them by their ids.
pub async fn upload(args: &SpecArgs, client: &Client) -> anyhow::Result<JobSpec> {
    let mut spec = spec_file::read(args)?;
    let mut ids = vec![];
    for path in spec_file::component_files(&spec, &spec_file::base(&args.spec))? {
        let wasm = std::fs::read(&path).with_context(|| format!("cannot read the component {}", path.display()))?;
        let component = client.upload(wasm).await.with_context(|| path.display().to_string())?;
        out::tell(&format!("uploaded {} as {}", path.display(), component.id));
        ids.push(component.id);
    }
    // The ids are in the order of the spec's components.
    let mut ids = ids.into_iter();
    for component in spec.component.iter_mut().chain(spec.components.values_mut().map(|c| &mut c.component)) {
        *component = ids.next().context("every component was uploaded")?;
    }
    Ok(spec)
}
