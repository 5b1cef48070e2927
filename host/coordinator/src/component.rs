//! The components that were uploaded, by the digest of their bytes.
//!
//! `<data dir>/components/<tenant>/<hash>.wasm`, written once and never changed: a file that is there is whole. Beside it is what the component
//! said of itself to this version of Weir (`<hash>.<version>.json`), so that it is asked only once. Compiled forms are not kept here but in
//! the sandbox's cache, which can be thrown away.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_sandbox::{Component, ComponentHash, GuestErrorKind, Limits, LogSink, Sandbox};
use weir_types::graph::Graph;

use crate::error::{self, Error, ErrorKind};
use crate::prepare;
use crate::tenant::TenantId;

const PREFIX: &str = "sha256:";

/// The store of components.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// What is told about a component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComponentView {
    /// `sha256:…`
    pub id: String,
    /// bytes
    pub size: u64,
    /// what it makes of no arguments
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphSummary>,
    /// why there is no graph: a component may refuse to describe itself without arguments
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A graph in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GraphSummary {
    /// the job's name
    pub name: String,
    /// names to be bound in a spec's `[sources]`
    pub sources: Vec<String>,
    /// names to be bound in a spec's `[sinks]`
    pub sinks: Vec<String>,
    /// operator ids, in the order of the graph
    pub operators: Vec<String>,
}

impl From<&Graph> for GraphSummary {
    fn from(graph: &Graph) -> Self {
        let mut sources: Vec<_> = graph.sources.iter().map(|s| s.name.clone()).collect();
        sources.dedup();
        Self {
            name: graph.name.clone(),
            sources,
            sinks: graph.sinks.iter().map(|s| s.name.clone()).collect(),
            operators: graph.chains.iter().flat_map(|c| &c.operators).map(|o| o.id.clone()).collect(),
        }
    }
}

/// The id of a component: its hash with the name of the function.
pub fn id(hash: ComponentHash) -> String {
    format!("{PREFIX}{hash}")
}

impl Store {
    /// A store under this data directory.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let dir = data_dir.join("components");
        std::fs::create_dir_all(&dir).map_err(|e| Error::storage(format_args!("cannot make {}", dir.display()), &e))?;
        Ok(Self { dir })
    }

    fn path(&self, tenant: &TenantId, hash: ComponentHash) -> PathBuf {
        self.dir.join(tenant.as_str()).join(format!("{hash}.wasm"))
    }

    fn view_path(&self, tenant: &TenantId, hash: ComponentHash) -> PathBuf {
        self.dir.join(tenant.as_str()).join(format!("{hash}.{}.json", env!("CARGO_PKG_VERSION")))
    }

    /// Stores a component that was loaded, and so is one. Storing it again changes nothing.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn put(&self, tenant: &TenantId, hash: ComponentHash, wasm: &[u8]) -> Result<(), Error> {
        let path = self.path(tenant, hash);
        if path.exists() {
            return Ok(());
        }
        write(&path, wasm).map_err(|e| Error::storage("cannot store the component", &e))
    }

    /// What is told about a stored component. It is asked for its graph the first time only.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn view(&self, sandbox: &Sandbox, tenant: &TenantId, id: &str) -> Result<ComponentView, Error> {
        let hash = parse(id)?;
        let kept = self.path(tenant, hash).exists().then(|| std::fs::read(self.view_path(tenant, hash)).ok()).flatten();
        if let Some(view) = kept.and_then(|json| serde_json::from_slice(&json).ok()) {
            return Ok(view);
        }
        let (view, is_final) = view(&self.load(sandbox, tenant, id).await?).await;
        if is_final {
            let json = serde_json::to_vec(&view).expect("a view is made of strings and numbers");
            let kept = write(&self.view_path(tenant, hash), &json);
            kept.map_err(|e| Error::storage("cannot store what the component said", &e))?;
        }
        Ok(view)
    }

    /// Loads a component.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn load(&self, sandbox: &Sandbox, tenant: &TenantId, id: &str) -> Result<Component, Error> {
        let path = self.path(tenant, parse(id)?);
        let wasm = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => not_found(id),
            _ => Error::storage(format_args!("cannot read component \"{id}\""), &e),
        })?;
        let loaded = prepare::load(sandbox, wasm).await;
        if let Some(why) = sandbox.take_unkept() {
            tracing::warn!("compiled components are not kept: {why}; make room there");
        }
        loaded
    }

    /// Deletes a component. Jobs that run it have loaded it, and need it no more.
    ///
    /// # Errors
    /// If there is none with this id, or the disk fails.
    pub fn delete(&self, tenant: &TenantId, id: &str) -> Result<(), Error> {
        let hash = parse(id)?;
        std::fs::remove_file(self.path(tenant, hash)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => not_found(id),
            _ => Error::storage(format_args!("cannot delete component \"{id}\""), &e),
        })?;
        // What it said of itself is of no use without it, and does no harm.
        let _ = std::fs::remove_file(self.view_path(tenant, hash));
        Ok(())
    }

    /// The ids and sizes of a tenant's components, by id.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn list(&self, tenant: &TenantId) -> Result<Vec<ComponentView>, Error> {
        let mut views = vec![];
        let dir = match std::fs::read_dir(self.dir.join(tenant.as_str())) {
            Ok(dir) => dir,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(views),
            Err(e) => return Err(Error::storage("cannot list components", &e)),
        };
        for entry in dir.flatten() {
            let name = entry.file_name();
            let hash = name.to_str().and_then(|n| n.strip_suffix(".wasm")).and_then(|h| h.parse().ok());
            if let (Some(hash), Ok(metadata)) = (hash, entry.metadata()) {
                views.push(ComponentView { id: id(hash), size: metadata.len(), graph: None, refusal: None });
            }
        }
        views.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(views)
    }
}

/// Writes a file under a name of its own first, so that a file with a hash for a name is whole.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().expect("it is a path below the data directory");
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The folder may be new, too.
    dir.parent().into_iter().chain([dir]).try_for_each(sync)
}

/// Lets what was written to or removed from a folder outlive a loss of power.
pub(crate) fn sync(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

/// What is told about a loaded component, and whether it would be the same again: an instance that could not be started may be another time.
async fn view(component: &Component) -> (ComponentView, bool) {
    let described = component.describe(&[], &Limits::default(), &LogSink::none()).await;
    let is_final = described.as_ref().err().is_none_or(|e| e.kind != GuestErrorKind::Start);
    let view = ComponentView {
        id: id(component.hash()),
        size: component.inspect().size as u64,
        graph: described.as_ref().ok().map(GraphSummary::from),
        refusal: described.err().map(|e| e.message),
    };
    (view, is_final)
}

fn parse(id: &str) -> Result<ComponentHash, Error> {
    id.strip_prefix(PREFIX).and_then(|hash| hash.parse().ok()).ok_or_else(|| {
        let message = format!("\"{id}\" is no component id; it is \"sha256:\" and 64 hexadecimal digits, as an upload answers");
        Error::new(ErrorKind::Invalid, error::COMPONENT_NOT_FOUND, message)
    })
}

fn not_found(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, error::COMPONENT_NOT_FOUND, format!("there is no component \"{id}\"; upload it first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component is asked what it is once; afterwards its stored word is told, even where it could not be loaded any more.
    #[tokio::test]
    async fn views_are_kept() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let sandbox = Sandbox::new(&weir_sandbox::Options { max_instances: 1, ..Default::default() }).expect("a sandbox");
        let (store, tenant) = (Store::open(dir.path()).expect("a store"), TenantId::default());
        // No component of a job: whoever loads it fails.
        let wasm = b"(component)";
        let hash = ComponentHash::of(wasm);
        assert_eq!(store.view(&sandbox, &tenant, &id(hash)).await.expect_err("not stored").kind, ErrorKind::NotFound);
        store.put(&tenant, hash, wasm).expect("stored");
        assert_eq!(store.view(&sandbox, &tenant, &id(hash)).await.expect_err("it is loaded").kind, ErrorKind::Invalid);
        let kept = ComponentView { id: id(hash), size: 11, graph: None, refusal: Some("no".into()) };
        write(&store.view_path(&tenant, hash), &serde_json::to_vec(&kept).expect("JSON")).expect("written");
        assert_eq!(store.view(&sandbox, &tenant, &id(hash)).await, Ok(kept));
        assert_eq!(store.list(&tenant).expect("a list").len(), 1, "what is kept beside a component is none");
    }
}
