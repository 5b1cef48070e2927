//! Which database has written which file.
//!
//! Databases number their files: no two of one database have the same number. But one that is opened from a checkpoint goes on with the
//! checkpoint's numbers, as the database does that the checkpoint was taken of, so that `000012.sst` may be two files. What tells them apart is who
//! wrote them. Numbers only grow, so a list of databases with the first number of each says it for all files: the last one that began at or before
//! a file's number has written it.
//!
//! The list is a file beside the others, a line for each database, and goes with them into every checkpoint.
//!
//! ```text
//! 1 8c3a0d5e-…     the first database wrote 000001.sst to 000041.sst (those that are still there)
//! 42 e07f4c11-…    the database that was opened from its checkpoint writes 000042.sst and all after it
//! ```

use std::fs;
use std::path::Path;

use rocksdb::DB;

use super::failure;
use crate::Error;

/// The name of the list.
const FILE: &str = "LINEAGE";

/// The databases that the files of one come from, oldest first: the first number of each, and its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage(Vec<(u64, String)>);

impl Lineage {
    /// That of the files in a directory, before a database is opened there. Empty if there are none.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        if !path.try_exists().map_err(|e| failure::of_file(&path, &e))? {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).map_err(|e| failure::of_file(&path, &e))?;
        let line = |line: &str| {
            let (first, identity) = line.split_once(' ')?;
            Some((first.parse().ok()?, identity.to_owned()))
        };
        let databases = text.lines().map(line).collect::<Option<_>>();
        databases.map(Self).ok_or_else(|| Error::Damaged { path, message: "a line is not a number and an identity".into() })
    }

    /// Adds the database that was opened on files of which the last had this number, unless it is the one that wrote them.
    pub fn extend(&mut self, db: &DB, last: u64) -> Result<(), rocksdb::Error> {
        let identity = String::from_utf8_lossy(&db.get_db_identity()?).trim().to_owned();
        if self.0.last().is_none_or(|(_, of_last)| *of_last != identity) {
            self.0.push((last + 1, identity));
        }
        Ok(())
    }

    /// Writes it into a directory.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        let text: String = self.0.iter().map(|(first, identity)| format!("{first} {identity}\n")).collect();
        fs::write(&path, text).map_err(|e| failure::of_file(&path, &e))
    }

    /// What no other file of any database is called. None if it is not a file of entries.
    pub fn id_of(&self, name: &str) -> Option<String> {
        let number = number(name)?;
        let (_, identity) = self.0.iter().rev().find(|(first, _)| *first <= number)?;
        Some(format!("{identity}-{name}"))
    }
}

/// The number of a file of entries; none if the name is not that of one.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".sst")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file belongs to the last database that began before it; the list survives being written, and a broken one is refused.
    #[test]
    fn tells_who_wrote_what() {
        let lineage = Lineage(vec![(1, "a".into()), (42, "b".into())]);
        let ids = ["000041.sst", "000042.sst", "1000000.sst", "MANIFEST-000005", "CURRENT"].map(|name| lineage.id_of(name));
        assert_eq!(ids, [Some("a-000041.sst".into()), Some("b-000042.sst".into()), Some("b-1000000.sst".into()), None, None]);

        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Lineage::read(dir.path()).unwrap(), Lineage::default());
        lineage.write(dir.path()).unwrap();
        assert_eq!(Lineage::read(dir.path()).unwrap(), lineage);
        fs::write(dir.path().join(FILE), "x y\n").unwrap();
        let error = Lineage::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("LINEAGE") && error.contains("damaged"), "{error}");
    }
}
