//! From a core module with an embedded world to a component.

use std::path::Path;

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

use super::divisibility::without_division;

/// Makes a component of `module` and writes it to `output`. Where that has debug information, its code stays as it is.
///
/// # Errors
/// If the module is not one of a guest, or the file cannot be written.
pub fn write(module: &Path, output: &Path, debug: bool) -> Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let bytes = if debug { bytes } else { without_division(&bytes)?.0 };
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|encoder| encoder.encode())
        .context("the module cannot be made a component; a guest uses the `weir` crate, and no files, network or threads")?;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(output, component).with_context(|| format!("cannot write {}", output.display()))
}
