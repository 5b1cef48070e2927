//! From a core module with an embedded world to a component.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

use super::divisibility::without_division;

/// Makes a component of `module` and writes it to `output`, with the time from which on what it is made of was read. Where the module has debug
/// information, its code stays as it is.
///
/// # Errors
/// If the module is not one of a guest, or the file cannot be written.
pub fn write(module: &Path, output: &Path, debug: bool, begun: SystemTime) -> Result<()> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let bytes = if debug { bytes } else { without_division(&bytes)?.0 };
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|encoder| encoder.encode())
        .context("the module cannot be made a component; a guest uses the `weir` crate, and no files, network or threads")?;
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    put(output, &component, begun).with_context(|| format!("cannot write {}", output.display()))
}

/// Writes a file that has this time, and appears whole: who reads it meanwhile has what was there before.
pub fn put(output: &Path, bytes: &[u8], time: SystemTime) -> io::Result<()> {
    // Nothing takes the place of a device or a pipe.
    if fs::metadata(output).is_ok_and(|there| !there.is_file()) {
        return fs::write(output, bytes);
    }
    // Of two processes that build the same guest, each has its own.
    let new = output.with_added_extension(format!("{}.new", std::process::id()));
    let written = write_at(&new, bytes, time).and_then(|()| fs::rename(&new, output));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_at(path: &Path, bytes: &[u8], time: SystemTime) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.set_modified(time)
}
