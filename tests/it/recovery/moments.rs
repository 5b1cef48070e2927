//! When a process is killed, what it was doing then, and how often that has to happen.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use weir_base::Phase;

use super::Dice;

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// so many milliseconds after its start: soon, while it restores; later, in the midst of anything
    After(u64),
    /// when another file of state has begun to appear
    Upload,
    /// so many milliseconds after another entry of the log has: while its rows are committed
    Manifest(u64),
    /// when another part has been published: others of the same commit may not have been
    Commit,
    /// when the newest checkpoint has rows that its barriers have overtaken
    InFlight,
    /// a moment after its log has said for the `nth` time that it has come to a phase
    Phase { phase: Phase, nth: u64, delay: Duration },
}

impl Moment {
    /// For sinks that publish files.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        match dice.below(13) {
            0 | 1 => Self::After(dice.below(60)),
            2 | 3 => Self::After(60 + dice.below(600)),
            4 => Self::Upload,
            5 => Self::Manifest(0),
            6 | 7 => Self::Commit,
            _ => Self::draw_phase(dice),
        }
    }

    /// For sinks that publish elsewhere.
    pub(super) fn draw_elsewhere(dice: &mut Dice) -> Self {
        match dice.below(13) {
            0 | 1 => Self::After(dice.below(200)),
            2 | 3 => Self::After(200 + dice.below(700)),
            4 => Self::Upload,
            5 => Self::Manifest(0),
            6 | 7 => Self::Manifest(dice.below(40)),
            _ => Self::draw_phase(dice),
        }
    }

    /// For sinks that need seconds to begin.
    pub(super) fn draw_late(dice: &mut Dice) -> Self {
        match Self::draw_elsewhere(dice) {
            Self::After(ms) => Self::After(4 * ms),
            other => other,
        }
    }

    /// In a phase that lasts for milliseconds at most, of any of the first checkpoints.
    fn draw_phase(dice: &mut Dice) -> Self {
        const PHASES: [Phase; 6] = [
            Phase::RestoreBegun,
            Phase::ExportBegun,
            Phase::UploadBegun,
            Phase::UploadDone,
            Phase::ManifestWritten,
            Phase::CommitBegun,
        ];
        let phase = PHASES[dice.below(PHASES.len() as u64) as usize];
        let nth = if phase == Phase::RestoreBegun { 1 } else { 1 + dice.below(4) };
        Self::Phase { phase, nth, delay: Duration::from_micros(dice.below(3000)) }
    }
}

/// The phases that a process tells of in its log, as it tells of them.
pub(super) struct Phases {
    log: File,
    /// the beginning of a line
    rest: Vec<u8>,
    last: Option<Phase>,
    /// whether rows flow in the newest attempt
    is_running: bool,
}

impl Phases {
    /// Those that a log tells of from now on.
    pub(super) fn follow(log: &Path) -> Self {
        let mut log = OpenOptions::new().create(true).append(true).read(true).open(log).unwrap();
        log.seek(SeekFrom::End(0)).unwrap();
        Self { log, rest: vec![], last: None, is_running: false }
    }

    /// Reads on: how often the log has told of a phase since the last time.
    pub(super) fn count(&mut self, wanted: Phase) -> u64 {
        self.log.read_to_end(&mut self.rest).unwrap();
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let mut count = 0;
        for phase in String::from_utf8_lossy(&lines).lines().filter_map(Phase::of_line) {
            count += u64::from(phase == wanted);
            self.last = Some(phase);
            match phase {
                Phase::RestoreBegun => self.is_running = false,
                Phase::Running => self.is_running = true,
                _ => {}
            }
        }
        count
    }

    /// The phase that the last line told of that was read.
    pub(super) fn last(&self) -> Option<Phase> {
        self.last
    }

    /// What the process was doing when it wrote the last line.
    pub(super) fn doing(&mut self) -> &'static str {
        self.count(Phase::Running);
        match self.last {
            None => "start",
            Some(Phase::RestoreBegun) => "restore",
            // What a checkpoint holds is committed again while the tasks that go on from it are opened.
            Some(Phase::CommitDone) if !self.is_running => "restore",
            Some(Phase::Running | Phase::CommitDone) => "mid-batch",
            Some(Phase::ExportBegun) => "export",
            Some(Phase::UploadBegun) => "upload",
            Some(Phase::UploadDone) => "between upload and manifest",
            Some(Phase::ManifestWritten) => "between manifest and commit",
            Some(Phase::CommitBegun) => "commit",
        }
    }
}

/// Whether a process that has told of a phase last, was killed in this one: in itself, or, if it is over within microseconds, in the next one.
pub(super) fn is_of(phase: Phase, last: Phase) -> bool {
    let or_in = match phase {
        Phase::ExportBegun => Phase::UploadBegun,
        Phase::ManifestWritten => Phase::CommitBegun,
        _ => phase,
    };
    last == phase || last == or_in
}

/// How many kills each test has at least. It asks for more; that so many come about is checked in it, and that they are many in all, below.
const LEAST: &[(&str, u32)] = &[
    // files
    ("stateless", 18),
    ("alone", 10),
    ("sliding_windows", 18),
    ("sessions", 18),
    ("timers", 18),
    ("unaligned", 13),
    ("impatient", 18),
    ("rescaled", 20),
    ("rescaled_windows", 20),
    ("on_disk", 18),
    ("on_disk_alone", 7),
    ("on_disk_unmoved", 7),
    ("windows_on_disk", 13),
    ("sessions_on_disk", 13),
    ("timers_on_disk", 13),
    ("joins", 2),
    ("at_least_once", 8),
    ("one_file", 6),
    // flight
    ("unaligned_on_disk", 8),
    ("unaligned_rescaled", 8),
    ("unaligned_windows_rescaled", 8),
    ("unaligned_broadcast_rescaled", 2),
    // broadcast
    ("broadcast_rescaled", 2),
    ("broadcast_on_disk", 2),
    // kafka; by its pace, which is of the client
    ("windows_over_partitions", 2),
    ("topic_to_topic", 1),
    ("windows_from_topic_to_topic", 1),
    ("unaligned_windows_from_topic_to_topic", 1),
    ("topic_to_topic_at_least_once", 1),
    ("killed_while_the_broker_fails", 1),
    // postgres
    ("appended_rows", 3),
    ("unaligned_rows_on_disk", 1),
    ("upserted_rows", 2),
    ("killed_while_the_server_fails", 1),
    // s3
    ("parts_in_a_bucket", 4),
    ("parts_in_a_stormy_bucket", 3),
    ("killed_while_the_bucket_fails", 2),
    // errors
    ("dead_letters", 2),
    ("dead_letters_in_a_table", 1),
    ("dead_letters_in_a_topic", 1),
    ("rows_that_windows_fail_on", 1),
];

/// What the kills of the suite add up to, at least, without those of `phases`.
const SUITE: u32 = 200;

/// How many kills a test has at least.
pub(super) fn least(test: &str) -> u32 {
    let found = LEAST.iter().find(|(name, _)| *name == test);
    found.unwrap_or_else(|| panic!("{test}: `LEAST` does not say how many kills it has at least")).1
}

/// Goal: the kills that are checked for are of tests that are there, and add up.
#[test]
fn kills_are_many() {
    let folder = crate::run::root().join("tests/it/recovery");
    let sources: String = super::files_below(&folder).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for (test, _) in LEAST {
        assert!(sources.contains(&format!("fn {test}()")), "there is no test {test}");
    }
    let sum: u32 = LEAST.iter().map(|(_, kills)| kills).sum();
    println!("{sum} kills at least");
    assert!(sum >= SUITE, "{sum} kills are less than {SUITE}");
}

/// Goal: the log of a process is read as it grows, also in the midst of a line, and tells what the process was doing last.
#[test]
fn logs_are_followed() {
    use std::io::Write;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let line = |phase: Phase| format!("2026-01-01T00:00:00.000000Z DEBUG weir::phase: {} checkpoint=7\n", phase.name());
    std::fs::write(&path, line(Phase::CommitBegun)).unwrap();
    let mut phases = Phases::follow(&path);
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!((phases.count(Phase::CommitBegun), phases.doing()), (0, "start"), "what is old does not count");
    let text = line(Phase::RestoreBegun) + "something else\n" + &line(Phase::CommitDone) + &line(Phase::Running);
    let (begun, rest) = text.split_at(text.len() - 9);
    log.write_all(begun.as_bytes()).unwrap();
    assert_eq!((phases.count(Phase::Running), phases.doing()), (0, "restore"), "the line has no end yet");
    log.write_all(rest.as_bytes()).unwrap();
    assert_eq!((phases.count(Phase::Running), phases.doing()), (1, "mid-batch"));
    log.write_all(line(Phase::ExportBegun).repeat(2).as_bytes()).unwrap();
    assert_eq!((phases.count(Phase::ExportBegun), phases.doing()), (2, "export"));
    assert_eq!(phases.last(), Some(Phase::ExportBegun));
}
