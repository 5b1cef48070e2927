//! Whether a job that has failed starts again, and when.
//!
//! The strategies are those of Apache Flink: none, fixed delay, exponential delay, failure rate.

use std::collections::VecDeque;

/// When, and how often, a job that has failed starts again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// not at all
    None,
    /// after the same time, so many times
    Fixed {
        /// how long to wait
        delay_ms: u64,
        /// how often
        attempts: u32,
    },
    /// after a time that doubles with each failure
    Exponential {
        /// how long to wait after the first failure
        delay_ms: u64,
        /// how long to wait at most
        max_delay_ms: u64,
        /// after how long without a failure the next one counts as the first
        reset_ms: u64,
        /// how often in a row; none = without end
        attempts: Option<u32>,
    },
    /// after the same time, unless there were too many failures lately
    FailureRate {
        /// how long to wait
        delay_ms: u64,
        /// the time in which failures are counted
        window_ms: u64,
        /// how many there may be in it
        attempts: u32,
    },
}

/// The failures of a job, and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restarts {
    strategy: Strategy,
    /// when the failures were that still count
    failures: VecDeque<u64>,
    /// how many there were in a row
    in_a_row: u32,
}

impl Restarts {
    /// No failure so far.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, failures: VecDeque::new(), in_a_row: 0 }
    }

    /// The job has failed; the clock that says when must not go back. Returns after how many milliseconds it starts again; none = it has failed for good.
    pub fn failed(&mut self, now_ms: u64) -> Option<u64> {
        match self.strategy {
            Strategy::None => None,
            Strategy::Fixed { delay_ms, attempts } => self.count(attempts).then_some(delay_ms),
            Strategy::Exponential { delay_ms, max_delay_ms, reset_ms, attempts } => {
                if self.failures.back().is_some_and(|last| now_ms.saturating_sub(*last) >= reset_ms) {
                    self.in_a_row = 0;
                }
                self.failures.clear();
                self.failures.push_back(now_ms);
                let doublings = self.in_a_row.min(63);
                let again = self.count(attempts.unwrap_or(u32::MAX));
                again.then(|| delay_ms.saturating_mul(1 << doublings).min(max_delay_ms.max(delay_ms)))
            }
            Strategy::FailureRate { delay_ms, window_ms, attempts } => {
                self.failures.push_back(now_ms);
                self.failures.retain(|at| now_ms.saturating_sub(*at) < window_ms);
                (self.failures.len() <= attempts as usize).then_some(delay_ms)
            }
        }
    }

    /// Counts a failure; returns whether there were at most so many.
    fn count(&mut self, attempts: u32) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.in_a_row <= attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each strategy says of failures at these times.
    #[test]
    fn strategies() {
        let exponential = |attempts| Strategy::Exponential { delay_ms: 100, max_delay_ms: 500, reset_ms: 10_000, attempts };
        let cases: [(Strategy, &[(u64, Option<u64>)]); 5] = [
            (Strategy::None, &[(0, None), (1, None)]),
            (Strategy::Fixed { delay_ms: 7, attempts: 2 }, &[(0, Some(7)), (1_000_000, Some(7)), (1_000_001, None)]),
            (
                exponential(None),
                &[(0, Some(100)), (1, Some(200)), (2, Some(400)), (9_000, Some(500)), (19_000, Some(100)), (19_001, Some(200))],
            ),
            (exponential(Some(2)), &[(0, Some(100)), (1, Some(200)), (2, None), (20_000, Some(100))]),
            (
                Strategy::FailureRate { delay_ms: 3, window_ms: 1000, attempts: 2 },
                &[(0, Some(3)), (500, Some(3)), (1000, Some(3)), (1200, None)],
            ),
        ];
        for (strategy, failures) in cases {
            let mut restarts = Restarts::new(strategy.clone());
            for &(at, expected) in failures {
                assert_eq!(restarts.failed(at), expected, "{strategy:?} at {at}");
            }
        }
    }

    /// However many failures there are, the delay neither overflows nor passes its bound.
    #[test]
    fn delays_are_bounded() {
        let strategy = Strategy::Exponential { delay_ms: 3, max_delay_ms: 60_000, reset_ms: u64::MAX, attempts: None };
        let mut restarts = Restarts::new(strategy);
        for at in 0..1000 {
            assert!(restarts.failed(at).is_some_and(|delay| (3..=60_000).contains(&delay)));
        }
    }
}
