//! All histories of worlds that are small enough.

use stateright::{Checker, Model, Property};
use weir_protocol::checkpoint::{Config, Kind};

use crate::world::{Action, Settings, World};

/// A model for stateright: a world, and what must be reached in it besides what must always hold.
struct Histories {
    settings: Settings,
    reached: Vec<Reached>,
}

/// The name of a condition that some history must fulfil, lest the others be proved about nothing.
type Reached = (&'static str, fn(&Histories, &World) -> bool);

const FINISHES: Reached = ("an attempt finishes", |_, world| world.has_finished());
const STOPS: Reached = ("a job is stopped", |_, world| world.has_stopped());
const FENCED: Reached = ("an attempt is fenced", |_, world| world.is_fenced());
const RECOVERS: Reached = ("what a crashed attempt had stored is committed", |_, world| world.has_recovered());
const GOES_BACK: Reached = ("an attempt goes on from the manifest before a torn one", |_, world| world.has_gone_back());
const CARRIES: Reached = ("an abandoned checkpoint's rows are committed later", |_, world| world.has_carried());

impl Model for Histories {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.settings)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(&self.settings, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.apply(&self.settings, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("nothing happens that must not", |_, world: &World| world.violation.is_none()),
            Property::always("nothing is committed twice", |_, world: &World| world.is_nothing_twice()),
            Property::always("what is committed is a covered prefix", |m: &Self, world: &World| world.is_prefix(&m.settings)),
            Property::always("nothing is lost", |m: &Self, world: &World| world.is_nothing_lost(&m.settings)),
            Property::always("no attempt gets stuck", |m: &Self, world: &World| {
                let mut actions = vec![];
                world.actions(&m.settings, &mut actions);
                !actions.is_empty() || world.live().next().is_none()
            }),
        ];
        properties.extend(self.reached.iter().map(|(name, condition)| Property::sometimes(name, *condition)));
        properties
    }
}

/// Each tick starts a checkpoint, or gives up the one that is being collected.
const CONFIG: Config = Config { store: true, interval_ms: Some(1), min_pause_ms: 0, timeout_ms: 1, tolerated_failures: 9 };

/// Sources with so many rows, one sink, one attempt, and nothing that goes wrong.
fn calm(inputs: &[u8]) -> Settings {
    Settings {
        config: CONFIG,
        inputs: inputs.to_vec(),
        sinks: 1,
        requests: vec![],
        attempts: 1,
        ticks: 0,
        crashes: 0,
        faults: 0,
        duplicates: 0,
        is_eager: true,
    }
}

fn check(settings: Settings, reached: &[Reached]) {
    let model = Histories { settings: settings.clone(), reached: reached.to_vec() };
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states of {settings:?}", checker.unique_state_count());
    checker.assert_properties();
}

/// Checkpoints that overlap with commits, and checkpoints that are given up, while sources end one after the other.
#[test]
fn one_attempt() {
    check(Settings { ticks: 3, ..calm(&[1, 1]) }, &[FINISHES, CARRIES]);
    check(Settings { ticks: 2, sinks: 2, ..calm(&[2]) }, &[FINISHES]);
    check(Settings { ticks: 2, is_eager: false, ..calm(&[1, 1]) }, &[FINISHES]);
}

/// Attempts that crash at any moment, or go on beside their successors.
#[test]
fn several_attempts() {
    check(Settings { attempts: 2, ticks: 1, crashes: 1, ..calm(&[1]) }, &[FINISHES, FENCED, RECOVERS]);
    check(Settings { attempts: 3, crashes: 2, ..calm(&[1]) }, &[FINISHES, FENCED, RECOVERS]);
}

/// Puts that are lost, late, torn, refused or not answered, and snapshots that are declined.
#[test]
fn faults() {
    check(Settings { ticks: 2, faults: 2, ..calm(&[1]) }, &[FINISHES, CARRIES]);
    check(Settings { attempts: 2, faults: 2, ..calm(&[1]) }, &[FINISHES, FENCED]);
}

/// Goal: a manifest that is durable, but torn, counts as none: whoever has put it commits nothing of it, and the next attempt starts from the one before.
#[test]
fn torn_manifests() {
    check(Settings { attempts: 2, ticks: 1, faults: 1, ..calm(&[1]) }, &[FINISHES, FENCED, GOES_BACK]);
}

/// Messages that come a second time, behind later ones.
#[test]
fn duplicates() {
    check(Settings { ticks: 2, duplicates: 1, ..calm(&[1]) }, &[FINISHES]);
    check(Settings { attempts: 2, duplicates: 1, ..calm(&[1]) }, &[FINISHES, FENCED]);
}

/// Savepoints beside periodic checkpoints, and after them the job's end, by itself or by request.
#[test]
fn requests() {
    let (stop, drain) = (Kind::StopWithSavepoint { drain: false }, Kind::StopWithSavepoint { drain: true });
    check(Settings { requests: vec![Kind::Savepoint, Kind::Checkpoint], ..calm(&[1, 1]) }, &[FINISHES]);
    for kind in [stop, drain] {
        check(Settings { requests: vec![Kind::Savepoint, kind], ticks: 1, ..calm(&[1]) }, &[FINISHES, STOPS]);
        check(Settings { requests: vec![kind], attempts: 2, crashes: 1, ..calm(&[1]) }, &[FINISHES, STOPS, RECOVERS]);
        check(Settings { requests: vec![kind], attempts: 2, faults: 1, ..calm(&[1]) }, &[FINISHES, STOPS]);
    }
}
