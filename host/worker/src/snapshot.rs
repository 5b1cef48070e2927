//! From what a subtask was at a barrier to files that last.
//!
//! At the barrier a task only copies what it holds ([`Captured`]) and goes on. Beside it, a [`persist`] task for each subtask sorts, encodes and
//! uploads the copies, one after the other, and tells the coordinator. So a subtask's messages come in the order of its barriers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use weir_base::Phase;
use weir_checkpoint::{
    ChainSnapshot, EntriesWriter, Error, ErrorKind, FileRef, InFlight, JobStorage, NamedFile, SinkSnapshot, Source,
    SourceSnapshot, StateFile, StateFiles, TaskSnapshot,
};
use weir_exchange::{Message, in_flight};
use weir_operator::Snapshot;
use weir_protocol::checkpoint::{CheckpointId, TaskId};
use weir_state::Entries;
use weir_state::rocks::CheckpointFile;
use weir_types::{EventTime, KeyGroupRange};

use crate::database::{Copying, DatabaseCopy, StoredFiles};
use crate::error::{Failure, FailureKind};
use crate::fnv::fnv;
use crate::job::Event;
use crate::task::Ending;
use crate::uploads::Uploads;

/// What a subtask was at a barrier.
#[derive(Default)]
pub(crate) struct Captured {
    pub source: Option<SourceSnapshot>,
    pub chains: Vec<CapturedChain>,
    pub sinks: Vec<SinkSnapshot>,
    /// what an unaligned barrier has overtaken
    pub in_flight: Vec<Overtaken>,
}

/// What an unaligned barrier has overtaken in one channel.
pub(crate) struct Overtaken {
    /// the edge's number in the plan
    pub edge: u32,
    pub sender: u16,
    /// of how many
    pub senders: u16,
    pub messages: Vec<Message>,
}

/// What one operator of it was.
pub(crate) struct CapturedChain {
    /// what its state is named after
    pub operator: Arc<str>,
    /// what its state is
    pub schema: Arc<str>,
    /// the schemas by which its states may have been written
    pub state_schemas: Arc<[String]>,
    pub watermark: EventTime,
    pub groups: KeyGroupRange,
    pub state: CapturedState,
    /// the files of its database that are stored already, in what the job started from
    pub stored: Arc<StoredFiles>,
}

/// Its state, of which a database is being copied already.
pub(crate) struct CapturedState {
    entries: Entries,
    database: Option<Copying>,
    operator_state: Option<Vec<u8>>,
    scalars: Value,
}

impl CapturedState {
    /// Takes a snapshot that was made at the barrier of a checkpoint.
    pub fn of(snapshot: Snapshot, checkpoint: u64) -> Self {
        let Snapshot { entries, changes, operator_state, scalars } = snapshot;
        Self { entries, database: changes.map(|changes| Copying::begin(changes, checkpoint)), operator_state, scalars }
    }
}

/// What was captured, and when.
pub(crate) struct Capture {
    /// at the barrier of this checkpoint; none = at the end of the input
    pub checkpoint: Option<CheckpointId>,
    /// the newest checkpoint that was complete then; 0 = none of this attempt
    pub stored: u64,
    pub captured: Captured,
    /// how long the barriers of the inputs waited for each other
    pub alignment: Duration,
    /// how long the task did nothing but copy at the barrier
    pub copying: Duration,
}

/// How long a subtask's part of a checkpoint took, and how large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// how long the barriers of its inputs waited for each other
    pub alignment: Duration,
    /// the longest that the task did nothing but copy: at the barrier, or between two steps after it
    pub copying: Duration,
    /// how long it took until all was stored
    pub persisting: Duration,
    /// what was stored, bytes
    pub bytes: u64,
}

/// Whose captures are persisted where.
pub(crate) struct Persister {
    pub task: TaskId,
    pub parallelism: u16,
    pub generation: u64,
    /// none = nothing is stored, for the job has no checkpoints; what sinks have prepared is told all the same
    pub storage: Option<JobStorage>,
    pub events: mpsc::UnboundedSender<Event>,
    /// told of what is uploaded
    pub uploads: Arc<Uploads>,
    /// the files of databases in each checkpoint, from the newest complete one on
    pub files: BTreeMap<u64, StoredFiles>,
}

impl Persister {
    /// Persists captures until no more come.
    pub async fn run(mut self, mut captures: mpsc::UnboundedReceiver<Capture>) -> Result<Ending, Box<Failure>> {
        let mut last = CheckpointId(0);
        let mut waiting: Option<Capture> = None;
        loop {
            let Some(capture) = (match waiting.take() {
                Some(capture) => Some(capture),
                None => captures.recv().await,
            }) else {
                return Ok(Ending::Finished);
            };
            // One checkpoint is in flight at a time: if the barrier of another one has come meanwhile, this one was given up. To store it all the same
            // would have the other one wait, until that is given up, too.
            waiting = captures.try_recv().ok();
            if waiting.as_ref().is_some_and(|newer| newer.checkpoint.is_some()) {
                continue;
            }
            let since = Instant::now();
            let Capture { checkpoint, stored, captured, alignment, copying } = capture;
            self.files = self.files.split_off(&stored);
            // What is stored at the end belongs to all checkpoints to come.
            let name = checkpoint.unwrap_or(CheckpointId(last.0 + 1));
            last = name;
            let result = self.store(name, stored, captured).await;
            let event = match (result, checkpoint) {
                (Ok((snapshot, Stored { bytes, copying: later })), Some(checkpoint)) => {
                    let effort = Effort { alignment, copying: copying.max(later), persisting: since.elapsed(), bytes };
                    Event::Acked { checkpoint, task: self.task, snapshot: Arc::new(snapshot), effort }
                }
                (Ok((snapshot, _)), None) => Event::TaskEnded { task: self.task, snapshot: Arc::new(snapshot) },
                (Err(error), Some(checkpoint)) => Event::Declined { checkpoint, task: self.task, reason: error.to_string() },
                (Err(error), None) => {
                    let mut failure = Failure::new(FailureKind::Checkpoint, error.to_string());
                    failure.subtask = Some(self.task.subtask);
                    return Err(Box::new(failure));
                }
            };
            // The coordinator has gone: so will the job.
            let _ = self.events.send(event);
        }
    }

    async fn store(
        &mut self,
        checkpoint: CheckpointId,
        stored: u64,
        captured: Captured,
    ) -> Result<(TaskSnapshot, Stored), Error> {
        let mut snapshot = TaskSnapshot {
            source: captured.source,
            sinks: captured.sinks,
            ..TaskSnapshot::new(self.task.vertex, self.task.subtask, self.parallelism)
        };
        let (mut bytes, mut longest) = (0, Duration::ZERO);
        let Some(storage) = &self.storage.clone() else { return Ok((snapshot, Stored::default())) };
        for chain in captured.chains {
            let CapturedState { mut entries, database, operator_state, scalars } = chain.state;
            // First, so that no copy waits for what comes before it.
            let database = match database {
                Some(copying) => {
                    let mut copy = copying.finish().await?;
                    entries.append(std::mem::take(&mut copy.beside));
                    Some(copy)
                }
                None => None,
            };
            longest = database.iter().fold(longest, |longest, copy| longest.max(copy.longest_copying));
            let mut files = vec![];
            if !entries.is_empty() {
                let encoded = encode(entries).await?;
                files.push(self.upload(storage, checkpoint, &chain.operator, "keyed", Source::Bytes(encoded)).await?);
            }
            let operator_state = match operator_state {
                Some(state) => {
                    let source = Source::Bytes(state.into());
                    Some(self.upload(storage, checkpoint, &chain.operator, "operator", source).await?)
                }
                None => None,
            };
            bytes += files.iter().chain(&operator_state).map(|file| file.bytes).sum::<u64>();
            let state = match database {
                None => StateFiles::Entries(files),
                Some(copy) => {
                    let known = if stored == 0 { Some(&*chain.stored) } else { self.files.get(&stored) };
                    let database = self.store_database(storage, checkpoint, &chain.operator, copy, known).await?;
                    bytes += database.new_bytes;
                    self.files.entry(checkpoint.0).or_default().extend(database.by_id);
                    StateFiles::RocksDb { files: database.files, entries: files }
                }
            };
            snapshot.chains.push(ChainSnapshot {
                operator: chain.operator.to_string(),
                schema: chain.schema.to_string(),
                state_schemas: chain.state_schemas.to_vec(),
                watermark: chain.watermark,
                groups: chain.groups,
                state,
                operator_state,
                scalars,
            });
        }
        for Overtaken { edge, sender, senders, messages } in captured.in_flight {
            let batches = messages.iter().filter(|message| matches!(message, Message::Batch(_))).count() as u64;
            let encoded = in_flight::encode(&messages).map_err(|e| unwritable("rows in flight", e))?;
            let source = Source::Bytes(encoded.into());
            let file = self.upload(storage, checkpoint, &format!("{edge}-{sender}"), "in-flight", source).await?;
            bytes += file.bytes;
            snapshot.in_flight.push(InFlight { edge, sender, senders, batches, file });
        }
        Ok((snapshot, Stored { bytes, copying: longest }))
    }

    /// Stores what of a database's copy is not among the `known` files.
    async fn store_database(
        &self,
        storage: &JobStorage,
        checkpoint: CheckpointId,
        operator: &str,
        copy: DatabaseCopy,
        known: Option<&StoredFiles>,
    ) -> Result<StoredDatabase, Error> {
        let known = |file: &CheckpointFile| known?.get(file.id.as_ref()?);
        let new_bytes: u64 = copy.files.iter().filter(|file| known(file).is_none()).map(|file| file.bytes).sum();
        self.uploads.expected(checkpoint, new_bytes);
        let mut stored = StoredDatabase { new_bytes, ..StoredDatabase::default() };
        for found in &copy.files {
            let CheckpointFile { name, id, .. } = found;
            let file = match known(found) {
                Some(file) => file.clone(),
                None => {
                    let path = copy.path().join(name);
                    let source = if id.is_some() { Source::Sealed(path) } else { Source::File(path) };
                    self.upload(storage, checkpoint, operator, &format!("rocksdb-{name}"), source).await?
                }
            };
            stored.by_id.extend(id.iter().map(|id| (id.clone(), file.clone())));
            stored.files.push(NamedFile { name: name.clone(), file });
        }
        Ok(stored)
    }

    async fn upload(
        &self,
        storage: &JobStorage,
        checkpoint: CheckpointId,
        operator: &str,
        what: &str,
        source: Source,
    ) -> Result<FileRef, Error> {
        Phase::UploadBegun.reached(checkpoint.0);
        let file = StateFile {
            generation: self.generation,
            vertex: self.task.vertex,
            subtask: self.task.subtask,
            checkpoint: checkpoint.0,
            name: format!("{what}-{}", shortened(operator)),
        };
        // What a database has to store is expected as a whole, before its first file.
        if let Source::Bytes(bytes) = &source {
            self.uploads.expected(checkpoint, bytes.len() as u64);
        }
        storage.upload(&file, source, &|bytes| self.uploads.uploaded(checkpoint, bytes)).await
    }
}

/// What it took to store a capture.
#[derive(Default)]
struct Stored {
    /// what was stored, bytes
    bytes: u64,
    /// the longest that the task did nothing but copy after the barrier
    copying: Duration,
}

/// A database whose files are all stored.
#[derive(Default)]
struct StoredDatabase {
    files: Vec<NamedFile>,
    by_id: StoredFiles,
    /// what was stored for it, bytes
    new_bytes: u64,
}

/// Puts entries into order and into a file's bytes, on a thread that may be kept.
async fn encode(mut entries: Entries) -> Result<Bytes, Error> {
    let encoded = tokio::task::spawn_blocking(move || {
        entries.sort();
        let mut writer = EntriesWriter::new(vec![])?;
        for entry in entries.iter() {
            writer.push(entry.group, entry.namespace, entry.key, entry.value)?;
        }
        writer.finish()
    });
    let encoded = encoded.await.map_err(std::io::Error::other).and_then(|encoded| encoded);
    encoded.map(Bytes::from).map_err(|e| unwritable("state", e))
}

fn unwritable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error { kind: ErrorKind::Invalid, message: format!("{what} cannot be written: {error}"), source: Some(Box::new(error)) }
}

/// The operator's id, as far as a file's name has room for it, and a hash of all of it.
fn shortened(operator: &str) -> String {
    let short: String = operator.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(60).collect();
    let hash = fnv(operator.bytes());
    format!("{short}-{hash:016x}")
}

/// What sinks of a subtask have prepared and not committed, by checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Prepared(BTreeMap<u64, Vec<weir_connector::Transaction>>);

impl Prepared {
    /// Adds what was prepared for a checkpoint, and returns all that it has to commit: also what was prepared for those that were given up. What belongs to
    /// checkpoints up to `stored` is in the hands of the coordinator.
    pub fn add(
        &mut self,
        checkpoint: u64,
        transactions: Vec<weir_connector::Transaction>,
        stored: u64,
    ) -> Vec<weir_connector::Transaction> {
        self.0 = self.0.split_off(&(stored + 1));
        self.0.entry(checkpoint).or_default().extend(transactions);
        self.0.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_checkpoint::Storage;
    use weir_protocol::checkpoint::Kind;

    use super::*;
    use crate::uploads::UnderWay;

    const TASK: TaskId = TaskId { vertex: 0, subtask: 0 };

    fn persister(storage: Option<JobStorage>, events: mpsc::UnboundedSender<Event>, uploads: Arc<Uploads>) -> Persister {
        Persister { task: TASK, parallelism: 1, generation: 1, storage, events, uploads, files: BTreeMap::new() }
    }

    /// An operator with state of its own, so many bytes.
    fn operator(bytes: usize) -> Captured {
        let state = CapturedState {
            entries: Entries::default(),
            database: None,
            operator_state: Some(vec![7; bytes]),
            scalars: Value::Null,
        };
        let chain = CapturedChain {
            operator: "op".into(),
            schema: "test".into(),
            state_schemas: Arc::default(),
            watermark: 0,
            groups: KeyGroupRange { start: 0, end: 128 },
            state,
            stored: Arc::default(),
        };
        Captured { chains: vec![chain], ..Captured::default() }
    }

    /// What was prepared for a checkpoint that was given up goes into the next one, and what was stored does not.
    #[test]
    fn prepared_goes_on() {
        let mut prepared = Prepared::default();
        assert_eq!(prepared.add(1, vec![json!("a")], 0), [json!("a")]);
        assert_eq!(prepared.add(2, vec![json!("b")], 0), [json!("a"), json!("b")], "1 was given up");
        assert_eq!(prepared.add(3, vec![], 2), [] as [serde_json::Value; 0]);
        assert_eq!(prepared.add(4, vec![json!("c")], 2), [json!("c")]);
    }

    /// Of captures that wait, the newest is persisted, and that of the end of the input: the checkpoints of the others were given up.
    #[tokio::test]
    async fn captures_that_wait_are_passed_over() {
        let (sender, captures) = mpsc::unbounded_channel();
        for checkpoint in [Some(1), Some(2), Some(3), None] {
            let checkpoint = checkpoint.map(CheckpointId);
            let (captured, alignment, copying) = (Captured::default(), Duration::ZERO, Duration::ZERO);
            assert!(sender.send(Capture { checkpoint, stored: 0, captured, alignment, copying }).is_ok());
        }
        drop(sender);
        let (events, mut told) = mpsc::unbounded_channel();
        persister(None, events, Arc::default()).run(captures).await.unwrap();
        let mut persisted = vec![];
        while let Ok(event) = told.try_recv() {
            persisted.push(match event {
                Event::Acked { checkpoint, .. } => Some(checkpoint.0),
                _ => None,
            });
        }
        assert_eq!(persisted, [Some(3), None]);
    }

    /// Goal: what a task uploads is told of its checkpoint while that is under way; all counts, also what is uploaded for one that was given up.
    #[tokio::test]
    async fn uploads_are_told() {
        let storage = Storage::open("memory://uploads-are-told", &[]).unwrap().job("job").unwrap();
        let uploads = Arc::<Uploads>::default();
        let begin = |checkpoint| uploads.begin(UnderWay::new(CheckpointId(checkpoint), Kind::Checkpoint, 0, 1));
        drop(begin(1));
        let _second = begin(2);
        for (checkpoint, bytes) in [(1, 100), (2, 30)] {
            let (sender, captures) = mpsc::unbounded_channel();
            let (captured, alignment, copying) = (operator(bytes), Duration::ZERO, Duration::ZERO);
            let checkpoint = Some(CheckpointId(checkpoint));
            assert!(sender.send(Capture { checkpoint, stored: 0, captured, alignment, copying }).is_ok());
            drop(sender);
            let (events, mut told) = mpsc::unbounded_channel();
            persister(Some(storage.clone()), events, Arc::clone(&uploads)).run(captures).await.unwrap();
            let told = told.try_recv();
            assert!(matches!(told, Ok(Event::Acked { .. })), "{told:?}");
        }
        let told = uploads.under_way().into_iter().map(|u| (u.checkpoint, u.bytes_uploaded, u.bytes_to_upload));
        assert_eq!((told.collect::<Vec<_>>(), uploads.bytes()), (vec![(2, 30, 30)], 130));
    }

    /// Operators have files of different names, also if their ids differ in what names cannot have.
    #[test]
    fn names_differ() {
        assert_ne!(shortened("a/b"), shortened("ab"));
        assert!(shortened(&"x".repeat(1000)).len() < 100);
    }
}
