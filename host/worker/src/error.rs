//! Why a job failed.

use std::sync::Arc;

use serde::Serialize;
use weir_operator::Culprit;
use weir_plan::job::OnError;
use weir_plan::spec::ErrorPolicy;
use weir_sandbox::GuestErrorKind;
use weir_state::Error as StateError;

/// What kind of thing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// the guest: its code or its limits
    Guest,
    /// a source or a sink
    Connector,
    /// no room, or a disk that fails: slots, instances, state in memory or on disk
    Resources,
    /// checkpoints: their storage, or what is in them
    Checkpoint,
    /// the files of a checkpoint: an older one may be whole
    Damaged,
    /// Weir itself
    Internal,
}

/// Why a job failed: one line, and what there is besides.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// what kind of thing failed
    pub kind: FailureKind,
    /// what, where, and what to do
    pub message: String,
    /// the operator, where one is to blame
    pub operator: Option<String>,
    /// the subtask, where one is to blame
    pub subtask: Option<u16>,
    /// the guest's backtrace, innermost frame first
    pub backtrace: Vec<String>,
    /// whether another attempt would fail in the same way, because the spec or the state is wrong
    #[serde(skip)]
    pub is_final: bool,
    /// whether a connector has not found what was there before, if it is where it looks
    #[serde(skip)]
    pub is_missing: bool,
    /// whether a connector has found that the rows are to blame, or what they are to go to, and not where it looks
    #[serde(skip)]
    pub is_malformed: bool,
    /// whether it is only that another task has ended, which knows why
    #[serde(skip)]
    pub is_consequence: bool,
    /// whether the guest fails on one row by itself
    #[serde(skip)]
    pub is_of_row: bool,
    /// the row that is to blame, where the operator's policy is not just to fail on it
    #[serde(skip)]
    pub culprit: Option<Arc<Culprit>>,
}

impl Failure {
    /// A failure of this kind with this message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            operator: None,
            subtask: None,
            backtrace: vec![],
            is_final: false,
            is_missing: false,
            is_malformed: false,
            is_consequence: false,
            is_of_row: false,
            culprit: None,
        }
    }
}

/// The failure of an operator; of a guest's with its backtrace.
pub(crate) fn operator_failure(error: &weir_operator::Error) -> Failure {
    use weir_operator::Error;
    let (kind, guest) = match error {
        Error::Guest(guest) | Error::Rows { error: guest, .. } => (FailureKind::Guest, Some(guest)),
        Error::State(state) => (kind_of_state(state), None),
        Error::Restore { .. } => (FailureKind::Damaged, None),
        Error::Misfit { .. } => (FailureKind::Checkpoint, None),
        // The guest's own timers, and the graph that it has described.
        Error::NoEventTime { .. } | Error::EndlessTimer { .. } => (FailureKind::Guest, None),
        Error::Arrow(_) => (FailureKind::Internal, None),
    };
    let mut failure = Failure::new(kind, error.to_string());
    failure.backtrace = guest.map(|g| g.backtrace.clone()).unwrap_or_default();
    failure.is_final = happens_again(error);
    failure.is_of_row = matches!(error, Error::Rows { row: Some(_), .. });
    failure
}

/// Of a failure that no row is to blame for, where the operator's policy is to go on without such rows.
const NO_ROW: &str = " (no row is known to fail by itself, so that there is none that `on_error` could go on without: what fails may depend on the state \
                      that earlier rows have left; check rows before `key_by`, or have the function return what is wrong instead of failing)";

/// The failure of an operator at work, of which `on_error` says what it is to do where its guest fails.
pub(crate) fn failure_at_work(error: &weir_operator::Error, on_error: OnError) -> Failure {
    let mut failure = operator_failure(error);
    // Of an instance that does not start, no row could be to blame.
    if let weir_operator::Error::Rows { row: None, error, .. } = error
        && error.kind != GuestErrorKind::Start
        && on_error.policy != ErrorPolicy::Fail
    {
        failure.message.push_str(NO_ROW);
    }
    failure
}

/// Whether another attempt fails in the same way. Older checkpoints do not fit either, and to begin anew is not asked for. State that has become too large does
/// so again, time that a graph does not assign stays away, and a timer that sets itself without end does it once more.
fn happens_again(error: &weir_operator::Error) -> bool {
    use weir_operator::Error;
    matches!(
        error,
        Error::Misfit { .. }
            | Error::State(StateError::MemoryFull { .. })
            | Error::NoEventTime { .. }
            | Error::EndlessTimer { .. }
    )
}

/// The failure of an operator that takes over what a checkpoint has: what is damaged then is the checkpoint. All else would fail with an older one, too.
pub(crate) fn restore_failure(error: &weir_operator::Error) -> Failure {
    let mut failure = operator_failure(error);
    if let weir_operator::Error::State(state) = error {
        failure.kind = restored_state_failure(state).kind;
    }
    failure
}

/// The failure of keyed state at work.
pub(crate) fn state_failure(error: &StateError) -> Failure {
    Failure::new(kind_of_state(error), error.to_string())
}

/// The failure of keyed state that comes from a checkpoint's files: if they are damaged, so is the checkpoint.
pub(crate) fn restored_state_failure(error: &StateError) -> Failure {
    match error {
        StateError::Damaged { .. } | StateError::Corrupt(_) => Failure::new(FailureKind::Damaged, error.to_string()),
        _ => state_failure(error),
    }
}

fn kind_of_state(error: &StateError) -> FailureKind {
    match error {
        StateError::DiskFull { .. }
        | StateError::Disk { .. }
        | StateError::Damaged { .. }
        | StateError::Locked { .. }
        | StateError::MemoryFull { .. }
        | StateError::SlotsExhausted => FailureKind::Resources,
        StateError::KeyType(_) | StateError::Keys(_) | StateError::Corrupt(_) => FailureKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use weir_operator::{Error, Misfit};
    use weir_sandbox::GuestError;

    use super::*;

    fn full() -> StateError {
        StateError::DiskFull { path: "/state/7".into() }
    }

    fn disk() -> StateError {
        StateError::Disk { path: "/state/7".into(), message: "Input/output error".into() }
    }

    fn damaged() -> StateError {
        StateError::Damaged { path: "/state/7".into(), message: "bad checksum".into() }
    }

    fn corrupt() -> StateError {
        StateError::Corrupt("a key is cut short".into())
    }

    fn misfit() -> Error {
        Error::Misfit { operator: "count".into(), reason: Misfit::Version(Some(7)) }
    }

    /// Goal: a disk that is full or fails is no bug, and is told with what to do about it.
    #[test]
    fn a_full_disk_is_no_bug() {
        for error in [full(), disk(), damaged()] {
            let failure = operator_failure(&error.into());
            assert_eq!((failure.kind, failure.is_final), (FailureKind::Resources, false), "{failure}");
        }
        assert!(state_failure(&full()).message.contains("free some"));
        assert!(state_failure(&disk()).message.contains("see to the disk"));
        assert_eq!(operator_failure(&corrupt().into()).kind, FailureKind::Internal);
    }

    /// Goal: a job whose evicted state takes more memory than it may ends with an error that says so, at work and in a restore, and is not tried again.
    #[test]
    fn too_much_state_ends_a_job() {
        let full = StateError::MemoryFull { taken: 101, bytes_max: 100 }.into();
        for failure in [operator_failure(&full), restore_failure(&full)] {
            assert_eq!((failure.kind, failure.is_final), (FailureKind::Resources, true), "{failure}");
            assert!(failure.message.contains("rocksdb"), "{failure}");
        }
    }

    /// Goal: who wants a job to go on without bad rows learns why it does not, where none is to blame, and what to do; else nothing is said of that.
    #[test]
    fn where_no_row_is_to_blame_it_is_told() {
        for (row, kind, policy, is_told) in [
            (None, GuestErrorKind::Trap, ErrorPolicy::Fail, false),
            (None, GuestErrorKind::Trap, ErrorPolicy::Skip, true),
            (None, GuestErrorKind::Trap, ErrorPolicy::DeadLetter, true),
            (None, GuestErrorKind::Start, ErrorPolicy::Skip, false),
            (Some((3, "{id: 7}".to_owned())), GuestErrorKind::Trap, ErrorPolicy::DeadLetter, false),
        ] {
            let (is_of_row, on_error) = (row.is_some(), OnError { policy, ..OnError::default() });
            let error = Error::Rows { operator: "join".into(), batch: 4, row, error: GuestError::new(kind, "ouch") };
            let failure = failure_at_work(&error, on_error);
            assert!(failure.message.starts_with(&error.to_string()), "{failure}");
            assert_eq!(failure.message.contains("check rows before `key_by`"), is_told, "{failure}");
            assert_eq!((failure.kind, failure.is_of_row), (FailureKind::Guest, is_of_row), "{failure}");
        }
    }

    /// Goal: what a guest does wrong with time is told as the guest's, not as a bug of Weir's, and ends the job: it would do the same again.
    #[test]
    fn wrong_times_are_the_guests() {
        let (operator, time) = ("count".to_owned(), 7);
        for error in [Error::EndlessTimer { operator: operator.clone(), time }, Error::NoEventTime { operator }] {
            let says = error.to_string();
            let failure = operator_failure(&error);
            assert_eq!((failure.kind, failure.is_final), (FailureKind::Guest, true), "{failure}");
            assert!(failure.backtrace.is_empty() && failure.message == says, "{failure}");
        }
    }

    /// Goal: a job goes back to an older checkpoint only where the one that it starts from is damaged: neither for a disk nor for a guest that fails meanwhile, nor
    /// for state that does not fit, which ends it.
    #[test]
    fn only_what_is_damaged_is_left() {
        let guest = GuestError { kind: GuestErrorKind::Memory, message: "it is full".into(), backtrace: vec!["f".into()] };
        for (error, kind) in [
            (damaged().into(), FailureKind::Damaged),
            (corrupt().into(), FailureKind::Damaged),
            (Error::Restore { operator: "count".into(), reason: "an entry has no kind".into() }, FailureKind::Damaged),
            (full().into(), FailureKind::Resources),
            (disk().into(), FailureKind::Resources),
            (guest.into(), FailureKind::Guest),
            (misfit(), FailureKind::Checkpoint),
        ] {
            let failure = restore_failure(&error);
            assert_eq!((failure.kind, failure.is_final), (kind, kind == FailureKind::Checkpoint), "{failure}");
            assert_eq!(failure.backtrace.is_empty(), kind != FailureKind::Guest);
        }
        assert_eq!(restored_state_failure(&damaged()).kind, FailureKind::Damaged);
        assert_eq!(restored_state_failure(&full()).kind, FailureKind::Resources);
    }
}
