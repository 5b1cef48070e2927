//! Kills in each phase of a checkpoint, whatever is drawn elsewhere.

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
