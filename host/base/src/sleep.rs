//! Sleeping to an instant, to some tens of microseconds.
//!
//! The runtime's own timer has a resolution of a millisecond, which is most of the latency that a paced source may add. One thread of the process holds all
//! sleepers, ordered by their deadlines, and waits for the next one on a condition variable.

use std::collections::BTreeMap;
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

/// See [`sleep_until`]. Dropping it early leaves nothing behind.
#[derive(Debug)]
pub struct Sleep {
    deadline: Instant,
    /// its number among the sleepers, and whom it wakes
    registered: Option<(u64, Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        let waker = context.waker();
        if !self.registered.as_ref().is_some_and(|(_, registered)| registered.will_wake(waker)) {
            let number = self.registered.as_ref().map(|(number, _)| *number);
            let number = sleepers().add(self.deadline, number, waker.clone());
            self.registered = Some((number, waker.clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((number, _)) = self.registered {
            sleepers().remove(self.deadline, number);
        }
    }
}

struct Sleepers {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// by deadline; the number tells sleepers of one deadline apart
    wakers: BTreeMap<(Instant, u64), Waker>,
    numbers: u64,
}

impl Waiting {
    fn next(&self) -> Option<Instant> {
        self.wakers.first_key_value().map(|((deadline, _), _)| *deadline)
    }
}

fn sleepers() -> &'static Sleepers {
    static SLEEPERS: OnceLock<Sleepers> = OnceLock::new();
    static THREAD: OnceLock<()> = OnceLock::new();
    let sleepers = SLEEPERS.get_or_init(|| Sleepers { waiting: Mutex::default(), changed: Condvar::new() });
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
    /// Adds a sleeper, or gives the one of this number another waker. Returns its number.
    fn add(&self, deadline: Instant, number: Option<u64>, waker: Waker) -> u64 {
        let mut waiting = self.waiting.lock();
        let number = number.unwrap_or_else(|| {
            waiting.numbers += 1;
            waiting.numbers
        });
        let is_first = waiting.next().is_none_or(|next| deadline < next);
        let replaced = waiting.wakers.insert((deadline, number), waker);
        // The last waker of a task takes the task with it, and that its sleeps: not under the lock.
        drop(waiting);
        drop(replaced);
        if is_first {
            self.changed.notify_one();
        }
        number
    }

    /// Removes a sleeper, if it was not woken before. The thread may wake once for nothing.
    fn remove(&self, deadline: Instant, number: u64) {
        let removed = self.waiting.lock().wakers.remove(&(deadline, number));
        // The lock is free by now: see `add`.
        drop(removed);
    }

    fn run(&self) {
        let mut due = vec![];
        let mut waiting = self.waiting.lock();
        loop {
            let now = Instant::now();
            while waiting.next().is_some_and(|next| next <= now) {
                due.extend(waiting.wakers.pop_first().map(|(_, waker)| waker));
            }
            if !due.is_empty() {
                drop(waiting);
                due.drain(..).for_each(Waker::wake);
                waiting = self.waiting.lock();
                continue;
            }
            match waiting.next() {
                Some(next) => drop(self.changed.wait_until(&mut waiting, next)),
                None => self.changed.wait(&mut waiting),
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

    /// Sleeps that are given up leave nothing behind, be their deadlines ever so far away.
    #[test]
    fn dropped_sleeps_are_forgotten() {
        let far = Instant::now() + Duration::from_secs(86_400);
        for _ in 0..10_000 {
            let mut sleep = std::pin::pin!(sleep_until(far));
            let poll = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
        }
        let left = sleepers().waiting.lock().wakers.keys().filter(|(deadline, _)| *deadline == far).count();
        assert_eq!(left, 0);
    }
}
