//! The state of an operator as entries: what goes into a checkpoint, and out of it into operators of any parallelism.
//!
//! An entry is of one key, and so of one key group. It has a namespace, a key and a value; the key starts with a byte that says what it is:
//!
//! | kind | namespace | key | value |
//! |---|---|---|---|
//! | state of a process function | 0 | the key | its expiry, state |
//! | state of a window or a cell of the grid | its start | the key | tally, state |
//! | state of a session | its start | the key | its end, whether it was emitted, tally, state |
//! | timer in event time, timer in processing time | its time | the key | none |
//! | cleanup in event time, cleanup in processing time | its time | the key | none |
//!
//! *State* is what the guest exports, its expiry is as in `weir_state::expiry`, and the key is as in the state backend (`SlotTable::key_bytes`). Slots, sessions and owners of timers have
//! numbers that mean something in one subtask alone, so that none of them is in an entry.
//!
//! What is not of a key is in the *scalars*, of which each subtask has its own: the version of this format, what the namespaces are (the *layout*; windows on
//! another grid are no windows of the operator), of windows how far their clock is (see `window::clock`), and of process functions whose state
//! expires (see `process::expiring`) by which clocks it does.
//!
//! State comes back as if it had been evicted: it is put into the backend, and goes to the guest when a row, a timer or a watermark asks for it.
//!
//! **Where the backend keeps copies**, the state of keys is in its files, and not among the entries: the snapshot has what has changed since the last one
//! ([`Changes`]), which the backend makes a checkpoint with. Names there are as above, without the byte for the kind. To restore it is to
//! open the backend on these files; how many entries they have at most in each namespace, the scalars say. Timers that are far off are there, too (see
//! `process::far`); those that are near come with the changes (see `process::frozen`).

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_state::rocks::CheckpointFile;
use weir_state::{Checkpointing, Entries, Slot, SlotTable, StateBackend, StateKey};
use weir_types::call::States;
use weir_types::graph::Head;
use weir_types::{KeyGroup, KeyGroupRange};

use crate::Error;
use crate::eviction::{Note, OPERATOR, TIMERS};
use crate::process::expiring::saved_clocks;
use crate::process::{self, far};
use crate::window;

/// The version of the format.
const VERSION: u64 = 2;

/// Keys whose groups are checked at once.
const KEYS_PER_CHECK: usize = 4096;

/// What an operator of one subtask knows at a barrier.
#[derive(Debug)]
pub struct Snapshot {
    /// What it knows of keys, or what of it is not in the database; not in order yet. More may come [with the changes](Changes::take_beside).
    pub entries: Entries,
    /// What has changed in the database that has the state of its keys; none if it has no such. They come at once, or once the operator has copied them
    /// (see `process::copies`), or not at all if it fails before.
    pub changes: Option<mpsc::Receiver<Changes>>,
    /// what a process function keeps besides: of the rows of a broadcast input. None if that is nothing
    pub operator_state: Option<Vec<u8>>,
    /// what is neither
    pub scalars: Value,
}

/// A subtask of an older attempt, as far as its snapshot is no entries.
#[derive(Clone, Copy, Debug)]
pub struct Predecessor<'a> {
    /// the key groups that are taken over from it; there may be none
    pub groups: KeyGroupRange,
    /// its scalars
    pub scalars: &'a Value,
}

/// When an operator copies for a snapshot what has changed in slots since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyTime {
    /// at the barrier
    Barrier,
    /// Before it changes again, and otherwise little by little, as far as the operator can: so the barrier does not hold it up. It has to be
    /// [driven](crate::ChainOperator::copy_on).
    Later,
}

/// What has changed of the state of keys since the last snapshot, for the database that has the rest. It waits for them.
#[derive(Debug)]
pub struct Changes {
    entries: Entries,
    /// how many others the database has taken already
    taken: usize,
    /// what is not for the database
    beside: Entries,
    checkpointing: Checkpointing,
    longest: Duration,
}

impl Changes {
    pub(crate) fn new(checkpointing: Checkpointing) -> Self {
        Self { entries: checkpointing.entries(), taken: 0, beside: Entries::default(), checkpointing, longest: Duration::ZERO }
    }

    /// As [`Writer::push_states`].
    pub(crate) fn push_states<N: Note>(
        &mut self,
        table: &SlotTable,
        slots: &[Slot],
        states: &States,
        max_parallelism: u16,
        of: impl Fn(usize) -> (i64, N),
    ) {
        table.for_each_key(slots, max_parallelism, |i, group, key| {
            let (namespace, note) = of(i);
            let state = states.get(i);
            self.entries.push_with(group, namespace, key, |value| {
                if N::ALONE || !state.is_empty() {
                    note.encode(value);
                    value.extend_from_slice(state);
                }
            });
        });
        let count = self.entries.len();
        self.checkpointing.take_many(OPERATOR, &mut self.entries);
        self.taken += count - self.entries.len();
    }

    /// What a snapshot has beside its database, for entries of which there was no time at the barrier.
    pub(crate) fn beside_mut(&mut self) -> &mut Entries {
        &mut self.beside
    }

    /// Takes out what belongs to the entries of the snapshot, and not to the database.
    pub fn take_beside(&mut self) -> Entries {
        std::mem::take(&mut self.beside)
    }

    /// Notes that the operator did nothing but copy for so long at a stretch, after the barrier.
    pub(crate) fn note_copying(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    /// The longest that the operator did nothing but copy after the barrier.
    pub fn longest_copying(&self) -> Duration {
        self.longest
    }

    /// How many entries it has.
    pub fn count(&self) -> usize {
        self.taken + self.entries.len()
    }

    /// The database's directory: what lies beside it is on the same file system.
    pub fn database(&self) -> &Path {
        self.checkpointing.path()
    }

    /// Writes them, and makes a checkpoint of the database in a directory that is not there yet. For a thread that may wait for the disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write(self, dir: &Path) -> Result<Vec<CheckpointFile>, weir_state::Error> {
        self.checkpointing.complete(OPERATOR, self.entries, dir)
    }
}

/// Appends what a database of a snapshot with these scalars has in these key groups to `entries`, as entries of a snapshot.
///
/// # Errors
/// If the disk fails.
pub fn read_database(
    database: &mut dyn StateBackend,
    scalars: &Value,
    groups: KeyGroupRange,
    entries: &mut Entries,
) -> Result<(), weir_state::Error> {
    if let Some(clocks) = saved_clocks(scalars) {
        database.expire(OPERATOR, clocks);
    }
    let mut each = |at: StateKey<'_>, value: &[u8]| {
        entries.push_parts(at.group, at.namespace, [&[Kind::State as u8], at.key], [value, &[]]);
    };
    database.scan(groups, OPERATOR, None, &mut each)?;
    let mut intact = true;
    for (operator, kind) in TIMERS.into_iter().zip(Kind::TIMERS) {
        let mut each = |at: StateKey<'_>, _: &[u8]| match far::decode(at.key) {
            Some((time, key)) => entries.push_parts(at.group, time, [&[kind as u8], key], [&[], &[]]),
            None => intact = false,
        };
        database.scan(groups, operator, None, &mut each)?;
    }
    match intact {
        true => Ok(()),
        false => Err(weir_state::Error::Corrupt("a timer is cut short".into())),
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    State = 0,
    EventTimer = 1,
    ProcessingTimer = 2,
    EventCleanup = 3,
    ProcessingCleanup = 4,
}

impl Kind {
    /// The sorts of timers.
    const TIMERS: [Self; 4] = [Self::EventTimer, Self::ProcessingTimer, Self::EventCleanup, Self::ProcessingCleanup];

    fn of(byte: u8) -> Option<Self> {
        let all = [Self::State, Self::EventTimer, Self::ProcessingTimer, Self::EventCleanup, Self::ProcessingCleanup];
        all.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// Entries that are being written.
#[derive(Debug)]
pub(crate) struct Writer {
    entries: Entries,
    /// the states of slots, where the backend keeps copies of them
    changes: Option<Changes>,
    max_parallelism: u16,
}

impl Writer {
    /// For the state of all keys, or for what has changed, with which a database makes its checkpoint.
    pub fn new(max_parallelism: u16, changes: Option<Changes>) -> Self {
        Self { entries: Entries::default(), changes, max_parallelism }
    }

    /// Whether only what has changed is wanted.
    pub fn takes_changes(&self) -> bool {
        self.changes.is_some()
    }

    /// The states of keys that have these slots in the table: a note and a state of each, and its namespace; `of` tells the namespace and the note of the
    /// one with an index. If the state is empty, and the note is not kept alone, there is none, or none any more.
    pub fn push_states<N: Note>(&mut self, table: &SlotTable, slots: &[Slot], states: &States, of: impl Fn(usize) -> (i64, N)) {
        let Some(changes) = &mut self.changes else {
            table.for_each_key(slots, self.max_parallelism, |i, group, key| {
                let ((namespace, note), state) = (of(i), states.get(i));
                if N::ALONE || !state.is_empty() {
                    self.entries.push_with(group, namespace, [&[Kind::State as u8], key[0], key[1]], |value| {
                        note.encode(value);
                        value.extend_from_slice(state);
                    });
                }
            });
            return;
        };
        changes.push_states(table, slots, states, self.max_parallelism, of);
    }

    /// An entry of a key that has no slot.
    pub fn push_key(&mut self, kind: Kind, group: KeyGroup, namespace: i64, key: &[u8], value: &[u8]) {
        self.entries.push_parts(group, namespace, [&[kind as u8], key], [value, &[]]);
    }

    /// Those that there are.
    pub fn entries_mut(&mut self) -> &mut Entries {
        &mut self.entries
    }

    /// The snapshot of these entries.
    pub fn finish(self, layout: &str, operator_state: Option<Vec<u8>>) -> Snapshot {
        let scalars = json!({ "version": VERSION, "layout": layout });
        let changes = self.changes.map(|changes| {
            let (tell, told) = mpsc::sync_channel(1);
            // Its receiver is here.
            let _ = tell.send(changes);
            told
        });
        Snapshot { entries: self.entries, changes, operator_state, scalars }
    }
}

/// An entry that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'a> {
    pub kind: Kind,
    pub group: KeyGroup,
    pub namespace: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Takes entries apart, whose keys are to be in this table. Each must be of its key's group: then nobody ever looks for it elsewhere.
pub(crate) fn read<'a>(entries: &'a Entries, table: &SlotTable, max_parallelism: u16) -> Result<Vec<Read<'a>>, Error> {
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        let (kind, key) = entry.key.split_first().ok_or_else(|| corrupt("an entry has no kind"))?;
        let kind = Kind::of(*kind).ok_or_else(|| corrupt(&format!("there is no entry of kind {kind}")))?;
        all.push(Read { kind, group: entry.group, namespace: entry.namespace, key, value: entry.value });
    }
    let mut groups = vec![];
    for part in all.chunks(KEYS_PER_CHECK) {
        let keys: Vec<&[u8]> = part.iter().map(|entry| entry.key).collect();
        groups.clear();
        table.key_groups(&keys, max_parallelism, &mut groups)?;
        if let Some((entry, group)) = part.iter().zip(&groups).find(|(entry, group)| entry.group != **group) {
            let (is, says) = (group.0, entry.group.0);
            return Err(corrupt(&format!("a key of group {is} (of {max_parallelism}) is among those of group {says}")));
        }
    }
    Ok(all)
}

/// Why an operator cannot go on from a snapshot that is whole: no other snapshot of the same job would do either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// its format is of this version, or of none that it tells
    #[error("{}", version_text(*.0))]
    Version(Option<u64>),
    /// its namespaces are others than the operator's
    #[error("its state is of another layout ({was}) than the operator's ({is})")]
    Layout {
        /// the snapshot's layout
        was: String,
        /// the operator's layout
        is: String,
    },
    /// the operator keeps no state
    #[error("it is of an operator that keeps state, which this one does not; give this one another id")]
    Stateless,
    /// it has state of the rows of a broadcast input, which the operator does not have
    #[error("it has state of a broadcast input, which the operator does not have; give it that input back, or another id")]
    NoBroadcast,
}

fn version_text(found: Option<u64>) -> String {
    match found {
        Some(found) => {
            format!("its format has version {found}, and this version of Weir reads {VERSION}; go on with the one that wrote it")
        }
        None => "it does not say which version its format has; go on with the version of Weir that wrote it".to_owned(),
    }
}

/// Why an operator of this head cannot go on from a snapshot with these scalars; none if it can, as far as they tell.
pub fn misfit(head: Head, scalars: &Value) -> Option<Misfit> {
    let layout = match head {
        Head::Relay | Head::Transform => None,
        Head::Process => Some(process::LAYOUT.to_owned()),
        Head::Window(window) => Some(window::layout(&window)),
    };
    check(scalars, layout.as_deref()).err()
}

/// Checks that scalars are of an operator with this layout; none has one that keeps no state.
pub(crate) fn check(scalars: &Value, layout: Option<&str>) -> Result<(), Misfit> {
    let layout = layout.ok_or(Misfit::Stateless)?;
    let version = scalars.get("version").and_then(Value::as_u64);
    if version != Some(VERSION) {
        return Err(Misfit::Version(version));
    }
    match scalars.get("layout").and_then(Value::as_str) {
        Some(was) if was == layout => Ok(()),
        was => Err(Misfit::Layout { was: was.unwrap_or("unknown").to_owned(), is: layout.to_owned() }),
    }
}

/// Adds to the scalars of a snapshot how many entries the database has at most in each namespace.
pub(crate) fn set_counts(scalars: &mut Value, counts: impl Iterator<Item = (i64, u64)>) {
    scalars["entries"] = counts.map(|(namespace, count)| json!([namespace, count])).collect();
}

/// What [`set_counts`] has added.
pub(crate) fn counts(scalars: &Value) -> Result<Vec<(i64, u64)>, Error> {
    let count = |pair: &Value| Some((pair.get(0)?.as_i64()?, pair.get(1)?.as_u64()?));
    let counts = scalars.get("entries").and_then(Value::as_array).and_then(|pairs| pairs.iter().map(count).collect());
    counts.ok_or_else(|| corrupt("it does not say how many entries its database has"))
}

/// A snapshot is not what it should be; `ChainOperator` adds whose it is.
pub(crate) fn corrupt(reason: &str) -> Error {
    weir_state::Error::Corrupt(reason.to_owned()).into()
}
