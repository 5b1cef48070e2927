//! What is told about savepoints: of a tenant on a server, or of any storage.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use weir_checkpoint::{Kind, Manifest, Savepoint, Savepoints, SplitState};

use crate::error::{self, Error, ErrorKind};

/// The most characters of a job's name in the id of a savepoint that was given none.
const NAME_CHARS_MAX: usize = 100;

/// A savepoint that somebody wants of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = SavepointWish)]
pub struct Wish {
    /// its id: letters, digits, dots, dashes and underscores; none = the job's name and the time
    pub id: Option<String>,
    /// whether the job ends with it
    pub stop: bool,
    /// with `stop`: whether all windows are emitted before, as at the end of the input
    pub drain: bool,
}

/// A savepoint that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SavepointWritten)]
pub struct Written {
    /// the checkpoint that it is a copy of
    pub checkpoint: u64,
    /// its id
    pub savepoint: String,
    /// where it lies
    pub url: String,
}

/// A savepoint in a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SavepointSummary)]
pub struct Summary {
    /// its id
    pub id: String,
    /// what it comprises; none if it cannot be used
    #[serde(flatten)]
    pub content: Option<Content>,
    /// why it cannot be used: it is not complete, or damaged
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A savepoint in short.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SavepointContent)]
pub struct Content {
    /// the name of the job that made it
    pub job: String,
    /// the number of its checkpoint
    pub checkpoint: u64,
    /// what the checkpoint is: `savepoint`
    #[schema(value_type = String, example = "savepoint")]
    pub kind: Kind,
    /// when the checkpoint was complete
    #[schema(value_type = String, format = DateTime)]
    pub made: Timestamp,
    /// the bytes of its files
    pub bytes: u64,
    /// whether its job was drained or had finished: time begins anew for a job that starts from it
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_end: bool,
}

/// All that is told about a savepoint.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SavepointView)]
pub struct View {
    /// its id
    pub id: String,
    /// where it lies
    pub url: String,
    /// in short
    #[serde(flatten)]
    pub content: Content,
    /// how many key groups its job has; a job that starts from it must have as many
    pub max_parallelism: u16,
    /// how many files it has
    pub files: u64,
    /// the operators that have state in it
    pub operators: Vec<Operator>,
    /// how far sources had read
    pub sources: Vec<Source>,
    /// how many batches of rows are in flight in it: only older versions made such savepoints. A job that starts from it must have the exchanges that they are in
    #[serde(skip_serializing_if = "is_zero")]
    pub batches_in_flight: u64,
    /// files that are missing or have another length, and those with other bytes if they were read, with what is wrong
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub broken: BTreeMap<String, String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The state of an operator in a savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SavepointOperator)]
pub struct Operator {
    /// the operator's id
    pub id: String,
    /// what its state is: only an operator of which the same is said can read it
    pub schema: String,
    /// how many subtasks wrote it
    pub subtasks: u16,
    /// its bytes
    pub bytes: u64,
}

/// How far a source had read.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SavepointSource)]
pub struct Source {
    /// the source's name
    pub name: String,
    /// its splits (files, partitions), by name: where a reader goes on, as its connector says it; `done` where there is nothing more to read
    #[schema(value_type = Object)]
    pub splits: BTreeMap<String, Value>,
}

impl From<&Manifest> for Content {
    fn from(manifest: &Manifest) -> Self {
        Self {
            job: manifest.job.clone(),
            checkpoint: manifest.checkpoint,
            kind: manifest.kind,
            made: Timestamp::from_millisecond(manifest.finished_ms).unwrap_or(Timestamp::UNIX_EPOCH),
            bytes: manifest.bytes_total,
            at_end: manifest.is_at_end(),
        }
    }
}

/// The savepoints of a storage, by their ids, with those that cannot be used.
///
/// # Errors
/// If the storage fails.
pub async fn list(savepoints: &Savepoints) -> Result<Vec<Summary>, Error> {
    let listed = savepoints.list().await.map_err(|e| refused(&e))?;
    let summaries = listed.into_iter().map(|listed| {
        let (content, problem) = match &listed.manifest {
            Ok(manifest) => (Some(manifest.into()), None),
            Err(problem) => (None, Some(problem.to_string())),
        };
        Summary { id: listed.id, content, problem }
    });
    Ok(summaries.collect())
}

/// What there is to tell about a savepoint. Its files are looked for; whether they are also read, `verifies` says.
///
/// # Errors
/// If the storage fails.
pub async fn view(savepoint: &Savepoint, verifies: bool) -> Result<View, Error> {
    let inspection = if verifies { savepoint.verify().await } else { savepoint.inspect().await };
    let inspection = inspection.map_err(|e| refused(&e))?;
    let manifest = savepoint.manifest();
    Ok(View {
        id: savepoint.id(),
        url: savepoint.folder().url(),
        content: Content { bytes: inspection.bytes, ..manifest.into() },
        max_parallelism: manifest.max_parallelism,
        files: inspection.files,
        operators: operators(manifest),
        sources: sources(manifest),
        batches_in_flight: manifest.batches_in_flight(),
        broken: inspection.broken,
    })
}

fn operators(manifest: &Manifest) -> Vec<Operator> {
    let mut operators = BTreeMap::<&str, Operator>::new();
    let mut seen = HashSet::new();
    for chain in manifest.tasks.iter().flat_map(|task| &task.chains) {
        let operator = operators.entry(&chain.operator).or_insert_with(|| Operator {
            id: chain.operator.clone(),
            schema: chain.schema.clone(),
            subtasks: 0,
            bytes: 0,
        });
        operator.subtasks += 1;
        operator.bytes += chain.files().filter(|file| seen.insert(&file.path)).map(|file| file.bytes).sum::<u64>();
    }
    operators.into_values().collect()
}

fn sources(manifest: &Manifest) -> Vec<Source> {
    let mut sources = BTreeMap::<&str, BTreeMap<String, Value>>::new();
    for source in manifest.tasks.iter().filter_map(|task| task.source.as_ref()) {
        let splits = source.splits.iter().map(|(split, state)| match state {
            SplitState::At { position, .. } => (split.clone(), position.clone().unwrap_or_else(|| "at its beginning".into())),
            SplitState::Done => (split.clone(), "done".into()),
        });
        sources.entry(&source.name).or_default().extend(splits);
    }
    sources.into_iter().map(|(name, splits)| Source { name: name.to_owned(), splits }).collect()
}

/// The id of a savepoint of a job that was given none.
pub fn default_id(job: &str, now: Timestamp) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = job.chars().take(NAME_CHARS_MAX).map(plain).collect();
    format!("{name}-{}", now.strftime("%Y%m%dT%H%M%S.%3fZ"))
}

/// What a storage of savepoints said.
pub(crate) fn refused(error: &weir_checkpoint::Error) -> Error {
    use weir_checkpoint::ErrorKind as Storage;
    let (kind, code) = match error.kind {
        Storage::Invalid => (ErrorKind::Invalid, error::SAVEPOINT_INVALID),
        Storage::NotFound => (ErrorKind::NotFound, error::SAVEPOINT_NOT_FOUND),
        Storage::Conflict => (ErrorKind::Conflict, error::SAVEPOINT_EXISTS),
        Storage::Corrupt => (ErrorKind::Conflict, error::SAVEPOINT_DAMAGED),
        Storage::Unavailable => (ErrorKind::Unavailable, error::STORAGE),
        Storage::Denied | Storage::Unsupported | Storage::Newer | Storage::Local => (ErrorKind::Internal, error::STORAGE),
    };
    Error::new(kind, code, error.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a job is called, its savepoints have ids that can be typed.
    #[test]
    fn ids_are_plain() {
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        assert_eq!(default_id("hot items/\u{1b}ü", now), "hot-items----20260102T030405.678Z");
        assert!(default_id(&"x".repeat(1000), now).len() < 200);
    }
}
