//! What is done with a record that is malformed.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use arrow_cast::base64::{BASE64_STANDARD, Engine};
use parking_lot::Mutex;
use serde::Deserialize;

use super::columns::Reason;
use crate::{Context, Error, Files, Reject};

/// What is done with a record that is malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnMalformed {
    /// the job fails
    #[default]
    Fail,
    /// it is counted and passed over
    Skip,
    /// it is counted, written to the rejects file, and passed over
    Rejects,
    /// it is counted, and becomes a dead letter
    DeadLetter,
}

/// Where a malformed record was found.
pub(crate) enum Place<'a> {
    /// in a file or a pipe
    Line { input: &'a str, line: u64 },
    /// in a partition of a topic
    Record { topic: &'a str, partition: i32, offset: i64 },
}

impl Place<'_> {
    fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let json = match self {
            Self::Line { input, line } => serde_json::json!({ "file": input, "line": line }),
            Self::Record { topic, partition, offset } => {
                serde_json::json!({ "topic": topic, "partition": partition, "offset": offset })
            }
        };
        match json {
            serde_json::Value::Object(place) => place,
            _ => unreachable!("a place is an object"),
        }
    }

    /// The position of the record in its split.
    fn position(&self) -> u64 {
        match *self {
            Self::Line { line, .. } => line,
            Self::Record { offset, .. } => offset as u64,
        }
    }

    /// What the outside calls its records.
    fn records(&self) -> &'static str {
        match self {
            Self::Line { .. } => "lines",
            Self::Record { .. } => "records",
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { input, line } => write!(f, "{input}, line {line}"),
            Self::Record { topic, partition, offset } => write!(f, "topic {topic}, partition {partition}, offset {offset}"),
        }
    }
}

/// A record as text, without its line end; in base64, whole, where it is not UTF-8, and whether that is so.
fn legible(record: &[u8]) -> (String, bool) {
    match std::str::from_utf8(record) {
        Ok(text) => (text.trim_end_matches(['\r', '\n']).to_owned(), false),
        Err(_) => (BASE64_STANDARD.encode(record), true),
    }
}

/// What is done with malformed records, for all readers of a source.
pub(crate) struct Policy {
    on_malformed: OnMalformed,
    rejects_path: PathBuf,
    files: Files,
    /// whether what an older attempt has written stays: it does not read that again
    continues: bool,
    /// made, or opened again, when there is something to write
    rejects: Mutex<Option<File>>,
}

impl Policy {
    /// `rejects_path` is needed where malformed records are written to it.
    pub fn new(on_malformed: OnMalformed, rejects_path: Option<PathBuf>, context: &Context) -> Result<Self, Error> {
        match (on_malformed, &rejects_path) {
            (OnMalformed::Rejects, None) => Err(Error::options("on_malformed = \"rejects\" needs the option rejects_path")),
            (OnMalformed::Fail | OnMalformed::Skip | OnMalformed::DeadLetter, Some(_)) => {
                Err(Error::options("the option rejects_path needs on_malformed = \"rejects\""))
            }
            _ => Ok(Self {
                on_malformed,
                rejects_path: rejects_path.unwrap_or_default(),
                files: context.files.clone(),
                continues: context.attempt.continues,
                rejects: Mutex::new(None),
            }),
        }
    }

    /// Deals with a record that is malformed. Returns it if it is to become a dead letter.
    ///
    /// # Errors
    /// If the policy is to fail, or the rejects file cannot be written.
    pub fn handle(&self, place: &Place<'_>, Reason(why): Reason, record: &[u8]) -> Result<Option<Reject>, Error> {
        match self.on_malformed {
            OnMalformed::Skip => Ok(None),
            OnMalformed::DeadLetter => {
                let (record, is_base64) = legible(record);
                Ok(Some(Reject { position: place.position(), reason: why, record, is_base64 }))
            }
            OnMalformed::Fail => Err(Error::malformed(format!(
                "{place}: {why} (to pass over such {}, set on_malformed = \"skip\", \"rejects\" or \"dead-letter\")",
                place.records()
            ))),
            OnMalformed::Rejects => {
                let (record, is_base64) = legible(record);
                let mut reject = place.to_json();
                reject.insert("reason".into(), why.into());
                reject.insert(if is_base64 { "bytes" } else { "text" }.into(), record.into());
                let mut reject = serde_json::Value::Object(reject).to_string();
                reject.push('\n');
                self.keep(reject.as_bytes()).map_err(|e| {
                    let path = self.files.shown(&self.rejects_path);
                    Error::io(format!("the rejects file {path} cannot be written"), e)
                })?;
                Ok(None)
            }
        }
    }

    /// Writes a line to the rejects file.
    fn keep(&self, line: &[u8]) -> io::Result<()> {
        let mut rejects = self.rejects.lock();
        let file = match &mut *rejects {
            Some(file) => file,
            none => {
                let there = if self.continues { self.files.append(&self.rejects_path)? } else { None };
                none.insert(there.map_or_else(|| self.files.create(&self.rejects_path), Ok)?)
            }
        };
        file.write_all(line)
    }
}
