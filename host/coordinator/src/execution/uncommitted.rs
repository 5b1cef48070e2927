//! What sinks may still have to commit of the newest checkpoint in a job's log.

use weir_checkpoint::{Error, JobStorage, Manifest};
use weir_connector::Transaction;
use weir_worker::bindings::LOST_SINK_ADVICE;
use weir_worker::restore::transactions;
use weir_worker::{Failure, FailureKind};

use super::origin::Origin;

/// What sinks have prepared, by their names.
pub(super) type Transactions = Vec<(String, Vec<Transaction>)>;

/// What sinks have prepared for a checkpoint.
pub(super) fn prepared(manifest: &Manifest) -> Transactions {
    let mut prepared = transactions(manifest.tasks.iter());
    prepared.retain(|(_, transactions)| !transactions.is_empty());
    prepared
}

/// What sinks have prepared for a checkpoint and may not have committed, by their names: what it lists, unless it was noted that all of it is.
///
/// # Errors
/// If the storage fails.
pub async fn uncommitted_of(storage: &JobStorage, manifest: &Manifest) -> Result<Vec<(String, Vec<Transaction>)>, Error> {
    let prepared = prepared(manifest);
    let is_committed = prepared.is_empty() || storage.is_committed(manifest).await?;
    Ok(if is_committed { vec![] } else { prepared })
}

/// What an attempt has to commit before anything else.
pub(super) async fn of(origin: &Origin) -> Result<Transactions, Failure> {
    let (Some((storage, _)), Some((_, manifest))) = (&origin.log, &origin.base) else { return Ok(vec![]) };
    uncommitted_of(storage, manifest).await.map_err(|e| Failure::new(FailureKind::Checkpoint, e.message))
}

/// Takes out what is of sinks that the job has not, which nobody can commit; `has` says which ones it has. Says what that is; there may be such only where the
/// job is to leave behind what it cannot take.
pub(super) fn give_up_lost(
    pending: &mut Transactions,
    has: impl Fn(&str) -> bool,
    checkpoint: u64,
    leaves_behind: bool,
) -> Result<Vec<String>, Failure> {
    let lost: Vec<_> = pending.extract_if(.., |(name, _)| !has(name)).map(|(name, _)| name).collect();
    match lost.first() {
        Some(name) if !leaves_behind => {
            let message = format!(
                "checkpoint {checkpoint} has rows for the sink \"{name}\" that may not be committed yet, and the job has no such sink; {LOST_SINK_ADVICE}"
            );
            Err(Failure { is_final: true, ..Failure::new(FailureKind::Checkpoint, message) })
        }
        _ => {
            Ok(lost.iter().map(|name| format!("rows of checkpoint {checkpoint} for the sink \"{name}\" are given up")).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_checkpoint::{Kind, SinkSnapshot, Storage, TaskSnapshot};

    use super::*;

    /// A checkpoint for which sinks of these names have prepared so many transactions.
    fn manifest(sinks: &[(&str, usize)]) -> Manifest {
        let sink =
            |(name, count): &(&str, usize)| SinkSnapshot { name: (*name).to_owned(), transactions: vec![json!(1); *count] };
        let sinks = sinks.iter().map(sink).collect();
        let task = TaskSnapshot { sinks, ..TaskSnapshot::new(0, 0, 1) };
        Manifest { tasks: vec![task], ..Manifest::new("job", Kind::Checkpoint, 5, 1, 128) }
    }

    /// Goal: what a checkpoint lists is to be committed until it is noted that it was; sinks without rows have nothing to commit.
    #[tokio::test]
    async fn what_is_noted_is_not_committed_again() {
        let storage = Storage::open("memory://what-is-committed", &[]).expect("a storage").job("job").expect("a name");
        let manifest = manifest(&[("out", 2), ("other", 0)]);
        let pending = || async { uncommitted_of(&storage, &manifest).await.expect("it is in memory") };
        assert_eq!(pending().await, [("out".to_owned(), vec![json!(1), json!(1)])]);
        storage.note_committed(&manifest).await.expect("it is in memory");
        assert!(pending().await.is_empty());
    }

    /// Goal: rows of a sink that the job has not are refused, for good and with what to do; told to, the job gives them up, says so, and keeps those of other sinks.
    #[test]
    fn rows_of_lost_sinks_are_refused() {
        let has = |name: &str| name == "out";
        let listed = || vec![("before".to_owned(), vec![json!(1)]), ("out".to_owned(), vec![json!(2)])];
        let refused = give_up_lost(&mut listed(), has, 5, false).expect_err("nobody can commit them");
        assert!(refused.is_final, "{refused}");
        for part in ["checkpoint 5", "\"before\"", "with its sinks as they were", "--allow-non-restored-state"] {
            assert!(refused.message.contains(part), "{refused}");
        }
        let mut pending = listed();
        let told = give_up_lost(&mut pending, has, 5, true).expect("it is told to");
        assert!(told.len() == 1 && told[0].contains("\"before\""), "{told:?}");
        assert_eq!(pending, [("out".to_owned(), vec![json!(2)])]);
        assert!(give_up_lost(&mut pending, has, 5, false).expect("none is lost").is_empty());
    }
}
