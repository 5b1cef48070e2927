//! Savepoints: checkpoints that belong to the user.
//!
//! A savepoint is self-contained: its folder has a copy of every file that its manifest refers to, so it can outlive its job, and
//! be moved. Its manifest is written last; a folder without one is a savepoint whose writing broke off.
//!
//! What it is made of is good: each copy is read and has the checksum of what was stored. And it fits any parallelism, since it has no rows in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{CopyOptions, ObjectStoreExt};
use ulid::Ulid;

use crate::create::{Created, create};
use crate::error::{Corrupt, Error, ErrorKind};
use crate::folder::Folder;
use crate::manifest::{FileRef, Kind, Manifest, decode_savepoint, encode_savepoint};
use crate::paths;
use crate::storage::Storage;
use crate::upload::{MULTIPART_BYTES, Progress, Source};

/// How many files are copied at a time.
const COPIES_MAX: usize = 16;

/// S3 copies files up to this by itself. Longer ones, and those from another storage, go through this process.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// How many savepoints, or files of one, are looked at at a time.
const READS_MAX: usize = 16;

/// The savepoints of a storage.
#[derive(Clone, Debug)]
pub struct Savepoints {
    storage: Storage,
}

/// A complete savepoint.
#[derive(Clone, Debug)]
pub struct Savepoint {
    folder: Folder,
    manifest: Manifest,
}

/// A savepoint in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// its id
    pub id: String,
    /// its manifest, or why it is none, or none yet
    pub manifest: Result<Manifest, Corrupt>,
}

/// What there is of a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// how many files it has
    pub files: u64,
    /// their bytes
    pub bytes: u64,
    /// those that are missing or not what they were, with what is wrong
    pub broken: BTreeMap<String, String>,
}

impl Savepoints {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Writes a savepoint of a complete checkpoint of a job, whose files must stay until it is done. `progress` is told the
    /// copied bytes.
    ///
    /// # Errors
    /// If there is one with this id, or one is being written, the checkpoint has rows in flight or is damaged, or a storage fails. Copies are removed
    /// if not all could be made, as far as the storage lets that be done; what is left stays until the id is [deleted](Self::delete).
    pub async fn write(
        &self,
        id: &str,
        from: &Folder,
        checkpoint: &Manifest,
        progress: Progress<'_>,
    ) -> Result<Savepoint, Error> {
        self.check_free(id).await?;
        check_portable(checkpoint)?;
        let folder = self.folder(id)?;
        // From here on nobody else writes to the folder, so that all of it is ours to remove.
        if create(&folder, &paths::claim(), &Ulid::new().to_string().into()).await? == Created::Theirs {
            return Err(taken(&folder));
        }
        let written = match Savepoint::manifest_in(&folder).await {
            Ok(None) => Self::fill(&folder, from, checkpoint, progress).await,
            // Somebody has completed one since it was looked at.
            Ok(Some(_)) => Err(taken(&folder)),
            Err(error) => Err(error),
        };
        // Of a savepoint it is no part.
        let _ = folder.delete(vec![paths::claim()]).await;
        Ok(Savepoint { folder, manifest: written? })
    }

    /// Fills a folder that is claimed, or leaves no copies there.
    async fn fill(folder: &Folder, from: &Folder, checkpoint: &Manifest, progress: Progress<'_>) -> Result<Manifest, Error> {
        let manifest = match Self::copy(folder, from, checkpoint, progress).await {
            Ok(manifest) => manifest,
            Err(error) => {
                let left = folder.list(&paths::files()).await.unwrap_or_default();
                let _ = folder.delete(left.into_iter().map(|(path, _)| path).collect()).await;
                return Err(error);
            }
        };
        let document = encode_savepoint(&manifest, &Ulid::new().to_string());
        // If that fails, the manifest may be there all the same, or in a moment: then the copies have to be, too.
        match create(folder, &paths::manifest(), &document).await? {
            Created::Ours => Ok(manifest),
            Created::Theirs => Err(taken(folder)),
        }
    }

    /// Copies the files of a checkpoint. Returns the manifest that refers to the copies.
    async fn copy(folder: &Folder, from: &Folder, checkpoint: &Manifest, progress: Progress<'_>) -> Result<Manifest, Error> {
        let mut manifest = checkpoint.clone();
        manifest.kind = Kind::Savepoint;
        let mut copies: HashMap<String, (FileRef, Path)> = HashMap::new();
        for file in manifest.files_mut() {
            let path = from.path_of(file)?;
            let n = copies.len();
            let (_, to) = copies.entry(file.path.clone()).or_insert_with(|| (file.clone(), paths::copy(n, &path)));
            file.path = to.to_string();
        }
        manifest.bytes_total = copies.values().map(|(file, _)| file.bytes).sum();
        manifest.bytes_new = manifest.bytes_total;
        // After a failure no copy is begun, but those under way are waited for: none must come after what the caller does next.
        let failed = AtomicBool::new(false);
        let has_failed = &failed;
        let copying = copies.into_values().map(|(file, to)| async move {
            if has_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let copied = folder.copy_in(from, &file, &to, progress).await;
            has_failed.fetch_or(copied.is_err(), Ordering::Relaxed);
            copied
        });
        let ends: Vec<_> = futures::stream::iter(copying).buffer_unordered(COPIES_MAX).collect().await;
        ends.into_iter().collect::<Result<(), Error>>()?;
        Ok(manifest)
    }

    /// Whether a savepoint could be written under this id now.
    ///
    /// # Errors
    /// If there is one, or what is left of one, the id cannot name one, or the storage fails.
    pub async fn check_free(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id)?;
        if folder.list(&Path::ROOT).await?.is_empty() { Ok(()) } else { Err(taken(&folder)) }
    }

    /// Opens a savepoint by its id.
    ///
    /// # Errors
    /// If there is none, it is not complete, or the storage fails.
    pub async fn open(&self, id: &str) -> Result<Savepoint, Error> {
        Savepoint::read(self.folder(id)?).await
    }

    /// All savepoints, by their ids.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let all = self.storage.folder(&paths::savepoints());
        let root = all.object(&Path::ROOT);
        let found = all.store().list_with_delimiter(Some(&root)).await;
        let found = found.map_err(|e| Error::storage(format!("cannot list {}", all.url()), e))?;
        let reads = found.common_prefixes.into_iter().map(|prefix| async {
            let id = prefix.filename().unwrap_or_default().to_string();
            let folder = Folder::new(self.storage.clone(), prefix);
            let manifest = match Savepoint::manifest_in(&folder).await? {
                Some(manifest) => manifest,
                None => Err(Corrupt::damaged("it has no manifest: it is being written, or writing it broke off")),
            };
            Ok(Listed { id, manifest })
        });
        futures::stream::iter(reads).buffered(READS_MAX).try_collect().await
    }

    /// Deletes a savepoint, or what is left of one. Its manifest goes first: what is left if this breaks off is no savepoint.
    ///
    /// # Errors
    /// If there is nothing, or the storage fails.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id)?;
        let all: Vec<Path> = folder.list(&Path::ROOT).await?.into_iter().map(|(path, _)| path).collect();
        if all.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no savepoint {}", folder.url())));
        }
        let (manifest, files): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| *path == paths::manifest());
        folder.delete(manifest).await?;
        folder.delete(files).await?;
        Ok(())
    }

    fn folder(&self, id: &str) -> Result<Folder, Error> {
        Ok(self.storage.folder(&paths::savepoint(id)?))
    }
}

/// Whether jobs of another parallelism, or with other exchanges, could start from a copy of the checkpoint.
fn check_portable(checkpoint: &Manifest) -> Result<(), Error> {
    if checkpoint.batches_in_flight() == 0 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "checkpoint {} is unaligned and has rows in flight, which a savepoint must not have; start the job as it was, unless it runs, stop it (a checkpoint to \
         stop with is aligned), and make the savepoint then",
        checkpoint.checkpoint
    )))
}

fn taken(folder: &Folder) -> Error {
    let message =
        format!("there is a savepoint {} already, or what is left of one; choose another id or delete it", folder.url());
    Error::new(ErrorKind::Conflict, message)
}

impl Savepoint {
    /// Opens a savepoint by the URL of its folder, wherever it has been moved to.
    ///
    /// # Errors
    /// If there is none, it is not complete, or the storage fails.
    pub async fn at(url: &Storage) -> Result<Self, Error> {
        Self::read(url.folder(&Path::ROOT)).await
    }

    async fn read(folder: Folder) -> Result<Self, Error> {
        match Self::manifest_in(&folder).await? {
            Some(Ok(manifest)) => Ok(Self { folder, manifest }),
            Some(Err(e)) => Err(Error::corrupt(format!("{}: the manifest cannot be used: {e}", folder.url()))),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no complete savepoint at {}; `weir savepoint list` shows what there is", folder.url()),
            )),
        }
    }

    async fn manifest_in(folder: &Folder) -> Result<Option<Result<Manifest, Corrupt>>, Error> {
        let path = folder.object(&paths::manifest());
        match async { folder.store().get(&path).await?.bytes().await }.await {
            Ok(document) => Ok(Some(decode_savepoint(&document))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::storage(format!("cannot read {}", folder.url_of(&paths::manifest())), e)),
        }
    }

    /// The savepoint's folder, to which the paths in its manifest are relative.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Its id, which is its folder's name.
    pub fn id(&self) -> String {
        self.folder.url().rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// What it comprises.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Compares what the manifest refers to with what there is, without reading files: that does [`verify`](Self::verify).
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn inspect(&self) -> Result<Inspection, Error> {
        let there: HashMap<String, u64> =
            self.folder.list(&paths::files()).await?.into_iter().map(|(path, bytes)| (path.to_string(), bytes)).collect();
        let files: BTreeMap<&str, u64> = self.manifest.files().map(|file| (file.path.as_str(), file.bytes)).collect();
        let mut broken = BTreeMap::new();
        for (path, bytes) in &files {
            match there.get(*path) {
                None => broken.insert(path.to_string(), "it is missing".to_string()),
                Some(found) if found != bytes => {
                    broken.insert(path.to_string(), format!("it has {found} bytes instead of {bytes}"))
                }
                Some(_) => None,
            };
        }
        Ok(Inspection { files: files.len() as u64, bytes: files.values().sum(), broken })
    }

    /// The same, and reads all files: so bytes that have changed are found, too.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn verify(&self) -> Result<Inspection, Error> {
        let mut inspection = self.inspect().await?;
        let files: BTreeMap<&str, &FileRef> = self.manifest.files().map(|file| (file.path.as_str(), file)).collect();
        let there: Vec<FileRef> =
            files.into_values().filter(|file| !inspection.broken.contains_key(&file.path)).cloned().collect();
        let folder = &self.folder;
        let reads = there.into_iter().map(|file| async move {
            match folder.verify(&file).await {
                Err(e) if matches!(e.kind, ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(Some((file.path, e.message))),
                verified => verified.map(|()| None),
            }
        });
        let found: Vec<Option<(String, String)>> = futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        inspection.broken.extend(found.into_iter().flatten());
        Ok(inspection)
    }
}

impl Folder {
    /// Copies a file of another folder to a path of this one, if it is what was stored.
    async fn copy_in(&self, from: &Folder, file: &FileRef, to: &Path, progress: Progress<'_>) -> Result<(), Error> {
        let copied = self.copy_checked(from, file, to, progress).await;
        copied.map_err(|e| match e.kind {
            ErrorKind::Corrupt => Error::corrupt(format!(
                "the checkpoint's file {}/{} is damaged, and so would the savepoint be: {}; have the job make another checkpoint (one that starts goes back to \
                 the one before by itself), and try again",
                from.url(),
                file.path,
                e.message
            )),
            _ => e,
        })
    }

    async fn copy_checked(&self, from: &Folder, file: &FileRef, to: &Path, progress: Progress<'_>) -> Result<(), Error> {
        if Arc::ptr_eq(self.storage().store(), from.storage().store()) && file.bytes <= COPY_BYTES_MAX {
            let source = from.object(&from.path_of(file)?);
            let copied = self.store().copy_opts(&source, &self.object(to), CopyOptions::default()).await;
            copied.map_err(|e| Error::storage(format!("cannot copy {}/{} to {}", from.url(), file.path, self.url_of(to)), e))?;
            // The store has copied whatever is there.
            self.verify(&FileRef { path: to.to_string(), ..file.clone() }).await?;
            progress(file.bytes);
        } else if file.bytes <= MULTIPART_BYTES {
            let bytes = from.fetch(file).await?;
            self.store_file(to, Source::Bytes(bytes), progress).await?;
        } else {
            let found = self.store_parts(to, file.bytes, from.pieces(file, true), progress).await?;
            from.check(file, found)?;
        }
        Ok(())
    }
}
