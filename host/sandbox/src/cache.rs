//! Compiled components on disk.
//!
//! An entry is two files: `KEY.cwasm`, the machine code, and `KEY.sha256`, its checksum. `KEY` stands for the component's
//! bytes and for everything that the compiler's result depends on: its version, the engine's settings, the CPU's features.
//! The code is mapped into memory and run, so the directory must belong to this process's user alone. What a user uploads is
//! always WebAssembly, and never gets here but through the compiler. An entry that is damaged is made anew.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::component::ComponentHash;
use crate::engine::one_line;
use crate::error::Error;

pub(crate) struct Cache {
    dir: PathBuf,
    compatibility: u64,
}

impl Cache {
    pub(crate) fn open(dir: &Path, engine: &Engine) -> Result<Self, Error> {
        let unusable = |why: String| Error::internal(format!("the cache directory {} cannot be used: {why}", dir.display()));
        let failed = |e: std::io::Error| unusable(e.to_string());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let existing = fs::metadata(dir).map_err(failed)?;
        let mine = tempfile::tempfile_in(dir).and_then(|f| f.metadata()).map_err(failed)?.uid();
        if existing.uid() != mine {
            return Err(unusable("it belongs to another user, who could put machine code there; choose another one".into()));
        }
        if existing.mode() & 0o022 != 0 {
            return Err(unusable(
                "others can write there, and so run code as this user; take that from them (`chmod go-w`)".into(),
            ));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_owned(), compatibility: hasher.finish() })
    }

    /// The compiled component, from the cache or from the compiler.
    pub(crate) fn get_or_compile(&self, engine: &Engine, hash: ComponentHash, wasm: &[u8]) -> Result<Component, Error> {
        if let Some(component) = self.get(engine, hash) {
            return Ok(component);
        }
        let code = engine.precompile_component(wasm).map_err(|e| not_valid(&e))?;
        if let Err(error) = self.put(hash, &code) {
            tracing::warn!(%error, dir = %self.dir.display(), "a compiled component could not be cached");
        }
        // SAFETY: these bytes come from the compiler of this engine, just now.
        #[expect(unsafe_code, reason = "see SAFETY")]
        let component = unsafe { Component::deserialize(engine, &code) };
        component.map_err(|e| Error::internal(one_line(&e)))
    }

    fn path(&self, hash: ComponentHash, extension: &str) -> PathBuf {
        self.dir.join(format!("{hash}-{:016x}.{extension}", self.compatibility))
    }

    fn get(&self, engine: &Engine, hash: ComponentHash) -> Option<Component> {
        let path = self.path(hash, "cwasm");
        let expected = fs::read(self.path(hash, "sha256")).ok()?;
        let mut actual = Sha256::new();
        std::io::copy(&mut fs::File::open(&path).ok()?, &mut actual).ok()?;
        if actual.finalize().as_slice() != expected {
            tracing::warn!(path = %path.display(), "a cached component is damaged and will be compiled anew");
            return None;
        }
        // SAFETY: the file is what this engine's compiler wrote (the checksum says that it is whole, and the directory is
        // this user's alone, so that nobody else wrote it or changes it while it is mapped).
        #[expect(unsafe_code, reason = "see SAFETY")]
        let component = unsafe { Component::deserialize_file(engine, &path) };
        component
            .inspect_err(|e| tracing::warn!(path = %path.display(), error = %one_line(e), "a cached component is unusable"))
            .ok()
    }

    fn put(&self, hash: ComponentHash, code: &[u8]) -> std::io::Result<()> {
        // The checksum comes last: without it, there is no entry.
        self.write(&self.path(hash, "cwasm"), code)?;
        self.write(&self.path(hash, "sha256"), &Sha256::digest(code))
    }

    /// Writes a file in one step, so that nobody sees half of it.
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    }
}

/// The compiler's verdict on a component.
pub(crate) fn not_valid(error: &wasmtime::Error) -> Error {
    Error::invalid(format!("this is not a valid component: {}", one_line(error)))
}
