//! The `weir` command.
//!
//! Standard output is for data, standard error for talk. One file per command under [`commands`]; what they share: [`spec_file`] (a
//! job spec with its components), [`out`] (printing), [`checkpoints`] (where they lie), [`guest`] (building components), [`sdk`] (what guests are built with), [`process`] (what this process has used), [`allocator`] (its memory),
//! [`waiting`] (how far something is that takes long).

// Everything is printed by `out`, which no closed pipe can stop.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod args;
mod checkpoints;
mod commands;
mod exit;
mod guest;
mod home;
mod out;
mod process;
mod sdk;
mod server_args;
mod signals;
mod spec_file;
mod state_args;
mod waiting;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    process::mark_start();
    let args = args::Args::parse();
    if let Err(wrong) = weir_base::telemetry::init(args.verbose) {
        return exit::refuse(&wrong);
    }
    let mut runtime = Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.into());
    }
    let result = match runtime.enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(commands::run(args.command));
            // Nothing that is left is waited for: a guest that was interrupted may still run.
            runtime.shutdown_background();
            result
        }
        Err(e) => Err(anyhow::anyhow!("the runtime cannot start: {e}").into()),
    };
    exit::report(result)
}
