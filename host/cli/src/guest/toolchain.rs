//! Which Rust toolchain compiles guests.
//!
//! Best is one that has the target's standard library (`rustup target add wasm32-unknown-unknown`). Where there is none, one that has
//! the *sources* of the standard library serves as well (`rustup component add rust-src`, or a distribution's packages): cargo then builds
//! the standard library itself, once. That is a nightly feature, which `RUSTC_BOOTSTRAP` allows for this one build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// The target of guests.
pub const TARGET: &str = "wasm32-unknown-unknown";
const LINKER: &str = "rust-lld";

/// How to compile a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toolchain {
    /// the compiler, if it is not cargo's own
    pub rustc: Option<PathBuf>,
    /// the linker, if it is not the compiler's own
    pub linker: Option<PathBuf>,
    /// whether cargo has to build the standard library
    pub build_std: bool,
}

/// Finds a toolchain for a guest in this folder (`rustup` chooses by folder).
///
/// # Errors
/// If there is none; the message says what to install.
pub fn find(folder: &Path) -> Result<Toolchain> {
    let own = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let own_sysroot = sysroot(&own, folder);
    if own_sysroot.as_ref().is_some_and(|s| s.join("lib/rustlib").join(TARGET).is_dir()) {
        return Ok(Toolchain::default());
    }
    if own_sysroot.as_ref().is_some_and(|s| has_sources(s)) {
        return Ok(Toolchain { linker: missing_linker(own_sysroot.as_deref()), build_std: true, rustc: None });
    }
    for rustc in distribution_compilers() {
        let Some(sysroot) = sysroot(&rustc, folder) else { continue };
        if has_sources(&sysroot) {
            return Ok(Toolchain { linker: missing_linker(Some(&sysroot)), build_std: true, rustc: Some(rustc) });
        }
    }
    bail!(
        "no Rust toolchain here can compile for {TARGET}: install the target with `rustup target add {TARGET}`, or the \
         standard library's sources with `rustup component add rust-src`"
    )
}

/// Where a compiler has its libraries; none if there is no such compiler.
fn sysroot(rustc: &Path, folder: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).current_dir(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn has_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
}

/// `/usr/bin/rustc*`, newest first by name.
fn distribution_compilers() -> Vec<PathBuf> {
    let is_compiler = |name: &str| {
        let version = name.strip_prefix("rustc").map(|rest| rest.trim_start_matches('-'));
        version.is_some_and(|v| v.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    let entries = std::fs::read_dir("/usr/bin").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter(|e| e.file_name().to_str().is_some_and(is_compiler)).map(|e| e.path()).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// A linker, if the compiler of this sysroot has none of its own.
fn missing_linker(sysroot: Option<&Path>) -> Option<PathBuf> {
    let own = sysroot.and_then(linker_of);
    if own.is_some() { None } else { on_path().or_else(of_rustup) }
}

/// The linker that comes with a toolchain.
fn linker_of(sysroot: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?.flatten();
    hosts.map(|host| host.path().join("bin").join(LINKER)).find(|path| path.is_file())
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]).map(|dir| dir.join(LINKER)).find(|path| path.is_file())
}

fn of_rustup() -> Option<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")))?;
    let toolchains = std::fs::read_dir(home.join("toolchains")).ok()?.flatten();
    toolchains.filter_map(|toolchain| linker_of(&toolchain.path())).next()
}
