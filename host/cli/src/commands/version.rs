//! `weir version`

use crate::exit::Failure;
use crate::out;

/// Print the version
///
/// Example: weir version
#[derive(clap::Args, Debug)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<(), Failure> {
    Ok(out::print(concat!("weir ", env!("CARGO_PKG_VERSION"), "\n"))?)
}
