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

/// How long ago something was over that began at `started_ms` (since 1970) and took `duration_ms`, in milliseconds. It is 0 where the clock that says `now_ms`
/// is behind the one that said when it began.
pub fn age_ms(started_ms: i64, duration_ms: u64, now_ms: i64) -> u64 {
    let ended_ms = started_ms.saturating_add_unsigned(duration_ms);
    now_ms.saturating_sub(ended_ms).max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an age counts from the end, is never less than 0, and does not overflow.
    #[test]
    fn ages_count_from_the_end() {
        let ages = [4_000, 5_000, 5_250, 7_050].map(|now_ms| age_ms(5_000, 250, now_ms));
        assert_eq!(ages, [0, 0, 0, 1_800]);
        assert_eq!(age_ms(i64::MAX, u64::MAX, i64::MIN), 0);
        assert_eq!(age_ms(i64::MIN, 0, i64::MAX), i64::MAX.unsigned_abs());
    }
}
