//! From the generator to parts in a bucket of S3, with the checkpoints in it, too.

use super::bucket::{Bucket, CALM, Fault, OUTAGE, REFUSAL, STORM};
use super::{Dice, Moment, Victim, published, undisturbed};

/// A job that writes to a bucket and keeps its checkpoints there.
struct Job {
    bucket: Bucket,
    victim: Victim,
    expected: Vec<String>,
}

impl Job {
    fn new(name: &'static str, query: &str, events: u64) -> Self {
        let events = events.to_string();
        let settings = [
            ("sources.nexmark.events", events.as_str()),
            ("sources.nexmark.events_per_ms", "1"),
            ("sources.nexmark.rate", "30000"),
        ];
        let expected = undisturbed(query, &settings[..2]);
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

/// Goal: whatever the moment at which the process is killed, each row is in the bucket once, and no upload is left open that the job knows of.
#[test]
fn parts_in_a_bucket() {
    let mut job = Job::new("parts_in_a_bucket", "q5", 240_000);
    job.victim.torment(&[2, 1], 20, Moment::draw);
    job.check();
}

/// Goal: the same where requests to the bucket fail besides, or are carried out and never answered.
#[test]
fn parts_in_a_stormy_bucket() {
    let mut job = Job::new("parts_in_a_stormy_bucket", "keyed_count", 240_000);
    // An answer that ends in its midst is an error that fails an attempt.
    job.victim.set("restart.strategy", "exponential");
    job.bucket.set(STORM);
    job.victim.torment(&[1, 2], 14, Moment::draw_late);
    job.bucket.set(CALM);
    job.check();
    for fault in [Fault::SlowDown, Fault::Internal, Fault::Unheard, Fault::Unanswered, Fault::Torn] {
        assert!(job.bucket.count(fault) > 0, "{fault:?} did not come to pass");
    }
}

/// Goal: a process that stays gets over a bucket that carries out nothing for seconds, or refuses everything: what is in flight is given up or done later,
/// and no row is lost or seen twice.
#[test]
fn bucket_that_is_away() {
    let mut job = Job::new("bucket_that_is_away", "q5", 240_000);
    job.victim.set("checkpoint.timeout", "500ms");
    let bucket = &job.bucket;
    let trouble = |dice: &mut Dice| {
        bucket.set(if dice.below(2) == 0 { OUTAGE } else { REFUSAL });
        std::thread::sleep(std::time::Duration::from_millis(500 + dice.below(2500)));
        bucket.set(CALM);
    };
    job.victim.endure(2, 4, trouble);
    assert!(bucket.count(Fault::Denied) > 0 && bucket.count(Fault::SlowDown) > 0, "both are drawn");
    job.check();
}
