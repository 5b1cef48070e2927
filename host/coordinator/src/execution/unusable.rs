//! What is said of a job's checkpoints where none of them can be used.

use weir_checkpoint::{Entry, JobStorage, Log};
use weir_protocol::claim::{Unusable, Warning};

use super::origin::{Damaged, own};

/// How many of them are told.
const TOLD_MAX: usize = 8;

/// Each of them, the newest first, and what is wrong with it.
pub(super) fn unusable(unusable: &Unusable, storage: &JobStorage, log: &Log, damaged: &Damaged) -> String {
    let is_there = |lost: &&Warning| !matches!(lost, Warning::Gap { .. });
    let mut lost: Vec<_> = unusable.lost.iter().rev().filter(is_there).collect();
    if lost.is_empty() {
        // Where there are others, old entries may have gone as they should.
        lost.extend(unusable.lost.iter().rev());
    }
    let mut told: Vec<_> = lost.iter().take(TOLD_MAX).map(|lost| told(lost, storage, log, damaged)).collect();
    let rest = lost.len() - told.len();
    if rest > 0 {
        told.push(format!("and {rest} more"));
    }
    told.join("; ")
}

fn told(lost: &Warning, storage: &JobStorage, log: &Log, damaged: &Damaged) -> String {
    let entry = |number: u64| log.iter().find(|(n, _)| *n == number).map(|(_, entry)| entry);
    match *lost {
        Warning::Damaged { number, checkpoint } => {
            let why = match entry(number) {
                Some(Ok(Entry::Manifest(manifest))) => damaged.get(&own(manifest)),
                _ => None,
            };
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            format!("checkpoint {} is damaged{why}", checkpoint.0)
        }
        Warning::Unreadable { number } | Warning::Stray { number } => {
            let why = entry(number).and_then(|entry| entry.as_ref().err());
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            format!("{}, which may be a checkpoint, is damaged{why}", storage.entry_url(number))
        }
        Warning::Gap { first, last } if first == last => format!("{} is gone", storage.entry_url(first)),
        Warning::Gap { first, last } => {
            format!("entries {first} to {last} of the log are gone, up to {}", storage.entry_url(last))
        }
    }
}
