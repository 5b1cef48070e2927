//! From the generator to parts in a bucket of S3, with the checkpoints in it, too.

use std::time::{Duration, Instant};

use weir_checkpoint::{Storage, conformance};

use super::bucket::{Bucket, CALM, Fault, OUTAGE, REFUSAL, STORM, Weather};
use super::{Dice, Moment, PATIENCE, Victim, published, undisturbed};

/// State on disk, so that each checkpoint refers to files of those before it.
const ON_DISK: [(&str, &str); 2] = [("state.backend", "rocksdb"), ("state.slots_max", "200")];

/// A job that writes to a bucket and keeps its checkpoints there.
struct Job {
    bucket: Bucket,
    victim: Victim,
    expected: Vec<String>,
}

impl Job {
    fn new(name: &'static str, query: &str, events: u64, settings: &[(&str, &str)]) -> Self {
        let events = events.to_string();
        let of_source = [("sources.nexmark.events", events.as_str()), ("sources.nexmark.events_per_ms", "1")];
        let expected = undisturbed(query, &of_source);
        let settings = [&of_source[..], &[("sources.nexmark.rate", "30000")], settings].concat();
        let mut victim = Victim::new(name, &format!("examples/nexmark/{query}.toml"), &settings);
        let bucket = Bucket::start(victim.seed);
        let (url, options) = (bucket.url("out"), bucket.options());
        victim.set("sinks.out", format!("{{ connector = \"file\", url = \"{url}\", format = \"jsonl\", s3 = {options} }}"));
        victim.set("checkpoint.storage", bucket.url("checkpoints"));
        victim.set("checkpoint.options", options);
        (victim.checkpoints, victim.out) = (bucket.path("checkpoints"), bucket.path("out"));
        Self { bucket, victim, expected }
    }

    fn check(&self) {
        self.victim.compare(&self.expected, &published(&self.bucket.path("out")));
        let notes = super::files_below(&self.bucket.path("out/.weir"));
        assert!(notes.is_empty(), "uploads that are neither completed nor given up: {notes:?}");
    }
}

/// Goal: a bucket does what every storage of checkpoints must: files in parts, racing and torn entries of a log, garbage, savepoints; also where calls and
/// answers get lost.
#[test]
fn buckets_conform() {
    let bucket = Bucket::start(1);
    let storage = Storage::open(&bucket.url("conformance"), &bucket.storage_options()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        conformance::check(&storage).await;
        conformance::check_with_faults(&storage, 1).await;
    });
}

/// Goal: whatever the moment at which the process is killed, each row is in the bucket once, and no upload is left open that the job knows of.
#[test]
fn parts_in_a_bucket() {
    let mut job = Job::new("parts_in_a_bucket", "q5", 240_000, &ON_DISK);
    job.victim.torment(&[2, 1], 20, Moment::draw);
    job.check();
}

/// Goal: the same where requests to the bucket fail besides, or are carried out and never answered.
#[test]
fn parts_in_a_stormy_bucket() {
    let mut job = Job::new("parts_in_a_stormy_bucket", "keyed_count", 240_000, &ON_DISK);
    // An answer that ends in its midst is an error that fails an attempt.
    job.victim.restart_by_itself();
    job.bucket.set(STORM);
    job.victim.torment(&[1, 2], 14, Moment::draw_late);
    job.bucket.set(CALM);
    job.check();
    for fault in [Fault::SlowDown, Fault::Internal, Fault::Unheard, Fault::Unanswered, Fault::Torn] {
        assert!(job.bucket.count(fault) > 0, "{fault:?} did not come to pass");
    }
}

/// Goal: the same where the bucket carries out nothing for a while, and then is slow.
#[test]
fn killed_while_the_bucket_fails() {
    const SLOW: Weather = &[(100, Fault::Late(300))];
    let mut job = Job::new("killed_while_the_bucket_fails", "q5", 180_000, &[]);
    job.victim.pause_max = Duration::from_millis(1500);
    let bucket = &job.bucket;
    job.victim.torment_amid(&[1, 2], 8, Moment::draw, |dice| {
        for (weather, fault) in [(OUTAGE, Fault::SlowDown), (SLOW, Fault::Late(300))] {
            bucket.set(weather);
            std::thread::sleep(Duration::from_millis(200 + dice.below(1000)));
            // The first time, kills go on until this is over, and so do requests.
            let begin = Instant::now();
            while bucket.count(fault) == 0 && begin.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            bucket.set(CALM);
            std::thread::sleep(Duration::from_millis(dice.below(300)));
        }
    });
    assert!(bucket.count(Fault::SlowDown) > 0 && bucket.count(Fault::Late(300)) > 0, "requests meet neither or one of them");
    job.check();
}

/// Goal: a process that stays gets over a bucket that carries out nothing for seconds, or refuses everything: what is in flight is given up or done later,
/// and no row is lost or seen twice.
#[test]
fn bucket_that_is_away() {
    let mut job = Job::new("bucket_that_is_away", "q5", 240_000, &[]);
    job.victim.set("checkpoint.timeout", "500ms");
    let bucket = &job.bucket;
    let mut weathers = [OUTAGE, REFUSAL].into_iter().cycle();
    let trouble = |dice: &mut Dice| {
        bucket.set(weathers.next().unwrap());
        std::thread::sleep(Duration::from_millis(500 + dice.below(2500)));
        bucket.set(CALM);
    };
    job.victim.endure(2, 4, trouble);
    assert!(bucket.count(Fault::Denied) > 0 && bucket.count(Fault::SlowDown) > 0, "requests meet both");
    job.check();
}
