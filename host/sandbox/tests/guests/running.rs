//! Guests that crash, never return, eat memory or talk too much; and the whole life of slots.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use weir_sandbox::{GuestErrorKind, Level};
use weir_types::call::{DueTimers, Panes, States};
use weir_types::graph::TimeDomain;

use crate::support::{input, instance, instance_with_log, rows};

/// A crash, an endless loop, endless recursion and endless allocation end the instance, with an error of the right kind that
/// says what to do; later calls fail and nothing panics.
#[tokio::test]
async fn the_instance_ends() {
    for (mode, kind, expected) in [
        ("trap", GuestErrorKind::Trap, "the guest panicked or gave up (`unreachable`); it said: panicked at 'so it goes'"),
        ("loop", GuestErrorKind::Deadline, "the call ran for more than 100ms, its limit `limits.call_deadline`"),
        ("overflow", GuestErrorKind::Trap, "the guest crashed: "),
        ("grow", GuestErrorKind::Memory, "wants more than its limit of 33554432 (`limits.guest_memory`)"),
        ("big", GuestErrorKind::Memory, "the call returned more than 4194304 bytes, its limit `reply_bytes`"),
    ] {
        let mut guest = instance(mode).await.expect("it starts");
        let columns = rows();
        let error = guest.process(0, input(4, &columns, None)).await.expect_err(mode);
        assert_eq!(error.kind, kind, "{mode}: {error}");
        assert!(
            error.message.starts_with("`process` of chain 0 (`echo`): ") && error.message.contains(expected),
            "{mode}: {error}"
        );
        assert!(error.kind.ends_instance() && !guest.is_usable(), "{mode}");
        let again = guest.process(0, input(4, &columns, None)).await.expect_err("it has ended");
        assert!(again.message.contains("the instance has ended and cannot be called"), "{again}");
    }
}

/// A crash comes with the guest's functions, by their names.
#[tokio::test]
async fn backtraces_have_names() {
    let mut guest = instance("trap").await.expect("it starts");
    let error = guest.process(0, input(4, &rows(), None)).await.expect_err("a trap");
    assert!(
        error.backtrace.iter().any(|frame| frame.contains("hostile::misbehave") || frame.contains("process")),
        "{:?}",
        error.backtrace
    );
}

/// A guest that runs yields to others: on one thread, a good call is over while an endless loop that started before goes on.
#[tokio::test(flavor = "current_thread")]
async fn guests_take_turns() {
    let (mut looping, mut good) = (instance("loop").await.expect("it starts"), instance("none").await.expect("it starts"));
    let columns = rows();
    tokio::select! {
        biased;
        ended = looping.process(0, input(4, &columns, None)) => panic!("the loop kept the thread until {ended:?}"),
        reply = good.process(0, input(4, &columns, None)) => drop(reply.expect("good rows")),
    }
}

/// A call that is given up half-way leaves an instance that says so.
#[tokio::test(flavor = "current_thread")]
async fn abandoned_calls() {
    let mut guest = instance("loop").await.expect("it starts");
    let columns = rows();
    {
        let mut call = std::pin::pin!(guest.process(0, input(4, &columns, None)));
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_pending()));
        assert!(once.await, "the loop has yielded");
    }
    let error = guest.process(0, input(4, &columns, None)).await.expect_err("it was broken off");
    assert!(error.message.contains("a call was broken off"), "{error}");
}

/// The user's errors are passed on in one line, and cost nothing: the instance goes on.
#[tokio::test]
async fn returned_errors() {
    let mut guest = instance("returned").await.expect("it starts");
    for _ in 0..2 {
        let error = guest.process(0, input(4, &rows(), None)).await.expect_err("the user's error");
        assert_eq!(error.kind, GuestErrorKind::Returned);
        assert_eq!(error.message, "`process` of chain 0 (`echo`): row 3 has no price");
    }
    let error = instance("describe-error").await.expect_err("the user's error");
    assert_eq!((error.kind, error.message.as_str()), (GuestErrorKind::Returned, "`describe`: this job needs an argument"));
}

/// A guest that crashes while it describes itself, or describes nonsense, cannot be started.
#[tokio::test]
async fn bad_descriptions() {
    let error = instance("describe-trap").await.expect_err("a trap");
    assert_eq!(error.kind, GuestErrorKind::Trap, "{error}");
    let error = instance("endpoint").await.expect_err("no such source");
    assert_eq!(error.kind, GuestErrorKind::Contract);
    assert_eq!(error.message, "`describe`: chain 0 (`echo`): input 0: it reads source 7, which does not exist");
}

/// A flood of lines is cut off, and what was lost is told.
#[tokio::test]
async fn floods_are_cut_off() {
    let (mut guest, lines) = instance_with_log("flood").await;
    guest.process(0, input(4, &rows(), None)).await.expect("it only talks");
    drop(guest);
    let lines = lines.lock().expect("not poisoned");
    let bytes: usize = lines.iter().map(|(_, l)| l.len()).sum();
    assert!(lines.len() > 100 && bytes < 1 << 20, "{} lines, {bytes} bytes", lines.len());
    assert!(
        lines.iter().any(|(level, l)| *level == Level::Warn && l.contains("lines were dropped")),
        "no word of what was dropped"
    );
}

/// Slots count, move to another instance by export and import, merge, and are cleared.
#[tokio::test]
async fn slots_live() {
    let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7, 8, 9]))];
    let mut guest = instance("none").await.expect("it starts");
    guest.assign_slots(1, &[0, 1, 2], &keys).await.expect("slots");
    let reply = guest.process(1, input(4, &[], Some(&[0, 1, 0, 0]))).await.expect("counts");
    assert_eq!(reply.outputs[0].columns[0].as_primitive::<Int64Type>().values(), &[1, 1, 2, 3]);
    assert_eq!(reply.timers.iter().map(|t| (t.slot, t.time)).collect::<Vec<_>>(), [(0, 0), (1, 1), (0, 2), (0, 3)]);
    let states = guest.export_slots(1, &[0, 1]).await.expect("states");
    assert_eq!(states.offsets, [0, 8, 16]);

    let mut heir = instance("none").await.expect("it starts");
    heir.assign_slots(1, &[0, 1, 2], &keys).await.expect("slots");
    heir.import_slots(1, &[2, 1], &states).await.expect("imported");
    heir.merge_slots(1, &[2], &[1]).await.expect("merged");
    heir.clear_slots(1, &[1]).await.expect("cleared");
    let all = heir.export_slots(1, &[0, 1, 2]).await.expect("states");
    let numbers: Vec<_> = all.bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
    assert_eq!(numbers, [0, 0, 4]);
    let none = heir.export_slots(1, &[]).await.expect("no states");
    assert_eq!((none.offsets, none.bytes), (States::none().offsets, vec![]));

    let fired = DueTimers { slots: &[2, 0], times: &[5, 6], domain: TimeDomain::Event, cleanup: false, watermark: 9, now: 0 };
    let reply = heir.timers_fired(1, fired).await.expect("timers");
    assert_eq!(reply.outputs[0].columns[0].as_primitive::<Int64Type>().values(), &[5, 6]);
}

/// A window accumulates by slot and emits panes of several slots.
#[tokio::test]
async fn windows_emit() {
    let keys: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7, 7, 8]))];
    let mut guest = instance("none").await.expect("it starts");
    guest.assign_slots(2, &[0, 1, 2], &keys).await.expect("slots");
    let numbers: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 10, 100, 1000]))];
    guest.accumulate(2, input(4, &numbers, Some(&[0, 1, 2, 0]))).await.expect("accumulated");
    let panes = Panes { groups: &[0, 2, 3], slots: &[0, 1, 2], starts: &[0, 0], ends: &[1000, 1000], watermark: 1000, now: 0 };
    let reply = guest.emit(2, panes).await.expect("panes");
    assert_eq!(reply.outputs[0].columns[0].as_primitive::<Int64Type>().values(), &[1011, 100]);
}
