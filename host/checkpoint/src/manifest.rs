//! What a checkpoint comprises, and what else stands in a job's log.
//!
//! The log's entries are written once, each under the next number, and never changed: a [`Claim`] says that from here on a
//! generation owns the job, a [`Manifest`] that a checkpoint is complete. A checkpoint is complete exactly if its manifest can be
//! read from the log.
//!
//! Everything here is stored. Names and meanings of fields change only together with [`FORMAT`]; the test `format_1_is_read`
//! holds documents of each format.

use std::collections::BTreeMap;

use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_types::{EventTime, KeyGroupRange, Watermark};

use crate::checksum::Checksum;
use crate::document;
pub use crate::document::FORMAT;
use crate::error::Corrupt;

/// An entry of a job's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// a generation owns the job from here on
    Claim(Claim),
    /// a checkpoint is complete
    Manifest(Manifest),
}

impl Entry {
    /// The generation that wrote the entry.
    pub fn generation(&self) -> u64 {
        match self {
            Self::Claim(claim) => claim.generation,
            Self::Manifest(manifest) => manifest.generation,
        }
    }
}

/// A generation owns the job from here on: what older ones still do has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// the generation
    pub generation: u64,
    /// when it was claimed, in milliseconds since 1970, for people
    pub at_ms: i64,
}

/// Everything that a checkpoint comprises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// the document's format: [`FORMAT`]
    pub format: u32,
    /// the job's name
    pub job: String,
    /// what it was made for
    pub kind: Kind,
    /// the checkpoint's number, which grows over all generations of the job
    pub checkpoint: u64,
    /// the generation that made it
    pub generation: u64,
    /// what the graph's operators and schemas hash to
    pub graph_fingerprint: String,
    /// the number of key groups
    pub max_parallelism: u16,
    /// the vertices, with how many subtasks each ran
    pub vertices: Vec<Vertex>,
    /// what crosses each edge: rows in flight go on by an edge of which the same is said
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<String>,
    /// when its barriers started, in milliseconds since 1970
    pub started_ms: i64,
    /// when its last task was done
    pub finished_ms: i64,
    /// one snapshot for each subtask
    pub tasks: Vec<TaskSnapshot>,
    /// the bytes of all files that it refers to
    pub bytes_total: u64,
    /// the bytes of those among them that were uploaded for it
    pub bytes_new: u64,
}

impl Manifest {
    /// One of a checkpoint that comprises nothing yet.
    pub fn new(job: impl Into<String>, kind: Kind, checkpoint: u64, generation: u64, max_parallelism: u16) -> Self {
        Self {
            format: FORMAT,
            job: job.into(),
            kind,
            checkpoint,
            generation,
            graph_fingerprint: String::new(),
            max_parallelism,
            vertices: vec![],
            edges: vec![],
            started_ms: 0,
            finished_ms: 0,
            tasks: vec![],
            bytes_total: 0,
            bytes_new: 0,
        }
    }
}

/// What a checkpoint was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// to recover from failures
    Checkpoint,
    /// for its user, who owns it
    Savepoint,
    /// to end the job: nothing comes after it
    Final,
}

/// How many subtasks a vertex had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vertex {
    /// the vertex's number in the plan
    pub vertex: u32,
    /// its subtasks
    pub parallelism: u16,
}

/// One subtask's contribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSnapshot {
    /// the vertex's number in the plan
    pub vertex: u32,
    /// which of its subtasks
    pub subtask: u16,
    /// of how many
    pub parallelism: u16,
    /// where its source is, if it has one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceSnapshot>,
    /// the state of its operators
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<ChainSnapshot>,
    /// what its sinks have written but not yet committed
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkSnapshot>,
    /// batches that an unaligned barrier overtook
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlight>,
}

impl TaskSnapshot {
    /// That of a subtask which contributes nothing yet.
    pub fn new(vertex: u32, subtask: u16, parallelism: u16) -> Self {
        Self { vertex, subtask, parallelism, source: None, chains: vec![], sinks: vec![], in_flight: vec![] }
    }
}

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSnapshot {
    /// the source's name in the graph
    pub name: String,
    /// the splits that this subtask has read, by their ids
    pub splits: BTreeMap<String, SplitState>,
}

/// How far a split has been read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SplitState {
    /// a reader continues here
    At {
        /// what the connector needs to know to read it
        spec: Value,
        /// what the connector calls a position; none = at the beginning
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Value>,
    },
    /// to its end
    Done,
}

/// The state of one operator in one subtask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSnapshot {
    /// the operator's id
    pub operator: String,
    /// what its state is: only an operator of the same schema can read it
    pub schema: String,
    /// the schemas by which its states may have been written, as components say them: each state has in it which one. Newer ones stand behind older ones
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_schemas: Vec<String>,
    /// the watermark that it has seen
    pub watermark: EventTime,
    /// the key groups that the subtask owned
    pub groups: KeyGroupRange,
    /// the keyed state
    pub state: StateFiles,
    /// the state that the operator has besides, the same in all subtasks
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_state: Option<FileRef>,
    /// small things that are not keyed: what they are, the operator knows
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub scalars: Value,
}

/// Where keyed state lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StateFiles {
    /// in portable files (see the `entries` module), which any backend reads
    Entries(Vec<FileRef>),
    /// in the files of a RocksDB database
    #[serde(rename = "rocksdb")]
    RocksDb {
        /// all files that the database consists of
        files: Vec<NamedFile>,
        /// what of the keyed state is not in it, in portable files: timers
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<FileRef>,
    },
}

/// A file under the name that its reader expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// the name in the database's directory
    pub name: String,
    /// where it is stored
    pub file: FileRef,
}

/// What a sink has written but not yet committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSnapshot {
    /// the sink's name in the graph
    pub name: String,
    /// what the connector needs to commit it, in this order
    pub transactions: Vec<Value>,
}

/// The batches of one channel that an unaligned barrier overtook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// the edge's number in the plan
    pub edge: u32,
    /// the subtask that sent them
    pub sender: u16,
    /// of how many; 0 = it was not noted down
    #[serde(default, skip_serializing_if = "is_zero")]
    pub senders: u16,
    /// how many there are
    pub batches: u64,
    /// the batches
    pub file: FileRef,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A stored file, which is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// its name, below the folder that the manifest is about: a job's, or a savepoint's
    pub path: String,
    /// its length
    pub bytes: u64,
    /// its checksum
    pub crc32: Checksum,
}

impl Manifest {
    /// How many batches of rows it has in flight, which only an unaligned checkpoint can have.
    pub fn batches_in_flight(&self) -> u64 {
        self.tasks.iter().flat_map(|task| &task.in_flight).map(|rows| rows.batches).sum()
    }

    /// Whether time had come to its end for all that has a time: the job had finished by then, or was drained. Where nothing has one, nobody can tell.
    pub fn is_at_end(&self) -> bool {
        let mut times = self.tasks.iter().flat_map(|task| &task.chains).map(|chain| Watermark(chain.watermark)).peekable();
        times.peek().is_some() && times.all(|time| time == Watermark::END)
    }

    /// All files that the manifest refers to. One that is referred to twice comes twice.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        self.tasks.iter().flat_map(|task| {
            let chains = task.chains.iter().flat_map(ChainSnapshot::files);
            chains.chain(task.in_flight.iter().map(|in_flight| &in_flight.file))
        })
    }

    /// The same, to be changed.
    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = &mut FileRef> {
        self.tasks.iter_mut().flat_map(|task| {
            let chains = task.chains.iter_mut().flat_map(|chain| chain.state.files_mut().chain(&mut chain.operator_state));
            chains.chain(task.in_flight.iter_mut().map(|in_flight| &mut in_flight.file))
        })
    }

    /// What the document's checksum cannot know: that the writer did not write nonsense.
    fn check(&self) -> Result<(), Corrupt> {
        if self.format != FORMAT {
            return Err(Corrupt::damaged(format!("its manifest has format {} in a document of format {FORMAT}", self.format)));
        }
        for file in self.files() {
            // A path with `..` or a leading `/` would lead out of the job's folder.
            if !Path::parse(&file.path).is_ok_and(|path| path.as_ref() == file.path && !path.is_root()) {
                return Err(Corrupt::damaged(format!("it names the file {:?}, which is no path", file.path)));
            }
        }
        for chain in self.tasks.iter().flat_map(|task| &task.chains) {
            let KeyGroupRange { start, end } = chain.groups;
            if start > end || end > self.max_parallelism {
                return Err(Corrupt::damaged(format!(
                    "operator {:?} has key groups {start}..{end} of {}",
                    chain.operator, self.max_parallelism
                )));
            }
        }
        Ok(())
    }
}

impl ChainSnapshot {
    /// The files of its state.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        self.state.files().chain(&self.operator_state)
    }
}

impl StateFiles {
    fn files(&self) -> impl Iterator<Item = &FileRef> {
        let (entries, named): (&[FileRef], &[NamedFile]) = match self {
            Self::Entries(files) => (files, &[]),
            Self::RocksDb { files, entries } => (entries, files),
        };
        entries.iter().chain(named.iter().map(|named| &named.file))
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut FileRef> {
        let (entries, named): (&mut [FileRef], &mut [NamedFile]) = match self {
            Self::Entries(files) => (files, &mut []),
            Self::RocksDb { files, entries } => (entries, files),
        };
        entries.iter_mut().chain(named.iter_mut().map(|named| &mut named.file))
    }
}

/// An entry as it is stored. `writer` names who writes it, and no other does so (see the `document` module).
pub fn encode(entry: &Entry, writer: &str) -> Bytes {
    document::encode("log", entry, writer)
}

/// The entry in a stored document.
///
/// # Errors
/// If the document is torn, altered, makes no sense, or is of a newer format.
pub fn decode(document: &[u8]) -> Result<Entry, Corrupt> {
    let entry = document::decode("log", document)?;
    if let Entry::Manifest(manifest) = &entry {
        manifest.check()?;
    }
    Ok(entry)
}

/// A savepoint's manifest as it is stored.
pub(crate) fn encode_savepoint(manifest: &Manifest, writer: &str) -> Bytes {
    document::encode("savepoint", manifest, writer)
}

/// The manifest in a savepoint's document.
pub(crate) fn decode_savepoint(document: &[u8]) -> Result<Manifest, Corrupt> {
    let manifest: Manifest = document::decode("savepoint", document)?;
    manifest.check()?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(path: &str) -> FileRef {
        FileRef { path: path.into(), bytes: 12, crc32: Checksum(0xab) }
    }

    /// A manifest with everything that there is.
    fn full() -> Manifest {
        let chain = |operator: &str, state| ChainSnapshot {
            operator: operator.into(),
            schema: "a window of keys u64".into(),
            state_schemas: vec![],
            watermark: -1,
            groups: KeyGroupRange { start: 0, end: 64 },
            state,
            operator_state: (operator == "last").then(|| file("files/3/0-1/7-last")),
            scalars: Value::Null,
        };
        let splits = [
            ("bids/0".to_string(), SplitState::At { spec: Value::Null, position: Some(json!({"offset": 17, "leader": null})) }),
            ("bids/1".to_string(), SplitState::Done),
        ];
        let task = TaskSnapshot {
            vertex: 0,
            subtask: 1,
            parallelism: 2,
            source: Some(SourceSnapshot { name: "bids".into(), splits: splits.into() }),
            chains: vec![
                chain("count", StateFiles::Entries(vec![file("files/3/0-1/7-count")])),
                chain(
                    "last",
                    StateFiles::RocksDb {
                        files: vec![NamedFile { name: "000009.sst".into(), file: file("files/2/0-1/4-000009.sst") }],
                        entries: vec![],
                    },
                ),
            ],
            sinks: vec![SinkSnapshot { name: "hot".into(), transactions: vec![json!({"id": "weir-7"})] }],
            in_flight: vec![InFlight { edge: 1, sender: 0, senders: 0, batches: 5, file: file("files/3/0-1/7-in-flight-1-0") }],
        };
        Manifest {
            format: FORMAT,
            job: "hot-items".into(),
            kind: Kind::Checkpoint,
            checkpoint: 7,
            generation: 3,
            graph_fingerprint: "9c".into(),
            max_parallelism: 128,
            vertices: vec![Vertex { vertex: 0, parallelism: 2 }],
            edges: vec![],
            started_ms: 1_760_000_000_000,
            finished_ms: 1_760_000_000_120,
            tasks: vec![task],
            bytes_total: 36,
            bytes_new: 24,
        }
    }

    /// What format 1 looks like does not change: a document that was stored once is read, and is written the same.
    #[test]
    fn format_1_is_read() {
        let documents = [
            (Entry::Claim(Claim { generation: 3, at_ms: 1_760_000_000_000 }), include_str!("../testdata/claim-1.json")),
            (Entry::Manifest(full()), include_str!("../testdata/manifest-1.json")),
        ];
        for (entry, stored) in documents {
            assert_eq!(String::from_utf8_lossy(&encode(&entry, "01K0W0000000000000000000AB")), stored);
            assert_eq!(decode(stored.as_bytes()).unwrap(), entry);
        }
    }

    /// All files are found, also those to be changed.
    #[test]
    fn files_are_listed() {
        let mut manifest = full();
        let paths: Vec<_> = manifest.files().map(|f| f.path.clone()).collect();
        assert_eq!(
            paths,
            ["files/3/0-1/7-count", "files/2/0-1/4-000009.sst", "files/3/0-1/7-last", "files/3/0-1/7-in-flight-1-0"]
        );
        manifest.files_mut().for_each(|f| f.path.insert(0, 'x'));
        assert!(manifest.files().all(|f| f.path.starts_with('x')));
    }

    /// The end is known by the time of operators: all of them have come to it.
    #[test]
    fn the_end_is_known() {
        let at = |times: &[EventTime]| {
            let mut manifest = full();
            let chains = &mut manifest.tasks[0].chains;
            chains.truncate(times.len());
            chains.iter_mut().zip(times).for_each(|(chain, &time)| chain.watermark = time);
            manifest.is_at_end()
        };
        assert!(at(&[EventTime::MAX]) && at(&[EventTime::MAX, EventTime::MAX]));
        assert!(!at(&[EventTime::MAX, 7]) && !at(&[7]));
        assert!(!at(&[]), "nothing has a time");
    }

    /// A manifest whose document is whole but whose content makes no sense is refused.
    #[test]
    fn nonsense_is_refused() {
        let spoil: [&dyn Fn(&mut Manifest); 6] = [
            &|m| m.format = 0,
            &|m| m.tasks[0].in_flight[0].file.path = "../../etc/passwd".into(),
            &|m| m.tasks[0].in_flight[0].file.path = "/files".into(),
            &|m| m.tasks[0].in_flight[0].file.path = String::new(),
            &|m| m.tasks[0].chains[0].groups.end = 129,
            &|m| m.tasks[0].chains[0].groups = KeyGroupRange { start: 7, end: 3 },
        ];
        for spoil in spoil {
            let mut manifest = full();
            spoil(&mut manifest);
            assert!(matches!(decode(&encode(&Entry::Manifest(manifest), "w")), Err(Corrupt::Damaged(_))));
        }
        assert!(decode_savepoint(&encode(&Entry::Manifest(full()), "w")).is_err(), "an entry is no savepoint");
        assert_eq!(decode_savepoint(&encode_savepoint(&full(), "w")), Ok(full()));
    }
}
