//! Random long histories of bigger worlds.

use proptest::prelude::*;
use weir_protocol::checkpoint::{Config, Kind};

use crate::world::{Settings, World};

fn settings() -> impl Strategy<Value = Settings> {
    let kind = prop_oneof![
        Just(Kind::Checkpoint),
        Just(Kind::Savepoint),
        any::<bool>().prop_map(|drain| Kind::StopWithSavepoint { drain }),
    ];
    let config = (prop::option::of(1..4u64), 0..3u64, 1..5u64, 0..4u32).prop_map(
        |(interval_ms, min_pause_ms, timeout_ms, tolerated_failures)| Config {
            store: true,
            interval_ms,
            min_pause_ms,
            timeout_ms,
            tolerated_failures,
        },
    );
    let size = (prop::collection::vec(0..5u8, 1..4), 1..3u8, 1..5usize);
    let events = (0..12u8, 0..3u8, 0..6u8, 0..6u8);
    (config, size, events, prop::collection::vec(kind, 0..4)).prop_map(
        |(config, (inputs, sinks, attempts), (ticks, crashes, faults, duplicates), requests)| Settings {
            config,
            inputs,
            sinks,
            requests,
            attempts,
            ticks,
            crashes,
            faults,
            duplicates,
            is_eager: false,
        },
    )
}

fn must_hold(world: &World, settings: &Settings) -> Result<(), TestCaseError> {
    prop_assert_eq!(world.violation, None);
    prop_assert!(world.is_nothing_twice(), "twice");
    prop_assert!(world.is_prefix(settings), "no covered prefix");
    prop_assert!(world.is_nothing_lost(settings), "lost");
    Ok(())
}

/// Whatever happens, in whatever order, nothing is committed twice or too early. And when no more goes wrong and time passes, all
/// attempts come to an end, and if one of them finishes, nothing is lost.
fn check(settings: &Settings, choices: &[u16]) -> Result<World, TestCaseError> {
    let mut world = World::new(settings);
    let mut actions = vec![];
    let mut choices = choices.iter();
    let mut ticks = 0;
    loop {
        actions.clear();
        world.actions(settings, &mut actions);
        if actions.is_empty() {
            let Some(attempt) = world.live().next() else { return Ok(world) };
            ticks += 1;
            prop_assert!(ticks < 50, "attempt {} is stuck: {:?}", attempt, world);
            world.tick(attempt);
        } else {
            let choice = choices.next().map_or(0, |choice| usize::from(*choice) % actions.len());
            world.apply(settings, actions[choice]);
        }
        must_hold(&world, settings)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn histories(settings in settings(), choices in prop::collection::vec(any::<u16>(), 0..250)) {
        check(&settings, &choices)?;
    }
}
