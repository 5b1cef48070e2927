//! Storing files: small ones at once, large ones in parts, with the checksum made on the way.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutMultipartOptions};
use tokio::task::JoinSet;

use crate::checksum::{Checksum, Summing};
use crate::create::{Created, create};
use crate::error::{Error, ErrorKind};
use crate::fetch::{Piece, Pieces, blocking};
use crate::folder::Folder;
use crate::log::JobStorage;
use crate::manifest::FileRef;
use crate::paths::StateFile;

/// Files above this are stored in parts.
pub const MULTIPART_BYTES: u64 = 16 << 20;

/// The bytes of a part.
pub(crate) const PART_BYTES: u64 = 8 << 20;

/// How many parts of one file are on their way at a time.
const PARTS_MAX: usize = 4;

/// A file is not longer than this, since S3 takes 10000 parts.
pub const FILE_BYTES_MAX: u64 = 10_000 * PART_BYTES;

/// What is to be stored.
#[derive(Clone, Debug)]
pub enum Source {
    /// bytes in memory
    Bytes(Bytes),
    /// a file of this machine, which does not change while it is stored
    File(PathBuf),
    /// a file of this machine that nobody writes to any more, like an SST file. Where storage and file are on one file system it
    /// is linked, not copied
    Sealed(PathBuf),
}

/// Is told how many bytes more have been stored. In the end it was told the whole length, if all went well.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

impl JobStorage {
    /// Stores a state file. It is in no checkpoint until a manifest refers to it.
    ///
    /// Nothing that is there is overwritten: to store the same bytes under the same name again is to have stored them, other
    /// bytes are refused. If it fails or is given up, nothing is left in a directory; S3 keeps the parts of a large file until a
    /// rule of the bucket removes them (`AbortIncompleteMultipartUpload`).
    ///
    /// # Errors
    /// If the storage or this machine's disk fails, or other bytes are there under this name.
    pub async fn upload(&self, file: &StateFile, source: Source, progress: Progress<'_>) -> Result<FileRef, Error> {
        self.folder().store_file(&file.path()?, source, progress).await
    }
}

impl Folder {
    pub(crate) async fn store_file(&self, path: &Path, source: Source, progress: Progress<'_>) -> Result<FileRef, Error> {
        let _permit = self.storage().up().files.acquire().await.expect("it is never closed");
        let bytes = length(&source).await?;
        if bytes > FILE_BYTES_MAX {
            let message = format!(
                "{} would have {bytes} bytes; a file is limited to {FILE_BYTES_MAX}, so raise the parallelism",
                self.url_of(path)
            );
            return Err(Error::invalid(message));
        }
        if let (Source::Sealed(from), Some(local)) = (&source, self.storage().local()) {
            let linked = local.link_in(from.clone(), &self.object(path)).await;
            if linked.map_err(|e| Error::storage(format!("cannot write {}", self.url_of(path)), e))? {
                return Ok(file_ref(path, bytes, self.sum(&source, bytes, progress).await?));
            }
        }
        let crc32 = if bytes <= MULTIPART_BYTES {
            let whole = self.pieces_of(&source, bytes, MULTIPART_BYTES).try_next().await?;
            self.store_small(path, whole, progress).await?
        } else {
            self.store_large(path, bytes, &source, progress).await?
        };
        Ok(file_ref(path, bytes, crc32))
    }

    async fn store_small(&self, path: &Path, whole: Option<Piece>, progress: Progress<'_>) -> Result<Checksum, Error> {
        // It counts against what may be in memory until it is stored.
        let (bytes, _room) = whole.map_or((Bytes::new(), None), |piece| (piece.bytes, piece.room));
        let summed = bytes.clone();
        let crc32 = blocking(move || Ok(Checksum::of(&summed))).await?;
        match create(self, path, &bytes).await? {
            Created::Ours => progress(bytes.len() as u64),
            Created::Theirs => return Err(self.conflict(path)),
        }
        Ok(crc32)
    }

    async fn store_large(&self, path: &Path, bytes: u64, source: &Source, progress: Progress<'_>) -> Result<Checksum, Error> {
        let error = |e| Error::storage(format!("cannot write {}", self.url_of(path)), e);
        match self.store().head(&self.object(path)).await {
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(error(e)),
            Ok(_) => {
                let crc32 = self.sum(source, bytes, progress).await?;
                return match self.verify(&file_ref(path, bytes, crc32)).await {
                    Err(e) if e.kind == ErrorKind::Corrupt => Err(self.conflict(path)),
                    verified => verified.map(|()| crc32),
                };
            }
        }
        self.store_parts(path, bytes, self.pieces_of(source, bytes, PART_BYTES), progress).await
    }

    /// Stores pieces of the parts' length as one object.
    pub(crate) async fn store_parts(
        &self,
        path: &Path,
        bytes: u64,
        pieces: Pieces,
        progress: Progress<'_>,
    ) -> Result<Checksum, Error> {
        let error = |e| Error::storage(format!("cannot write {}", self.url_of(path)), e);
        let mut upload =
            self.store().put_multipart_opts(&self.object(path), PutMultipartOptions::default()).await.map_err(error)?;
        let sent = send(&mut *upload, pieces, progress, &error).await;
        let crc32 = match sent {
            Ok(crc32) => crc32,
            Err(e) => {
                // What cannot be removed now, a rule of the bucket removes.
                let _ = upload.abort().await;
                return Err(e);
            }
        };
        match upload.complete().await {
            Ok(_) => Ok(crc32),
            // The answer may have been lost, and the object be there.
            Err(e) => match self.verify(&file_ref(path, bytes, crc32)).await {
                Ok(()) => Ok(crc32),
                Err(_) => {
                    let _ = upload.abort().await;
                    Err(error(e))
                }
            },
        }
    }

    /// The checksum of something that need not be stored any more.
    async fn sum(&self, source: &Source, bytes: u64, progress: Progress<'_>) -> Result<Checksum, Error> {
        let mut sum = Summing::default();
        let mut pieces = self.pieces_of(source, bytes, PART_BYTES);
        while let Some(piece) = pieces.try_next().await? {
            let length = piece.bytes.len() as u64;
            sum = add(sum, piece.bytes).await?;
            progress(length);
        }
        Ok(sum.finish())
    }

    /// The source's bytes in pieces of `piece_bytes`. Those that are read from a file count against what may be in memory until
    /// they are dropped.
    fn pieces_of(&self, source: &Source, bytes: u64, piece_bytes: u64) -> Pieces {
        let ranges = (0..bytes.div_ceil(piece_bytes)).map(move |n| n * piece_bytes..((n + 1) * piece_bytes).min(bytes));
        let start = (self.clone(), source.clone(), ranges, None);
        let pieces = futures::stream::try_unfold(start, |(folder, source, mut ranges, open)| async move {
            let Some(range) = ranges.next() else { return Ok(None) };
            let (piece, open) = match &source {
                Source::Bytes(all) => (Piece { bytes: all.slice(range.start as usize..range.end as usize), room: None }, None),
                Source::File(from) | Source::Sealed(from) => {
                    let (piece, open) = folder.read_piece(from.clone(), open, (range.end - range.start) as usize).await?;
                    (piece, Some(open))
                }
            };
            Ok(Some((piece, (folder, source, ranges, open))))
        });
        pieces.boxed()
    }

    /// The next piece of a file of this machine, once there is room for it.
    async fn read_piece(&self, from: PathBuf, open: Option<File>, bytes: usize) -> Result<(Piece, File), Error> {
        let room = self.storage().up().bytes.clone().acquire_many_owned(bytes as u32).await.expect("it is never closed");
        blocking(move || {
            let read = || {
                let mut open = open.map_or_else(|| File::open(&from), Ok)?;
                let mut piece = vec![0; bytes];
                open.read_exact(&mut piece)?;
                Ok((piece, open))
            };
            let (piece, open) = read().map_err(|e| Error::local(format!("cannot read {}", from.display()), e))?;
            Ok((Piece { bytes: piece.into(), room: Some(room) }, open))
        })
        .await
    }

    fn conflict(&self, path: &Path) -> Error {
        Error::new(
            ErrorKind::Conflict,
            format!("{} is there already, with other bytes; state files are never overwritten", self.url_of(path)),
        )
    }
}

fn file_ref(path: &Path, bytes: u64, crc32: Checksum) -> FileRef {
    FileRef { path: path.to_string(), bytes, crc32 }
}

async fn length(source: &Source) -> Result<u64, Error> {
    match source {
        Source::Bytes(bytes) => Ok(bytes.len() as u64),
        Source::File(from) | Source::Sealed(from) => {
            let metadata = tokio::fs::metadata(from).await;
            Ok(metadata.map_err(|e| Error::local(format!("cannot read {}", from.display()), e))?.len())
        }
    }
}

async fn add(mut sum: Summing, bytes: Bytes) -> Result<Summing, Error> {
    blocking(move || {
        sum.update(&bytes);
        Ok(sum)
    })
    .await
}

/// Sends pieces as parts, several at a time.
async fn send(
    upload: &mut dyn MultipartUpload,
    mut pieces: Pieces,
    progress: Progress<'_>,
    error: &impl Fn(object_store::Error) -> Error,
) -> Result<Checksum, Error> {
    let mut sum = Summing::default();
    // They go on while the next piece is read. If this one is given up, so are they.
    let mut parts: JoinSet<object_store::Result<u64>> = JoinSet::new();
    loop {
        let piece = pieces.try_next().await?;
        let last = piece.is_none();
        if let Some(Piece { bytes, room }) = piece {
            sum = add(sum, bytes.clone()).await?;
            let length = bytes.len() as u64;
            let part = upload.put_part(bytes.into());
            parts.spawn(async move {
                let sent = part.await;
                drop(room);
                sent.map(|()| length)
            });
        }
        while parts.len() >= if last { 1 } else { PARTS_MAX } {
            let sent = parts.join_next().await.expect("there is one");
            progress(sent.map_err(|source| error(object_store::Error::JoinError { source }))?.map_err(error)?);
        }
        if last {
            return Ok(sum.finish());
        }
    }
}
