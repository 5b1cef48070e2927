//! A loaded component: compiled, checked against the world `job`, ready to be instantiated.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weir_types::graph::Graph;

use crate::cache::{self, not_valid};
use crate::compiler;
use crate::engine::{Sandbox, one_line};
use crate::error::{Error, GuestError};
use crate::exports::ExportIndices;
use crate::host::Host;
use crate::inspect::{self, Inspection};
use crate::instance::Instance;
use crate::log::LogSink;
use crate::options::Limits;

/// The SHA-256 of a component's bytes: what it is addressed by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ComponentHash([u8; 32]);

impl ComponentHash {
    /// The hash of these bytes.
    pub fn of(wasm: &[u8]) -> Self {
        Self(Sha256::digest(wasm).into())
    }
}

impl fmt::Display for ComponentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ComponentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ComponentHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.as_bytes();
        let digit = |i: usize| digits.get(i).and_then(|&d| char::from(d).to_digit(16));
        let byte = |i: usize| Some((digit(2 * i)? * 16 + digit(2 * i + 1)?) as u8);
        let mut hash = [0; 32];
        for (i, slot) in hash.iter_mut().enumerate() {
            *slot = byte(i).filter(|_| digits.len() == 64).ok_or_else(|| {
                Error::invalid(format!("`{text}` is not the hash of a component: it has 64 hexadecimal digits"))
            })?;
        }
        Ok(Self(hash))
    }
}

impl From<ComponentHash> for String {
    fn from(hash: ComponentHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for ComponentHash {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// A component that can be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct Component(Arc<Inner>);

struct Inner {
    sandbox: Sandbox,
    hash: ComponentHash,
    inspection: Inspection,
    pre: wasmtime::component::InstancePre<Host>,
    exports: ExportIndices,
}

impl Component {
    pub(crate) fn load(sandbox: &Sandbox, wasm: &[u8]) -> Result<Self, Error> {
        inspect::check_bytes(wasm, sandbox.options())?;
        let hash = ComponentHash::of(wasm);
        let binary = wat::parse_bytes(wasm).map_err(|e| not_valid(&e.into()))?;
        // Before the compiler, which takes the longer the more there is: it works for components that can be a job only.
        let inspection = Inspection::new(&binary, wasm.len()).map_err(|e| not_valid(&e.into()))?;
        inspection.check()?;
        let engine = sandbox.engine();
        let compile = || match &sandbox.options().compiler {
            Some(compiler) => compiler.compile(&binary),
            None => compiler::compile(engine, &binary),
        };
        let component = match sandbox.cache() {
            Some(cache) => cache.get_or_compile(engine, hash, compile)?,
            None => cache::load(engine, &compile()?)?,
        };
        let pre = sandbox.linker().instantiate_pre(&component).map_err(|e| {
            Error::invalid(format!("the component was built for another version of Weir's interface: {}", one_line(&e)))
        })?;
        let exports = ExportIndices::find(&component)?;
        Ok(Self(Arc::new(Inner { sandbox: sandbox.clone(), hash, inspection, pre, exports })))
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> ComponentHash {
        self.0.hash
    }

    /// What can be told about it without running it.
    pub fn inspect(&self) -> &Inspection {
        &self.0.inspection
    }

    /// Asks it for its graph, in an instance of its own, and checks the answer.
    ///
    /// # Errors
    /// If it fails to start, refuses the arguments, or describes a graph that cannot be.
    pub async fn describe(&self, args: &[(String, String)], limits: &Limits, log: &LogSink) -> Result<Graph, GuestError> {
        let instance = self.instantiate(args, limits, log).await?;
        Ok(instance.into_graph())
    }

    /// Asks a chain of it, in an instance of its own, whether it can read states of these schemas. The error says why not.
    ///
    /// # Errors
    /// As [`Self::describe`], and if the chain cannot be opened with them.
    pub async fn reads(
        &self,
        args: &[(String, String)],
        chain: u32,
        schemas: &[String],
        limits: &Limits,
    ) -> Result<(), GuestError> {
        let mut instance = self.instantiate(args, limits, &LogSink::none()).await?;
        instance.open(chain, 0, 1, schemas).await
    }

    /// Starts an instance for one subtask. It has been asked for its graph; its chains are to be opened.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub async fn instantiate(&self, args: &[(String, String)], limits: &Limits, log: &LogSink) -> Result<Instance, GuestError> {
        Instance::start(&self.0.sandbox, &self.0.pre, &self.0.exports, args, limits, log).await
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Component").field(&self.0.hash).finish()
    }
}
