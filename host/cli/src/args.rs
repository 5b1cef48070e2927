//! The command line.

use clap::{Parser, Subcommand, value_parser};

use crate::commands;

/// The most threads that run tasks: more than machines have cores.
const THREADS_MAX: i64 = 1024;

/// Stream processing with WebAssembly components.
///
/// A component is one .wasm file with a dataflow graph and its functions; a job spec (JOB.toml) binds it to connectors.
#[derive(Parser, Debug)]
#[command(name = "weir", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Args {
    /// Threads that run tasks; as many as there are cores if it is not said
    #[arg(long, global = true, value_name = "N", env = "WEIR_THREADS", hide_env_values = true, value_parser = value_parser!(u16).range(1..=THREADS_MAX))]
    pub threads: Option<u16>,

    /// Tell more on standard error; WEIR_LOG says what exactly (`info`, `weir_worker=debug`)
    #[arg(long, short, global = true)]
    pub verbose: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    New(commands::new::Args),
    Build(commands::build::Args),
    /// Compile what is on standard input for this machine: what other commands start when they need it
    #[command(hide = true)]
    Compile,
    Run(commands::run::Args),
    Explain(commands::explain::Args),
    Inspect(commands::inspect::Args),
    Server(commands::server::Args),
    Deploy(commands::deploy::Args),
    Job(commands::job::Args),
    Savepoint(commands::savepoint::Args),
    Component(commands::component::Args),
    Tail(commands::tail::Args),
    Completions(commands::completions::Args),
    Version(commands::version::Args),
}

/// Reads `path.to.key=value`.
pub fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.is_empty() => Ok((path.to_owned(), value.to_owned())),
        _ => Err("write path.to.key=value, like sources.nexmark.events=1000".to_owned()),
    }
}
