//! Streams that show one thing each.

use weir_plan::job::Stage;
use weir_types::EventTime;
use weir_types::graph::{Assigner, TimeDomain, Trigger, Window};

use crate::harness::Operator;

fn window(assigner: Assigner) -> Window {
    Window {
        assigner,
        domain: TimeDomain::Event,
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        allowed_lateness_ms: 0,
        late_port: Some(1),
        mergeable: true,
    }
}

/// Each pane as `key [start, end): rows`.
fn panes(operator: &mut Operator) -> Vec<String> {
    operator.take().0.into_iter().map(|p| format!("{} [{}, {}): {}", p.key, p.start, p.end, p.rows)).collect()
}

/// Sliding windows share their cells, come in the order of their ends, and leave nothing behind.
#[test]
fn sliding() {
    let mut operator = Operator::new(window(Assigner::Sliding { size_ms: 4, slide_ms: 2, offset_ms: 0 }), Stage::Complete, None);
    operator.rows(&[(7, 1, 1), (7, 2, 2), (8, 3, 3), (7, -1, 4)]);
    assert_eq!(operator.slots(), 4);
    operator.watermark(3);
    assert_eq!(panes(&mut operator), ["7 [-4, 0): 4", "7 [-2, 2): 1 4", "7 [0, 4): 1 2", "8 [0, 4): 3"]);
    operator.watermark(EventTime::MAX);
    assert_eq!(panes(&mut operator), ["7 [2, 6): 2", "8 [2, 6): 3"]);
    assert_eq!(operator.slots(), 0);
}

/// A row at a session's end begins another session; one between two sessions joins them.
#[test]
fn sessions() {
    let mut operator = Operator::new(window(Assigner::Session { gap_ms: 5 }), Stage::Complete, None);
    operator.rows(&[(1, 0, 1), (1, 5, 2), (2, 20, 3), (2, 28, 4), (2, 24, 5)]);
    operator.watermark(50);
    assert_eq!(panes(&mut operator), ["1 [0, 5): 1", "1 [5, 10): 2", "2 [20, 33): 3 4 5"]);
    assert_eq!(operator.slots(), 0);
}

/// A row behind its window's lateness goes to the late port; one within it emits the window anew.
#[test]
fn lateness() {
    let definition = Window { allowed_lateness_ms: 10, ..window(Assigner::Tumbling { size_ms: 10, offset_ms: 0 }) };
    let mut operator = Operator::new(definition, Stage::Complete, None);
    operator.rows(&[(1, 3, 1)]);
    operator.watermark(12);
    operator.rows(&[(1, 4, 2), (1, 5, 3)]);
    assert_eq!(panes(&mut operator), ["1 [0, 10): 1", "1 [0, 10): 1 2", "1 [0, 10): 1 2 3"]);
    operator.watermark(19);
    operator.rows(&[(1, 6, 4)]);
    assert_eq!(operator.take().1, [4]);
    assert_eq!((operator.late_rows(), operator.slots()), (1, 0));
}

/// Count windows: each n rows of a key, whatever the batches, and no state in between full ones.
#[test]
fn count_windows() {
    let trigger = Trigger { on_time: false, early_every_ms: None, every_count: Some(2), purging: true };
    let mut operator = Operator::new(Window { trigger, ..window(Assigner::Global) }, Stage::Complete, None);
    operator.rows(&[(1, 0, 1), (1, 0, 2), (1, 0, 3), (2, 0, 4), (1, 0, 5)]);
    let all = format!("[{}, {})", EventTime::MIN, EventTime::MAX);
    assert_eq!(panes(&mut operator), [format!("1 {all}: 1 2"), format!("1 {all}: 3 5")]);
    assert_eq!(operator.slots(), 1);
}

/// Windows of processing time are emitted when the clock has passed them, and say when that is.
#[test]
fn processing_time() {
    let definition = Window { domain: TimeDomain::Processing, ..window(Assigner::Tumbling { size_ms: 10, offset_ms: 0 }) };
    let mut operator = Operator::new(definition, Stage::Complete, None);
    operator.clock(105);
    assert_eq!(operator.next_clock(), None);
    operator.rows(&[(1, 0, 1)]);
    assert_eq!(operator.next_clock(), Some(110));
    operator.clock(109);
    assert!(panes(&mut operator).is_empty());
    operator.clock(110);
    assert_eq!(panes(&mut operator), ["1 [100, 110): 1"]);
    assert_eq!(operator.next_clock(), None);
}
