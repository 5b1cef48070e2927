//! What has happened to a job's checkpoints, over all its attempts.

use super::CheckpointReport;

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
    /// the last complete one that was made while the job ran
    pub last_running: Option<CheckpointReport>,
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
            self.last_running = Some(report.clone());
        }
        self.last = Some(report);
    }
}
