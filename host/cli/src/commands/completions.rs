//! `weir completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::Failure;

/// Print what a shell needs to complete this command
///
/// Example: weir completions bash > ~/.local/share/bash-completion/completions/weir
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "weir", &mut std::io::stdout());
    Ok(())
}
