//! What becomes of a job whose log is damaged: it goes on from a checkpoint, or does not go on.

use proptest::prelude::*;
use weir_protocol::checkpoint::{CheckpointId, Kind};
use weir_protocol::claim::{Entry, Generation, Nonce, Seen, resolve};

/// What the owners of a log do to it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim,
    Manifest,
    /// old entries go, but for so many checkpoints
    Collect(usize),
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Torn,
    /// if it is a checkpoint, its files are damaged
    Damaged,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![2 => Just(Step::Claim), 3 => Just(Step::Manifest), 1 => (1..4usize).prop_map(Step::Collect)];
    prop::collection::vec(step, 0..16)
}

/// The log that is left of these steps.
fn history(steps: &[Step]) -> Vec<(u64, Entry)> {
    let (mut generation, mut checkpoint, mut number) = (1, 0, 1);
    let claim = |generation| Entry::Claim { generation: Generation(generation), nonce: Nonce(0) };
    let mut log = vec![(0, claim(generation))];
    for step in steps {
        match *step {
            Step::Claim => generation += 1,
            Step::Manifest => checkpoint += 1,
            Step::Collect(retained) => {
                let manifests: Vec<_> = log.iter().filter(|(_, entry)| is_manifest(entry)).map(|(number, _)| *number).collect();
                if let Some(first) = manifests.iter().rev().take(retained).next_back() {
                    log.retain(|(number, _)| number >= first);
                }
                continue;
            }
        }
        let manifest =
            Entry::Manifest { generation: Generation(generation), checkpoint: CheckpointId(checkpoint), kind: Kind::Checkpoint };
        log.push((number, if matches!(step, Step::Claim) { claim(generation) } else { manifest }));
        number += 1;
    }
    log
}

fn is_manifest(entry: &Entry) -> bool {
    matches!(entry, Entry::Manifest { .. })
}

fn seen(entry: Entry, fate: Fate) -> Seen {
    match (entry, fate) {
        (_, Fate::Torn) => Seen::Unreadable,
        (Entry::Manifest { generation, checkpoint, .. }, Fate::Damaged) => Seen::Damaged { generation, checkpoint },
        (entry, Fate::Kept | Fate::Damaged) => Seen::Whole(entry),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// Whatever is damaged: who has had a checkpoint starts from the newest that is whole, or not at all; and what is not damaged hinders nobody.
    #[test]
    fn nobody_begins_anew_behind_a_checkpoint(
        steps in steps(),
        fates in prop::collection::vec(prop_oneof![Just(Fate::Kept), Just(Fate::Torn), Just(Fate::Damaged)], 17),
    ) {
        let log = history(&steps);
        let had_checkpoint = log.iter().any(|(_, entry)| is_manifest(entry));
        let harmed: Vec<_> = log.iter().zip(&fates).map(|((number, entry), fate)| (*number, seen(*entry, *fate))).collect();
        let is_whole = |(_, seen): &&(u64, Seen)| matches!(seen, Seen::Whole(Entry::Manifest { .. }));
        let newest = harmed.iter().rev().find(is_whole).map(|(number, _)| *number);
        let decision = resolve(&harmed);
        prop_assert_eq!(decision.base.map(|base| base.number), newest);
        let begins = decision.check_anew(0).is_ok();
        prop_assert!(newest.is_none() || begins, "it has one to start from");
        prop_assert!(newest.is_some() || !had_checkpoint || !begins, "it begins anew: {:?}", harmed);

        let whole: Vec<_> = log.iter().map(|(number, entry)| (*number, Seen::Whole(*entry))).collect();
        prop_assert!(resolve(&whole).check_anew(0).is_ok(), "nothing is damaged");
    }
}
