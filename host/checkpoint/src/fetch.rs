//! Getting files back, and making sure that they are what was stored.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStoreExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::checksum::{Checksum, Summing};
use crate::error::{Error, ErrorKind};
use crate::folder::Folder;
use crate::manifest::FileRef;
use crate::upload::PART_BYTES;

/// What is asked for at a time.
const RANGE_BYTES: u64 = PART_BYTES;

/// How much of one file is on its way at a time.
const RANGES_MAX: usize = 4;

impl Folder {
    /// Fetches a file into memory.
    ///
    /// # Errors
    /// If the storage fails, or has other bytes than were stored.
    pub async fn fetch(&self, file: &FileRef) -> Result<Bytes, Error> {
        let _permit = self.storage().down().files.acquire().await.expect("it is never closed");
        let mut pieces = self.pieces(file, false);
        let first = pieces.try_next().await?.map_or(Bytes::new(), |piece| piece.bytes);
        let whole = if first.len() as u64 == file.bytes {
            first
        } else {
            // The store has said meanwhile that it has as many bytes.
            let mut whole = BytesMut::with_capacity(file.bytes as usize);
            whole.extend_from_slice(&first);
            while let Some(piece) = pieces.try_next().await? {
                whole.extend_from_slice(&piece.bytes);
            }
            whole.freeze()
        };
        let summed = whole.clone();
        let found = blocking(move || Ok(Checksum::of(&summed))).await?;
        self.check(file, found)?;
        Ok(whole)
    }

    /// Fetches a file to a path of this machine, at which nothing may be. If it fails, nothing is there.
    ///
    /// # Errors
    /// If the storage or this machine's disk fails, or the storage has other bytes than were stored.
    pub async fn fetch_to(&self, file: &FileRef, to: &FilePath) -> Result<(), Error> {
        let _permit = self.storage().down().files.acquire().await.expect("it is never closed");
        let fetched = self.write(file, to).await;
        if fetched.as_ref().is_err_and(|e| e.kind != ErrorKind::Conflict) {
            let _ = tokio::fs::remove_file(to).await;
        }
        fetched
    }

    /// Fetches a file that nobody will write to. It may be one file with the stored one, which saves copying it.
    ///
    /// # Errors
    /// As [`fetch_to`](Self::fetch_to).
    pub async fn fetch_sealed(&self, file: &FileRef, to: &FilePath) -> Result<(), Error> {
        let Some(local) = self.storage().local() else { return self.fetch_to(file, to).await };
        self.verify(file).await?;
        let path = self.path_of(file)?;
        let linked = local.link_out(&self.object(&path), to.to_path_buf()).await;
        match linked.map_err(|e| Error::storage(format!("cannot link {}", self.url_of(&path)), e))? {
            true => Ok(()),
            false => self.fetch_to(file, to).await,
        }
    }

    /// Reads a file to make sure that it is what was stored.
    ///
    /// # Errors
    /// If it is not, or the storage fails.
    pub async fn verify(&self, file: &FileRef) -> Result<(), Error> {
        let _permit = self.storage().down().files.acquire().await.expect("it is never closed");
        let mut pieces = self.pieces(file, true);
        let mut sum = Summing::default();
        while let Some(piece) = pieces.try_next().await? {
            sum = blocking(move || {
                sum.update(&piece.bytes);
                drop(piece.room);
                Ok(sum)
            })
            .await?;
        }
        self.check(file, sum.finish())
    }

    async fn write(&self, file: &FileRef, to: &FilePath) -> Result<(), Error> {
        let target: PathBuf = to.into();
        let mut out = blocking(move || match File::create_new(&target) {
            Ok(out) => Ok(out),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::new(ErrorKind::Conflict, format!("{} is there already", target.display())))
            }
            Err(e) => Err(Error::local(format!("cannot make {}", target.display()), e)),
        })
        .await?;
        let mut sum = Summing::default();
        let mut pieces = self.pieces(file, true);
        while let Some(piece) = pieces.try_next().await? {
            let target: PathBuf = to.into();
            (out, sum) = blocking(move || {
                sum.update(&piece.bytes);
                out.write_all(&piece.bytes).map_err(|e| Error::local(format!("cannot write {}", target.display()), e))?;
                Ok((out, sum))
            })
            .await?;
        }
        self.check(file, sum.finish())
    }

    /// The file's bytes in order, several pieces being on their way. With `budget`, pieces count against what may be in memory
    /// until they are dropped.
    pub(crate) fn pieces(&self, file: &FileRef, budget: bool) -> Pieces {
        let (folder, file) = (self.clone(), file.clone());
        let bytes = file.bytes;
        let ranges = (0..bytes.div_ceil(RANGE_BYTES).max(1)).map(move |n| n * RANGE_BYTES..((n + 1) * RANGE_BYTES).min(bytes));
        let budget = budget.then(|| self.storage().down().bytes.clone());
        // Room is given one after the other, so that the piece that is waited for never waits for those behind it.
        let with_room = futures::stream::iter(ranges).then(move |range| give_room(budget.clone(), range));
        let fetch = move |(range, room)| {
            let (folder, file) = (folder.clone(), file.clone());
            async move { Ok(Piece { bytes: folder.range(&file, range).await?, room }) }
        };
        with_room.map(fetch).buffered(RANGES_MAX).boxed()
    }

    /// Some of a file's bytes. The store tells the file's length each time: if it is another one, the file is corrupt.
    async fn range(&self, file: &FileRef, range: Range<u64>) -> Result<Bytes, Error> {
        let path = self.path_of(file)?;
        let object = self.object(&path);
        // Stores refuse to give no bytes.
        let options =
            if range.is_empty() { GetOptions::new().with_head(true) } else { GetOptions::new().with_range(Some(range.clone())) };
        let got = async {
            let got = self.store().get_opts(&object, options).await?;
            let bytes = got.meta.size;
            Ok((bytes, if range.is_empty() { Bytes::new() } else { got.bytes().await? }))
        }
        .await;
        let length = match &got {
            Ok((length, _)) => *length,
            Err(object_store::Error::NotFound { .. }) => file.bytes,
            // A range beyond the end is an error like any other one.
            Err(_) => self.store().head(&object).await.map_or(file.bytes, |meta| meta.size),
        };
        if length != file.bytes {
            return Err(Error::corrupt(format!("{} has {length} bytes instead of {}", self.url_of(&path), file.bytes)));
        }
        let (_, bytes) = got.map_err(|e| Error::storage(format!("cannot read {}", self.url_of(&path)), e))?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(Error::corrupt(format!("{} gave {} bytes for {range:?}", self.url_of(&path), bytes.len())));
        }
        Ok(bytes)
    }

    pub(crate) fn check(&self, file: &FileRef, found: Checksum) -> Result<(), Error> {
        if found == file.crc32 {
            return Ok(());
        }
        Err(Error::corrupt(format!("{}/{} has the checksum {found} instead of {}", self.url(), file.path, file.crc32)))
    }

    pub(crate) fn path_of(&self, file: &FileRef) -> Result<Path, Error> {
        Path::parse(&file.path)
            .map_err(|e| Error::corrupt(format!("{}: the file {:?} has no valid path: {e}", self.url(), file.path)))
    }
}

/// Some of a file's bytes on their way.
pub(crate) struct Piece {
    pub bytes: Bytes,
    /// what they count for against what may be in memory
    pub room: Option<OwnedSemaphorePermit>,
}

/// A file's bytes in order. It owns what it is made from, since a future that borrows through a stream cannot be sent to a task.
pub(crate) type Pieces = BoxStream<'static, Result<Piece, Error>>;

async fn give_room(budget: Option<Arc<Semaphore>>, range: Range<u64>) -> (Range<u64>, Option<OwnedSemaphorePermit>) {
    let Some(budget) = budget else { return (range, None) };
    // A range is not longer than `RANGE_BYTES`.
    let bytes = (range.end - range.start) as u32;
    (range, Some(budget.acquire_many_owned(bytes).await.expect("it is never closed")))
}

/// Runs what blocks, or counts for long, where it may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => Err(Error {
                kind: ErrorKind::Unavailable,
                message: "the process is going down".into(),
                source: Some(Box::new(e)),
            }),
        },
    }
}
