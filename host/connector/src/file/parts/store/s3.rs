//! Parts in a bucket of S3, or of any server that speaks its protocol.
//!
//! A hidden part is an upload in several pieces that is not completed: it is no object yet. What uploads there are cannot be asked of every server, so each
//! has a small object `.weir/NAME` beside it that says what it is called, and which goes when the upload is completed or given up.
//!
//! To complete an upload is to replace what is there, so that is looked at before. An object of the part's name is the part itself if the upload is gone and
//! it looks [as what was uploaded](super::mark); while the upload is there, it is somebody else's.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use serde::{Deserialize, Serialize};

use super::mark::Marking;
use super::{HIDDEN, Hidden, Prepared, Store, Upload, lost, taken};
use crate::Error;
use crate::background::Background;

/// How large a piece is: S3 takes 10,000 of at least 5 MiB, and a part is meant to be far smaller than as many.
const PIECE_BYTES: usize = 8 << 20;

/// How often a request that failed is repeated, with pauses that double, before the failure is handed on.
const RETRIES_MAX: usize = 10;
/// How long a request is repeated.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// A store of objects that takes them in pieces.
trait Objects: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Objects for T {}

/// Parts in a bucket.
#[derive(Clone)]
pub(in crate::file) struct Bucket {
    objects: Arc<dyn Objects>,
    background: Arc<Background>,
    /// what messages call the place
    url: String,
    /// what the keys of its objects begin with
    prefix: Path,
}

/// What the object beside an upload says.
#[derive(Serialize, Deserialize)]
struct Note {
    part: String,
    upload: String,
}

/// What has become of an upload that was to be completed.
enum Outcome {
    /// it is the object
    Published,
    /// neither it nor an object is there
    Lost,
    /// it is there, and so is an object that it would replace
    Taken,
    /// it is gone, and the object is another one
    Replaced,
}

impl Bucket {
    /// A place `s3://BUCKET/PREFIX`. What the options do not say is taken from the usual `AWS_*` variables.
    pub fn new(url: &str, options: &BTreeMap<String, String>) -> Result<Self, Error> {
        let refuse = |why: &str| Error::options(format!("url = \"{url}\": {why}"));
        let place = url.strip_prefix("s3://").ok_or_else(|| refuse("it has to be like \"s3://BUCKET/PREFIX\""))?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(refuse("there is no bucket in it"));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|e| refuse(&e.to_string()))?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        for (name, value) in options {
            builder = match name.parse() {
                Ok(AmazonS3ConfigKey::Bucket) => return Err(refuse("the bucket belongs into it, not into s3.bucket")),
                Ok(key) => builder.with_config(key, value),
                Err(_) => {
                    return Err(refuse(&format!(
                        "there is no option s3.{name}; the usual ones are endpoint, region, access_key_id, secret_access_key, session_token, allow_http, virtual_hosted_style_request"
                    )));
                }
            };
        }
        let set = |key| builder.get_config_value(&key);
        let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
        let allow_http =
            set(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.starts_with("http://") && !allow_http) {
            return Err(refuse(&format!(
                "the endpoint {endpoint} is not encrypted; set s3.allow_http = true if its network can be trusted"
            )));
        }
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let objects = builder.with_retry(retry).build().map_err(|e| Error::options(format!("url = \"{url}\": {e}")))?;
        Self::over(Arc::new(objects), url, prefix)
    }

    fn over(objects: Arc<dyn Objects>, url: &str, prefix: Path) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { objects, background: Arc::new(Background::start("weir-s3")?), url, prefix })
    }

    /// Parts in memory.
    #[cfg(test)]
    pub fn in_memory(objects: Arc<object_store::memory::InMemory>) -> Self {
        Self::over(objects, "s3://memory/out", Path::from("out")).unwrap()
    }

    fn key(&self, part: &str) -> object_store::Result<Path> {
        let whole = if self.prefix.as_ref().is_empty() { part.to_owned() } else { format!("{}/{part}", self.prefix) };
        Ok(Path::parse(whole)?)
    }

    fn note_key(&self, part: &str) -> object_store::Result<Path> {
        self.key(&format!("{HIDDEN}/{}", part.rsplit('/').next().unwrap_or(part)))
    }

    /// Does something with the objects, on the thread for it.
    fn run<T: Send + 'static, F: Future<Output = object_store::Result<T>> + Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> F,
    ) -> io::Result<T> {
        let result = self.background.run(work(self.clone())).map_err(io::Error::other)?;
        result.map_err(|e| match e {
            object_store::Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, e),
            e => io::Error::other(e),
        })
    }

    /// Completes an upload, unless there is an object already.
    async fn complete(self, part: String, upload: Upload) -> object_store::Result<Outcome> {
        let key = self.key(&part)?;
        let outcome = match self.there(&key).await? {
            Some(object) => self.recognize(&key, &upload, &object).await?,
            None => self.put_together(&key, &upload).await?,
        };
        if matches!(outcome, Outcome::Published) {
            self.remove_note(&part).await?;
        }
        Ok(outcome)
    }

    /// Completes an upload where there was no object just before.
    async fn put_together(&self, key: &Path, upload: &Upload) -> object_store::Result<Outcome> {
        let pieces = upload.pieces.iter().map(|id| PartId { content_id: id.clone() }).collect();
        let Err(failure) = self.objects.complete_multipart(key, &upload.id, pieces).await else { return Ok(Outcome::Published) };
        match self.there(key).await {
            // It was carried out, and the answer lost; or another attempt was faster.
            Ok(Some(object)) => self.recognize(key, upload, &object).await,
            Ok(None) if is_unknown(&failure) => Ok(Outcome::Lost),
            _ => Err(failure),
        }
    }

    /// The object of this key, if there is one.
    async fn there(&self, key: &Path) -> object_store::Result<Option<ObjectMeta>> {
        match self.objects.head(key).await {
            Ok(object) => Ok(Some(object)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What has become of an upload at whose key there is an object.
    async fn recognize(&self, key: &Path, upload: &Upload, object: &ObjectMeta) -> object_store::Result<Outcome> {
        if self.is_open(key, upload).await? {
            return Ok(Outcome::Taken);
        }
        let Some(mark) = &upload.mark else { return Ok(Outcome::Published) };
        let end = mark.end();
        let is_it = mark.has_length(object.size)
            // Servers refuse to give no bytes.
            && (end.is_empty() || mark.has_end(&self.objects.get_range(key, end).await?));
        Ok(if is_it { Outcome::Published } else { Outcome::Replaced })
    }

    /// Whether an upload is neither completed nor given up. Not every server can be asked that; but each takes a piece of an upload that it knows. One more
    /// than those that the upload is completed with is dropped then.
    async fn is_open(&self, key: &Path, upload: &Upload) -> object_store::Result<bool> {
        match self.objects.put_part(key, &upload.id, upload.pieces.len(), PutPayload::default()).await {
            Ok(_) => Ok(true),
            Err(e) if is_unknown(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn remove_note(&self, part: &str) -> object_store::Result<()> {
        match self.objects.delete(&self.note_key(part)?).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// The parts that have a note.
    async fn noted(self) -> object_store::Result<Vec<Path>> {
        let folder = self.key(HIDDEN)?;
        self.objects.list(Some(&folder)).map_ok(|object| object.location).try_collect().await
    }

    /// Gives up the upload that a note tells of.
    async fn give_up(self, note: Path) -> object_store::Result<()> {
        let text = match self.objects.get(&note).await {
            // Another attempt may have removed it.
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            other => other?.bytes().await?,
        };
        if let Ok(Note { part, upload }) = serde_json::from_slice(&text) {
            match self.objects.abort_multipart(&self.key(&part)?, &upload).await {
                Err(e) if !is_unknown(&e) => return Err(e),
                _ => {}
            }
        }
        match self.objects.delete(&note).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Whether a store says that there is no such upload.
fn is_unknown(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { .. } => true,
        // The store in memory of tests has no better word for it.
        object_store::Error::Generic { store: "InMemory", .. } => true,
        _ => false,
    }
}

/// The error of a transaction whose rows are gone, in whose place there are others.
fn replaced(part: &str, upload: &str) -> Error {
    Error::options(format!(
        "the rows of {part} are lost: its upload {upload} is gone, and what is there was written by somebody else, as by a job of the same name with other \
         checkpoints; give each job a place of its own, and start this one anew"
    ))
}

impl Store for Bucket {
    /// A bucket has no folders to be made, and whether it takes objects is seen at the first one.
    fn open(&self) -> Result<(), Error> {
        Ok(())
    }

    fn begin(&self, part: &str) -> Result<Box<dyn Hidden>, Error> {
        let name = part.to_owned();
        let begun = self.run(|bucket| async move {
            let key = bucket.key(&name)?;
            let upload = bucket.objects.create_multipart(&key).await?;
            let note = serde_json::to_vec(&Note { part: name.clone(), upload: upload.clone() }).unwrap_or_default();
            bucket.objects.put(&bucket.note_key(&name)?, PutPayload::from(note)).await?;
            Ok((key, upload))
        });
        let (key, id) = begun.map_err(|e| Error::io(format!("the part {} cannot be begun", self.shown(part)), e))?;
        Ok(Box::new(HiddenUpload {
            bucket: self.clone(),
            key,
            id,
            pieces: Vec::new(),
            piece: Vec::new(),
            marking: Marking::default(),
        }))
    }

    /// What a store of objects has taken is durable.
    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    fn publish(&self, parts: &[Prepared]) -> Result<(), Error> {
        for Prepared { part, upload } in parts {
            let Some(upload) = upload.clone() else {
                return Err(Error::options(format!("the part {part} was not written to {}, but to a folder", self.url)));
            };
            let shown = self.shown(part);
            let id = upload.id.clone();
            match self.run(|bucket| bucket.complete(part.clone(), upload)) {
                Ok(Outcome::Published) => {}
                Ok(Outcome::Lost) => return Err(lost(&shown, &format!("its upload {id}"))),
                Ok(Outcome::Taken) => return Err(taken(&shown)),
                Ok(Outcome::Replaced) => return Err(replaced(&shown, &id)),
                Err(e) => return Err(Error::io(format!("the part {shown} cannot be committed"), e)),
            }
        }
        Ok(())
    }

    fn discard(&self, is_garbage: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let notes = self.run(Self::noted);
        let notes = notes.map_err(|e| Error::io(format!("the hidden parts of {} cannot be listed", self.url), e))?;
        for note in notes.into_iter().filter(|note| note.filename().is_some_and(is_garbage)) {
            let shown = format!("{}/{HIDDEN}/{}", self.url, note.filename().unwrap_or_default());
            let given_up = self.run(|bucket| bucket.give_up(note));
            given_up.map_err(|e| Error::io(format!("the upload of {shown} cannot be given up"), e))?;
        }
        Ok(())
    }

    fn shown(&self, part: &str) -> String {
        format!("{}/{part}", self.url)
    }
}

/// An upload that is not completed.
struct HiddenUpload {
    bucket: Bucket,
    key: Path,
    id: String,
    pieces: Vec<String>,
    /// what is not uploaded yet
    piece: Vec<u8>,
    marking: Marking,
}

impl HiddenUpload {
    fn put_piece(&mut self) -> io::Result<()> {
        self.marking.update(&self.piece);
        let payload = PutPayload::from(std::mem::take(&mut self.piece));
        let (key, id, index) = (self.key.clone(), self.id.clone(), self.pieces.len());
        let piece = self.bucket.run(|bucket| async move { bucket.objects.put_part(&key, &id, index, payload).await })?;
        self.pieces.push(piece.content_id);
        Ok(())
    }
}

impl Write for HiddenUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Pieces of one size: some servers insist.
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.put_piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Hidden for HiddenUpload {
    fn seal(mut self: Box<Self>) -> io::Result<Option<Upload>> {
        if !self.piece.is_empty() || self.pieces.is_empty() {
            self.put_piece()?;
        }
        let mark = Some(self.marking.finish());
        Ok(Some(Upload { id: self.id, pieces: self.pieces, mark }))
    }
}
