//! The jobs that a server goes on with when it starts again: those that have checkpoints, and had not ended when its process did.
//!
//! `<data dir>/jobs/<job id>.json`, written before a job is accepted and removed once it has ended, or its user has cancelled it. It says what the user asked
//! for; how far the job has come is in its checkpoints. A server that is told to stop leaves its entries, as one that is killed does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_plan::JobSpec;
use weir_protocol::job::State;

use crate::component::{sync, write};
use crate::error::{self, Error, ErrorKind};
use crate::handle::StartFrom;
use crate::job::{JobId, JobSummary};
use crate::tenant::TenantId;

/// What a user asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// the job's id
    pub id: JobId,
    /// whose it is
    pub tenant: TenantId,
    /// when it was accepted
    pub created: Timestamp,
    /// the spec, with its defaults
    pub spec: JobSpec,
    /// what it started from
    pub from: StartFrom,
    /// whether it has had a complete checkpoint: where there is none now, its storage is missing, and it must not begin anew
    #[serde(default)]
    pub has_checkpoint: bool,
    /// whether it was told to stop: it reads nothing more
    #[serde(default)]
    pub stops: bool,
}

impl Entry {
    /// The job in short, as long as it holds nothing yet.
    pub fn summary(&self, name: String, slots: u16) -> JobSummary {
        JobSummary {
            id: self.id,
            tenant: self.tenant.clone(),
            name,
            state: State::Created,
            slots,
            created: self.created,
            ended: None,
            failure: None,
        }
    }
}

/// The entries of one server: of two with the same data directory, the second one does not start.
#[derive(Debug)]
pub(crate) struct Roster {
    dir: PathBuf,
    /// locked as long as the server runs
    _lock: File,
}

/// An entry that cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// where it is
    pub path: PathBuf,
    /// why
    pub why: String,
}

impl Roster {
    /// The roster of a data directory.
    ///
    /// # Errors
    /// If another server has it, or the disk fails.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let dir = data_dir.join("jobs");
        std::fs::create_dir_all(&dir).map_err(|e| Error::storage(format_args!("cannot make {}", dir.display()), &e))?;
        let path = data_dir.join("lock");
        let lock = File::create(&path).map_err(|e| Error::storage(format_args!("cannot make {}", path.display()), &e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                let message =
                    format!("another server has the data directory {}; end it, or give this one its own", data_dir.display());
                Err(Error::new(ErrorKind::Conflict, error::STORAGE, message))
            }
            Err(std::fs::TryLockError::Error(e)) => Err(Error::storage(format_args!("cannot lock {}", path.display()), &e)),
        }
    }

    fn path(&self, id: JobId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Notes a job down.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn keep(&self, entry: &Entry) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(entry).map_err(|e| Error::storage("cannot note the job down", &e))?;
        write(&self.path(entry.id), &json).map_err(|e| Error::storage("cannot note the job down", &e))
    }

    /// Strikes a job out, if it is there.
    ///
    /// # Errors
    /// If the disk fails: the server would go on with the job when it starts again.
    pub fn forget(&self, id: JobId) -> Result<(), Error> {
        let removed = match std::fs::remove_file(self.path(id)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| sync(&self.dir)),
        };
        removed.map_err(|e| Error::storage(format_args!("cannot remove {}", self.path(id).display()), &e))
    }

    /// All entries, oldest first.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn list(&self) -> Result<Vec<Result<Entry, Unreadable>>, Error> {
        let failed = |e: std::io::Error| Error::storage(format_args!("cannot list {}", self.dir.display()), &e);
        let mut paths = vec![];
        for file in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            // What is beside them is no entry: one that was being written, for example.
            if path.extension().is_some_and(|extension| extension == "json") && stem.is_some_and(|s| JobId::from_str(s).is_ok()) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        let read = |path: PathBuf| {
            let text = std::fs::read(&path).map_err(|e| e.to_string());
            let entry = text.and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string()));
            entry.map_err(|why| Unreadable { path, why })
        };
        Ok(paths.into_iter().map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        let text = format!(
            "name = \"{name}\"\ncomponent = \"sha256:00\"\n[args]\nsize = 3\nat = 1.5\n[sources.in]\nconnector = \"kafka\"\n\"properties\" = {{ \"a.b\" = \"c\" }}\n[sinks.out]\nconnector = \"blackhole\"\n\
             [checkpoint]\ninterval = \"1s\""
        );
        Entry {
            id: JobId::generate(),
            tenant: TenantId::default(),
            created: Timestamp::UNIX_EPOCH,
            spec: JobSpec::from_toml(&text, &[]).expect("a good spec"),
            from: StartFrom { savepoint: Some("before".into()), drops_unmatched: true },
            has_checkpoint: false,
            stops: false,
        }
    }

    /// Goal: what was noted down is there, in order and as it was, until it is struck out; what cannot be read is told, and hides nothing else.
    #[test]
    fn entries_stay_until_they_are_struck_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [first, mut second, third] = ["a", "b", "c"].map(entry);
        second.from = StartFrom::default();
        second.has_checkpoint = true;
        {
            let roster = Roster::open(folder.path()).expect("a roster");
            for entry in [&first, &second, &third] {
                roster.keep(entry).expect("it is noted down");
            }
            roster.forget(first.id).expect("it is struck out");
            roster.forget(first.id).expect("it is not there");
        }
        let roster = Roster::open(folder.path()).expect("the other one is gone");
        std::fs::write(roster.path(third.id), "{").expect("a file");
        std::fs::write(folder.path().join("jobs/note.txt"), "no entry").expect("a file");
        let listed = roster.list().expect("a list");
        assert_eq!(listed.len(), 2);
        let read = listed.iter().find_map(|entry| entry.as_ref().ok()).expect("one of them can be read");
        assert_eq!(*read, second);
        let unreadable = listed.iter().find_map(|entry| entry.as_ref().err()).expect("one of them cannot");
        assert_eq!(unreadable.path, roster.path(third.id));
    }

    /// Goal: an entry can be written again, and one that an older version has written is read.
    #[test]
    fn entries_change() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let roster = Roster::open(folder.path()).expect("a roster");
        let mut entry = entry("a");
        roster.keep(&entry).expect("it is noted down");
        let text = std::fs::read_to_string(roster.path(entry.id)).expect("an entry");
        let mut older: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for name in ["has_checkpoint", "stops"] {
            older.as_object_mut().expect("an object").remove(name).expect("it is written");
        }
        std::fs::write(roster.path(entry.id), older.to_string()).expect("a file");
        let only = || roster.list().expect("a list").remove(0).expect("it can be read");
        assert_eq!(only(), entry);
        entry.stops = true;
        roster.keep(&entry).expect("it is noted down");
        assert_eq!(only(), entry);
    }

    /// Goal: two servers do not go on with the same jobs.
    #[test]
    fn one_server_has_a_directory() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Roster::open(folder.path()).expect("a roster");
        let second = Roster::open(folder.path()).expect_err("it is taken");
        assert!(second.kind == ErrorKind::Conflict && second.message.contains("another server"), "{second}");
        drop(first);
        Roster::open(folder.path()).expect("it is free again");
    }
}
