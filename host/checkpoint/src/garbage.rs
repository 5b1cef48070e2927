//! What may be deleted: old entries of the log, and files that nothing refers to any more.
//!
//! [`garbage`] decides, and errs on the side of keeping. It holds that
//!
//! - the newest complete checkpoints, as many as are retained, stay with all their files;
//! - entries newer than the oldest of them stay, whatever they are;
//! - nothing goes while the newest generation has not completed a checkpoint of its own, since it may have been restored from any
//!   of those that are there;
//! - the files of a checkpoint that may still complete stay: those of the current generation for the checkpoints since its oldest
//!   retained one;
//! - notes of what was committed stay as long as their checkpoints;
//! - whatever has a name of another kind stays.
//!
//! It relies on this: a checkpoint refers only to files that were uploaded for it, or that an older *complete* checkpoint refers
//! to which is retained when it completes. Files of a checkpoint that was given up must not be used again.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use futures::StreamExt;
use object_store::path::Path;

use crate::error::{Corrupt, Error};
use crate::folder::Folder;
use crate::log::{JobStorage, Log};
use crate::manifest::{Entry, Manifest};
use crate::paths;

/// Where to look for files that can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// among the files of the manifests that go: cheap, for after each checkpoint
    Dropped,
    /// everywhere: finds also what checkpoints left behind that were given up, and what dead writers left half-written in a
    /// directory
    All,
}

/// How much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// entries of the log
    pub entries: u64,
    /// files
    pub files: u64,
}

/// What can be deleted of `files` and of the log, as paths of the job's folder. Entries come first: deleted in this order, no
/// entry is ever left that refers to files which are gone.
pub fn garbage(log: &[(u64, Result<Entry, Corrupt>)], files: &[Path], retained: NonZeroUsize) -> Vec<Path> {
    let mut kept: Vec<(u64, &Manifest)> = manifests(log).collect();
    kept.drain(..kept.len().saturating_sub(retained.get()));
    let (Some(&(first, _)), Some(&(last, newest))) = (kept.first(), kept.last()) else { return vec![] };
    let generations = log.iter().filter_map(|(_, entry)| entry.as_ref().ok()).map(Entry::generation);
    // What cannot be read may be the claim of a generation that has not completed a checkpoint.
    let is_unclear = |(number, entry): &(u64, Result<Entry, Corrupt>)| match entry {
        Ok(_) => false,
        Err(Corrupt::Damaged(_)) => *number > last,
        Err(Corrupt::Newer { .. }) => true,
    };
    if generations.max() != Some(newest.generation) || log.iter().any(is_unclear) {
        return vec![];
    }
    let old = log.iter().map(|(number, _)| *number).filter(|number| *number < first);

    let referred: HashSet<&str> = kept.iter().flat_map(|(_, manifest)| manifest.files()).map(|file| file.path.as_str()).collect();
    let own = kept.iter().map(|(_, manifest)| manifest).filter(|manifest| manifest.generation == newest.generation);
    let oldest_own = own.map(|manifest| manifest.checkpoint).min().unwrap_or(newest.checkpoint);
    let is_abandoned = |path: &Path| match paths::written_by(path) {
        // An older generation completes nothing any more. What it wrote and nobody refers to, nobody ever will.
        Some((generation, _)) if generation < newest.generation => true,
        Some((generation, checkpoint)) => generation == newest.generation && checkpoint < oldest_own,
        None => false,
    };
    // A note is looked at only where its checkpoint is.
    let is_over =
        |path: &Path| paths::noted(path).is_some_and(|note| kept.iter().all(|(_, m)| (m.generation, m.checkpoint) != note));
    let files = files.iter().filter(|path| !referred.contains(path.as_ref()) && is_abandoned(path) || is_over(path));
    old.map(paths::entry).chain(files.cloned()).collect()
}

fn manifests(log: &[(u64, Result<Entry, Corrupt>)]) -> impl DoubleEndedIterator<Item = (u64, &Manifest)> {
    log.iter().filter_map(|(number, entry)| match entry {
        Ok(Entry::Manifest(manifest)) => Some((*number, manifest)),
        _ => None,
    })
}

/// The files of the manifests that are no longer retained.
fn dropped(log: &Log, retained: NonZeroUsize) -> Vec<Path> {
    let old = manifests(log).rev().skip(retained.get());
    let files: HashSet<&str> = old.flat_map(|(_, manifest)| manifest.files()).map(|file| file.path.as_str()).collect();
    files.into_iter().filter_map(|path| Path::parse(path).ok()).collect()
}

impl JobStorage {
    /// Deletes what is not needed, given the log as it was read after the own generation's newest checkpoint was appended to it.
    ///
    /// What is there twice is collected once: to break it off, or to let two of them run, does no harm.
    ///
    /// # Errors
    /// If the storage fails. Some of it may have been deleted.
    pub async fn collect_garbage(&self, log: &Log, retained: NonZeroUsize, sweep: Sweep) -> Result<Collected, Error> {
        let files = match sweep {
            Sweep::Dropped => dropped(log, retained),
            Sweep::All => {
                let (files, notes) =
                    (self.folder().list(&paths::files()).await?, self.folder().list(&paths::committed_notes()).await?);
                files.into_iter().chain(notes).map(|(path, _)| path).collect()
            }
        };
        let (entries, files): (Vec<_>, Vec<_>) =
            garbage(log, &files, retained).into_iter().partition(|path| paths::entry_number(path).is_some());
        let entries = self.folder().delete(entries).await?;
        let files = self.folder().delete(files).await?;
        if sweep == Sweep::All {
            self.remove_staged(log).await?;
        }
        Ok(Collected { entries, files })
    }

    /// In a directory, removes what older generations have left half-written.
    async fn remove_staged(&self, log: &Log) -> Result<(), Error> {
        let Some(local) = self.folder().storage().local() else { return Ok(()) };
        let current = log.iter().filter_map(|(_, entry)| entry.as_ref().ok()).map(Entry::generation).max().unwrap_or(0);
        let found = self.folder().store().list_with_delimiter(Some(&self.folder().object(&paths::files()))).await;
        let found = found.map_err(|e| Error::storage(format!("cannot list {}", self.folder().url_of(&paths::files())), e))?;
        for generation in found.common_prefixes {
            if generation.filename().and_then(|name| name.parse::<u64>().ok()).is_some_and(|generation| generation < current) {
                let removed = local.remove_staged(&generation).await;
                removed.map_err(|e| Error::storage(format!("cannot clean up {}", self.folder().url()), e))?;
            }
        }
        Ok(())
    }
}

impl Folder {
    /// Deletes objects; those that are not there are passed over.
    pub(crate) async fn delete(&self, paths: Vec<Path>) -> Result<u64, Error> {
        let objects: Vec<_> = paths.iter().map(|path| Ok(self.object(path))).collect();
        let mut deleted = 0;
        let mut failed = None;
        let mut answers = self.store().delete_stream(futures::stream::iter(objects).boxed());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        match failed {
            Some(e) => Err(Error::storage(format!("cannot delete in {}", self.url()), e)),
            None => Ok(deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use weir_types::KeyGroupRange;

    use super::*;
    use crate::checksum::Checksum;
    use crate::manifest::{ChainSnapshot, Claim, FileRef, Kind, StateFiles, TaskSnapshot};

    fn claim(generation: u64) -> Result<Entry, Corrupt> {
        Ok(Entry::Claim(Claim { generation, at_ms: 0 }))
    }

    fn manifest(generation: u64, checkpoint: u64, files: &[&str]) -> Manifest {
        let files = files.iter().map(|path| FileRef { path: path.to_string(), bytes: 1, crc32: Checksum(0) }).collect();
        let chain = ChainSnapshot {
            operator: "count".into(),
            schema: "all".into(),
            state_schemas: vec![],
            operator_state: None,
            watermark: 0,
            groups: KeyGroupRange { start: 0, end: 1 },
            state: StateFiles::Entries(files),
            scalars: serde_json::Value::Null,
        };
        let task = TaskSnapshot { chains: vec![chain], ..TaskSnapshot::new(0, 0, 1) };
        Manifest { tasks: vec![task], ..Manifest::new("job", Kind::Checkpoint, checkpoint, generation, 1) }
    }

    fn complete(generation: u64, checkpoint: u64, files: &[&str]) -> Result<Entry, Corrupt> {
        Ok(Entry::Manifest(manifest(generation, checkpoint, files)))
    }

    fn check(log: &Log, files: &[&str], retained: usize, expected: &[&str]) {
        let files: Vec<_> = files.iter().map(|path| Path::from(*path)).collect();
        let found = garbage(log, &files, NonZeroUsize::new(retained).unwrap());
        assert_eq!(found.iter().map(Path::as_ref).collect::<Vec<_>>(), expected);
    }

    const A1: &str = "files/1/0-0/1-a";
    const A2: &str = "files/1/0-0/2-a";
    const B3: &str = "files/1/0-0/3-b";
    const C4: &str = "files/2/0-0/4-c";
    const C5: &str = "files/2/0-0/5-c";
    const C6: &str = "files/2/0-0/6-c";

    /// Old entries go, with the files that only they refer to; a shared file stays.
    #[test]
    fn what_is_superseded_goes() {
        let log = vec![
            (1, claim(1)),
            (2, complete(1, 1, &[A1])),
            (3, complete(1, 2, &[A1, A2])),
            (4, claim(2)),
            (5, complete(2, 4, &[A1, C4])),
            (6, complete(2, 5, &[A1, C5])),
        ];
        let files = [A1, A2, C4, C5];
        let entry = |n: u64| format!("log/{n:020}.json");
        check(&log, &files, 1, &[&entry(1), &entry(2), &entry(3), &entry(4), &entry(5), A2, C4]);
        check(&log, &files, 2, &[&entry(1), &entry(2), &entry(3), &entry(4), A2]);
        check(&log, &files, 3, &[&entry(1), &entry(2)]);
        check(&log, &files, 4, &[&entry(1)]);
        check(&log, &files, 9, &[&entry(1)]);
    }

    /// The files of a checkpoint that may still complete stay; those of one that was given up go once a later one is complete, or
    /// another generation is at work.
    #[test]
    fn what_is_under_way_stays() {
        let log = vec![(1, claim(1)), (2, complete(1, 2, &[A2])), (3, claim(2)), (4, complete(2, 5, &[C5]))];
        let entry = |n: u64| format!("log/{n:020}.json");
        // Checkpoint 4 of the second generation was given up, 6 is under way; the first generation's 3 will never be complete.
        check(&log, &[A2, B3, C4, C5, C6], 1, &[&entry(1), &entry(2), &entry(3), A2, B3, C4]);
        // Checkpoint numbers of another generation do not count: here the newest generation started from an old one.
        let log = vec![(1, claim(1)), (2, complete(1, 9, &[A1])), (3, claim(2)), (4, complete(2, 5, &[C5]))];
        check(&log, &[A1, B3, C4, C5, C6], 2, &[&entry(1), B3, C4]);
        // What nobody of us has written is left alone.
        check(&log, &["files/note.txt", "files/3/0-0/1-a", "files/2/x"], 2, &[&entry(1)]);
    }

    /// Nothing goes without a complete checkpoint of the newest generation, nor while it is unclear which one that is.
    #[test]
    fn in_doubt_everything_stays() {
        let complete_twice = vec![(2, complete(1, 1, &[A1])), (3, complete(1, 2, &[A2]))];
        let files = [A1, A2, B3];
        check(&vec![], &files, 1, &[]);
        check(&vec![(1, claim(1))], &files, 1, &[]);
        for unclear in [claim(2), Err(Corrupt::damaged("torn"))] {
            let log = [complete_twice.clone(), vec![(4, unclear)]].concat();
            check(&log, &files, 1, &[]);
        }
        let newer = Err(Corrupt::Newer { found: 2, known: 1 });
        check(&[vec![(1, newer)], complete_twice.clone()].concat(), &files, 1, &[]);
        // A damaged entry in between is one that is not retained.
        let damaged = vec![(1, complete(1, 1, &[A1])), (2, Err(Corrupt::damaged("torn"))), (3, complete(1, 2, &[A2]))];
        check(&damaged, &files, 2, &[]);
        let entry = |n: u64| format!("log/{n:020}.json");
        check(&damaged, &files, 1, &[&entry(1), &entry(2), A1]);
    }

    /// A job's life: generations come and go, checkpoints build upon one another, some are given up, garbage is collected at any
    /// time, by the newest generation or by one that has not noticed that it is not.
    #[derive(Debug, Default)]
    struct Life {
        log: Log,
        files: BTreeSet<Path>,
        next_number: u64,
        next_checkpoint: u64,
        generation: u64,
        /// the files that the next checkpoint may build upon
        base: Vec<String>,
        under_way: Option<(u64, Vec<String>)>,
        /// the logs that earlier collectors read
        seen: Vec<Log>,
    }

    impl Life {
        fn append(&mut self, entry: Entry) {
            self.next_number += 1;
            self.log.push((self.next_number, Ok(entry)));
        }

        fn upload(&mut self, generation: u64, checkpoint: u64, n: u64) -> String {
            let path = format!("files/{generation}/0-0/{checkpoint}-{n}");
            self.files.insert(Path::from(path.as_str()));
            path
        }

        fn step(&mut self, action: u8, choice: u64, retained: NonZeroUsize) {
            match action {
                0 => {
                    // A new generation starts from one of the retained checkpoints.
                    self.generation += 1;
                    self.append(Entry::Claim(Claim { generation: self.generation, at_ms: 0 }));
                    let kept: Vec<_> = manifests(&self.log).rev().take(retained.get()).map(|(_, m)| m).collect();
                    let from = kept.get(choice as usize % kept.len().max(1));
                    self.base = from.map_or(vec![], |m| m.files().map(|f| f.path.clone()).collect());
                    self.under_way = None;
                }
                1 if self.generation > 0 => {
                    self.next_checkpoint += 1;
                    let keeps = self.base.iter().enumerate().filter(|(n, _)| choice >> n & 1 == 1).map(|(_, path)| path.clone());
                    let mut files: Vec<_> = keeps.collect();
                    files.extend((0..choice % 3).map(|n| self.upload(self.generation, self.next_checkpoint, n)));
                    self.under_way = Some((self.next_checkpoint, files));
                }
                2 => {
                    let Some((checkpoint, files)) = self.under_way.take() else { return };
                    self.append(Entry::Manifest(manifest(
                        self.generation,
                        checkpoint,
                        &files.iter().map(String::as_str).collect::<Vec<_>>(),
                    )));
                    self.base = files;
                    self.seen.push(self.log.clone());
                }
                3 => self.under_way = None,
                // A task of an older generation still uploads.
                4 if self.generation > 1 => {
                    drop(self.upload(1 + choice % (self.generation - 1), self.next_checkpoint + choice % 2, 100 + choice % 5))
                }
                5 => self.collect(&self.log.clone(), retained),
                6 if !self.seen.is_empty() => self.collect(&self.seen[choice as usize % self.seen.len()].clone(), retained),
                _ => {}
            }
        }

        fn collect(&mut self, log: &Log, retained: NonZeroUsize) {
            let files: Vec<_> = self.files.iter().cloned().collect();
            for path in garbage(log, &files, retained) {
                match paths::entry_number(&path) {
                    Some(number) => self.log.retain(|(n, _)| *n != number),
                    None => drop(self.files.remove(&path)),
                }
            }
        }

        fn check(&self, retained: NonZeroUsize) {
            let kept = manifests(&self.log).rev().take(retained.get()).flat_map(|(_, m)| m.files()).map(|f| &f.path);
            let under_way = self.under_way.iter().flat_map(|(_, files)| files);
            for path in kept.chain(under_way).chain(&self.base) {
                assert!(self.files.contains(&Path::from(path.as_str())), "{path} is gone");
            }
            assert_eq!(self.log.last().map_or(0, |(n, _)| *n), self.next_number, "the newest entry is gone");
            let generations = self.log.iter().filter_map(|(_, e)| e.as_ref().ok()).map(Entry::generation);
            assert_eq!(generations.max().unwrap_or(0), self.generation, "the newest generation is gone");
        }
    }

    proptest! {
        /// Whatever happens, nothing goes that is needed; and once a checkpoint is complete, what a collection leaves is needed,
        /// or may be.
        #[test]
        fn what_is_needed_stays(steps in prop::collection::vec((0..7u8, any::<u64>()), 1..80), retained in 1..4usize) {
            let retained = NonZeroUsize::new(retained).unwrap();
            let mut life = Life::default();
            for (action, choice) in steps {
                life.step(action, choice, retained);
                life.check(retained);
            }
            life.step(0, 0, retained);
            for action in [1, 2, 5] {
                life.step(action, 2, retained);
                life.check(retained);
            }
            let referred: HashSet<&str> = manifests(&life.log).flat_map(|(_, m)| m.files()).map(|f| f.path.as_str()).collect();
            for path in &life.files {
                let may_be_needed = paths::written_by(path).is_some_and(|(g, c)| g == life.generation && c >= life.next_checkpoint);
                assert!(referred.contains(path.as_ref()) || may_be_needed, "{path} is left");
            }
            assert!(manifests(&life.log).count() <= retained.get());
        }
    }
}
