//! Runs cargo for a guest and finds what it made.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::toolchain::{TARGET, Toolchain};

/// Where guests are compiled, if not in their own target folders: sharing one saves building the standard library for each.
const TARGET_DIR: &str = "WEIR_GUEST_TARGET_DIR";

/// Weir's engine has vector instructions, which the target leaves out unless asked: with them text is copied in larger pieces, and plain loops
/// over numbers become faster. `RUSTFLAGS` takes precedence; what a configuration of the user's own says about the target is added to it.
const FEATURES: &str = "target.wasm32-unknown-unknown.rustflags=['-Ctarget-feature=+simd128']";

/// What cargo made.
#[derive(Debug)]
pub struct Built {
    /// the package's name
    pub package: String,
    /// the core module
    pub module: PathBuf,
}

/// A line that cargo writes with `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Compiles the package of a manifest. What cargo and the compiler say goes to standard error.
///
/// # Errors
/// If it does not compile, or makes no module.
pub fn build(manifest: &Path, toolchain: &Toolchain, debug: bool) -> Result<Built> {
    let package = package_name(manifest)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.arg("build").arg("--manifest-path").arg(manifest).args(["--target", TARGET]);
    command.arg("--message-format=json-render-diagnostics").args(["--config", FEATURES]);
    if !debug {
        command.arg("--release");
    }
    if toolchain.build_std {
        command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
    }
    if let Some(rustc) = &toolchain.rustc {
        command.env("RUSTC", rustc);
    }
    if let Some(linker) = &toolchain.linker {
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    if let Some(dir) = std::env::var_os(TARGET_DIR) {
        command.env("CARGO_TARGET_DIR", dir);
    }
    let mut child = command
        .current_dir(manifest.parent().context("a manifest is in a folder")?)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}; install Rust from https://rustup.rs", cargo.display()))?;
    let stdout = child.stdout.take().context("cargo's standard output is piped")?;
    let mut module = None;
    for line in BufReader::new(stdout).lines() {
        let Ok(message) = serde_json::from_str::<Message>(&line?) else { continue };
        if message.reason == "compiler-artifact" && message.manifest_path == manifest {
            module = message.filenames.into_iter().find(|f| f.extension().is_some_and(|e| e == "wasm")).or(module);
        }
    }
    if !child.wait()?.success() {
        bail!("the guest does not compile");
    }
    let Some(module) = module else {
        bail!("the package \"{package}\" makes no module; its manifest needs\n\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]")
    };
    Ok(Built { package, module })
}

/// The package's name in a manifest.
///
/// # Errors
/// If the manifest is not one, or that of a workspace without a package.
pub fn package_name(manifest: &Path) -> Result<String> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let table: toml::Table = text.parse().with_context(|| manifest.display().to_string())?;
    let name = table.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str);
    name.map(str::to_owned).with_context(|| format!("{} has no [package]", manifest.display()))
}
