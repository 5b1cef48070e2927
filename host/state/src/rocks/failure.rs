//! What failures of the disk and of the library mean.
//!
//! The library tells most of them by text alone; the texts are those of its version in the workspace's manifest, and of the system.

use std::io;
use std::path::Path;

use rocksdb::ErrorKind;

use crate::Error;

/// A failure of the database in a directory.
pub(super) fn of_db(dir: &Path, error: &rocksdb::Error) -> Error {
    of_text(dir, error.kind() == ErrorKind::Corruption, error.to_string())
}

fn of_text(dir: &Path, is_corruption: bool, message: String) -> Error {
    let path = dir.to_owned();
    let says = |text: &str| message.contains(text);
    if says("No space left on device") || says("Disk quota exceeded") {
        return Error::DiskFull { path };
    }
    if says("lock hold by current process") || says("While lock file") {
        return Error::Locked { path };
    }
    // The second is said of a file that another one names, the third of the first file that is looked for.
    if is_corruption || says("No such file or directory") || says("does not exist") {
        return Error::Damaged { path, message };
    }
    Error::Disk { path, message }
}

/// A failure of a file that is not the library's.
pub(super) fn of_file(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path: path.to_owned() },
        _ => Error::Disk { path: path.to_owned(), message: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot be brought about in a test, by the texts that the library has for it. Those of locks and of missing files come up in the tests
    /// of databases.
    #[test]
    fn knows_texts() {
        let of = |text: &str| of_text(Path::new("/state/7"), false, text.into()).to_string();
        let full = of("IO error: No space left on device: While appending to file: /state/7/000009.sst: No space left on device");
        assert!(full.contains("no space is left for the state in /state/7"), "{full}");
        let locked = of("IO error: While lock file: /state/7/LOCK: Resource temporarily unavailable");
        assert!(locked.contains("/state/7 is in use"), "{locked}");
        let other = of("IO error: While fsync: /state/7/000009.sst: Input/output error");
        assert!(other.contains("/state/7 cannot be read or written: IO error: While fsync"), "{other}");
        let full = of_file(Path::new("/state/7/LINEAGE"), &io::ErrorKind::StorageFull.into()).to_string();
        assert!(full.contains("no space is left for the state in /state/7/LINEAGE"), "{full}");
    }
}
