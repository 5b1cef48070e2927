//! Which checkpoints of an attempt are under way, and how far each of them is.
//!
//! The coordinator says which have begun, what has acked them, and when they are over; persisters say what they have to upload, and have uploaded, a piece
//! of a file at a time. Whoever wants to know looks. What is over is not told of any more, also if a persister has not heard that it was given up and still
//! uploads for it; those bytes count among all that were uploaded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use weir_protocol::checkpoint::{CheckpointId, Kind, TaskId};

/// A checkpoint that is being made, or that is complete and being copied to a savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnderWay {
    /// its number
    pub checkpoint: u64,
    /// what it is made for
    pub kind: Kind,
    /// the id of the savepoint that it is being copied to; none = it is being made
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// when it began, or its copy did, milliseconds since 1970
    pub started_ms: i64,
    /// how many tasks the job has
    pub tasks: u64,
    /// how many of them have acked it, or ended before
    pub acked: u64,
    /// what was uploaded for it, or copied, bytes
    pub bytes_uploaded: u64,
    /// what that will be as far as is known, bytes: a task knows it when it has sorted and encoded what it holds
    pub bytes_to_upload: u64,
}

impl UnderWay {
    /// A checkpoint of which nothing is done yet.
    pub fn new(checkpoint: CheckpointId, kind: Kind, started_ms: i64, tasks: usize) -> Self {
        Self {
            checkpoint: checkpoint.0,
            kind,
            savepoint: None,
            started_ms,
            tasks: tasks as u64,
            acked: 0,
            bytes_uploaded: 0,
            bytes_to_upload: 0,
        }
    }
}

/// The checkpoints of an attempt that are under way, and the bytes that were uploaded for all.
#[derive(Debug, Default)]
pub struct Uploads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// what was uploaded so far, whatever became of the checkpoints
    bytes: u64,
    /// how many have begun
    begun: u64,
    /// by when they began
    under_way: BTreeMap<u64, UnderWay>,
}

impl State {
    /// The checkpoint, if it is being made.
    fn made(&mut self, checkpoint: CheckpointId) -> Option<&mut UnderWay> {
        self.under_way.values_mut().find(|known| known.checkpoint == checkpoint.0 && known.savepoint.is_none())
    }
}

impl Uploads {
    /// A checkpoint begins, or its copy does. It is under way until the result is dropped.
    pub fn begin(self: &Arc<Self>, first: UnderWay) -> Begun {
        let mut state = self.0.lock();
        state.begun += 1;
        let number = state.begun;
        state.under_way.insert(number, first);
        Begun { uploads: Arc::clone(self), number, acked: BTreeSet::new() }
    }

    /// What is under way, in the order in which it began.
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.0.lock().under_way.values().cloned().collect()
    }

    /// What was uploaded for checkpoints so far, bytes: also for those that were given up. What was copied to savepoints is not in it.
    pub fn bytes(&self) -> u64 {
        self.0.lock().bytes
    }

    /// A task will upload so many bytes more for a checkpoint.
    pub(crate) fn expected(&self, checkpoint: CheckpointId, bytes: u64) {
        if let Some(made) = self.0.lock().made(checkpoint) {
            made.bytes_to_upload += bytes;
        }
    }

    /// A task has uploaded so many bytes more for a checkpoint.
    pub(crate) fn uploaded(&self, checkpoint: CheckpointId, bytes: u64) {
        let mut state = self.0.lock();
        state.bytes += bytes;
        if let Some(made) = state.made(checkpoint) {
            made.bytes_uploaded += bytes;
        }
    }
}

/// A checkpoint that has begun, or its copy: while this is held, it is under way.
#[derive(Debug)]
pub struct Begun {
    uploads: Arc<Uploads>,
    number: u64,
    acked: BTreeSet<TaskId>,
}

impl Begun {
    /// A task has acked it, or ended before. To say so again changes nothing.
    pub fn acked(&mut self, task: TaskId) {
        if self.acked.insert(task) {
            self.change(|under_way| under_way.acked += 1);
        }
    }

    /// So many bytes more were copied.
    pub fn copied(&self, bytes: u64) {
        self.change(|under_way| under_way.bytes_uploaded += bytes);
    }

    fn change(&self, change: impl FnOnce(&mut UnderWay)) {
        if let Some(under_way) = self.uploads.0.lock().under_way.get_mut(&self.number) {
            change(under_way);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.uploads.0.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(checkpoint: u64) -> UnderWay {
        UnderWay::new(CheckpointId(checkpoint), Kind::Checkpoint, 7, 3)
    }

    /// Number, acks, and the bytes that were and will be uploaded, of all that is under way.
    fn told(uploads: &Uploads) -> Vec<(u64, u64, u64, u64)> {
        let told = uploads.under_way().into_iter().map(|u| (u.checkpoint, u.acked, u.bytes_uploaded, u.bytes_to_upload));
        told.collect()
    }

    /// Goal: checkpoints that overlap are told apart, and one that was given up is not told of, whatever its tasks still upload; all bytes count.
    #[test]
    fn overlapping_checkpoints_are_told_apart() {
        let uploads = Arc::<Uploads>::default();
        let given_up = uploads.begin(first(4));
        uploads.expected(CheckpointId(4), 100);
        uploads.uploaded(CheckpointId(4), 60);
        let next = uploads.begin(first(5));
        uploads.expected(CheckpointId(5), 30);
        uploads.uploaded(CheckpointId(5), 10);
        assert_eq!(told(&uploads), [(4, 0, 60, 100), (5, 0, 10, 30)]);
        drop(given_up);
        uploads.uploaded(CheckpointId(4), 40);
        assert_eq!(told(&uploads), [(5, 0, 10, 30)]);
        drop(next);
        assert_eq!((told(&uploads), uploads.bytes()), (vec![], 110));
    }

    /// Goal: a task counts once among those that have acked, however often it is told of it.
    #[test]
    fn tasks_ack_once() {
        let uploads = Arc::<Uploads>::default();
        let mut begun = uploads.begin(first(1));
        for subtask in [0, 1, 0] {
            begun.acked(TaskId { vertex: 0, subtask });
        }
        assert_eq!(told(&uploads), [(1, 2, 0, 0)]);
    }

    /// Goal: while a checkpoint is copied to savepoints, each copy has bytes of its own, which count for no checkpoint that is being made.
    #[test]
    fn copies_have_their_own_bytes() {
        let uploads = Arc::<Uploads>::default();
        let copy = |id: &str| UnderWay { savepoint: Some(id.into()), acked: 3, bytes_to_upload: 50, ..first(1) };
        let (one, other) = (uploads.begin(copy("one")), uploads.begin(copy("other")));
        let _next = uploads.begin(first(2));
        one.copied(20);
        other.copied(30);
        uploads.uploaded(CheckpointId(1), 9);
        assert_eq!(told(&uploads), [(1, 3, 20, 50), (1, 3, 30, 50), (2, 0, 0, 0)]);
        assert_eq!(uploads.bytes(), 9, "copies are not uploads");
    }
}
