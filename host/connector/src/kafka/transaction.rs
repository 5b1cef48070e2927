//! Transactions of a sink: their names, and what has become of one.
//!
//! A transaction is named by its transactional id, the producer's id and the epoch. Weir takes a new epoch for each, so a name never stands for two. That is
//! what makes a second commit harmless: whatever the id does by now, it is not this transaction that would be ended.
//!
//! The transactional id is `weir-JOB-LOG-SINK-GENERATION-SUBTASK-SLOT`. As the log and the generation are part of it, an attempt that begins touches nothing
//! that an older one has prepared, nor anything of a job of the same name whose attempts are numbered elsewhere. A slot is taken again once its transaction was committed; until then the writer goes on in another one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, Description, State};
use crate::error::ErrorKind;
use crate::{Context, Error, Transaction};

/// The names that one sink gives in one attempt.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `weir-JOB-LOG-SINK`
    prefix: String,
    generation: u64,
}

impl Names {
    pub fn new(context: &Context) -> Self {
        Self { prefix: format!("weir-{}-{}", context.attempt.owner(), context.name), generation: context.attempt.generation }
    }

    /// A transactional id.
    pub fn id(&self, subtask: u16, slot: u32) -> String {
        format!("{}-{}-{subtask}-{slot}", self.prefix, self.generation)
    }

    /// Whether an id is one that an older attempt gave.
    fn is_older(&self, id: &str) -> bool {
        let mut parts = id.rsplitn(4, '-');
        let (slot, subtask, generation, prefix) = (parts.next(), parts.next(), parts.next(), parts.next());
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        prefix == Some(self.prefix.as_str())
            && number(slot).and(number(subtask)).and(number(generation)).is_some_and(|generation| generation < self.generation)
    }
}

/// A transaction that holds what a writer took, to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub transactional_id: String,
    pub producer_id: i64,
    pub epoch: i16,
    /// the id of the cluster that has it; empty = it was begun when that was not noted, or the cluster has none
    #[serde(default)]
    pub cluster: String,
}

impl Prepared {
    pub fn of(transaction: &Transaction) -> Result<Self, Error> {
        Self::deserialize(transaction).map_err(|e| Error::options(format!("{transaction} is no transaction of Kafka: {e}")))
    }

    pub fn to_json(&self) -> Transaction {
        serde_json::json!({
            "transactional_id": self.transactional_id, "producer_id": self.producer_id, "epoch": self.epoch,
            "cluster": self.cluster,
        })
    }

    /// Whether a cluster of this id is another one than that which has it: what is known there of its transactional id is not about it.
    fn is_elsewhere(&self, cluster: &str) -> bool {
        self.cluster != cluster && ![&*self.cluster, cluster].contains(&"")
    }

    fn is(&self, id: &str, description: &Description) -> bool {
        self.transactional_id == id && self.producer_id == description.producer_id && self.epoch == description.epoch
    }
}

impl fmt::Display for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (producer {}, epoch {})", self.transactional_id, self.producer_id, self.epoch)
    }
}

/// What has become of a prepared transaction.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// it can be committed
    Open,
    /// it is committed, or is being
    Committed,
    /// it was aborted
    Lost,
}

/// Judges by what the coordinator knows of the id.
///
/// An epoch that has moved on tells of a commit, since a slot is taken again only after one, and by nobody but the job. The exception is the time-out of the broker, which aborts the
/// transaction under the next epoch. Whoever aborts a later transaction of the same id does so by a new epoch, too ([`Cluster::fence`]), so that it does
/// not look like that.
fn fate(prepared: &Prepared, known: Option<&Description>) -> Fate {
    let Some(known) = known else {
        // A coordinator forgets an id that was not used for days. Its last transaction was ended long before.
        return Fate::Committed;
    };
    if known.producer_id != prepared.producer_id {
        return Fate::Committed;
    }
    match (i32::from(known.epoch) - i32::from(prepared.epoch), known.state) {
        (0, State::Ongoing) => Fate::Open,
        (0, State::PrepareCommit | State::CompleteCommit) => Fate::Committed,
        (0, _) | (1, State::Aborted) => Fate::Lost,
        (ahead, _) if ahead > 0 => Fate::Committed,
        _ => Fate::Lost,
    }
}

/// Names the transaction that an id has open, with all that was sent acknowledged.
///
/// # Errors
/// If there is none any more.
pub(super) fn prepared(cluster: &mut Cluster, transactional_id: String) -> Result<Prepared, Error> {
    match cluster.describe(&transactional_id)? {
        Some(Description { state: State::Ongoing, producer_id, epoch }) => {
            Ok(Prepared { transactional_id, producer_id, epoch, cluster: cluster.id()? })
        }
        _ => Err(Error {
            kind: ErrorKind::Io,
            message: format!(
                "the broker has ended the transaction {transactional_id}, so its rows have to be written again; \
                 if checkpoints are further apart than transaction_timeout, set a longer one"
            ),
            source: None,
        }),
    }
}

/// Commits a transaction, whoever began it and whether or not its producer still lives. Once committed, it stays so.
///
/// # Errors
/// If it cannot be committed, or not now; of kind [`Missing`](ErrorKind::Missing) if another cluster has it.
pub(super) fn commit(cluster: &mut Cluster, prepared: &Prepared) -> Result<(), Error> {
    let id = cluster.id()?;
    if prepared.is_elsewhere(&id) {
        let was = &prepared.cluster;
        return Err(Error::missing(format!(
            "the transaction {prepared} is not on these brokers, of the cluster {id}, but on the cluster {was}"
        )));
    }
    let Err(code) = cluster.commit(prepared)? else { return Ok(()) };
    let io = |message| Error { kind: ErrorKind::Io, message, source: None };
    match fate(prepared, cluster.describe(&prepared.transactional_id)?.as_ref()) {
        Fate::Committed => Ok(()),
        Fate::Open => Err(io(format!("the transaction {prepared} cannot be committed: {code}"))),
        Fate::Lost => Err(io(format!(
            "the broker has aborted the transaction {prepared} before it was committed: its rows, which the checkpoint holds for written, are lost. \
             This happens if a job is down for longer than transaction_timeout; start it from an older savepoint, and set a longer one"
        ))),
    }
}

/// Aborts what older attempts of the job left open, except `pending`.
pub(super) fn recover(cluster: &mut Cluster, names: &Names, pending: &[Prepared]) -> Result<(), Error> {
    for id in cluster.open_transactions()?.iter().filter(|id| names.is_older(id)) {
        let Some(known) = cluster.describe(id)? else { continue };
        if known.state == State::Ongoing && !pending.iter().any(|prepared| prepared.is(id, &known)) {
            cluster.fence(id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        // Goal: an attempt recognises the ids of older attempts of its own job and sink, and no others.
        let names = Names { prefix: "weir-a-b".into(), generation: 7 };
        assert_eq!(names.id(3, 1), "weir-a-b-7-3-1");
        for (id, expected) in [
            ("weir-a-b-6-3-1", true),
            ("weir-a-b-0-0-0", true),
            ("weir-a-b-7-3-1", false),
            ("weir-a-b-8-3-1", false),
            ("weir-a-b-c-6-3-1", false),
            ("weir-a-6-3-1", false),
            ("weir-a-b-6-3", false),
            ("weir-a-b-x-3-1", false),
            ("6-3-1", false),
        ] {
            assert_eq!(names.is_older(id), expected, "{id}");
        }
    }

    #[test]
    fn transactions_are_where_they_were_begun() {
        // Goal: a transaction is looked for on its own cluster alone, as far as is known which that is.
        for (begun, asked, expected) in [("a", "a", false), ("a", "b", true), ("", "b", false), ("a", "", false), ("", "", false)]
        {
            let prepared = Prepared { transactional_id: "t".into(), producer_id: 5, epoch: 3, cluster: begun.into() };
            assert_eq!(prepared.is_elsewhere(asked), expected, "{begun} {asked}");
            assert_eq!(Prepared::of(&prepared.to_json()).unwrap(), prepared);
        }
        let older = serde_json::json!({ "transactional_id": "t", "producer_id": 5, "epoch": 3 });
        assert_eq!(Prepared::of(&older).unwrap().cluster, "");
    }

    #[test]
    fn the_fate_of_a_transaction_is_known() {
        // Goal: only what was certainly aborted is lost, and only what is open is open.
        let prepared = Prepared { transactional_id: "t".into(), producer_id: 5, epoch: 3, cluster: String::new() };
        let known = |producer_id, epoch, state| Some(Description { state, producer_id, epoch });
        for (known, expected) in [
            (known(5, 3, State::Ongoing), Fate::Open),
            (known(5, 3, State::PrepareCommit), Fate::Committed),
            (known(5, 3, State::CompleteCommit), Fate::Committed),
            (known(5, 3, State::Aborted), Fate::Lost),
            (known(5, 3, State::Empty), Fate::Lost),
            (known(5, 4, State::Aborted), Fate::Lost),
            (known(5, 4, State::Empty), Fate::Committed),
            (known(5, 4, State::Ongoing), Fate::Committed),
            (known(5, 5, State::Aborted), Fate::Committed),
            (known(5, 2, State::Ongoing), Fate::Lost),
            (known(6, 0, State::Ongoing), Fate::Committed),
            (None, Fate::Committed),
        ] {
            assert_eq!(fate(&prepared, known.as_ref()), expected, "{known:?}");
        }
    }
}
