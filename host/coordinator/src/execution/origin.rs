//! What an attempt owns, and what it starts from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use weir_checkpoint::{Appended, Error, ErrorKind, JobStorage, Kind as StoredKind, Log, Manifest};
use weir_protocol::checkpoint::{CheckpointId, Kind};
use weir_protocol::claim::{self, Base, Claim, Decision, Generation, Nonce, Seen};
use weir_worker::{Failure, FailureKind, Restore};

use super::unusable::unusable;
use super::{Checkpoints, Event, Start};

/// How often a claim is tried while others claim, too.
const CLAIMS_MAX: usize = 100;

/// How often a log is read in which there is no checkpoint: where a job runs, the one that was listed may have made room for the next before it was read.
const LOOKS_MAX: usize = 3;

/// An attempt's right, and what it starts from.
pub(super) struct Origin {
    pub generation: Generation,
    /// what tells the log that numbers attempts from others; empty if there is none
    pub log_id: String,
    /// the log, and the right to append to it
    pub log: Option<(JobStorage, Claim)>,
    /// the newest checkpoint in the log: what it lists is committed first
    pub base: Option<(Base, Arc<Manifest>)>,
    /// what state and positions come from
    pub restore: Option<Arc<Restore>>,
}

/// The origins of a job's attempts, one after the other.
pub(super) struct Origins {
    job: String,
    checkpoints: Option<Checkpoints>,
    start: Start,
    /// what the log must have at least, so that the job does not begin anew: what attempts have started from was there
    expected: Option<CheckpointId>,
    /// the first attempt, once there was one
    first: Option<First>,
    last: Generation,
    damaged: Damaged,
    /// whether the checkpoint that was to be started from last has turned out to be damaged
    goes_back: bool,
    /// what the current attempt has started from
    current: Source,
}

/// One of the job's own checkpoints: its number, and the generation that made it. After an attempt went back behind it, the next one has its number again.
pub(super) type Own = (CheckpointId, Generation);

/// The job's own checkpoints whose files turned out to be damaged, and what is wrong with them.
pub(super) type Damaged = HashMap<Own, String>;

/// The first attempt of a job in this process.
#[derive(Clone, Copy)]
struct First {
    generation: Generation,
    /// where it has claimed the log
    number: u64,
}

/// What an attempt starts from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// nothing
    Nothing,
    /// the savepoint that the user names
    Savepoint,
    /// one of the job's own checkpoints
    Own(Own),
}

impl Origins {
    pub fn new(job: String, checkpoints: Option<Checkpoints>, start: Start) -> Self {
        let expected = start.expected;
        let (damaged, current) = (Damaged::new(), Source::Nothing);
        Self { job, checkpoints, start, expected, first: None, last: Generation(0), damaged, goes_back: false, current }
    }

    /// The origin of the next attempt.
    pub async fn next(&mut self, events: &mpsc::UnboundedSender<Event>) -> Result<Origin, Failure> {
        let Some(checkpoints) = &self.checkpoints else {
            // There is no log that numbers attempts.
            self.last = Generation((self.last.0 + 1).max(now_ms() as u64));
            let (source, restore) = self.savepoint();
            self.current = source;
            return Ok(Origin { generation: self.last, log_id: String::new(), log: None, base: None, restore });
        };
        let has_run = self.first.is_some();
        // A job with which a server goes on has run in another process.
        let has_ever_run = has_run || self.start.expected.is_some();
        let failure = |error: &Error| failure(error, has_ever_run);
        let storage = checkpoints.storage.job(&checkpoints.job).map_err(|e| failure(&e))?;
        if !has_run {
            checkpoints.storage.probe().await.map_err(|e| failure(&e))?;
        }
        let mut looks = 0;
        for _ in 0..CLAIMS_MAX {
            let log = storage.read_log().await.map_err(|e| failure(&e))?;
            let mut decision = resolve(&log, &self.damaged);
            // Before anything is claimed: what that Weir has done is to be found as it is.
            storage.check_formats(&log, decision.base.map(|base| base.number)).map_err(|e| failure(&e))?;
            let missing = decision.check(self.expected).err();
            let lost = self.counts_from().and_then(|claim| decision.check_anew(claim).err());
            looks += 1;
            if lost.is_some() && missing.is_none() && looks < LOOKS_MAX {
                continue;
            }
            if missing.is_some() || lost.is_some() {
                let refused = self.refused(missing, lost, &storage, &log);
                // What was damaged may be whole once the rest is back.
                self.damaged.clear();
                self.goes_back = false;
                return Err(refused);
            }
            // What sinks have written since goes by generations, and the savepoint may be of a job whose log is not here.
            let savepoint = self.start.savepoint.as_ref().map_or(0, |savepoint| savepoint.manifest().generation);
            decision.generation = decision.generation.max(Generation(savepoint + 1)).max(Generation(self.last.0 + 1));
            let log_id = storage.log_id().await.map_err(|e| failure(&e))?;
            let entry =
                weir_checkpoint::Entry::Claim(weir_checkpoint::Claim { generation: decision.generation.0, at_ms: now_ms() });
            match storage.append(decision.number, &entry).await.map_err(|e| failure(&e))? {
                Appended::Taken => continue,
                Appended::Done => {}
            }
            self.warn(&decision, &log, events);
            let base = decision.base.and_then(|base| Some((base, Arc::new(manifest_at(log, base)?))));
            let (source, restore) = self.choose(base.as_ref(), &storage, events);
            self.first.get_or_insert(First { generation: decision.generation, number: decision.number });
            self.last = decision.generation;
            self.current = source;
            let goes_back = std::mem::take(&mut self.goes_back);
            if let Source::Own((checkpoint, _)) = source {
                self.expected = self.expected.max(Some(checkpoint));
                if goes_back {
                    let warning = format!(
                        "\"{}\" is going back to the one before, checkpoint {}; rows committed since then are written again",
                        self.job, checkpoint.0
                    );
                    let _ = events.send(Event::Warning(warning));
                }
            }
            return Ok(Origin { generation: decision.generation, log_id, log: Some((storage, decision.won())), base, restore });
        }
        let message = format!("others claim the job \"{}\" all the time; is it started in a loop somewhere?", self.job);
        Err(Failure::new(FailureKind::Checkpoint, message))
    }

    /// The number of the claim behind which those checkpoints are that an attempt must not pass over; none if it may pass over all: what the user wants counts
    /// at first, and the job's own checkpoints from then on.
    fn counts_from(&self) -> Option<u64> {
        if self.wants_other() { self.first.map(|first| first.number) } else { Some(0) }
    }

    /// Whether the user wants the job to start from something else than its newest checkpoint.
    fn wants_other(&self) -> bool {
        self.start.fresh || self.start.savepoint.is_some()
    }

    /// The failure of an attempt that would begin anew: the log has not what is expected, or what is in it cannot be used.
    fn refused(
        &self,
        missing: Option<claim::Missing>,
        lost: Option<claim::Unusable>,
        storage: &JobStorage,
        log: &Log,
    ) -> Failure {
        let lost = lost.map(|lost| unusable(&lost, storage, log, &self.damaged));
        let url = storage.folder().url();
        let message = match (missing, lost) {
            (_, Some(lost)) if self.start.gives_up => {
                let message = format!(
                    "it does not begin anew by itself, since it has had checkpoints, and none in {url} can be used: {lost}; bring back what was in there, or start from a savepoint by --from-savepoint, or begin anew by --fresh: its sources start as the spec says then, and rows that are published already are published a second time if they are read again"
                );
                return Failure { is_final: true, ..Failure::new(FailureKind::Checkpoint, message) };
            }
            (Some(missing), lost) => {
                let lost = lost.map_or_else(String::new, |lost| format!(": {lost}"));
                format!("in {url} {missing}{lost}")
            }
            (None, lost) => format!("in {url} no checkpoint can be used: {}", lost.unwrap_or_default()),
        };
        let cancel = if self.start.gives_up { "" } else { ", or cancel the job to be rid of it" };
        let message = format!("it must not begin anew, but {message}: bring back what was in there{cancel}");
        // What was in it may come back, as a storage that is away does.
        Failure::new(FailureKind::Checkpoint, message)
    }

    /// Tells what is wrong with the log, once it is claimed. What is damaged was told when it turned out to be.
    fn warn(&self, decision: &Decision, log: &Log, events: &mpsc::UnboundedSender<Event>) {
        for warning in &decision.warnings {
            let detail = match *warning {
                claim::Warning::Damaged { .. } => continue,
                claim::Warning::Unreadable { number } => {
                    log.iter().find(|(n, _)| *n == number).and_then(|(_, e)| e.as_ref().err())
                }
                claim::Warning::Gap { .. } | claim::Warning::Stray { .. } => None,
            };
            let detail = detail.map_or_else(String::new, |corrupt| format!(" ({corrupt})"));
            let _ = events.send(Event::Warning(format!("checkpoints of \"{}\": {warning}{detail}", self.job)));
        }
    }

    /// What state comes from: what the user wants at first, and the job's own checkpoints from then on.
    fn choose(
        &self,
        base: Option<&(Base, Arc<Manifest>)>,
        storage: &JobStorage,
        events: &mpsc::UnboundedSender<Event>,
    ) -> (Source, Option<Arc<Restore>>) {
        let is_own = |manifest: &Manifest| self.first.is_some_and(|first| manifest.generation >= first.generation.0);
        let base = base.filter(|(_, manifest)| !self.wants_other() || is_own(manifest));
        let Some((_, manifest)) = base else { return self.savepoint() };
        if self.first.is_none() {
            let note = match manifest.kind {
                StoredKind::Final => format!(
                    "the job \"{}\" has finished already, says its checkpoint {}; pass --fresh to run it again from the start",
                    self.job, manifest.checkpoint
                ),
                StoredKind::Checkpoint | StoredKind::Savepoint => {
                    format!("the job \"{}\" goes on from its checkpoint {}", self.job, manifest.checkpoint)
                }
            };
            let _ = events.send(Event::Note(note));
        }
        let source = Source::Own(own(manifest));
        let (manifest, folder) = (Arc::clone(manifest), storage.folder().clone());
        (source, Some(Arc::new(Restore { manifest, folder, drops_unmatched: self.start.drops_unmatched })))
    }

    fn savepoint(&self) -> (Source, Option<Arc<Restore>>) {
        let Some(savepoint) = &self.start.savepoint else { return (Source::Nothing, None) };
        let restore = Restore {
            manifest: Arc::new(savepoint.manifest().clone()),
            folder: savepoint.folder().clone(),
            drops_unmatched: self.start.drops_unmatched,
        };
        (Source::Savepoint, Some(Arc::new(restore)))
    }

    /// An attempt has failed. If the files of its checkpoint are damaged, the next one looks for the checkpoint before: returns whether it does. That is no
    /// matter of how often a job may restart. There is nothing before a savepoint that the user names: no attempt would end otherwise.
    pub fn failed(&mut self, failure: &mut Failure, events: &mpsc::UnboundedSender<Event>) -> bool {
        if failure.kind != FailureKind::Damaged {
            return false;
        }
        match self.current {
            Source::Nothing => false,
            Source::Savepoint => {
                failure.is_final = true;
                failure.message.insert_str(0, "the savepoint that it was to start from is damaged: ");
                false
            }
            Source::Own(checkpoint) => {
                let warning = format!("checkpoint {} of \"{}\" is damaged ({})", checkpoint.0.0, self.job, failure.message);
                let _ = events.send(Event::Warning(warning));
                // Any that is whole will do; to begin anew will not.
                self.expected = Some(CheckpointId::FIRST);
                self.goes_back = true;
                self.damaged.insert(checkpoint, failure.message.clone()).is_none()
            }
        }
    }
}

/// The newest complete checkpoint of a job, from which it would go on; none if it has none.
///
/// # Errors
/// If the storage fails, or a newer Weir has gone on with the job.
pub async fn newest(storage: &JobStorage) -> Result<Option<Manifest>, Error> {
    for _ in 0..LOOKS_MAX {
        let log = storage.read_log().await?;
        let is_empty = log.is_empty();
        let base = resolve(&log, &Damaged::new()).base;
        storage.check_formats(&log, base.map(|base| base.number))?;
        let found = base.and_then(|base| manifest_at(log, base));
        if found.is_some() || is_empty {
            return Ok(found);
        }
    }
    Ok(None)
}

pub(super) fn own(manifest: &Manifest) -> Own {
    (CheckpointId(manifest.checkpoint), Generation(manifest.generation))
}

/// What follows from a log, without the checkpoints that are damaged.
fn resolve(log: &Log, damaged: &Damaged) -> Decision {
    let entries = log.iter().map(|(number, entry)| {
        let seen = entry.as_ref().map_or(Seen::Unreadable, |entry| seen(entry, damaged));
        (*number, seen)
    });
    let entries: Vec<_> = entries.collect();
    claim::resolve(&entries)
}

/// What decisions need of an entry.
fn seen(entry: &weir_checkpoint::Entry, damaged: &Damaged) -> Seen {
    match entry {
        weir_checkpoint::Entry::Claim(claim) => {
            Seen::Whole(claim::Entry::Claim { generation: Generation(claim.generation), nonce: Nonce(0) })
        }
        weir_checkpoint::Entry::Manifest(manifest) => {
            let (checkpoint, generation) = own(manifest);
            if damaged.contains_key(&(checkpoint, generation)) {
                return Seen::Damaged { generation, checkpoint };
            }
            // Whoever starts a job again that was stopped wants it to go on.
            Seen::Whole(claim::Entry::Manifest { generation, checkpoint, kind: Kind::Savepoint })
        }
    }
}

fn manifest_at(log: Log, base: Base) -> Option<Manifest> {
    match log.into_iter().find(|(number, _)| *number == base.number)?.1.ok()? {
        weir_checkpoint::Entry::Manifest(manifest) => Some(manifest),
        weir_checkpoint::Entry::Claim(_) => None,
    }
}

/// The storage has failed. What it refuses a job that has run on it, it may allow again: credentials are renewed.
fn failure(error: &Error, has_run: bool) -> Failure {
    let mut failure = Failure::new(FailureKind::Checkpoint, error.message.clone());
    failure.is_final = match error.kind {
        ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Newer => true,
        ErrorKind::Denied => !has_run,
        _ => false,
    };
    failure
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

#[cfg(test)]
mod tests {
    use weir_checkpoint::Storage;

    use super::*;

    /// A job's checkpoints in a storage of this name, and the origins of its attempts, which expect a checkpoint.
    fn origins(name: &str, expected: u64) -> (JobStorage, Origins) {
        let storage = Storage::open(&format!("memory://{name}"), &[]).expect("a storage");
        let log = storage.job("job").expect("a name");
        let start = Start { expected: Some(CheckpointId(expected)), ..Start::default() };
        (log, Origins::new("job".to_owned(), Some(Checkpoints { storage, job: "job".to_owned() }), start))
    }

    fn claim() -> weir_checkpoint::Entry {
        weir_checkpoint::Entry::Claim(weir_checkpoint::Claim { generation: 1, at_ms: 0 })
    }

    fn manifest(checkpoint: u64) -> weir_checkpoint::Entry {
        manifest_of(1, checkpoint)
    }

    fn manifest_of(generation: u64, checkpoint: u64) -> weir_checkpoint::Entry {
        weir_checkpoint::Entry::Manifest(Manifest::new("job", StoredKind::Checkpoint, checkpoint, generation, 128))
    }

    async fn append(log: &JobStorage, number: u64, entry: weir_checkpoint::Entry) {
        assert_eq!(log.append(number, &entry).await.expect("it is in memory"), Appended::Done);
    }

    /// The checkpoint that an origin starts from.
    fn checkpoint(origin: &Origin) -> Option<u64> {
        origin.restore.as_ref().map(|restore| restore.manifest.checkpoint)
    }

    /// Goal: an attempt that is to go on from a checkpoint does not begin where the log has less, and leaves the log as it is; the next one begins once it is there.
    #[tokio::test]
    async fn attempts_wait_for_what_they_expect() {
        let (log, mut origins) = origins("what-is-expected", 2);
        let (events, _notes) = mpsc::unbounded_channel();
        let refused = origins.next(&events).await.err().expect("there is nothing");
        let why = "checkpoint 2 or a later one is missing (there is none): bring back what was in there";
        assert!(refused.message.contains(why) && refused.message.contains(&log.folder().url()), "{refused}");
        assert!(!refused.is_final, "it may come back");
        assert!(log.read_log().await.expect("it is in memory").is_empty(), "nothing is claimed");

        append(&log, 0, claim()).await;
        append(&log, 1, manifest(1)).await;
        let refused = origins.next(&events).await.err().expect("there is less");
        assert!(refused.message.contains("(the newest is 1)"), "{refused}");
        append(&log, 2, manifest(2)).await;
        let origin = origins.next(&events).await.expect("it is there");
        assert_eq!((checkpoint(&origin), origin.generation), (Some(2), Generation(2)));
    }

    /// Goal: a job goes back behind damaged checkpoints to an older one, but not to its beginning if it must not begin anew; then it looks at all of them again.
    #[tokio::test]
    async fn nobody_goes_back_to_the_beginning() {
        let (log, mut origins) = origins("what-is-damaged", 2);
        let (events, _notes) = mpsc::unbounded_channel();
        append(&log, 0, claim()).await;
        append(&log, 1, manifest(1)).await;
        append(&log, 2, manifest(2)).await;
        for expected in [2, 1] {
            let origin = origins.next(&events).await.expect("one is left");
            assert_eq!(checkpoint(&origin), Some(expected));
            let mut damaged = Failure::new(FailureKind::Damaged, "a file is gone");
            assert!(origins.failed(&mut damaged, &events), "it goes back");
        }
        let refused = origins.next(&events).await.err().expect("none is left");
        assert!(refused.message.contains("checkpoint 1 or a later one is missing"), "{refused}");
        let origin = origins.next(&events).await.expect("its files may be back");
        assert_eq!(checkpoint(&origin), Some(2));
    }

    /// What an attempt says that finds its checkpoint damaged.
    fn damaged(origins: &mut Origins, why: &str, events: &mpsc::UnboundedSender<Event>) {
        assert!(origins.failed(&mut Failure::new(FailureKind::Damaged, why), events), "it looks for another one");
    }

    /// The warnings so far.
    fn warnings(told: &mut mpsc::UnboundedReceiver<Event>) -> Vec<String> {
        let mut warnings = vec![];
        while let Ok(event) = told.try_recv() {
            if let Event::Warning(warning) = event {
                warnings.push(warning);
            }
        }
        warnings
    }

    /// Goal: where all checkpoints are damaged, a job whose user can say what to do fails for good, says what is damaged, and claims nothing; what is said before
    /// is true; and once the files are back, or if the user wants it, the job starts.
    #[tokio::test]
    async fn nobody_begins_anew_behind_damaged_checkpoints() {
        let (log, mut origins) = origins("what-is-all-damaged", 1);
        origins.start = Start { gives_up: true, ..Start::default() };
        origins.expected = None;
        let (events, mut told) = mpsc::unbounded_channel();
        append(&log, 0, claim()).await;
        append(&log, 1, manifest(1)).await;
        append(&log, 2, manifest(2)).await;
        assert_eq!(checkpoint(&origins.next(&events).await.expect("the newest")), Some(2));
        damaged(&mut origins, "a.sst has 10 bytes", &events);
        assert_eq!(warnings(&mut told), ["checkpoint 2 of \"job\" is damaged (a.sst has 10 bytes)"]);
        assert_eq!(checkpoint(&origins.next(&events).await.expect("one is left")), Some(1));
        let back = "\"job\" is going back to the one before, checkpoint 1; rows committed since then are written again";
        assert_eq!(warnings(&mut told), [back]);
        damaged(&mut origins, "b.sst is gone", &events);
        assert_eq!(warnings(&mut told), ["checkpoint 1 of \"job\" is damaged (b.sst is gone)"], "there is none before");
        let entries = log.read_log().await.expect("it is in memory").len();
        let refused = origins.next(&events).await.err().expect("none is left");
        let url = log.folder().url();
        let all = format!(
            "none in {url} can be used: checkpoint 2 is damaged (a.sst has 10 bytes); checkpoint 1 is damaged (b.sst is gone);"
        );
        for part in [all.as_str(), "bring back what was in there", "--from-savepoint", "--fresh", "published a second time"] {
            assert!(refused.message.contains(part), "{part}: {refused}");
        }
        assert!(refused.is_final, "nobody brings files back meanwhile");
        assert_eq!(log.read_log().await.expect("it is in memory").len(), entries, "nothing is claimed");
        assert_eq!(checkpoint(&origins.next(&events).await.expect("its files may be back")), Some(2));

        let start = Start { fresh: true, gives_up: true, ..Start::default() };
        let mut fresh = Origins::new("job".to_owned(), origins.checkpoints.clone(), start);
        assert_eq!(checkpoint(&fresh.next(&events).await.expect("the user wants it")), None);
    }

    /// Goal: a job that was to begin anew, and has made checkpoints since, does not do so again in the same process where those are damaged, nor start from those
    /// that it was to leave alone.
    #[tokio::test]
    async fn who_has_begun_anew_does_not_again() {
        let (log, mut origins) = origins("what-is-begun-anew", 1);
        origins.start = Start { fresh: true, gives_up: true, ..Start::default() };
        origins.expected = None;
        let (events, _told) = mpsc::unbounded_channel();
        append(&log, 0, claim()).await;
        append(&log, 1, manifest(7)).await;
        let first = origins.next(&events).await.expect("the user wants it");
        assert_eq!(checkpoint(&first), None);
        assert_eq!(checkpoint(&origins.next(&events).await.expect("it has had none since")), None);
        append(&log, 4, manifest_of(3, 8)).await;
        assert_eq!(checkpoint(&origins.next(&events).await.expect("it has one")), Some(8));
        damaged(&mut origins, "a file is gone", &events);
        let refused = origins.next(&events).await.err().expect("it would begin anew");
        assert!(refused.is_final && refused.message.contains("checkpoint 8 is damaged (a file is gone);"), "{refused}");
    }

    /// Goal: manifests that cannot be read are not passed over either, nor those that are gone behind which claims are left: their files are named, and nothing is
    /// claimed; a claim that cannot be read at the log's beginning hinders nobody.
    #[tokio::test]
    async fn nobody_begins_anew_behind_torn_manifests() {
        let (events, _told) = mpsc::unbounded_channel();
        for (torn, gives_up) in [(true, true), (true, false), (false, true)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (log, mut origins) = in_a_folder(&folder);
            origins.start.gives_up = gives_up;
            append(&log, 0, claim()).await;
            append(&log, 1, manifest(1)).await;
            append(&log, 2, manifest(2)).await;
            append(&log, 3, weir_checkpoint::Entry::Claim(weir_checkpoint::Claim { generation: 2, at_ms: 0 })).await;
            for number in [1, 2] {
                let path = entry(&folder, number);
                let done = if torn { std::fs::write(path, "") } else { std::fs::remove_file(path) };
                done.expect("the folder is ours");
            }
            let before = log.read_log().await.expect("it is ours").len();
            let refused = origins.next(&events).await.err().expect("it would begin anew");
            assert_eq!(refused.is_final, gives_up, "{refused}");
            let why = if torn {
                "2.json, which may be a checkpoint, is damaged (it is empty); file://"
            } else {
                "entries 1 to 2 of the log are gone"
            };
            assert!(refused.message.contains(why), "{refused}");
            assert_eq!(log.read_log().await.expect("it is ours").len(), before, "nothing is claimed");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (log, mut origins) = in_a_folder(&folder);
        origins.start.gives_up = true;
        append(&log, 0, claim()).await;
        std::fs::write(entry(&folder, 0), "").expect("the folder is ours");
        assert_eq!(checkpoint(&origins.next(&events).await.expect("it has never had one")), None);
    }

    /// Goal: the checkpoint that is made after going back has the number of the damaged one, and is another one: nobody passes it over.
    #[tokio::test]
    async fn numbers_come_again() {
        let (log, mut origins) = origins("what-comes-again", 1);
        let (events, _notes) = mpsc::unbounded_channel();
        append(&log, 0, claim()).await;
        append(&log, 1, manifest(1)).await;
        append(&log, 2, manifest(2)).await;
        origins.next(&events).await.expect("there are two");
        assert!(origins.failed(&mut Failure::new(FailureKind::Damaged, "a file is gone"), &events), "it goes back");
        let origin = origins.next(&events).await.expect("there is one");
        assert_eq!(checkpoint(&origin), Some(1));
        let number = origin.log.as_ref().map(|(_, claim)| claim.number()).expect("a log");
        append(&log, number, manifest_of(origin.generation.0, 2)).await;
        let origin = origins.next(&events).await.expect("there is a new one");
        assert_eq!(checkpoint(&origin), Some(2));
    }

    /// Goal: a job that has gone on from a checkpoint does not begin anew in the same process either, if its log is gone: nor does a generation come again.
    #[tokio::test]
    async fn what_was_there_is_expected() {
        let (log, _) = origins("what-was-there", 1);
        let checkpoints = |name: &str| {
            let storage = Storage::open(&format!("memory://{name}"), &[]).expect("a storage");
            Some(Checkpoints { storage, job: "job".to_owned() })
        };
        let mut origins = Origins::new("job".to_owned(), checkpoints("what-was-there"), Start::default());
        let (events, _notes) = mpsc::unbounded_channel();
        let first = origins.next(&events).await.expect("it begins");
        assert_eq!(checkpoint(&first), None);
        append(&log, 1, manifest_of(first.generation.0, 1)).await;
        let second = origins.next(&events).await.expect("it goes on");
        assert_eq!(checkpoint(&second), Some(1));
        // Another storage is in the place of the one that was there.
        origins.checkpoints = checkpoints("what-is-there-now");
        let refused = origins.next(&events).await.err().expect("it is gone");
        assert!(refused.message.contains("checkpoint 1 or a later one is missing"), "{refused}");
        origins.checkpoints = checkpoints("what-was-there");
        let third = origins.next(&events).await.expect("it is back");
        assert!(checkpoint(&third) == Some(1) && third.generation > second.generation);
    }

    /// A job's checkpoints in a folder: what is in its log can be changed.
    fn in_a_folder(folder: &tempfile::TempDir) -> (JobStorage, Origins) {
        let url = weir_checkpoint::location::url("checkpoints", folder.path()).expect("a folder has a URL");
        let storage = Storage::open(&url, &[]).expect("a storage");
        let log = storage.job("job").expect("a name");
        let checkpoints = Some(Checkpoints { storage, job: "job".to_owned() });
        (log, Origins::new("job".to_owned(), checkpoints, Start::default()))
    }

    /// Goal: who is refused at a job's very first access to its storage has to change something; one that a server goes on with waits until it is allowed again.
    #[tokio::test]
    async fn first_refusals_are_final() {
        let (events, _notes) = mpsc::unbounded_channel();
        for expected in [None, Some(CheckpointId::FIRST)] {
            // Nobody makes folders there, whoever runs this.
            let storage = Storage::open("file:///sys", &[]).expect("the folder is there");
            let start = Start { expected, ..Start::default() };
            let mut origins = Origins::new("job".to_owned(), Some(Checkpoints { storage, job: "job".to_owned() }), start);
            let refused = origins.next(&events).await.err().expect("it is refused");
            assert!(refused.message.contains("cannot write a trial object"), "{refused}");
            assert_eq!(refused.is_final, expected.is_none(), "{refused}");
        }
    }

    /// The file of an entry of that log.
    fn entry(folder: &tempfile::TempDir, number: u64) -> std::path::PathBuf {
        folder.path().join(format!("checkpoints/jobs/job/log/{number:020}.json"))
    }

    /// Goal: where a newer Weir has gone on with a job, no attempt begins, nothing is claimed, and who only looks is told the same; behind a checkpoint that can be
    /// read it does not matter what is there, until that turns out to be damaged.
    #[tokio::test]
    async fn nobody_goes_back_behind_a_newer_weir() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (log, mut origins) = in_a_folder(&folder);
        let (events, _notes) = mpsc::unbounded_channel();
        append(&log, 0, claim()).await;
        append(&log, 1, manifest(1)).await;
        append(&log, 2, manifest(2)).await;
        let newest_entry = entry(&folder, 2);
        let document = std::fs::read_to_string(&newest_entry).expect("it is there");
        std::fs::write(&newest_entry, document.replacen("\"format\":1", "\"format\":2", 1)).expect("the folder is ours");

        let refused = origins.next(&events).await.err().expect("it would go back to checkpoint 1");
        assert!(refused.is_final, "it does not become older");
        for part in ["/log/00000000000000000002.json: it has format 2", "use a newer Weir, or another storage"] {
            assert!(refused.message.contains(part), "{refused}");
        }
        assert_eq!(log.read_log().await.expect("it is ours").len(), 3, "nothing is claimed");
        assert_eq!(newest(&log).await.expect_err("the same").message, refused.message);

        append(&log, 3, manifest(3)).await;
        assert_eq!(newest(&log).await.expect("it can be read").map(|manifest| manifest.checkpoint), Some(3));
        let origin = origins.next(&events).await.expect("it is behind");
        assert_eq!(checkpoint(&origin), Some(3));
        assert!(origins.failed(&mut Failure::new(FailureKind::Damaged, "a file is gone"), &events), "it goes back");
        let refused = origins.next(&events).await.err().expect("it would go back to checkpoint 1");
        assert!(refused.is_final && refused.message.contains("it has format 2"), "{refused}");
    }

    /// Goal: a stray file in a log costs nothing, whatever its number: attempts start from what there is, and claim behind it, or pass it over where nothing can be
    /// behind it.
    #[tokio::test]
    async fn stray_names_cost_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (log, mut origins) = in_a_folder(&folder);
        let (events, _notes) = mpsc::unbounded_channel();
        append(&log, 0, claim()).await;
        append(&log, 1, manifest(1)).await;
        for (stray, claimed) in [(u64::MAX, 2), (1 << 40, (1 << 40) + 1)] {
            std::fs::write(entry(&folder, stray), "").expect("the folder is ours");
            assert_eq!(newest(&log).await.expect("it can be read").map(|manifest| manifest.checkpoint), Some(1), "{stray}");
            let origin = origins.next(&events).await.expect("there is a checkpoint");
            let number = origin.log.as_ref().map(|(_, claim)| claim.number());
            assert_eq!((checkpoint(&origin), number), (Some(1), Some(claimed + 1)), "{stray}");
        }
    }
}
