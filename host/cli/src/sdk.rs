//! The Rust SDK that this command carries, unpacked where projects can depend on it.
//!
//! `<home>/sdk/<version>-<digest>/` has the same folders as the sources of Weir have: `guest-sdk/rust/*`, `wit/`, and a workspace manifest with
//! what the SDK's crates inherit. A folder is written once and never changed; another version of the command has another folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use include_dir::{Dir, DirEntry, include_dir};
use weir_types::key::{combine, hash_bytes};

use crate::home;

static CRATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest-sdk/rust");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// The folder of the crate `weir`, unpacked first if it is not there.
///
/// # Errors
/// If it cannot be written.
pub fn unpacked() -> Result<PathBuf> {
    let sdks = home::dir()?.join("sdk");
    let manifest = workspace_manifest()?;
    let digest = [&CRATES, &WIT].iter().fold(hash_bytes(manifest.as_bytes()), |hash, dir| combine(hash, digest(dir)));
    let folder = sdks.join(format!("{}-{digest:016x}", env!("CARGO_PKG_VERSION")));
    if !folder.is_dir() {
        write(&sdks, &folder, &manifest).with_context(|| format!("cannot unpack the SDK to {}", folder.display()))?;
    }
    Ok(folder.join("guest-sdk/rust/weir"))
}

/// The names of the SDK's crates: each is in a folder by its name.
pub fn crate_names() -> impl Iterator<Item = &'static str> {
    let crates = CRATES.dirs().filter(|dir| dir.contains(dir.path().join("Cargo.toml")));
    crates.filter_map(|dir| dir.path().to_str())
}

/// Writes the folder beside its place first, so that what is in its place is whole.
fn write(sdks: &Path, folder: &Path, manifest: &str) -> Result<()> {
    std::fs::create_dir_all(sdks)?;
    let partial = sdks.join(format!(".partial-{}", std::process::id()));
    for (dir, place) in [(&CRATES, "guest-sdk/rust"), (&WIT, "wit")] {
        let place = partial.join(place);
        std::fs::create_dir_all(&place)?;
        dir.extract(&place)?;
    }
    std::fs::write(partial.join("Cargo.toml"), manifest)?;
    match std::fs::rename(&partial, folder) {
        // Somebody else was faster.
        Err(_) if folder.is_dir() => Ok(std::fs::remove_dir_all(&partial)?),
        renamed => Ok(renamed?),
    }
}

/// Weir's own workspace manifest, without the parts that are not carried.
fn workspace_manifest() -> Result<String> {
    let mut table: toml::Table = WORKSPACE.parse().context("the workspace's manifest")?;
    let workspace = table.get_mut("workspace").and_then(toml::Value::as_table_mut).context("a workspace")?;
    workspace.insert("members".into(), toml::Value::Array(vec!["guest-sdk/rust/*".into()]));
    workspace.remove("exclude");
    if let Some(dependencies) = workspace.get_mut("dependencies").and_then(toml::Value::as_table_mut) {
        dependencies.retain(|_, d| d.get("path").and_then(toml::Value::as_str).is_none_or(|p| p.starts_with("guest-sdk/")));
    }
    table.retain(|key, _| key == "workspace");
    Ok(toml::to_string(&table)?)
}

/// The digest of all files and their names, in the order of their names.
fn digest(dir: &Dir<'_>) -> u64 {
    dir.entries().iter().fold(0, |hash, entry| {
        let content = match entry {
            DirEntry::Dir(dir) => digest(dir),
            DirEntry::File(file) => hash_bytes(file.contents()),
        };
        combine(combine(hash, hash_bytes(entry.path().as_os_str().as_encoded_bytes())), content)
    })
}
