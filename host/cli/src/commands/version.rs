//! `weir version`

use crate::exit::Failure;

/// Print the version
///
/// Example: weir version
#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<(), Failure> {
    println!("weir {}", env!("CARGO_PKG_VERSION"));
    Ok(())
}
