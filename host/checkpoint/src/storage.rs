//! Where checkpoints lie: a URL, opened.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use ulid::Ulid;
use url::Url;

use crate::error::{Error, ErrorKind};
use crate::folder::Folder;
use crate::local::Local;
use crate::log::JobStorage;
use crate::savepoint::Savepoints;
use crate::{location, paths, s3};

/// How many files one storage transfers at a time, up and down each.
pub const TRANSFERS_MAX: usize = 16;

/// How many bytes of files on their way are in memory at a time, up and down each.
pub const BUFFER_BYTES_MAX: usize = 32 << 20;

/// What a storage can be.
pub(crate) const KINDS: &str = "write file:///directory, s3://bucket/prefix or memory://name";

/// How many writers try to write one object when a storage is tried out.
const PROBE_WRITERS: usize = 8;

/// How often a storage is tried out while answers get lost.
const PROBES_MAX: usize = 5;

/// The stores of `memory://`: as long as the process lives.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

/// Where checkpoints lie. A clone is the same storage.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    url: String,
    store: Arc<dyn ObjectStore>,
    /// the same store, if it is a directory
    local: Option<Local>,
    /// the URL's path within the store
    root: Path,
    up: Limits,
    down: Limits,
}

/// What bounds transfers in one direction.
pub(crate) struct Limits {
    /// a permit for each file
    pub files: Semaphore,
    /// a permit for each byte in memory
    pub bytes: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: Semaphore::new(TRANSFERS_MAX), bytes: Arc::new(Semaphore::new(BUFFER_BYTES_MAX)) }
    }
}

impl Storage {
    /// Opens a storage. Nothing is asked of a server yet: see [`probe`](Self::probe).
    ///
    /// - `file:///directory` makes the directory if it is not there. The option `sync = "false"` does not wait for the disk.
    /// - `s3://bucket/prefix` takes the options of `object_store` (`endpoint`, `region`, `access_key_id`, `secret_access_key`,
    ///   `allow_http`, …), and what they do not say from `AWS_*` variables.
    /// - `memory://name` lives as long as the process: whoever opens the same name has the same storage.
    ///
    /// # Errors
    /// If the URL or an option is wrong, or the directory cannot be made.
    pub fn open(url: &str, options: &[(String, String)]) -> Result<Self, Error> {
        let (parsed, prefix) = parse(url)?;
        match parsed.scheme() {
            "file" => Self::open_directory(url, options),
            "memory" => {
                refuse_options(url, options, &[])?;
                let name = parsed.host_str().unwrap_or_default().to_string();
                let store = MEMORY.lock().entry(name).or_default().clone();
                Ok(Self::new(url, store, None, prefix))
            }
            "s3" => {
                let bucket = parsed.host_str().filter(|bucket| !bucket.is_empty());
                let bucket = bucket
                    .ok_or_else(|| Error::invalid(format!("the storage {url:?} names no bucket; write s3://bucket/prefix")))?;
                Ok(Self::new(url, Arc::new(s3::open(url, bucket, options)?), None, prefix))
            }
            scheme => Err(Error::invalid(format!("{scheme}:// is no storage; {KINDS}"))),
        }
    }

    /// Checks what [`open`](Self::open) is told, and makes no directory for that.
    ///
    /// # Errors
    /// If the URL or an option is wrong.
    pub fn check(url: &str, options: &[(String, String)]) -> Result<(), Error> {
        match parse(url)?.0.scheme() {
            "file" => directory(url, options).map(drop),
            _ => Self::open(url, options).map(drop),
        }
    }

    fn open_directory(url: &str, options: &[(String, String)]) -> Result<Self, Error> {
        let (directory, sync) = directory(url, options)?;
        let local = Local::open(&directory, sync)
            .map_err(|e| Error::local(format!("{url}: cannot make the directory {}", directory.display()), e))?;
        Ok(Self::new(url, Arc::new(local.clone()), Some(local), Path::ROOT))
    }

    fn new(url: &str, store: Arc<dyn ObjectStore>, local: Option<Local>, root: Path) -> Self {
        let url = url.trim_end_matches('/').to_string();
        Self(Arc::new(Inner { url, store, local, root, up: Limits::default(), down: Limits::default() }))
    }

    /// The same storage behind another store, one that fails on purpose for example.
    #[cfg(any(test, feature = "test-util"))]
    pub fn wrapped(&self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self::new(&self.0.url, wrap(self.0.store.clone()), None, self.0.root.clone())
    }

    /// The URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Where a job's checkpoints lie, for a new writer. The name may have several parts, `tenant/job` for example.
    ///
    /// # Errors
    /// If the name is empty or too long.
    pub fn job(&self, name: &str) -> Result<JobStorage, Error> {
        Ok(JobStorage::new(self.folder(&paths::job(name)?)))
    }

    /// The savepoints here.
    pub fn savepoints(&self) -> Savepoints {
        Savepoints::new(self.clone())
    }

    /// Tries out what checkpoints rest upon: that objects can be written, read, listed and deleted, and that of several writers of one
    /// object one succeeds, if the object must not be there before. There are S3 servers that let several succeed, and say nothing: on
    /// them two generations of a job could both believe that they own it.
    ///
    /// # Errors
    /// If one of this fails, or the storage cannot put conditionally.
    pub async fn probe(&self) -> Result<(), Error> {
        let folder = self.folder(&paths::probes());
        for _ in 0..PROBES_MAX {
            let path = folder.object(&Path::from(Ulid::new().to_string()));
            let tried = self.try_out(&folder, &path).await;
            let deleted = self.0.store.delete(&path).await;
            let is_decided = tried?;
            deleted.map_err(|e| Error::storage(format!("{}: cannot delete a trial object", self.0.url), e))?;
            if is_decided {
                return Ok(());
            }
        }
        let message = format!("{}: the storage did not answer while a trial object was written", self.0.url);
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Tries it out with one object. `false` if that shows nothing, since an answer got lost.
    async fn try_out(&self, folder: &Folder, path: &Path) -> Result<bool, Error> {
        let (url, store) = (&self.0.url, &self.0.store);
        // At the same time, and once more when it is surely there.
        let mut written = futures::future::try_join_all((0..PROBE_WRITERS).map(|n| self.put_trial(path, n))).await?;
        written.push(self.put_trial(path, PROBE_WRITERS).await?);
        let read = async { store.get(path).await?.bytes().await }.await;
        let read = read.map_err(|e| Error::storage(format!("{url}: cannot read a trial object"), e))?;
        let listed = folder.list(&Path::ROOT).await?;
        let (mut written, listed) =
            (written.into_iter().flatten(), listed.iter().any(|(listed, _)| folder.object(listed) == *path));
        match (written.next(), written.next()) {
            (Some(n), None) if read == n.to_string() && listed => Ok(true),
            (Some(_), None) => {
                let message =
                    format!("{url}: the storage does not show at once what was written to it; use AWS S3 or another server");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            // All were told that it is there: who wrote it was told nothing, and asked again.
            (None, _) => Ok(false),
            (Some(_), Some(_)) => {
                let message = format!(
                    "{url}: the storage let several writers write one object that must not have been there before (`If-None-Match: *`); on \
                     it two generations of a job cannot be kept apart, so use AWS S3 or another server"
                );
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }

    /// One of several writers of the trial object: which one it is, if it wrote it.
    async fn put_trial(&self, path: &Path, n: usize) -> Result<Option<usize>, Error> {
        match self.0.store.put_opts(path, n.to_string().into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Some(n)),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(None),
            Err(e) => Err(unconditional(&self.0.url, format!("{}: cannot write a trial object", self.0.url), e)),
        }
    }

    pub(crate) fn folder(&self, path: &Path) -> Folder {
        Folder::new(self.clone(), join(&self.0.root, path))
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.store
    }

    pub(crate) fn local(&self) -> Option<&Local> {
        self.0.local.as_ref()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn up(&self) -> &Limits {
        &self.0.up
    }

    pub(crate) fn down(&self) -> &Limits {
        &self.0.down
    }
}

impl std::fmt::Debug for Storage {
    /// The URL alone: stores may show their credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Storage").field(&self.0.url).finish()
    }
}

/// `path` below `root`.
pub(crate) fn join(root: &Path, path: &Path) -> Path {
    // Not by `Path::join`, which would encode again what is encoded.
    root.parts().chain(path.parts()).collect()
}

/// What a URL says, and its path within the store.
fn parse(url: &str) -> Result<(Url, Path), Error> {
    if !url.contains("://") {
        return Err(Error::invalid(format!("the storage {url:?} is no URL; {KINDS}")));
    }
    let parsed = Url::parse(url).map_err(|e| Error::invalid(format!("the storage {url:?} is no URL: {e}; {KINDS}")))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // The URL is not repeated: it has a secret in it, and messages are kept in logs.
        return Err(Error::invalid("the storage's URL has credentials in it; give them as options or by AWS_* variables"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(Error::invalid(format!("the storage {url:?} has a `?` or `#`; settings are given as options")));
    }
    let prefix =
        Path::from_url_path(parsed.path()).map_err(|e| Error::invalid(format!("the storage {url:?} has no valid path: {e}")))?;
    Ok((parsed, prefix))
}

/// The directory that a URL names, and whether the disk is waited for.
fn directory(url: &str, options: &[(String, String)]) -> Result<(PathBuf, bool), Error> {
    refuse_options(url, options, &["sync"])?;
    let sync = match options.iter().map(|(_, value)| value.as_str()).next_back() {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(Error::invalid(format!("{url}: the option sync is \"true\" or \"false\", not {other:?}"))),
    };
    let directory = location::directory(url).ok_or_else(|| {
        Error::invalid(format!("{url:?} names no directory of this machine; write file:/// and an absolute path"))
    })?;
    Ok((directory, sync))
}

fn refuse_options(url: &str, options: &[(String, String)], known: &[&str]) -> Result<(), Error> {
    match options.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) if known.is_empty() => {
            Err(Error::invalid(format!("{url}: there is no option {name:?}; this kind of storage has none")))
        }
        Some((name, _)) => Err(Error::invalid(format!("{url}: there is no option {name:?}; there is {}", known.join(", ")))),
        None => Ok(()),
    }
}

/// The error of a conditional put, which not every server knows.
pub(crate) fn unconditional(url: &str, what: String, source: object_store::Error) -> Error {
    let error = Error::storage(what, source);
    if error.kind != ErrorKind::Unsupported {
        return error;
    }
    let message = format!(
        "{url}: the storage cannot put an object only if it is absent (`If-None-Match: *`), by which Weir keeps two generations of a \
         job apart; use AWS S3, or a server that can ({})",
        error.message
    );
    Error { message, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// A wrong URL or option is refused with its name and what to do, and without its secrets.
    #[test]
    fn mistakes_are_named() {
        let plain = options(&[("endpoint", "http://localhost:1")]);
        let cases: [(&str, &[(String, String)], &str); 11] = [
            (
                "checkpoints",
                &[],
                "the storage \"checkpoints\" is no URL; write file:///directory, s3://bucket/prefix or memory://name",
            ),
            ("gs://bucket", &[], "gs:// is no storage; write"),
            ("file://checkpoints/here", &[], "names no directory of this machine; write file:/// and an absolute path"),
            ("file:///proc/nowhere", &[], "file:///proc/nowhere: cannot make the directory /proc/nowhere"),
            ("file:///tmp", &options(&[("region", "x")]), "there is no option \"region\"; there is sync"),
            ("file:///tmp", &options(&[("sync", "maybe")]), "the option sync is \"true\" or \"false\", not \"maybe\""),
            ("memory://x", &options(&[("a", "b")]), "there is no option \"a\"; this kind of storage has none"),
            ("s3:///prefix", &[], "names no bucket; write s3://bucket/prefix"),
            (
                "s3://bucket/prefix",
                &options(&[("regoin", "x")]),
                "there is no option \"regoin\"; the usual ones are endpoint, region",
            ),
            ("s3://bucket/prefix", &options(&[("bucket", "x")]), "the bucket belongs into the URL"),
            ("s3://bucket", &plain, "the endpoint http://localhost:1 is not encrypted; set allow_http = \"true\""),
        ];
        for (url, options, expected) in cases {
            let error = Storage::open(url, options).unwrap_err();
            assert!(error.message.contains(expected), "{url}: {error}");
            // To check it is to say the same of it, but for what is on the disk.
            let checked = Storage::check(url, options).map_err(|e| e.message);
            let is_there_to_make = url == "file:///proc/nowhere";
            assert_eq!(checked, if is_there_to_make { Ok(()) } else { Err(error.message) }, "{url}");
        }
        let error = Storage::open("s3://key:hunter2@bucket", &[]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let secret = options(&[
            ("endpoint", "http://localhost:1"),
            ("allow_http", "true"),
            ("access_key_id", "key"),
            ("secret_access_key", "hunter2"),
        ]);
        let storage = Storage::open("s3://bucket/a/b/", &secret).unwrap();
        assert_eq!(storage.url(), "s3://bucket/a/b");
        assert_eq!(storage.root().as_ref(), "a/b");
        assert!(!format!("{storage:?}").contains("hunter2"));
    }

    /// The same name in memory is the same storage, another one is another.
    #[tokio::test]
    async fn memory_is_shared_by_name() {
        let object = |name: &str| (Storage::open(name, &[]).unwrap(), Path::from("x"));
        let (one, path) = object("memory://shared-one");
        one.store().put(&path, "1".into()).await.unwrap();
        assert!(object("memory://shared-one").0.store().get(&path).await.is_ok());
        assert!(object("memory://shared-two").0.store().get(&path).await.is_err());
    }
}
