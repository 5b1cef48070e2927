//! A directory as a store: `object_store`'s, and what it leaves to do.
//!
//! What was stored is on the disk when the call returns, file and directory entry both, so that a power failure cannot take back
//! a checkpoint that was already acted upon. Files that nobody will write again go in and out as hard links instead of copies,
//! where the file system allows it.
//!
//! The directory stays the one that was opened. Where it goes away for a while, because a disk is not mounted or somebody moves it, what is under its path
//! then is empty: to read it would look like a job that has never run, and what is written there would be gone later. So both fail until it is back.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// A directory as a store.
#[derive(Clone, Debug)]
pub(crate) struct Local(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: LocalFileSystem,
    root: PathBuf,
    /// which directory that was when it was opened
    identity: Identity,
    /// whether to wait for the disk
    sync: bool,
}

/// What tells a directory from all others, whatever its path: the numbers of its device and of itself.
type Identity = (u64, u64);

fn identity(directory: &FilePath) -> io::Result<Identity> {
    fs::metadata(directory).map(|found| (found.dev(), found.ino()))
}

impl Local {
    /// Makes a store of a directory, and the directory if it is not there.
    pub fn open(root: &FilePath, sync: bool) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = fs::canonicalize(root)?;
        let files = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        let identity = identity(&root)?;
        Ok(Self(Arc::new(Inner { files, root, identity, sync })))
    }

    /// Makes sure that the directory is still there.
    async fn check(&self) -> Result<()> {
        let store = self.clone();
        blocking(move || {
            let Inner { root, identity: opened, .. } = &*store.0;
            match identity(root) {
                Ok(found) if found == *opened => Ok(()),
                Ok(_) => Err(io::Error::other(format!("{} is another one than when it was opened", root.display()))),
                Err(e) => Err(io::Error::new(e.kind(), format!("{} is not there any more: {e}", root.display()))),
            }
        })
        .await
    }

    /// What was found, or not, in the directory and not in something in its place.
    async fn checked<T>(&self, found: impl Future<Output = Result<T>>) -> Result<T> {
        let found = found.await;
        self.check().await.and(found)
    }

    /// The same of what is listed.
    fn checked_list(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let check = futures::stream::once(async move { store.check().await });
        listed.chain(check.filter_map(async |checked| checked.err().map(Err))).boxed()
    }

    /// Stores a file of this machine as a link to it. `false` if the file system cannot do this, or something is there already.
    pub async fn link_in(&self, from: PathBuf, to: &Path) -> Result<bool> {
        self.check().await?;
        let target = self.0.files.path_to_filesystem(to)?;
        let fresh = self.is_fresh(&target);
        let linked = blocking(move || {
            let parent = target.parent().unwrap_or(&target);
            Ok(fs::create_dir_all(parent).and_then(|()| fs::hard_link(&from, &target)).is_ok())
        })
        .await?;
        if linked {
            self.settle(to, fresh).await?;
        }
        Ok(linked)
    }

    /// Makes a link to a stored file. `false` if the file system cannot do this.
    pub async fn link_out(&self, from: &Path, to: PathBuf) -> Result<bool> {
        let source = self.0.files.path_to_filesystem(from)?;
        blocking(move || Ok(fs::hard_link(source, to).is_ok())).await
    }

    /// Removes what writers that died have left half-written below a folder. Nobody may be writing there.
    pub async fn remove_staged(&self, folder: &Path) -> Result<u64> {
        let root = self.0.files.path_to_filesystem(folder)?;
        blocking(move || Ok(remove_staged(&root).unwrap_or(0))).await
    }

    /// Whether a file's directory is to be made. If so, the directories above it will change, too.
    fn is_fresh(&self, file: &FilePath) -> bool {
        self.0.sync && !file.parent().is_some_and(FilePath::is_dir)
    }

    /// Waits until an object is on the disk, in the directory.
    async fn settle(&self, location: &Path, fresh: bool) -> Result<()> {
        self.check().await?;
        if !self.0.sync {
            return Ok(());
        }
        let file = self.0.files.path_to_filesystem(location)?;
        let root = self.0.root.clone();
        blocking(move || {
            File::open(&file)?.sync_all()?;
            let levels = if fresh { usize::MAX } else { 1 };
            for directory in file.ancestors().skip(1).take(levels).take_while(|directory| directory.starts_with(&root)) {
                File::open(directory)?.sync_all()?;
            }
            Ok(())
        })
        .await
    }
}

/// Whether a file was being written under this name: `object_store` does not show such names.
fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn remove_staged(folder: &FilePath) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_staged(&entry.path())?;
        } else if entry.file_name().to_str().is_some_and(is_staged) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    // It stays if something is in it.
    let _ = fs::remove_dir(folder);
    Ok(removed)
}

/// Runs what blocks where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|source| object_store::Error::JoinError { source })?;
    done.map_err(|source| object_store::Error::Generic { store: "local directory", source: Box::new(source) })
}

impl std::fmt::Display for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "local directory {}", self.0.root.display())
    }
}

#[async_trait]
impl ObjectStore for Local {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check().await?;
        let fresh = self.is_fresh(&self.0.files.path_to_filesystem(location)?);
        let put = self.0.files.put_opts(location, payload, options).await;
        // Also what is there already must be on the disk before anybody learns of it: it may be ours, from a call whose waiting
        // failed.
        if matches!(put, Ok(_) | Err(object_store::Error::AlreadyExists { .. })) {
            self.settle(location, fresh).await?;
        }
        put
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check().await?;
        let fresh = self.is_fresh(&self.0.files.path_to_filesystem(location)?);
        let upload = self.0.files.put_multipart_opts(location, options).await?;
        Ok(Box::new(Upload { upload, store: self.clone(), location: location.clone(), fresh }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.checked(self.0.files.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.checked(self.0.files.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.checked_list(self.0.files.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.checked_list(self.0.files.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.checked(self.0.files.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check().await?;
        let fresh = self.is_fresh(&self.0.files.path_to_filesystem(to)?);
        self.0.files.copy_opts(from, to, options).await?;
        self.settle(to, fresh).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check().await?;
        let fresh = self.is_fresh(&self.0.files.path_to_filesystem(to)?);
        self.0.files.rename_opts(from, to, options).await?;
        self.settle(to, fresh).await
    }
}

/// An upload in parts that ends on the disk.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    store: Local,
    location: Path,
    fresh: bool,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        self.store.settle(&self.location, self.fresh).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    /// What goes in and out by links is one file; nothing is overwritten, and what lies on another file system is refused.
    #[tokio::test]
    async fn links_share_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let store = Local::open(&directory.path().join("a/b"), true).unwrap();
        let outside = directory.path().join("outside");
        fs::write(&outside, b"state").unwrap();
        let inside = Path::from("x/y/z");
        assert!(store.link_in(outside.clone(), &inside).await.unwrap());
        assert!(!store.link_in(outside.clone(), &inside).await.unwrap(), "something is there");
        let back = directory.path().join("back");
        assert!(store.link_out(&inside, back.clone()).await.unwrap());
        assert!(!store.link_out(&inside, back.clone()).await.unwrap(), "something is there");
        assert_eq!(fs::metadata(&back).unwrap().ino(), fs::metadata(&outside).unwrap().ino());
        assert_eq!(fs::metadata(&back).unwrap().nlink(), 3, "no other names are made");
        assert_eq!(store.get(&inside).await.unwrap().bytes().await.unwrap(), "state");
        assert!(!store.link_in("/proc/self/stat".into(), &Path::from("x/stat")).await.unwrap(), "another file system");
    }

    /// Half-written files go, whole ones stay, and so do their directories.
    #[tokio::test]
    async fn staged_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Local::open(directory.path(), false).unwrap();
        store.put(&Path::from("files/1/0-0/7-a"), "whole".into()).await.unwrap();
        fs::create_dir(directory.path().join("files/1/1-0")).unwrap();
        for staged in ["files/1/0-0/7-b#1", "files/1/1-0/7-a#23"] {
            fs::write(directory.path().join(staged), b"half").unwrap();
        }
        assert_eq!(store.remove_staged(&Path::from("files/1")).await.unwrap(), 2);
        assert_eq!(store.remove_staged(&Path::from("files/2")).await.unwrap(), 0, "no such folder");
        assert!(directory.path().join("files/1/0-0/7-a").exists());
        assert!(!directory.path().join("files/1/1-0").exists());
    }

    /// While the directory is away, nothing can be written, and nothing is found missing, whether its path is free or taken; then all is as it was.
    #[tokio::test]
    async fn a_directory_that_is_away_is_no_empty_one() {
        let parent = tempfile::tempdir().unwrap();
        let (root, aside) = (parent.path().join("root"), parent.path().join("aside"));
        let store = Local::open(&root, true).unwrap();
        let path = Path::from("log/1");
        store.put(&path, "entry".into()).await.unwrap();
        for is_replaced in [false, true] {
            fs::rename(&root, &aside).unwrap();
            if is_replaced {
                fs::create_dir(&root).unwrap();
            }
            assert!(store.put(&Path::from("log/2"), "entry".into()).await.is_err());
            assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
            let found = store.get(&path).await;
            assert!(matches!(found, Err(object_store::Error::Generic { .. })), "{found:?}");
            if is_replaced {
                fs::remove_dir(&root).expect("nothing was written there");
            }
            fs::rename(&aside, &root).unwrap();
            let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
            assert_eq!(listed.iter().map(|object| &object.location).collect::<Vec<_>>(), [&path]);
        }
    }
}
