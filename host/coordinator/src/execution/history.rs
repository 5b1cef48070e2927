//! What has happened to a job's checkpoints, over all its attempts.

use std::collections::VecDeque;

use super::CheckpointReport;

/// How many of the last checkpoints are known each by itself.
const RECENT_MAX: usize = 10;

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// how often the job has started again
    pub restarts: u64,
    /// checkpoints that were completed
    pub completed: u64,
    /// checkpoints that were given up
    pub failed: u64,
    /// the last complete one
    pub last: Option<CheckpointReport>,
    /// the last complete ones that were made while the job ran, oldest first
    pub recent: VecDeque<CheckpointReport>,
    /// the longest that one took, ms
    pub longest_ms: u64,
    /// the longest that a task did nothing but copy its state, ms
    pub copying_ms: u64,
}

impl History {
    /// A checkpoint was completed or given up.
    pub fn add(&mut self, report: CheckpointReport) {
        if report.failure.is_some() {
            self.failed += 1;
            return;
        }
        self.completed += 1;
        self.longest_ms = self.longest_ms.max(report.duration_ms);
        self.copying_ms = self.copying_ms.max(report.copying_ms);
        if !report.at_end {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(report.clone());
        }
        self.last = Some(report);
    }
}
