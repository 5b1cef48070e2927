//! Kills in each phase of a checkpoint, whatever is drawn elsewhere.

use weir_base::Phase;

use super::files::prepare;
use super::kafka::Bids;
use super::published;

/// Goal: whichever phase of a checkpoint a process is killed in, rows in parts and state on disk are of one moment.
#[test]
fn parts_in_each_phase() {
    let settings = [("state.backend", "rocksdb"), ("state.slots_max", "500")];
    let (mut victim, out, expected) = prepare("parts_in_each_phase", "keyed_count", 20, &settings);
    victim.torment_in_each_phase(2);
    victim.compare(&expected, &published(&out));
}

/// Goal: the same of rows in transactions of Kafka.
#[test]
fn transactions_in_each_phase() {
    let bids = Bids::new("transactions_in_each_phase", 200_000);
    let expected = bids.expected("keyed_count");
    let mut victim = bids.victim("transactions_in_each_phase", "keyed_count", &[]);
    bids.write_topic(&mut victim, "transactions_in_each_phase_counts", "exactly-once");
    victim.set("checkpoint.interval", "300ms");
    victim.torment_in_each_phase(2);
    victim.compare(&expected, &bids.committed("transactions_in_each_phase_counts"));
}

/// Goal: what a checkpoint holds is committed although jobs of the same name have run since, whose checkpoints lie elsewhere, or that have none: they touch nothing
/// of what another log tells of.
#[test]
fn namesakes_leave_transactions_alone() {
    let name = "namesakes_leave_transactions_alone";
    let bids = Bids::new(name, 100_000);
    let expected = bids.expected("keyed_count");
    let on_topic = |topic: &str| {
        let mut victim = bids.victim(name, "keyed_count", &[]);
        bids.write_topic(&mut victim, topic, "exactly-once");
        victim.set("checkpoint.interval", "300ms");
        victim
    };
    let mut victim = on_topic("namesakes_first");
    for (topic, checkpoint) in [("namesakes_second", None), ("namesakes_third", Some("{}"))] {
        victim.kill_in(Phase::ManifestWritten, 1, 1);
        let mut namesake = on_topic(topic);
        checkpoint.iter().for_each(|checkpoint| namesake.set("checkpoint", checkpoint));
        namesake.finish(1);
        namesake.compare(&expected, &bids.committed(topic));
    }
    victim.finish(1);
    victim.compare(&expected, &bids.committed("namesakes_first"));
}
