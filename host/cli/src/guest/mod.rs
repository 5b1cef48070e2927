//! Building Rust guests: find a [`toolchain`], run [`cargo`], make a [`component`] of the module that comes out, after what the
//! compiler has left to do for speed ([`divisibility`]).

mod cargo;
mod component;
mod divisibility;
mod freshness;
mod toolchain;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// Builds the guest of a manifest; returns the file of the component.
///
/// # Errors
/// If there is no toolchain, the guest does not compile, or what it compiles to is no component.
pub fn build(manifest: &Path, output: Option<&Path>, debug: bool) -> Result<PathBuf> {
    let manifest = manifest.canonicalize().with_context(|| format!("there is no manifest {}", manifest.display()))?;
    let folder = manifest.parent().context("a manifest is in a folder")?;
    let toolchain = toolchain::find(folder)?;
    let started = SystemTime::now();
    let built = cargo::build(&manifest, &toolchain, debug)?;
    let begun = freshness::begun(&manifest, started);
    if let Some(output) = output {
        component::write(&built.module, output, debug, begun)?;
        return Ok(output.to_owned());
    }
    let output = component_path(folder, &built.package);
    component::write(&built.module, &output, debug, begun)?;
    freshness::remember(&built.module, &manifest, &output)?;
    Ok(output)
}

/// The component of a manifest, built if it is not there or older than what it was made from.
///
/// # Errors
/// As [`build`].
pub fn build_if_changed(manifest: &Path) -> Result<PathBuf> {
    let folder = manifest.parent().context("a manifest is in a folder")?;
    let output = component_path(folder, &cargo::package_name(manifest)?);
    if freshness::is_fresh(&output) {
        return Ok(output);
    }
    crate::out::tell(&format!("building {}", manifest.display()));
    crate::process::aside(|| build(manifest, None, false))
}

/// Where a guest's component is, unless its builder wants it elsewhere.
fn component_path(folder: &Path, package: &str) -> PathBuf {
    folder.join("target").join(format!("{package}.wasm"))
}
