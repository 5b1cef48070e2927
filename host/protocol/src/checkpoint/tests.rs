//! Histories as text: an event on the left of each line, on the right the commands that follow.

use super::*;
use crate::claim::Base;

const GENERATION: Generation = Generation(3);
const CONFIG: Config = Config { store: true, interval_ms: Some(10), min_pause_ms: 4, timeout_ms: 20, tolerated_failures: 1 };
const ON_REQUEST: Config = Config { interval_ms: None, ..CONFIG };

/// Tasks are named `a`, `b` and so on.
fn task(name: &str) -> TaskId {
    TaskId { vertex: u32::from(name.as_bytes()[0] - b'a'), subtask: 0 }
}

fn kind(name: &str) -> Kind {
    match name {
        "checkpoint" => Kind::Checkpoint,
        "savepoint" => Kind::Savepoint,
        "stop" => Kind::StopWithSavepoint { drain: false },
        "drain" => Kind::StopWithSavepoint { drain: true },
        _ => panic!("no kind {name:?}"),
    }
}

/// The snapshot of `ack 2 a` is `a@2`, that of `end a` is `a@end`.
fn event(text: &str) -> Event<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let number = |word: &str| word.parse().expect("a number");
    let checkpoint = |word: &str| CheckpointId(number(word));
    let generation = GENERATION;
    match words[..] {
        ["tick", ms] => Event::Tick { now_ms: number(ms) },
        ["request", id, name] => Event::Requested { request: RequestId(number(id)), kind: kind(name) },
        ["ack", id, name] => {
            Event::Acked { generation, checkpoint: checkpoint(id), task: task(name), snapshot: format!("{name}@{id}") }
        }
        ["stale-ack", id, name] => {
            Event::Acked { generation: Generation(2), checkpoint: checkpoint(id), task: task(name), snapshot: "old".into() }
        }
        ["decline", id, name] => {
            Event::Declined { generation, checkpoint: checkpoint(id), task: task(name), reason: "full".into() }
        }
        ["end", name] => Event::Ended { generation, task: task(name), snapshot: format!("{name}@end") },
        ["stale-end", name] => Event::Ended { generation: Generation(2), task: task(name), snapshot: "old".into() },
        ["stored", id] => Event::Stored { checkpoint: checkpoint(id) },
        ["not-stored", id] => Event::StoreFailed { checkpoint: checkpoint(id), reason: "full".into() },
        ["fenced"] => Event::Fenced,
        ["committed", id] => Event::Committed { checkpoint: checkpoint(id) },
        _ => panic!("no event {text:?}"),
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Checkpoint => "checkpoint",
        Kind::Savepoint => "savepoint",
        Kind::StopWithSavepoint { drain: false } => "stop",
        Kind::StopWithSavepoint { drain: true } => "drain",
    }
}

fn text(command: &Command<String>) -> String {
    match command {
        Command::Trigger { checkpoint, kind } => format!("trigger {} {}", checkpoint.0, name(*kind)),
        Command::Store { checkpoint, kind, snapshots } => {
            let snapshots: Vec<_> = snapshots.values().map(String::as_str).collect();
            format!("store {} {} {}", checkpoint.0, name(*kind), snapshots.join(" "))
        }
        Command::Commit { checkpoint } => format!("commit {}", checkpoint.0),
        Command::Abandon { checkpoint, reason } => format!("abandon {}: {reason}", checkpoint.0),
        Command::Answer { request, outcome: Ok(checkpoint) } => format!("answer {} with {}", request.0, checkpoint.0),
        Command::Answer { request, outcome: Err(refusal) } => format!("refuse {}: {refusal}", request.0),
        Command::Finish => "finish".into(),
        Command::Fail { reason } => format!("fail: {reason}"),
    }
}

/// Drives a coordinator of tasks `a` and `b` through a history. Its first line is `start` or `start from ID KIND`.
fn check(config: Config, history: &str) {
    let mut coordinator = None;
    for line in history.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (left, expected) = line.split_once("->").unwrap_or((line, ""));
        let words: Vec<_> = left.split_whitespace().collect();
        let commands = match (&mut coordinator, &words[..]) {
            (Some(coordinator), _) => Coordinator::on(coordinator, event(left)),
            (None, ["start", base @ ..]) => {
                let base = (base.len() == 3).then(|| {
                    let checkpoint = CheckpointId(base[1].parse().expect("a number"));
                    Base { number: 1, checkpoint, kind: kind(base[2]) }
                });
                let (new, commands) = Coordinator::new(config.clone(), GENERATION, [task("a"), task("b")], base, 0);
                coordinator = Some(new);
                commands
            }
            _ => panic!("no start"),
        };
        let commands: Vec<_> = commands.iter().map(text).collect();
        assert_eq!(commands.join("; "), expected.trim(), "at {line:?} of:\n{history}");
    }
}

/// Periodic checkpoints keep the interval from start to start and the pause from end to start, whichever is later.
#[test]
fn periods() {
    check(
        CONFIG,
        "
        start
        tick 9
        tick 10     -> trigger 1 checkpoint
        ack 1 a
        ack 1 a
        ack 1 b     -> store 1 checkpoint a@1 b@1
        tick 18
        stored 1    -> commit 1
        tick 20
        tick 21
        committed 1
        tick 22     -> trigger 2 checkpoint
        ack 2 b
        ack 2 a     -> store 2 checkpoint a@2 b@2
        stored 2    -> commit 2
        tick 31
        tick 32     -> trigger 3 checkpoint
        ",
    );
}

/// The next checkpoint may start while sinks commit, but is stored only when they are done.
#[test]
fn stores_after_the_commit_before() {
    check(
        ON_REQUEST,
        "
        start from 7 checkpoint -> commit 7
        request 1 checkpoint    -> trigger 8 checkpoint
        ack 8 a
        ack 8 b
        committed 6
        committed 7             -> store 8 checkpoint a@8 b@8
        stored 8                -> commit 8; answer 1 with 8
        ",
    );
}

/// What is stale, foreign, unknown or told twice changes nothing.
#[test]
fn ignores_what_is_not_its_own() {
    check(
        ON_REQUEST,
        "
        start
        stale-end a
        stored 1
        committed 1
        request 1 checkpoint -> trigger 1 checkpoint
        stale-ack 1 a
        ack 2 a
        ack 1 c
        end c
        decline 2 a
        stored 1
        not-stored 1
        ack 1 a
        decline 1 a
        ack 1 b              -> store 1 checkpoint a@1 b@1
        decline 1 b
        stored 1             -> commit 1; answer 1 with 1
        stored 1
        ack 1 b
        ",
    );
}

/// A checkpoint that takes too long is given up and counted, until it is with the store; failures in a row are counted.
#[test]
fn failures() {
    check(
        CONFIG,
        "
        start
        tick 10      -> trigger 1 checkpoint
        tick 29
        tick 30      -> abandon 1: it took longer than checkpoint.timeout (20ms)
        ack 1 a
        tick 34      -> trigger 2 checkpoint
        ack 2 a
        ack 2 b      -> store 2 checkpoint a@2 b@2
        tick 90
        stored 2     -> commit 2
        committed 2
        tick 94      -> trigger 3 checkpoint
        decline 3 b  -> abandon 3: task 1/0 declined: full
        tick 104     -> trigger 4 checkpoint
        ack 4 b
        ack 4 a      -> store 4 checkpoint a@4 b@4
        not-stored 4 -> abandon 4: it could not be stored: full; fail: 2 checkpoints in a row failed, the last because it could not be stored: full
        tick 200
        request 1 savepoint -> refuse 1: the job has ended, or is being restarted
        ",
    );
}

/// Requests wait for the checkpoint in flight; equal ones are served together, but each savepoint by itself. Its failure does not count.
#[test]
fn requests() {
    check(
        ON_REQUEST,
        "
        start
        request 1 checkpoint -> trigger 1 checkpoint
        request 2 checkpoint
        request 3 savepoint
        request 4 savepoint
        request 5 checkpoint
        ack 1 a
        ack 1 b      -> store 1 checkpoint a@1 b@1
        stored 1     -> commit 1; answer 1 with 1; trigger 2 checkpoint
        committed 1
        ack 2 a
        ack 2 b      -> store 2 checkpoint a@2 b@2
        stored 2     -> commit 2; answer 2 with 2; answer 5 with 2; trigger 3 savepoint
        decline 3 a  -> abandon 3: task 0/0 declined: full; refuse 3: the checkpoint failed: task 0/0 declined: full; trigger 4 savepoint
        decline 4 a  -> abandon 4: task 0/0 declined: full; refuse 4: the checkpoint failed: task 0/0 declined: full
        request 6 checkpoint -> trigger 5 checkpoint
        decline 5 a  -> abandon 5: task 0/0 declined: full; refuse 6: the checkpoint failed: task 0/0 declined: full
        ",
    );
}

/// The last snapshot of a task that has ended serves the checkpoint that it has not acked, and all later ones.
#[test]
fn tasks_that_have_ended() {
    check(
        ON_REQUEST,
        "
        start
        request 1 checkpoint -> trigger 1 checkpoint
        ack 1 b
        end a                -> store 1 checkpoint a@end b@1
        stored 1             -> commit 1; answer 1 with 1
        committed 1
        request 2 checkpoint -> trigger 2 checkpoint
        ack 2 b              -> store 2 checkpoint a@end b@2
        end b
        end b
        stored 2             -> commit 2; answer 2 with 2
        committed 2          -> store 3 checkpoint a@end b@end
        stored 3             -> commit 3
        request 3 savepoint
        committed 3          -> refuse 3: the job has ended, or is being restarted; finish
        ",
    );
}

/// When all tasks have ended, whoever waits is served by the last checkpoint. If it cannot be stored, it is tried again after the pause.
#[test]
fn the_last_checkpoint() {
    check(
        ON_REQUEST,
        "
        start
        end a
        end b        -> store 1 checkpoint a@end b@end
        request 1 savepoint
        not-stored 1 -> abandon 1: it could not be stored: full; store 2 savepoint a@end b@end
        not-stored 2 -> abandon 2: it could not be stored: full; refuse 1: the checkpoint failed: it could not be stored: full
        tick 3
        tick 4       -> store 3 checkpoint a@end b@end
        stored 3     -> commit 3
        committed 3  -> finish
        ",
    );
}

/// A stop ends the job once its savepoint is stored and committed, and answers then.
#[test]
fn stops() {
    check(
        CONFIG,
        "
        start
        request 1 drain -> trigger 1 drain
        tick 15
        ack 1 a
        end a
        ack 1 b         -> store 1 drain a@1 b@1
        end b
        request 2 drain
        stored 1        -> commit 1
        tick 60
        committed 1     -> answer 1 with 1; refuse 2: the job has ended, or is being restarted; finish
        ",
    );
}

/// After a stop that failed the attempt fails, for some tasks have stopped.
#[test]
fn stops_in_vain() {
    check(
        ON_REQUEST,
        "
        start
        request 1 stop -> trigger 1 stop
        tick 20        -> abandon 1: it took longer than checkpoint.timeout (20ms); refuse 1: the checkpoint failed: it took longer than checkpoint.timeout (20ms); fail: the savepoint to stop with failed: it took longer than checkpoint.timeout (20ms)
        ",
    );
}

/// If the attempt before had stored the savepoint to stop with, all that is left is to commit it.
#[test]
fn stops_after_a_restart() {
    check(
        CONFIG,
        "
        start from 4 stop   -> commit 4
        tick 50
        request 1 savepoint
        end a
        end b
        committed 4         -> refuse 1: the job has ended, or is being restarted; finish
        ",
    );
}

/// Who is fenced commits nothing more.
#[test]
fn fenced() {
    check(
        ON_REQUEST,
        "
        start
        request 1 savepoint -> trigger 1 savepoint
        request 2 checkpoint
        ack 1 a
        ack 1 b             -> store 1 savepoint a@1 b@1
        fenced              -> refuse 1: the job has ended, or is being restarted; refuse 2: the job has ended, or is being restarted; fail: another attempt runs the job
        stored 1
        ",
    );
}

/// Without storage nothing can be recovered, so there is one commit, at the end.
#[test]
fn without_storage() {
    check(
        Config { store: false, ..CONFIG },
        "
        start
        tick 50
        request 1 stop -> refuse 1: the job has no checkpoint storage
        end a
        end b          -> commit 1
        tick 90
        committed 1    -> finish
        ",
    );
}

/// Only so many requests wait.
#[test]
fn too_many_requests() {
    let (mut coordinator, _) = Coordinator::<String>::new(ON_REQUEST, GENERATION, [task("a")], None, 0);
    for request in 0..=REQUESTS_MAX as u64 {
        coordinator.on(Event::Requested { request: RequestId(request), kind: Kind::Savepoint });
    }
    let request = RequestId(100);
    let commands = coordinator.on(Event::Requested { request, kind: Kind::Savepoint });
    assert_eq!(commands, [Command::Answer { request, outcome: Err(Refusal::Busy) }]);
}
