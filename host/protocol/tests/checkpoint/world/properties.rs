//! What must hold in a world, and what may be reached.

use super::*;

impl World {
    /// No row is committed twice.
    pub fn is_nothing_twice(&self) -> bool {
        let rows: Vec<_> = self.committed.values().flatten().collect();
        rows.len() == rows.iter().collect::<BTreeSet<_>>().len()
    }

    /// What a sink has committed of a source has no gaps, and the newest manifest covers it.
    pub fn is_prefix(&self, settings: &Settings) -> bool {
        let committed: BTreeSet<Row> = self.committed.values().flatten().copied().collect();
        let is_ahead = |&(source, place): &Row| {
            let before = (0..place).map(|p| (source, p));
            let mut same_sink = before.filter(|row| sink_of(*row, settings.sinks) == sink_of((source, place), settings.sinks));
            same_sink.all(|row| committed.contains(&row))
        };
        committed.iter().all(is_ahead) && committed.is_subset(&self.covered())
    }

    /// Once an attempt has finished, all rows are committed that the newest manifest covers: the whole input, unless the job was stopped.
    pub fn is_nothing_lost(&self, settings: &Settings) -> bool {
        let committed: BTreeSet<Row> = self.committed.values().flatten().copied().collect();
        let covered = self.covered();
        let has_stopped = self.newest_manifest().is_some_and(|(kind, _)| kind.stops());
        let rows = settings.inputs.iter().map(|rows| usize::from(*rows)).sum::<usize>();
        !self.has_finished() || (committed == covered && (has_stopped || covered.len() == rows))
    }

    fn covered(&self) -> BTreeSet<Row> {
        let snapshots = self.newest_manifest().map_or_else(Snapshots::new, |(_, snapshots)| snapshots.clone());
        let rows = snapshots.iter().flat_map(|(task, snapshot)| match snapshot {
            Snapshot::Source { position } => (0..*position).map(|place| (task.subtask as u8, place)).collect(),
            Snapshot::Sink { .. } => vec![],
        });
        rows.collect()
    }

    /// The attempts that are neither over nor dead.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        let is_live = |a: &Attempt| matches!(a, Attempt::Claiming(_) | Attempt::Claimed(_) | Attempt::Running(_));
        (0..self.attempts.len()).filter(move |index| is_live(&self.attempts[*index]))
    }

    pub fn has_finished(&self) -> bool {
        self.attempts.contains(&Attempt::Finished)
    }

    pub fn has_stopped(&self) -> bool {
        self.has_finished() && self.newest_manifest().is_some_and(|(kind, _)| kind.stops())
    }

    pub fn is_fenced(&self) -> bool {
        self.attempts.contains(&Attempt::Failed(Failure::Fenced))
    }

    /// Whether a transaction of one generation was committed by a later one.
    pub fn has_recovered(&self) -> bool {
        let claims = self.entries().filter(|entry| matches!(entry, Entry::Claim { .. }));
        claims.count() > 1 && self.attempts[0] == Attempt::Crashed && self.committed.keys().any(|t| t.generation == 1)
    }

    /// Whether the newest manifest but one is torn, so that an attempt has started from the one before it, and an attempt has finished.
    pub fn has_gone_back(&self) -> bool {
        let manifests = self.log.iter().filter(|logged| matches!(logged.entry, Entry::Manifest { .. }));
        let are_torn: Vec<_> = manifests.map(|logged| logged.is_torn).collect();
        self.has_finished() && are_torn.ends_with(&[false, true, false])
    }

    /// Whether a transaction was carried over a checkpoint that was abandoned.
    pub fn has_carried(&self) -> bool {
        self.committed.keys().any(|t| self.manifest(CheckpointId(t.checkpoint)).is_none())
    }
}
