//! `weir completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::Failure;
use crate::out;

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
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "weir", &mut script);
    Ok(out::print(&String::from_utf8_lossy(&script))?)
}
