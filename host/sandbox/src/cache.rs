//! Compiled components on disk.
//!
//! An entry is two files: `KEY.cwasm`, the machine code, and `KEY.sha256`, its checksum. `KEY` stands for the component's
//! bytes and for everything that the compiler's result depends on: its version, the engine's settings, the CPU's features.
//! The code is mapped into memory and run, so the directory must belong to this process's user alone. What a user uploads is
//! always WebAssembly, and never gets here but through the compiler. An entry that is damaged is made anew. When the entries have
//! more bytes than they may, those go that were not used for the longest time.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::component::ComponentHash;
use crate::engine::one_line;
use crate::error::Error;

pub(crate) struct Cache {
    dir: PathBuf,
    compatibility: u64,
    bytes_max: u64,
    /// why code could not be kept, until it is told
    unkept: Mutex<Option<String>>,
}

/// The extensions of an entry's two files.
const CODE: &str = "cwasm";
const CHECKSUM: &str = "sha256";

impl Cache {
    pub(crate) fn open(dir: &Path, bytes_max: u64, engine: &Engine) -> Result<Self, Error> {
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
        Ok(Self { dir: dir.to_owned(), compatibility: hasher.finish(), bytes_max, unkept: Mutex::default() })
    }

    /// The compiled component, from the cache or from the compiler.
    pub(crate) fn get_or_compile(
        &self,
        engine: &Engine,
        hash: ComponentHash,
        compile: impl FnOnce() -> Result<Vec<u8>, Error>,
    ) -> Result<Component, Error> {
        if let Some(component) = self.get(engine, hash) {
            return Ok(component);
        }
        let code = compile()?;
        match self.put(hash, &code) {
            // Mapped from the file, the code takes no memory of this process's own.
            Ok(()) => self.get(engine, hash).map_or_else(|| load(engine, &code), Ok),
            Err(error) => {
                let why = format!("the cache directory {} takes no more: {error}", self.dir.display());
                *self.unkept.lock() = Some(why);
                load(engine, &code)
            }
        }
    }

    /// Why code could not be kept since this was asked last.
    pub(crate) fn take_unkept(&self) -> Option<String> {
        self.unkept.lock().take()
    }

    fn path(&self, hash: ComponentHash, extension: &str) -> PathBuf {
        self.dir.join(format!("{hash}-{:016x}.{extension}", self.compatibility))
    }

    fn get(&self, engine: &Engine, hash: ComponentHash) -> Option<Component> {
        let path = self.path(hash, CODE);
        let expected = fs::read(self.path(hash, CHECKSUM)).ok()?;
        let mut actual = Sha256::new();
        let mut code = fs::File::open(&path).ok()?;
        std::io::copy(&mut code, &mut actual).ok()?;
        if actual.finalize().as_slice() != expected {
            tracing::warn!(path = %path.display(), "a cached component is damaged and will be compiled anew");
            return None;
        }
        // SAFETY: the file is what this engine's compiler wrote (the checksum says that it is whole, and the directory is
        // this user's alone, so that nobody else wrote it or changes it while it is mapped).
        #[expect(unsafe_code, reason = "see SAFETY")]
        let component = unsafe { Component::deserialize_file(engine, &path) };
        // The time of its last use. Where it cannot be set, the entry just seems older.
        let _ = code.set_modified(SystemTime::now());
        component
            .inspect_err(|e| tracing::warn!(path = %path.display(), error = %one_line(e), "a cached component is unusable"))
            .ok()
    }

    fn put(&self, hash: ComponentHash, code: &[u8]) -> std::io::Result<()> {
        // The checksum comes last: without it, there is no entry.
        let path = self.path(hash, CODE);
        self.write(&path, code)?;
        self.write(&self.path(hash, CHECKSUM), &Sha256::digest(code))?;
        self.make_room(&path)
    }

    /// Removes entries until those that are left have no more bytes than they may. Code that is mapped stays so; `newest` stays in any case.
    fn make_room(&self, newest: &Path) -> std::io::Result<()> {
        let mut entries = vec![];
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let path = entry.path();
            // Another process may have removed it in the meantime.
            if path.extension().is_some_and(|e| e == CODE)
                && let Ok(metadata) = entry.metadata()
            {
                entries.push((metadata.modified()?, metadata.len(), path));
            }
        }
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        entries.sort();
        for (_, size, path) in entries.into_iter().filter(|(_, _, path)| path != newest) {
            if bytes <= self.bytes_max {
                break;
            }
            // The checksum goes first: without it, there is no entry.
            for path in [path.with_extension(CHECKSUM), path] {
                fs::remove_file(path).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            }
            bytes -= size;
        }
        Ok(())
    }

    /// Writes a file in one step, so that nobody sees half of it.
    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(bytes)?;
        // Finer than what the file system notes by itself, like the times of later uses.
        file.as_file().set_modified(SystemTime::now())?;
        file.persist(path)?;
        Ok(())
    }
}

/// Code that was compiled just now, ready to run.
pub(crate) fn load(engine: &Engine, code: &[u8]) -> Result<Component, Error> {
    // SAFETY: these bytes come from this engine's compiler, in this process or in a child that it started; the engine checks that they are
    // for its version and settings.
    #[expect(unsafe_code, reason = "see SAFETY")]
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|e| Error::internal(format!("the compiler's code is of another engine: {}", one_line(&e))))
}

/// The compiler's verdict on a component.
pub(crate) fn not_valid(error: &wasmtime::Error) -> Error {
    Error::invalid(format!("this is not a valid component: {}", one_line(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full cache forgets what was not used for the longest time, and never what was just made.
    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("compiled");
        let engine = Engine::default();
        let component = |name: &str| format!("(component (core module ${name}))").into_bytes();
        let make = |cache: &Cache, name: &str| {
            let wasm = component(name);
            let compile = || crate::compiler::compile(&engine, &wasm);
            cache.get_or_compile(&engine, ComponentHash::of(&wasm), compile).expect("it compiles");
        };
        let cached = |cache: &Cache| {
            let is_there = |name: &&str| cache.path(ComponentHash::of(&component(name)), CHECKSUM).exists();
            ["a", "b", "c"].into_iter().filter(is_there).collect::<Vec<_>>()
        };
        let unbounded = Cache::open(&path, u64::MAX, &engine).expect("a cache");
        make(&unbounded, "a");
        make(&unbounded, "b");
        make(&unbounded, "a");
        let sizes =
            ["a", "b"].map(|n| fs::metadata(unbounded.path(ComponentHash::of(&component(n)), CODE)).expect("it is there").len());
        let cache = Cache::open(&path, sizes[0] + sizes[1], &engine).expect("a cache");
        make(&cache, "c");
        assert_eq!(cached(&cache), ["a", "c"], "b was not used since a was");
        let tiny = Cache::open(&path, 1, &engine).expect("a cache");
        make(&tiny, "b");
        assert_eq!(cached(&tiny), ["b"]);
        assert_eq!(fs::read_dir(&path).expect("a cache").count(), 2, "code and checksum");
    }

    /// Code that cannot be kept is ready to run all the same, and why it was not kept is told once.
    #[test]
    fn what_is_not_kept_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("compiled");
        let engine = Engine::default();
        let cache = Cache::open(&path, u64::MAX, &engine).expect("a cache");
        let wasm = b"(component)";
        let make = || {
            let compile = || crate::compiler::compile(&engine, wasm);
            cache.get_or_compile(&engine, ComponentHash::of(wasm), compile).map(|_| ()).expect("it compiles");
        };
        fs::remove_dir(&path).expect("it is empty");
        make();
        let told = cache.take_unkept().expect("there is no place for it");
        assert!(told.contains(&path.display().to_string()) && told.contains("No such file"), "{told}");
        assert_eq!(cache.take_unkept(), None);
        fs::create_dir(&path).expect("the directory is ours");
        make();
        assert_eq!(cache.take_unkept(), None, "it is kept");
    }
}
