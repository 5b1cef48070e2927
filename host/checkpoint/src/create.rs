//! Putting an object where none is, and knowing afterwards whether it was us.
//!
//! The answer to a conditional put can be lost, and asked again, the store says "already exists" of our own object. So when it
//! says that, what is there is read and compared. An error is no answer, either: the put is repeated, and whether the first one
//! or a later one was carried out makes no difference, since the bytes are the same.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode};

use crate::error::{Error, ErrorKind};
use crate::folder::Folder;
use crate::storage::unconditional;

/// How often a put without an answer is repeated. S3 repeats, below this, what it knows not to have been carried out.
const TRIES_MAX: u32 = 5;

/// The pause before the first repetition. It doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// Whose object is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// ours: exactly these bytes
    Ours,
    /// somebody else's: other bytes
    Theirs,
}

/// Puts an object if there is none. If equal bytes of somebody else must not be taken for ours, they have to differ.
///
/// # Errors
/// If the store refuses or keeps failing. In any case it is unknown whether the object is there, or will be: a put may be carried out
/// after its caller gave it up.
pub(crate) async fn create(folder: &Folder, path: &Path, bytes: &Bytes) -> Result<Created, Error> {
    let mut pauses = Pauses::default();
    loop {
        let failed = match create_once(folder, path, bytes).await {
            Ok(Some(created)) => return Ok(created),
            Ok(None) => {
                let message = format!(
                    "cannot write {}: the storage keeps saying that it is there, and that it is not",
                    folder.url_of(path)
                );
                Error::new(ErrorKind::Unavailable, message)
            }
            Err(e) => e,
        };
        pauses.after(failed).await?;
    }
}

/// Puts the object, or looks whose it is. Nothing if it is there, and then is not.
async fn create_once(folder: &Folder, path: &Path, bytes: &Bytes) -> Result<Option<Created>, Error> {
    let object = folder.object(path);
    match folder.store().put_opts(&object, bytes.clone().into(), PutMode::Create.into()).await {
        Ok(_) => return Ok(Some(Created::Ours)),
        Err(object_store::Error::AlreadyExists { .. }) => {}
        Err(e) => return Err(unconditional(folder.storage().url(), format!("cannot write {}", folder.url_of(path)), e)),
    }
    match async { folder.store().get(&object).await?.bytes().await }.await {
        Ok(there) if there == bytes => Ok(Some(Created::Ours)),
        Ok(_) => Ok(Some(Created::Theirs)),
        // S3 also says this while two puts are under way of which neither may succeed.
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(Error::storage(format!("cannot read {}", folder.url_of(path)), e)),
    }
}

/// The pauses between repetitions of what failed for want of an answer.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// Waits until it is time to try again.
    ///
    /// # Errors
    /// The failure, if it was an answer, or it was the last try.
    pub async fn after(&mut self, failure: Error) -> Result<(), Error> {
        self.failures += 1;
        if failure.kind != ErrorKind::Unavailable || self.failures == TRIES_MAX {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE * (1 << (self.failures - 1))).await;
        Ok(())
    }
}
