//! A job spec on disk, with the components that it names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use weir_connector::Files;
use weir_coordinator::Prepared;
use weir_coordinator::prepare::{load, prepare};
use weir_plan::JobSpec;
use weir_sandbox::{LogSink, Options, Sandbox};

use crate::args::setting;
use crate::commands::compile;
use crate::{guest, home, out};

/// Which spec, with what changes.
#[derive(clap::Args, Debug)]
pub struct SpecArgs {
    /// The job spec
    #[arg(value_name = "JOB.TOML")]
    pub spec: PathBuf,

    /// Change the spec; may be given several times
    #[arg(long = "set", value_name = "PATH.TO.KEY=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

impl SpecArgs {
    /// The same, with the parallelism that an option of its own says.
    pub fn at(&self, parallelism: Option<u16>) -> Self {
        let parallelism = parallelism.map(|n| ("parallelism".to_owned(), n.to_string()));
        Self { spec: self.spec.clone(), settings: self.settings.iter().cloned().chain(parallelism).collect() }
    }
}

/// A job that can run, and the folder that its paths start from.
pub struct Opened {
    /// the plan and the components
    pub prepared: Prepared,
    /// the spec's folder
    pub base: PathBuf,
}

/// Reads a spec, builds and loads its components, plans the job, and has connectors look at its options.
pub async fn open(args: &SpecArgs, log: &LogSink) -> Result<Opened> {
    let spec = read(args)?;
    let base = base(&args.spec);
    let sandbox = sandbox()?;
    let mut components = vec![];
    for path in component_files(&spec, &base)? {
        let wasm = std::fs::read(&path).with_context(|| format!("cannot read the component {}", path.display()))?;
        components.push(load(&sandbox, wasm).await.with_context(|| path.display().to_string())?);
    }
    if let Some(why) = sandbox.take_unkept() {
        tell_unkept(&why);
    }
    let files = Files::free(&base);
    let prepared = prepare(&spec, components, &files, log).await.with_context(|| args.spec.display().to_string())?;
    Ok(Opened { prepared, base })
}

/// Reads a spec and applies the settings.
pub fn read(args: &SpecArgs) -> Result<JobSpec> {
    let text = std::fs::read_to_string(&args.spec).with_context(|| format!("cannot read {}", args.spec.display()))?;
    JobSpec::from_toml(&text, &args.settings).with_context(|| args.spec.display().to_string())
}

/// The folder of a spec.
pub fn base(spec: &Path) -> PathBuf {
    match spec.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The files of a spec's components, in the order of [`JobSpec::component_specs`]. A folder with a guest's sources is built first,
/// if they have changed.
pub fn component_files(spec: &JobSpec, base: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    for (_, component) in spec.component_specs() {
        if component.component.starts_with("sha256:") {
            bail!("\"{}\" is the id of a component on a server; here, name a file or a folder", component.component);
        }
        // Without the `.` in the middle that `component = "."` makes.
        let path: PathBuf = base.join(&component.component).components().collect();
        let manifest = path.join("Cargo.toml");
        files.push(if manifest.is_file() { guest::build_if_changed(&manifest)? } else { path });
    }
    Ok(files)
}

/// The sandbox of a command: compiled components are kept for the next time, where that can be.
pub fn sandbox() -> Result<Sandbox> {
    let cache_dir = home::dir().ok().map(|dir| dir.join("compiled"));
    let cached = Options { cache_dir, compiler: compile::in_child(), ..Options::default() };
    match Sandbox::new(&cached) {
        Err(e) if cached.cache_dir.is_some() => {
            let sandbox = Sandbox::new(&Options { cache_dir: None, ..cached })?;
            tell_unkept(&e.to_string());
            Ok(sandbox)
        }
        result => Ok(result?),
    }
}

fn tell_unkept(why: &str) {
    out::tell(&format!("warning: compiled components are not kept: {why}; WEIR_HOME names another folder"));
}
