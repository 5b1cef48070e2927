//! Who may write: the fencing of attempts by a job's log.
//!
//! A job has one log of numbered entries in its object store. Each is written once, by a put that fails if the number is taken, and its
//! number is never given free, not even to clean up: a late put would take it.
//!
//! ```text
//!   0        1           2           3        4
//!   claim 1  manifest 1  manifest 2  claim 2  manifest 3  ...
//!   └─── generation 1 ──────────┘    └─── generation 2
//! ```
//!
//! An attempt to run the job begins with a claim, and its generation may append only behind an entry of its own. So a claim ends the
//! generation before it: that one's next manifest belongs at a number that is taken. "A manifest of an old generation behind a newer
//! claim" cannot be written, and the newest manifest that a claim finds before itself stays the newest that its predecessors ever get
//! stored. No clock, lock or lease takes part in this, only the store's conditional put. Who is fenced learns of it at its next put, and
//! until then can do no harm: nothing is committed that is not in the log.
//!
//! [`resolve`] reads the log and decides what to claim, and from which checkpoint to start; [`Decision::check`] says whether the log has
//! what the job is known to have had, and [`Decision::check_anew`] whether it has had something that nobody could start from any more;
//! [`settle`] says what became of a put; [`Claim`] is the right that was won, and says where it may be
//! used.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointId, Kind};

/// The fencing token of one attempt to run a job: newer attempts have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Tells two attempts apart that claim the same generation. Drawn at random by each, for only one of them can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u128);

/// What decisions need of an entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// from here on the job belongs to a generation
    Claim {
        /// the new generation
        generation: Generation,
        /// whose claim it is
        nonce: Nonce,
    },
    /// a checkpoint is complete
    Manifest {
        /// the generation that made it
        generation: Generation,
        /// which checkpoint it is; later manifests have greater ones
        checkpoint: CheckpointId,
        /// what it was made for
        kind: Kind,
    },
}

impl Entry {
    /// The generation that wrote the entry.
    pub fn generation(&self) -> Generation {
        match *self {
            Self::Claim { generation, .. } | Self::Manifest { generation, .. } => generation,
        }
    }
}

/// What a reader of the log makes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// what was written
    Whole(Entry),
    /// nobody knows what it was
    Unreadable,
    /// the manifest of a checkpoint that nobody can start from: it can be read, and files that it lists cannot
    Damaged {
        /// the generation that made it
        generation: Generation,
        /// which checkpoint it is
        checkpoint: CheckpointId,
    },
}

impl From<Option<Entry>> for Seen {
    fn from(entry: Option<Entry>) -> Self {
        entry.map_or(Self::Unreadable, Self::Whole)
    }
}

/// The checkpoint that an attempt starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    /// the number of its manifest in the log
    pub number: u64,
    /// the checkpoint
    pub checkpoint: CheckpointId,
    /// what it was made for
    pub kind: Kind,
}

/// Something is wrong with the log behind the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Warning {
    /// Whether to go on is for the job's policy: from an older base, rows that the lost checkpoint has committed are written again.
    #[error("entry {number} cannot be read; if it was a checkpoint, what it committed will be written again")]
    Unreadable {
        /// its number
        number: u64,
    },
    /// The same, of a checkpoint that nobody can start from.
    #[error("checkpoint {} is damaged; what it committed will be written again", .checkpoint.0)]
    Damaged {
        /// the number of its manifest
        number: u64,
        /// the checkpoint
        checkpoint: CheckpointId,
    },
    /// The same, of entries that are not there.
    #[error("{} missing; if one was a checkpoint, what it committed will be written again", are(*.first, *.last))]
    Gap {
        /// the number of the first one
        first: u64,
        /// the number of the last one
        last: u64,
    },
    /// The store has not kept its promise, or somebody has written by hand.
    #[error("entry {number} is of a generation that had ended; it is ignored")]
    Stray {
        /// its number
        number: u64,
    },
}

impl Warning {
    /// Whether a checkpoint may have been lost that was put behind the claim of number `claim`. Entries begin with a claim, and only once there is a
    /// checkpoint does anybody remove one.
    fn may_be_checkpoint(&self, claim: u64) -> bool {
        match *self {
            Self::Unreadable { number } | Self::Damaged { number, .. } => number > claim,
            Self::Gap { last, .. } => last >= claim,
            Self::Stray { .. } => false,
        }
    }
}

fn are(first: u64, last: u64) -> String {
    if first == last { format!("entry {first} is") } else { format!("entries {first} to {last} are") }
}

/// The log has less than its job is known to have had: it is another one, or something in it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("checkpoint {} or a later one is missing ({})", .expected.0, newest(*.found))]
pub struct Missing {
    /// the oldest checkpoint that would do
    pub expected: CheckpointId,
    /// the newest one that can be read
    pub found: Option<CheckpointId>,
}

/// The log has no checkpoint to start from, and has had one, or may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("there is no checkpoint that can be used")]
pub struct Unusable {
    /// what there is instead of it
    pub lost: Vec<Warning>,
}

fn newest(found: Option<CheckpointId>) -> String {
    found.map_or_else(|| "there is none".to_owned(), |found| format!("the newest is {}", found.0))
}

/// What an attempt has to claim, and where it starts if it wins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// the newest complete checkpoint; without one the job starts anew
    pub base: Option<Base>,
    /// the generation to claim
    pub generation: Generation,
    /// the number at which to put the claim
    pub number: u64,
    /// what is wrong with the log
    pub warnings: Vec<Warning>,
}

impl Decision {
    /// Makes sure that the base is checkpoint `expected` or a later one; without one, that of a job which may never have run will do.
    ///
    /// It must be asked before the entry is put. Where something is missing, the attempt must not start, for it would do again what is done
    /// and published; and its claim would stand in the place of what may be brought back.
    ///
    /// # Errors
    /// If the base is older, or there is none.
    pub fn check(&self, expected: Option<CheckpointId>) -> Result<(), Missing> {
        let found = self.base.map(|base| base.checkpoint);
        match expected {
            // None is less than any.
            Some(expected) if found < Some(expected) => Err(Missing { expected, found }),
            _ => Ok(()),
        }
    }

    /// Makes sure that an attempt passes over no checkpoint if it begins anew where there is none to start from. Only those count that were put behind the
    /// claim of number `claim`: 0 for all of them, and that of the first attempt where somebody wanted this one not to start from what was there.
    ///
    /// It must be asked before the entry is put, unless somebody wants the attempt to begin anew whatever there is.
    ///
    /// # Errors
    /// If there is none, and not because the job has never completed one. What cannot be read counts as one that was completed: what it committed nobody
    /// knows.
    pub fn check_anew(&self, claim: u64) -> Result<(), Unusable> {
        if self.base.is_some_and(|base| base.number >= claim) {
            return Ok(());
        }
        let lost: Vec<_> = self.warnings.iter().copied().filter(|warning| warning.may_be_checkpoint(claim)).collect();
        if lost.is_empty() { Ok(()) } else { Err(Unusable { lost }) }
    }

    /// The entry to put.
    pub fn entry(&self, nonce: Nonce) -> Entry {
        Entry::Claim { generation: self.generation, nonce }
    }

    /// The right that the attempt has, once its entry [is written](Settled::Written).
    pub fn won(&self) -> Claim {
        Claim { generation: self.generation, last: self.number }
    }
}

/// Decides what to claim from the entries of the log, by their numbers and in their order.
///
/// A part of the log is enough if it begins with a manifest that can be read, or with all claims before the first one. An entry that is
/// missing in between counts as one that cannot be read, and costs nothing: a number may be any. If the reader has not seen the end, its
/// claim will not be written, and it reads again.
pub fn resolve(entries: &[(u64, Seen)]) -> Decision {
    let first = entries.first().map_or(0, |(number, _)| *number);
    let mut decision = Decision { base: None, generation: Generation(first), number: first, warnings: vec![] };
    if first > 0 {
        decision.warnings.push(Warning::Gap { first: 0, last: first - 1 });
    }
    // The greatest generation that there can be so far: each needs an entry to claim it, perhaps one that cannot be read.
    let mut greatest = first;
    let mut newest = Generation(0);
    for &(number, seen) in entries {
        if number > decision.number {
            greatest = greatest.saturating_add(number - decision.number);
            decision.warnings.push(Warning::Gap { first: decision.number, last: number - 1 });
        }
        decision.number = number.saturating_add(1);
        let generation = match seen {
            Seen::Unreadable => {
                greatest = greatest.saturating_add(1);
                decision.warnings.push(Warning::Unreadable { number });
                continue;
            }
            Seen::Whole(entry) => entry.generation(),
            Seen::Damaged { generation, .. } => generation,
        };
        if generation < newest {
            decision.warnings.push(Warning::Stray { number });
            continue;
        }
        match seen {
            Seen::Whole(Entry::Manifest { checkpoint, kind, .. }) => {
                decision.base = Some(Base { number, checkpoint, kind });
                decision.warnings.clear();
            }
            Seen::Damaged { checkpoint, .. } => decision.warnings.push(Warning::Damaged { number, checkpoint }),
            Seen::Whole(Entry::Claim { .. }) | Seen::Unreadable => {}
        }
        newest = generation;
        greatest = newest.0;
    }
    decision.generation = Generation(greatest.saturating_add(1));
    decision
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settled {
    /// Our entry is there.
    Written,
    /// The number is somebody else's. A claim is decided anew from the log; with a manifest the attempt is fenced, and must stop.
    Lost,
    /// Nothing is there: the same entry must be put at the same number again.
    ///
    /// Nothing else may be put there: the first put may be on its way yet. An attempt that does not want to go on trying must end, and
    /// leave it to the next one's claim to find the entry or to keep it out.
    Again,
}

/// Decides what became of a put of our entry, from what can be read at its number afterwards: `None` if there is nothing, `Some(None)`
/// if it cannot be read.
///
/// It must be asked whenever the put was not answered with success. Also if the answer was that the number is taken: a client that
/// tries again by itself may have met its own first try.
pub fn settle(ours: &Entry, found: Option<&Option<Entry>>) -> Settled {
    match found {
        None => Settled::Again,
        Some(found) if found.as_ref() == Some(ours) => Settled::Written,
        // What nobody can read nobody can start from, even if it was ours.
        Some(_) => Settled::Lost,
    }
}

/// The right of a generation to append to the log, until somebody else claims it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    generation: Generation,
    last: u64,
}

impl Claim {
    /// The generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The only number at which it may put its next manifest: behind the last entry that is its own.
    pub fn number(&self) -> u64 {
        self.last + 1
    }

    /// The entry to put there for a checkpoint.
    pub fn manifest(&self, checkpoint: CheckpointId, kind: Kind) -> Entry {
        Entry::Manifest { generation: self.generation, checkpoint, kind }
    }

    /// Its manifest [is written](Settled::Written).
    pub fn advance(&mut self) {
        self.last += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(generation: u64) -> Option<Entry> {
        Some(Entry::Claim { generation: Generation(generation), nonce: Nonce(7) })
    }

    fn manifest(generation: u64, checkpoint: u64) -> Option<Entry> {
        let (generation, checkpoint) = (Generation(generation), CheckpointId(checkpoint));
        Some(Entry::Manifest { generation, checkpoint, kind: Kind::Checkpoint })
    }

    /// A log without gaps, from number `first` on.
    fn from(first: u64, entries: &[Option<Entry>]) -> Vec<(u64, Seen)> {
        (first..).zip(entries.iter().copied().map(Seen::from)).collect()
    }

    fn damaged(generation: u64, checkpoint: u64) -> Seen {
        Seen::Damaged { generation: Generation(generation), checkpoint: CheckpointId(checkpoint) }
    }

    /// Whole logs: what is claimed, where, and from which checkpoint the attempt starts.
    #[test]
    fn resolves() {
        use Warning::*;
        type Log<'a> = (u64, &'a [Option<Entry>]);
        let cases: [(Log, Option<u64>, u64, u64, &[Warning]); 11] = [
            ((0, &[]), None, 1, 0, &[]),
            ((0, &[claim(1)]), None, 2, 1, &[]),
            ((0, &[claim(1), manifest(1, 1), manifest(1, 4)]), Some(4), 2, 3, &[]),
            ((0, &[claim(1), manifest(1, 1), claim(2), claim(3)]), Some(1), 4, 4, &[]),
            // Only the end of the log was read.
            ((6, &[manifest(3, 9), claim(4)]), Some(9), 5, 8, &[]),
            // What cannot be read behind the base may be a checkpoint, and may be a claim.
            ((0, &[claim(1), manifest(1, 1), None]), Some(1), 3, 3, &[Unreadable { number: 2 }]),
            ((0, &[claim(1), manifest(1, 1), None, claim(2)]), Some(1), 3, 4, &[Unreadable { number: 2 }]),
            ((0, &[None, manifest(1, 1)]), Some(1), 2, 2, &[]),
            ((0, &[None, None]), None, 3, 2, &[Unreadable { number: 0 }, Unreadable { number: 1 }]),
            ((5, &[None]), None, 7, 6, &[Gap { first: 0, last: 4 }, Unreadable { number: 5 }]),
            // This cannot be, so it is not believed.
            ((0, &[claim(1), manifest(1, 1), claim(2), manifest(1, 2)]), Some(1), 3, 4, &[Stray { number: 3 }]),
        ];
        for ((first, entries), base, generation, number, warnings) in cases {
            let decision = resolve(&from(first, entries));
            assert_eq!(decision.base.map(|b| b.checkpoint.0), base, "{entries:?}");
            assert_eq!((decision.generation.0, decision.number), (generation, number), "{entries:?}");
            assert_eq!(decision.warnings, warnings, "{entries:?}");
        }
    }

    /// What is missing counts as what cannot be read, however much it is, and nothing does so once for each number.
    #[test]
    fn gaps_count_as_what_cannot_be_read() {
        let head = [(0, claim(1).into()), (1, manifest(1, 1).into())];
        for (ends, tail) in [(4, None), (4, claim(3)), (4, manifest(1, 3)), (4, claim(1))] {
            let (unreadable, tail) = (Seen::Unreadable, Seen::from(tail));
            let with_gap = resolve(&[head[0], head[1], (ends, tail)]);
            let filled = resolve(&[head[0], head[1], (2, unreadable), (3, unreadable), (ends, tail)]);
            let decided =
                |decision: &Decision| (decision.base, decision.generation, decision.number, decision.warnings.is_empty());
            assert_eq!(decided(&with_gap), decided(&filled), "{tail:?}");
        }
        let far = 1 << 60;
        let decision = resolve(&[head[0], head[1], (far, Seen::Unreadable)]);
        assert_eq!(decision.base.map(|base| base.number), Some(1));
        assert_eq!((decision.generation.0, decision.number), (far + 1, far + 1), "there can have been as many claims");
        let told: Vec<_> = decision.warnings.iter().map(Warning::to_string).collect();
        assert!(told.len() == 2 && told[0].starts_with(&format!("entries 2 to {} are missing; if one was", far - 1)), "{told:?}");
        assert!(resolve(&[head[0], (2, Seen::Unreadable)]).warnings[0].to_string().starts_with("entry 1 is missing"));
        // Behind the last number there is none.
        assert_eq!(resolve(&[(u64::MAX, Seen::Unreadable)]).number, u64::MAX);
    }

    /// A log that has less than is expected is refused, and the message says what it lacks; one that has as much or more is not.
    #[test]
    fn less_is_missing() {
        let log = [claim(1), manifest(1, 1), manifest(1, 4), claim(2)];
        let torn = [claim(1), manifest(1, 1), None, claim(2)];
        let (first, fourth, fifth) = (Some(CheckpointId::FIRST), Some(CheckpointId(4)), Some(CheckpointId(5)));
        let cases: [(&[Option<Entry>], Option<CheckpointId>, Option<&str>); 9] = [
            (&[], None, None),
            (&[], first, Some("checkpoint 1 or a later one is missing (there is none)")),
            (&[claim(1)], fourth, Some("checkpoint 4 or a later one is missing (there is none)")),
            (&log, None, None),
            (&log, first, None),
            (&log, fourth, None),
            (&log, fifth, Some("checkpoint 5 or a later one is missing (the newest is 4)")),
            (&torn, first, None),
            (&torn, fourth, Some("checkpoint 4 or a later one is missing (the newest is 1)")),
        ];
        for (entries, expected, missing) in cases {
            let checked = resolve(&from(0, entries)).check(expected).map_err(|missing| missing.to_string());
            assert_eq!(checked.err().as_deref(), missing, "{entries:?}, {expected:?}");
        }
    }

    /// A checkpoint that is damaged is passed over as its own, not as an entry that cannot be read: whose it is stays known.
    #[test]
    fn what_is_damaged_is_passed_over() {
        let log = [from(0, &[claim(1), manifest(1, 1)]), vec![(2, damaged(1, 2)), (3, claim(2).into())]].concat();
        let decision = resolve(&log);
        assert_eq!(decision.base.map(|base| base.checkpoint), Some(CheckpointId(1)));
        assert_eq!((decision.generation, decision.number), (Generation(3), 4));
        assert_eq!(decision.warnings, [Warning::Damaged { number: 2, checkpoint: CheckpointId(2) }]);
        assert!(decision.warnings[0].to_string().starts_with("checkpoint 2 is damaged"));
        // Its generation had ended.
        assert_eq!(resolve(&[(0, claim(2).into()), (1, damaged(1, 5))]).warnings, [Warning::Stray { number: 1 }]);
    }

    /// Nobody begins anew where there was a checkpoint, or may have been; the entry at which a log begins was none.
    #[test]
    fn what_cannot_be_used_is_not_passed_over() {
        let first_claim = (0, claim(1).into());
        let cases: [(&[(u64, Seen)], u64, bool); 12] = [
            (&[], 0, true),
            (&[first_claim], 0, true),
            (&[first_claim, (1, claim(2).into())], 0, true),
            (&[(0, Seen::Unreadable), (1, claim(2).into())], 0, true),
            (&[first_claim, (1, manifest(1, 1).into()), (2, Seen::Unreadable)], 0, true),
            (&[first_claim, (1, Seen::Unreadable)], 0, false),
            (&[first_claim, (1, damaged(1, 1)), (2, claim(2).into())], 0, false),
            // Old entries go once there is a checkpoint.
            (&[(7, claim(3).into())], 0, false),
            (&[first_claim, (2, claim(2).into())], 0, false),
            // Somebody wanted to begin anew where 3 was claimed; what was there before does not count, neither for it nor against it.
            (&[(1, Seen::Unreadable), (2, damaged(1, 1)), (3, claim(5).into()), (4, claim(6).into())], 3, true),
            (&[(1, manifest(1, 1).into()), (3, claim(5).into()), (4, damaged(5, 2))], 3, false),
            (&[(1, Seen::Unreadable), (3, claim(5).into()), (4, manifest(5, 2).into()), (5, damaged(5, 3))], 3, true),
        ];
        for (log, claim, begins) in cases {
            assert_eq!(resolve(log).check_anew(claim).is_ok(), begins, "{log:?}, {claim}");
        }
        let refused =
            resolve(&[first_claim, (1, damaged(1, 4)), (2, Seen::Unreadable)]).check_anew(0).expect_err("there were two");
        let lost = [Warning::Damaged { number: 1, checkpoint: CheckpointId(4) }, Warning::Unreadable { number: 2 }];
        assert_eq!(refused.lost, lost);
    }

    /// A put is ours if our entry is there, and only then; the same generation claimed by another attempt is not ours.
    #[test]
    fn settles() {
        let decision = resolve(&[]);
        let ours = decision.entry(Nonce(1));
        assert_eq!(settle(&ours, Some(&Some(ours))), Settled::Written);
        assert_eq!(settle(&ours, Some(&Some(decision.entry(Nonce(2))))), Settled::Lost);
        assert_eq!(settle(&ours, Some(&None)), Settled::Lost);
        assert_eq!(settle(&ours, None), Settled::Again);
    }

    /// A generation appends behind its own entries, at one number after the other.
    #[test]
    fn appends_behind_its_own() {
        let mut claim = resolve(&from(0, &[claim(1), manifest(1, 1)])).won();
        assert_eq!((claim.generation(), claim.number()), (Generation(2), 3));
        claim.advance();
        assert_eq!(claim.number(), 4);
    }
}
