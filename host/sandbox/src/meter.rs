//! How long a guest has run: the time in which its future was polled, not the time in which it waited for its turn.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The clock of one instance. The instance's store shares it, to stop a call that ran for too long.
pub(crate) struct Meter {
    origin: Instant,
    /// when the guest was last let run, ns since `origin`
    resumed: AtomicU64,
    /// ns that the current call had run before that
    call: AtomicU64,
    /// ns of all calls that have ended
    total: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), resumed: AtomicU64::new(0), call: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Runs a call of the guest on the clock.
    pub(crate) async fn run<F: Future>(&self, call: F) -> F::Output {
        self.call.store(0, Relaxed);
        let mut call = pin!(call);
        let output = poll_fn(|cx| {
            let resumed = self.now();
            self.resumed.store(resumed, Relaxed);
            let poll = call.as_mut().poll(cx);
            self.call.fetch_add(self.now() - resumed, Relaxed);
            poll
        })
        .await;
        self.total.fetch_add(self.call.load(Relaxed), Relaxed);
        output
    }

    /// How long the current call has run. To be asked from within the call.
    pub(crate) fn running(&self) -> Duration {
        Duration::from_nanos(self.call.load(Relaxed) + self.now().saturating_sub(self.resumed.load(Relaxed)))
    }

    /// How long all calls have run.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Relaxed))
    }
}
