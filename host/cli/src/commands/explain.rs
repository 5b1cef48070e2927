//! `weir explain`

use weir_sandbox::LogSink;

use crate::exit::Failure;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::{checkpoints, out};

/// Print the plan of a job: its tasks, what they do, and what is exchanged between them
///
/// Example: weir explain job.toml --set parallelism=4
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let Opened { prepared, base } = spec_file::open(&args.spec, &LogSink::none()).await?;
    checkpoints::check(&prepared.plan, &base)?;
    Ok(out::print(&weir_plan::explain::explain(&prepared.plan))?)
}
