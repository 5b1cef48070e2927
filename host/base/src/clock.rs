//! Processing time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where processing time comes from: the machine, or a test's hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now_ms` until it is set.
    pub fn manual(now_ms: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Some(manual) => manual.load(Ordering::Relaxed),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
        }
    }

    /// The instant at which the clock will show `time_ms`. A manual clock's hands do not move by themselves: it looks again soon.
    pub fn instant_of(&self, time_ms: i64) -> Instant {
        let wait = match self.0 {
            Some(_) => 1,
            None => time_ms.saturating_sub(self.now_ms()).clamp(0, 86_400_000),
        };
        Instant::now() + Duration::from_millis(wait.unsigned_abs())
    }

    /// Sets a manual clock. The machine's clock cannot be set: nothing happens.
    pub fn set_ms(&self, now_ms: i64) {
        if let Some(manual) = &self.0 {
            manual.store(now_ms, Ordering::Relaxed);
        }
    }
}
