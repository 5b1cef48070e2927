//! A place in a storage below which documents and files lie: a job's, or a savepoint's.
//!
//! Paths in manifests are relative to their folder, so that a folder can be copied or moved as a whole.

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::Error;
use crate::storage::{Storage, join};

/// A place in a storage. Files are stored and fetched through it: see `upload` and `fetch`.
#[derive(Clone, Debug)]
pub struct Folder {
    storage: Storage,
    root: Path,
}

impl Folder {
    pub(crate) fn new(storage: Storage, root: Path) -> Self {
        Self { storage, root }
    }

    /// The storage that it is in.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The folder's URL, for people.
    pub fn url(&self) -> String {
        match self.root.prefix_match(self.storage.root()).map(|parts| parts.collect::<Path>()) {
            Some(below) if !below.is_root() => format!("{}/{below}", self.storage.url()),
            _ => self.storage.url().to_string(),
        }
    }

    /// The URL of something in the folder, for messages.
    pub(crate) fn url_of(&self, path: &Path) -> String {
        format!("{}/{path}", self.url())
    }

    /// A path of the folder as the store knows it.
    pub(crate) fn object(&self, path: &Path) -> Path {
        join(&self.root, path)
    }

    /// The reverse: nothing if the object is not in the folder.
    pub(crate) fn relative(&self, object: &Path) -> Option<Path> {
        object.prefix_match(&self.root).map(Iterator::collect)
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        &**self.storage.store()
    }

    /// All that lies below a path of the folder, with its length.
    pub(crate) async fn list(&self, below: &Path) -> Result<Vec<(Path, u64)>, Error> {
        let mut listed = vec![];
        let mut objects = self.store().list(Some(&self.object(below)));
        let error = |e| Error::storage(format!("cannot list {}", self.url_of(below)), e);
        while let Some(object) = objects.try_next().await.map_err(error)? {
            if let Some(path) = self.relative(&object.location) {
                listed.push((path, object.size));
            }
        }
        Ok(listed)
    }
}
