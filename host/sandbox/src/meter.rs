//! How long a guest has run: the time in which its future was polled, not the time in which it waited for its turn.
//!
//! There are two clocks. What a call may take is time that passes ([`running`](Meter::running)), so that it ends, whatever keeps it. What a guest has taken is time of
//! its thread ([`cpu`](Meter::cpu)): that in which other threads had the core is not the guest's. To read that clock is a call of the system, which costs as much as
//! many rows; so one call in some is measured by both, and tells what part of the time that passes is the guest's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The clock of one instance. The instance's store shares it, to stop a call that ran for too long.
pub(crate) struct Meter {
    origin: Instant,
    /// when the guest was last let run, ns since `origin`
    resumed: AtomicU64,
    /// ns that the current call had run before that
    call: AtomicU64,
    /// how many calls there were
    calls: AtomicU64,
    /// ns of CPU time of all of them
    cpu: AtomicU64,
    /// ns that passed in those that were measured by both clocks
    sampled: AtomicU64,
    /// ns of CPU time of these
    sampled_cpu: AtomicU64,
}

/// One call in so many is measured by both clocks.
const SAMPLE_CALLS: u64 = 16;

impl Meter {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            origin: Instant::now(),
            resumed: zero(),
            call: zero(),
            calls: zero(),
            cpu: zero(),
            sampled: zero(),
            sampled_cpu: zero(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Runs a call of the guest on the clock.
    pub(crate) async fn run<F: Future>(&self, call: F) -> F::Output {
        self.call.store(0, Relaxed);
        let is_sampled = self.calls.fetch_add(1, Relaxed).is_multiple_of(SAMPLE_CALLS);
        let mut call = pin!(call);
        poll_fn(|cx| {
            let (resumed, cpu) = (self.now(), is_sampled.then(thread_cpu));
            self.resumed.store(resumed, Relaxed);
            let poll = call.as_mut().poll(cx);
            let passed = self.now() - resumed;
            self.call.fetch_add(passed, Relaxed);
            let spent = match cpu {
                // A poll stays on its thread, though the next one may be on another.
                Some(cpu) => {
                    let spent = thread_cpu().saturating_sub(cpu).as_nanos() as u64;
                    self.sampled.fetch_add(passed, Relaxed);
                    self.sampled_cpu.fetch_add(spent, Relaxed);
                    spent
                }
                None => self.estimated(passed),
            };
            self.cpu.fetch_add(spent, Relaxed);
            poll
        })
        .await
    }

    /// How long the current call has run. To be asked from within the call.
    pub(crate) fn running(&self) -> Duration {
        Duration::from_nanos(self.call.load(Relaxed) + self.now().saturating_sub(self.resumed.load(Relaxed)))
    }

    /// How much of the time that has passed is likely to be CPU time, ns.
    fn estimated(&self, passed: u64) -> u64 {
        let (sampled, cpu) = (self.sampled.load(Relaxed).max(1), self.sampled_cpu.load(Relaxed));
        (u128::from(passed) * u128::from(cpu.min(sampled)) / u128::from(sampled)) as u64
    }

    /// The CPU time of all calls, as far as they were polled: about, where there were several.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Relaxed))
    }
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process_cpu() -> Duration {
        Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("it is not negative")
    }

    /// Goal: a call's CPU time is what it has computed, over all its polls: not what it has slept, and no more than the process's; its own time is all that has passed.
    #[test]
    fn sleep_is_no_cpu_time() {
        const WORK: Duration = Duration::from_millis(10);
        const SLEEP: Duration = Duration::from_millis(200);
        let meter = Meter::new();
        let before = process_cpu();
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(meter.run(async {
            for _ in 0..2 {
                let until = thread_cpu() + WORK;
                while thread_cpu() < until {}
                tokio::task::yield_now().await;
            }
            std::thread::sleep(SLEEP);
            assert!(meter.running() >= WORK + SLEEP);
        }));
        let cpu = meter.cpu();
        assert!(cpu >= 2 * WORK && cpu < SLEEP, "{cpu:?}");
        assert!(cpu <= process_cpu() - before);
    }
}
