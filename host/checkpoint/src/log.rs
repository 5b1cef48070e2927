//! A job's log: what it owns of the storage, and the I/O of fencing.
//!
//! The log is a row of numbered objects, each put only if none of its number is there. Of two writers that want one number, one
//! gets it, and the other one learns that somebody else is at work and looks at the log again. Who may write what, the `protocol`
//! crate decides; here it is carried out.
//!
//! Old entries are deleted (see `garbage`), so a number can be free again. A writer that slept meanwhile could put an entry there
//! and take it for the log's end. So after every put the log is asked for later entries: the newest one is never deleted, so
//! whoever is late sees one.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use ulid::Ulid;

use crate::create::{Created, Pauses, create};
use crate::error::{Corrupt, Error, ErrorKind};
use crate::folder::Folder;
use crate::manifest::{self, Entry};
use crate::paths;

/// How many entries are read at a time.
const READS_MAX: usize = 16;

/// An entry is not longer than this: the manifest of a million files.
const ENTRY_BYTES_MAX: u64 = 256 << 20;

/// How many characters the id of a log has: enough that two logs of jobs of one name have different ones.
const ID_CHARS: usize = 10;

/// The entries of a log in the order of their numbers.
pub type Log = Vec<(u64, Result<Entry, Corrupt>)>;

/// Where a job's checkpoints lie, for one writer: each attempt to run the job opens its own. A clone is the same writer.
#[derive(Clone, Debug)]
pub struct JobStorage {
    folder: Folder,
    writer: String,
}

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// the entry is the log's last one
    Done,
    /// somebody else has written at this number or after it: read the log again.
    /// The entry may stand in the log all the same, where others may have acted upon it; whoever gets this answer must not
    Taken,
}

impl JobStorage {
    pub(crate) fn new(folder: Folder) -> Self {
        Self { folder, writer: Ulid::new().to_string() }
    }

    /// The job's folder, to which paths in manifests are relative.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The URL of an entry, for messages.
    pub fn entry_url(&self, number: u64) -> String {
        self.folder.url_of(&paths::entry(number))
    }

    /// What the documents of this writer are told by from equal ones of others.
    pub(crate) fn writer(&self) -> &str {
        &self.writer
    }

    /// Reads the whole log. Entries that cannot be read are in it as what is wrong with them.
    ///
    /// # Errors
    /// If the storage fails.
    pub async fn read_log(&self) -> Result<Log, Error> {
        let listed = self.folder.list(&paths::log()).await?;
        let numbers = listed.into_iter().filter_map(|(path, bytes)| Some((paths::entry_number(&path)?, bytes)));
        let reads = numbers.map(|(number, bytes)| self.read_entry(number, bytes));
        let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        let mut log: Log = read.into_iter().flatten().collect();
        log.sort_unstable_by_key(|(number, _)| *number);
        Ok(log)
    }

    /// What tells the log from all others, also those of jobs of the same name in other storages: ten letters and digits, drawn when they are first asked for.
    ///
    /// # Errors
    /// If the storage fails, or what is there is no id.
    pub async fn log_id(&self) -> Result<String, Error> {
        let path = paths::log_id();
        loop {
            match self.get(&path).await {
                Ok(there) => return self.read_id(&there),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(Error::storage(format!("cannot read {}", self.folder.url_of(&path)), e)),
            }
            // Its last characters are random.
            let ulid = Ulid::new().to_string().to_lowercase();
            let drawn = ulid[ulid.len() - ID_CHARS..].to_owned();
            if create(&self.folder, &path, &Bytes::from(drawn.clone())).await? == Created::Ours {
                return Ok(drawn);
            }
        }
    }

    fn read_id(&self, there: &[u8]) -> Result<String, Error> {
        let id = std::str::from_utf8(there).ok();
        let id = id.filter(|id| id.len() == ID_CHARS && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        id.map(str::to_owned).ok_or_else(|| {
            let path = self.folder.url_of(&paths::log_id());
            Error::invalid(format!(
                "{path} is no id of a log; bring back what was there, or use another storage or name for the job"
            ))
        })
    }

    /// Makes sure that behind the entry of number `base`, or in all of the log, there is nothing in a format of a newer Weir. That one may have
    /// completed checkpoints there, and published their rows: whoever went on from what is before them would do so once more.
    ///
    /// # Errors
    /// If there is; it names the last such entry.
    pub fn check_formats(&self, log: &Log, base: Option<u64>) -> Result<(), Error> {
        let mut behind = log.iter().rev().take_while(|(number, _)| base.is_none_or(|base| *number > base));
        let newer = behind.find_map(|(number, entry)| match entry {
            Err(newer @ Corrupt::Newer { .. }) => Some((*number, newer)),
            _ => None,
        });
        let Some((number, newer)) = newer else { return Ok(()) };
        let message = format!(
            "a newer Weir has gone on with the job, and has written {}: {newer}, or another storage or name for the job, where it begins anew",
            self.entry_url(number)
        );
        Err(Error::new(ErrorKind::Newer, message))
    }

    /// An entry that was listed: nothing if it was deleted meanwhile.
    async fn read_entry(&self, number: u64, bytes: u64) -> Result<Option<(u64, Result<Entry, Corrupt>)>, Error> {
        if bytes > ENTRY_BYTES_MAX {
            return Ok(Some((number, Err(Corrupt::damaged(format!("it has {bytes} bytes, more than any entry"))))));
        }
        let path = paths::entry(number);
        match self.get(&path).await {
            Ok(document) => Ok(Some((number, manifest::decode(&document)))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::storage(format!("cannot read {}", self.folder.url_of(&path)), e)),
        }
    }

    /// Reads an object of the job's folder.
    pub(crate) async fn get(&self, path: &Path) -> object_store::Result<Bytes> {
        self.folder.store().get(&self.folder.object(path)).await?.bytes().await
    }

    /// Appends an entry under a number, which should be one more than the log's last one. For one writer, to append the same entry
    /// again is to have appended it.
    ///
    /// # Errors
    /// If the storage refuses, or keeps failing. Then it is **unknown** whether the entry stands in the log, now or in a moment, also
    /// after a refusal, before which there may have been a put without an answer. It must be taken neither for written nor for not
    /// written. The same entry may be appended again; else whoever claims the job next finds out, since its claim and this entry
    /// cannot both have the number.
    pub async fn append(&self, number: u64, entry: &Entry) -> Result<Appended, Error> {
        // The same entry of another writer is another document.
        let document = manifest::encode(entry, &self.writer);
        let path = paths::entry(number);
        if create(&self.folder, &path, &document).await? == Created::Theirs {
            return Ok(Appended::Taken);
        }
        let mut pauses = Pauses::default();
        loop {
            match self.has_later(&path).await {
                Ok(true) => return Ok(Appended::Taken),
                Ok(false) => return Ok(Appended::Done),
                Err(e) => pauses.after(e).await?,
            }
        }
    }

    /// Whether there are entries after this one.
    async fn has_later(&self, entry: &Path) -> Result<bool, Error> {
        let folder = &self.folder;
        let error = |e| Error::storage(format!("cannot list {}", folder.url_of(&paths::log())), e);
        let mut later = folder.store().list_with_offset(Some(&folder.object(&paths::log())), &folder.object(entry));
        while let Some(object) = later.try_next().await.map_err(error)? {
            if folder.relative(&object.location).is_some_and(|path| paths::entry_number(&path).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
