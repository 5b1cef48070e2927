//! `weir build`

use std::path::PathBuf;

use crate::exit::Failure;
use crate::{guest, out};

/// Compile a Rust guest into a component
///
/// The component is written to target/NAME.wasm beside the manifest. A Rust toolchain with the target wasm32-unknown-unknown is
/// used if there is one, else one with the sources of the standard library, from which that is built once.
///
/// Example: weir build -o counts.wasm
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The guest's manifest
    #[arg(long, value_name = "CARGO.TOML", default_value = "Cargo.toml")]
    manifest_path: PathBuf,

    /// Where to write the component
    #[arg(long, short, value_name = "FILE.WASM")]
    output: Option<PathBuf>,

    /// Compile without optimizations and with debug information
    #[arg(long)]
    debug: bool,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let built = guest::build(&args.manifest_path, args.output.as_deref(), args.debug)?;
    let size = std::fs::metadata(&built)?.len();
    out::tell(&format!("built {} ({} KB)", built.display(), size.div_ceil(1024)));
    Ok(())
}
