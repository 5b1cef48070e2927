//! Sleeping to an instant, to some tens of microseconds.
//!
//! The runtime's own timer has a resolution of a millisecond, which is most of the latency that a paced source may add. One thread of the process holds all
//! sleepers in a heap and waits for the next one on a condition variable.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Completes at `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, registered: None }
}

/// See [`sleep_until`]. Dropping it early is fine: its waker is then woken once for nothing.
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    registered: Option<Waker>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        if !self.registered.as_ref().is_some_and(|w| w.will_wake(context.waker())) {
            self.registered = Some(context.waker().clone());
            sleepers().add(self.deadline, context.waker().clone());
        }
        Poll::Pending
    }
}

struct Sleepers {
    heap: Mutex<Heap>,
    changed: Condvar,
}

#[derive(Default)]
struct Heap {
    next: BinaryHeap<Reverse<Entry>>,
    entries: u64,
}

/// Ordered by deadline; the number tells entries of one deadline apart.
struct Entry(Instant, u64, Waker);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

fn sleepers() -> &'static Sleepers {
    static SLEEPERS: OnceLock<Sleepers> = OnceLock::new();
    static THREAD: OnceLock<()> = OnceLock::new();
    let sleepers = SLEEPERS.get_or_init(|| Sleepers { heap: Mutex::default(), changed: Condvar::new() });
    THREAD.get_or_init(|| {
        std::thread::Builder::new()
            .name("weir-sleep".into())
            .spawn(|| sleepers.run())
            .map(drop)
            .expect("a process that cannot start one thread cannot start its runtime's either");
    });
    sleepers
}

impl Sleepers {
    fn add(&self, deadline: Instant, waker: Waker) {
        let mut heap = self.heap.lock();
        heap.entries += 1;
        let entry = Entry(deadline, heap.entries, waker);
        let first = heap.next.peek().is_none_or(|Reverse(next)| entry < *next);
        heap.next.push(Reverse(entry));
        drop(heap);
        if first {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        let mut due = vec![];
        let mut heap = self.heap.lock();
        loop {
            let now = Instant::now();
            while heap.next.peek().is_some_and(|Reverse(next)| next.0 <= now) {
                due.extend(heap.next.pop().map(|Reverse(entry)| entry.2));
            }
            if !due.is_empty() {
                drop(heap);
                due.drain(..).for_each(Waker::wake);
                heap = self.heap.lock();
                continue;
            }
            match heap.next.peek().map(|Reverse(next)| next.0) {
                Some(next) => drop(self.changed.wait_until(&mut heap, next)),
                None => self.changed.wait(&mut heap),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sleepers wake in the order of their deadlines, whatever the order in which they were added, and never early.
    #[test]
    fn wakes_in_order() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let start = Instant::now();
        let handles: Vec<_> = [5u64, 1, 3]
            .map(|ms| {
                runtime.spawn(async move {
                    sleep_until(start + Duration::from_millis(ms)).await;
                    assert!(Instant::now() >= start + Duration::from_millis(ms));
                    (Instant::now(), ms)
                })
            })
            .into_iter()
            .collect();
        let mut woken: Vec<_> = handles.into_iter().map(|h| runtime.block_on(h).expect("no panic")).collect();
        woken.sort();
        assert_eq!(woken.iter().map(|w| w.1).collect::<Vec<_>>(), [1, 3, 5]);
    }
}
