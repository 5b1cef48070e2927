//! Where everything lies below a storage's URL. No name of an object is made elsewhere.
//!
//! ```text
//! jobs/<job>/log/<20 digits>.json                                        entries, by their numbers
//! jobs/<job>/log-id                                                      what tells the log from others
//! jobs/<job>/files/<generation>/<vertex>-<subtask>/<checkpoint>-<name>   state, immutable
//! jobs/<job>/committed/<generation>-<checkpoint>.json                    notes that sinks have committed a checkpoint
//! savepoints/<id>/claim                                                  while it is being written
//! savepoints/<id>/manifest.json                                          written last
//! savepoints/<id>/files/<n>-<name>                                       copies: a savepoint refers to nothing outside of it
//! probes/<id>                                                            gone after a moment
//! ```
//!
//! A file's name says which generation wrote it for which checkpoint. So no two writers ever write one name, and what was left
//! behind by a generation that is gone, or by a checkpoint that was given up, is known by its name alone.

use object_store::path::{Path, PathPart};

use crate::error::Error;

/// How many digits an entry's number has, so that names order as numbers do.
const NUMBER_DIGITS: usize = 20;

/// No log comes to a greater number: at one entry each nanosecond, it would have taken 36 years.
const NUMBER_MAX: u64 = 1 << 60;

/// A part of a name is not longer than this once it is encoded: file systems end at 255.
const NAME_BYTES_MAX: usize = 200;

/// The folder of a job. Its name may have several parts, `tenant/job` for example.
pub(crate) fn job(name: &str) -> Result<Path, Error> {
    let mut path = Path::from("jobs");
    for part in name.split('/') {
        check("job", name, part)?;
        path = path.join(part);
    }
    Ok(path)
}

/// The folder of savepoints.
pub(crate) fn savepoints() -> Path {
    Path::from("savepoints")
}

/// The folder of one savepoint. People type its id, so it is the folder's name as it is.
pub(crate) fn savepoint(id: &str) -> Result<Path, Error> {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && id != "." && id != "..";
    if !plain {
        return Err(Error::invalid(format!(
            "{id:?} cannot name a savepoint: it may have letters, digits, dots, dashes and underscores"
        )));
    }
    check("savepoint", id, id)?;
    Ok(savepoints().join(id))
}

fn check(what: &str, name: &str, part: &str) -> Result<(), Error> {
    if part.is_empty() || PathPart::from(part).as_ref().len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!("{name:?} cannot name a {what}: each part must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The folder of the objects by which a storage is tried out.
pub(crate) fn probes() -> Path {
    Path::from("probes")
}

/// In a job's folder, the log.
pub(crate) fn log() -> Path {
    Path::from("log")
}

/// In a job's folder, what tells the log from others.
pub(crate) fn log_id() -> Path {
    Path::from("log-id")
}

/// In a job's folder, the log's entry of this number.
pub(crate) fn entry(number: u64) -> Path {
    log().join(format!("{number:0NUMBER_DIGITS$}.json"))
}

/// The number of the log's entry at this path of a job's folder. What has the name of an entry to which no log ever comes is none: behind
/// the last number there would be no place for another one.
pub(crate) fn entry_number(path: &Path) -> Option<u64> {
    let digits = path.as_ref().strip_prefix("log/")?.strip_suffix(".json")?;
    let has_shape = digits.len() == NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|number| has_shape && *number <= NUMBER_MAX)
}

/// In a job's or savepoint's folder, the files.
pub(crate) fn files() -> Path {
    Path::from("files")
}

/// In a job's folder, the notes of what sinks have committed.
pub(crate) fn committed_notes() -> Path {
    Path::from("committed")
}

/// In a job's folder, the note that sinks have committed the checkpoint of this number that this generation made.
pub(crate) fn committed(generation: u64, checkpoint: u64) -> Path {
    committed_notes().join(format!("{generation}-{checkpoint}.json"))
}

/// Of which generation's checkpoint the note at this path of a job's folder is.
pub(crate) fn noted(path: &Path) -> Option<(u64, u64)> {
    let (generation, checkpoint) = path.as_ref().strip_prefix("committed/")?.strip_suffix(".json")?.split_once('-')?;
    Some((generation.parse().ok()?, checkpoint.parse().ok()?))
}

/// In a savepoint's folder, the manifest.
pub(crate) fn manifest() -> Path {
    Path::from("manifest.json")
}

/// In a savepoint's folder, whose it is while it is being written.
pub(crate) fn claim() -> Path {
    Path::from("claim")
}

/// In a savepoint's folder, its `n`th file, a copy of the file at `of`.
pub(crate) fn copy(n: usize, of: &Path) -> Path {
    let name = of.filename().unwrap_or_default();
    // The name is encoded already.
    Path::parse(format!("{}/{n}-{name}", files())).expect("a digit, a dash and part of a path are part of a path")
}

/// What names a state file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateFile {
    /// the generation that writes it
    pub generation: u64,
    /// the vertex of the task that writes it
    pub vertex: u32,
    /// the task's subtask
    pub subtask: u16,
    /// the checkpoint that it is written for first
    pub checkpoint: u64,
    /// what no other file of the task has in this checkpoint: any text of up to 200 bytes
    pub name: String,
}

impl StateFile {
    /// Where it lies in its job's folder.
    pub(crate) fn path(&self) -> Result<Path, Error> {
        check("state file", &self.name, &self.name)?;
        let folder = files().join(self.generation.to_string()).join(format!("{}-{}", self.vertex, self.subtask));
        Ok(folder.join(format!("{}-{}", self.checkpoint, self.name)))
    }
}

/// Which generation wrote the state file at this path of a job's folder, and for which checkpoint.
pub(crate) fn written_by(path: &Path) -> Option<(u64, u64)> {
    let mut parts = path.as_ref().split('/');
    let (files, generation, task, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (vertex, subtask) = task.split_once('-')?;
    let (checkpoint, _) = name.split_once('-')?;
    let shape = files == "files" && vertex.parse::<u32>().is_ok() && subtask.parse::<u16>().is_ok() && parts.next().is_none();
    shape.then_some((generation.parse().ok()?, checkpoint.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names say what they were made of; others say nothing.
    #[test]
    fn names_are_read_back() {
        for number in [1, 42, NUMBER_MAX] {
            assert_eq!(entry_number(&entry(number)), Some(number));
        }
        assert_eq!(entry(7).as_ref(), "log/00000000000000000007.json");
        assert!(entry(9) < entry(10) && entry(u64::MAX - 1) < entry(u64::MAX), "names order as numbers do");
        for stray in [NUMBER_MAX + 1, u64::MAX] {
            assert_eq!(entry_number(&entry(stray)), None, "no log comes to {stray}");
        }
        for other in
            ["log/7.json", "log/0000000000000000000x.json", "log/00000000000000000007", "files/00000000000000000007.json"]
        {
            assert_eq!(entry_number(&Path::from(other)), None, "{other}");
        }
        let file = StateFile { generation: 3, vertex: 2, subtask: 1, checkpoint: 7, name: "000009.sst".into() };
        assert_eq!(file.path().unwrap().as_ref(), "files/3/2-1/7-000009.sst");
        assert_eq!(written_by(&file.path().unwrap()), Some((3, 7)));
        assert_eq!(noted(&committed(3, 7)), Some((3, 7)));
        for other in ["committed/3.json", "committed/x-7.json", "committed/3-7", "committed/a/3-7.json", "files/3-7.json"] {
            assert_eq!(noted(&Path::from(other)), None, "{other}");
        }
        for other in ["files/3/2-1/x", "files/3/2-1/7-a/b", "files/x/2-1/7-a", "files/3/2/7-a", "log/3/2-1/7-a", "files/3/2-1"] {
            assert_eq!(written_by(&Path::from(other)), None, "{other}");
        }
    }

    /// A name cannot lead out of its folder, whatever it is.
    #[test]
    fn names_stay_in_their_folder() {
        let hostile = StateFile { generation: 1, vertex: 0, subtask: 0, checkpoint: 1, name: "../../x#1/\0".into() };
        assert_eq!(hostile.path().unwrap().as_ref(), "files/1/0-0/1-..%2F..%2Fx%231%2F%00");
        assert_eq!(job("acme/..").unwrap().as_ref(), "jobs/acme/%2E%2E");
        assert_eq!(job("acme/hot items").unwrap().as_ref(), "jobs/acme/hot items");
        assert_eq!(copy(3, &Path::parse("files/2/0-1/4-a%2Fb").unwrap()).as_ref(), "files/3-4-a%2Fb");
        for name in ["", "/", "a//b", "a/"] {
            assert!(job(name).is_err(), "{name:?}");
        }
        for id in ["a/b", "", "..", "a#1"] {
            assert!(savepoint(id).is_err(), "{id:?}");
        }
        assert_eq!(savepoint("sp-1").unwrap().as_ref(), "savepoints/sp-1");
        assert!(StateFile { name: "x".repeat(201), ..hostile.clone() }.path().is_err());
        assert!(StateFile { name: "#".repeat(67), ..hostile }.path().is_err());
    }
}
