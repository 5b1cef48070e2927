//! One file per command.

pub mod build;
pub mod compile;
pub mod completions;
pub mod component;
pub mod deploy;
pub mod explain;
pub mod inspect;
pub mod job;
pub mod new;
pub mod run;
pub mod savepoint;
pub mod server;
pub mod tail;
pub mod version;

use crate::args::Command;
use crate::exit::Failure;

/// Does what the command line says.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Compile => compile::run(),
        Command::Run(args) => run::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Inspect(args) => inspect::run(&args).await,
        Command::Server(args) => server::run(&args).await,
        Command::Deploy(args) => deploy::run(&args).await,
        Command::Job(args) => job::run(&args).await,
        Command::Savepoint(args) => savepoint::run(&args).await,
        Command::Component(args) => component::run(&args).await,
        Command::Tail(args) => tail::run(&args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Version(args) => version::run(&args),
    }
}
