//! How long senders have waited for room in channels.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time for which the outboxes of one task have waited for room, one at a time. It grows while one of them waits, so that a task that gets no room
/// for long is seen to wait, and not only afterwards.
#[derive(Debug, Default)]
pub struct Waits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// the waits that are over
    ended: Duration,
    /// when the one that lasts began
    since: Option<Instant>,
}

impl Waits {
    /// All waits until now, with the one that lasts.
    pub fn total(&self) -> Duration {
        let state = self.0.lock();
        state.ended + state.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Begins a wait, which lasts until what is returned is dropped.
    pub(crate) fn begin(&self) -> Wait<'_> {
        let since = Instant::now();
        self.0.lock().since = Some(since);
        Wait { waits: self, since }
    }
}

/// So long was waited until now.
impl From<Duration> for Waits {
    fn from(ended: Duration) -> Self {
        Self(Mutex::new(State { ended, since: None }))
    }
}

/// A wait that lasts.
pub(crate) struct Wait<'a> {
    waits: &'a Waits,
    since: Instant,
}

impl Wait<'_> {
    /// For how long it has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut state = self.waits.0.lock();
        state.ended += self.since.elapsed();
        state.since = None;
    }
}
