//! Where the command keeps what it can make again: unpacked SDKs, compiled components.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// `$WEIR_HOME`, or `$XDG_DATA_HOME/weir`, or `~/.local/share/weir`.
///
/// # Errors
/// If none of the variables is set.
pub fn dir() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("WEIR_HOME")
        .or_else(|| var("XDG_DATA_HOME").map(|dir| dir.join("weir")))
        .or_else(|| var("HOME").map(|home| home.join(".local/share/weir")))
        .context("no folder to keep things in: set WEIR_HOME")
}
