//! Where parts lie, hidden and visible.

mod folder;
mod mark;
mod s3;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub(in crate::file) use self::folder::Folder;
use self::mark::Mark;
pub(in crate::file) use self::s3::Bucket;
use super::Prepared;
use crate::Error;

/// The place, below the sink's folder, where hidden parts are.
const HIDDEN: &str = ".weir";

/// Where parts lie. A part is known by its path below the sink's folder; the name at the end of it is unique.
pub(in crate::file) trait Store: Send + Sync {
    /// Makes sure that parts can be written.
    fn open(&self) -> Result<(), Error>;

    /// Begins a hidden part.
    fn begin(&self, part: &str) -> Result<Box<dyn Hidden>, Error>;

    /// Makes durable that sealed parts are there.
    fn sync(&self) -> Result<(), Error>;

    /// Gives hidden parts their names. One that has its name already keeps it, and none replaces another one.
    fn publish(&self, parts: &[Prepared]) -> Result<(), Error>;

    /// Removes the hidden parts whose names are garbage.
    fn discard(&self, is_garbage: &dyn Fn(&str) -> bool) -> Result<(), Error>;

    /// A part as messages write it.
    fn shown(&self, part: &str) -> String;
}

/// A hidden part that is written. One that is dropped before it was sealed is garbage.
pub(in crate::file) trait Hidden: Write + Send {
    /// Makes durable what was written.
    fn seal(self: Box<Self>) -> io::Result<Option<Upload>>;
}

/// A part that was uploaded piece by piece, and is not put together yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::file) struct Upload {
    /// what the store calls it
    pub id: String,
    /// what the store calls its pieces, in order
    pub pieces: Vec<String>,
    /// what its object is known by; none in checkpoints of older versions
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// The error of a part that would replace another one. Numbers are counted anew where a job finds no checkpoints of its own.
fn taken(part: &str) -> Error {
    Error::options(format!(
        "the part {part} is there already, of a job of the same name whose checkpoints are gone: choose another place for the parts, \
         or move it away"
    ))
}

/// The error of a transaction whose rows are gone.
fn lost(part: &str, hidden: &str) -> Error {
    Error::missing(format!(
        "the rows of {part} are lost, unless they are elsewhere: it was prepared, but neither it nor {hidden} is there"
    ))
}
