//! The guests' lines on standard error, above the progress if that is shown.

use std::sync::{Arc, OnceLock};

use indicatif::ProgressBar;
use weir_coordinator::handle::level_name;
use weir_sandbox::LogSink;

use crate::out;

/// Where the guests' lines go. Cheap to clone.
#[derive(Clone)]
pub struct Lines {
    quiet: bool,
    bar: Arc<OnceLock<ProgressBar>>,
}

impl Lines {
    /// Lines on standard error, or nowhere.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, bar: Arc::default() }
    }

    /// The bar that is to stay below the lines.
    pub fn stay_above(&self, bar: ProgressBar) {
        // There is one bar in a run.
        let _ = self.bar.set(bar);
    }

    /// What guests write to.
    pub fn sink(&self) -> LogSink {
        if self.quiet {
            return LogSink::none();
        }
        let lines = self.clone();
        LogSink::new(move |level, line| lines.aside(|| out::tell(&format!("{:5} {line}", level_name(level)))))
    }

    /// Writes to the terminal while the bar is out of the way.
    pub fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        match self.bar.get() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
