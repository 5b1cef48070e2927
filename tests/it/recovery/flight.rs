//! Rows that barriers have overtaken, and that come back elsewhere: beside state on disk, or at another parallelism.

use super::files::prepare;
use super::{Dice, Moment, Victim, published};

/// By these, barriers find rows that they can overtake.
pub(super) const UNALIGNED: [(&str, &str); 2] = [("checkpoint.mode", "unaligned"), ("batch.channel_capacity", "2")];

/// Kills a job so many times, and starts it at another parallelism whenever its newest checkpoint has rows in flight, which is so at least once.
pub(super) fn torment_in_flight(victim: &mut Victim, kills: u32, draw: impl Fn(&mut Dice) -> Moment) {
    let mut turns = [1, 3, 2].into_iter().cycle();
    let mut parallelism = 2;
    while victim.in_flight_at().is_none() {
        assert!(victim.kills() < kills, "{}: no barrier overtakes anything", victim.name);
        let ended = victim.kill_at(Moment::InFlight, parallelism);
        assert!(ended.is_none(), "{}: it ended before a barrier overtook anything: {ended:?}\n{}", victim.name, victim.log());
    }
    let mut moves = 0;
    let next = |victim: &Victim| {
        let in_flight = victim.in_flight_at();
        if in_flight == Some(parallelism) {
            parallelism = turns.next().unwrap();
        }
        moves += u32::from(in_flight.is_some_and(|of| of != parallelism));
        parallelism
    };
    victim.torment_at(next, kills, draw);
    println!("{}: {moves} starts with rows in flight of another parallelism", victim.name);
    assert!(moves > 0, "{}: it always came back as it was", victim.name);
}

/// Kills a query of Nexmark so, and compares what it has published in the end.
fn survives_in_flight(name: &'static str, query: &str, kills: u32, settings: &[(&str, &str)]) {
    let (mut victim, out, expected) = prepare(name, query, kills, &[&UNALIGNED[..], &[("batch.rows", "64")], settings].concat());
    torment_in_flight(&mut victim, kills, Moment::draw);
    victim.compare(&expected, &published(&out));
}

/// Goal: what barriers have overtaken and what a database has are of one moment.
#[test]
fn unaligned_on_disk() {
    const KILLS: u32 = 12;
    let settings = [("batch.rows", "64"), ("state.backend", "rocksdb"), ("state.slots_max", "64")];
    let (mut victim, out, expected) = prepare("unaligned_on_disk", "q5", KILLS, &[&UNALIGNED[..], &settings].concat());
    victim.torment(&[2], KILLS, Moment::draw);
    victim.compare(&expected, &published(&out));
}

/// Goal: rows in flight go to who has their keys now.
#[test]
fn unaligned_rescaled() {
    survives_in_flight("unaligned_rescaled", "keyed_count", 12, &[]);
}

/// Goal: the same of rows and partial accumulators before windows, whose state is on disk.
#[test]
fn unaligned_windows_rescaled() {
    let settings = [("state.backend", "rocksdb"), ("state.slots_max", "64")];
    survives_in_flight("unaligned_windows_rescaled", "q5", 12, &settings);
}
