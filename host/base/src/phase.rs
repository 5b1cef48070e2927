//! How far a job has come with a checkpoint, told to whoever watches from outside.
//!
//! With `WEIR_LOG=warn,weir::phase=debug` a process logs each phase that it comes to, and of which checkpoint. So whoever
//! finds it dead knows what it was about to do.

/// What each phase is logged under.
pub const TARGET: &str = "weir::phase";

/// What a job has come to. A phase lasts until the next one of the same checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// an attempt has chosen the checkpoint from which it goes on
    RestoreBegun,
    /// all of its tasks are open, with the state that they go on with: rows flow
    Running,
    /// a barrier has come to a task, which exports what it holds
    ExportBegun,
    /// a file of state begins to be uploaded
    UploadBegun,
    /// all tasks have acked the checkpoint; its manifest is put next
    UploadDone,
    /// its manifest is in the log: it is complete
    ManifestWritten,
    /// what sinks have prepared begins to be committed
    CommitBegun,
    /// all of that is committed
    CommitDone,
}

impl Phase {
    /// All phases, in the order in which a job comes to them.
    pub const ALL: [Self; 8] = [
        Self::RestoreBegun,
        Self::Running,
        Self::ExportBegun,
        Self::UploadBegun,
        Self::UploadDone,
        Self::ManifestWritten,
        Self::CommitBegun,
        Self::CommitDone,
    ];

    /// What the log calls it. No name begins with another one.
    pub fn name(self) -> &'static str {
        match self {
            Self::RestoreBegun => "restore begun",
            Self::Running => "rows flow",
            Self::ExportBegun => "export begun",
            Self::UploadBegun => "upload begun",
            Self::UploadDone => "upload done",
            Self::ManifestWritten => "manifest written",
            Self::CommitBegun => "commit begun",
            Self::CommitDone => "commit done",
        }
    }

    /// Logs that a job has come to it with a checkpoint; 0 = with none.
    pub fn reached(self, checkpoint: u64) {
        tracing::debug!(target: TARGET, checkpoint, "{}", self.name());
    }

    /// The phase that a line of the log tells of, if it is one that [`reached`](Self::reached) has written.
    pub fn of_line(line: &str) -> Option<Self> {
        let (_, told) = line.split_once(TARGET)?;
        let told = told.strip_prefix(": ")?;
        Self::ALL.into_iter().find(|phase| told.starts_with(phase.name()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::EnvFilter;

    use super::*;

    /// Takes a log.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Goal: what is logged of each phase is read as that phase, and nothing else is.
    #[test]
    fn phases_are_read_as_they_were_logged() {
        let page = Page::default();
        let writer = page.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        let log = log.with_env_filter(EnvFilter::new(format!("warn,{TARGET}=debug"))).finish();
        tracing::subscriber::with_default(log, || {
            Phase::ALL.into_iter().for_each(|phase| phase.reached(7));
            tracing::debug!("export begun");
            tracing::warn!("export begun");
        });
        let text = String::from_utf8(page.0.lock().clone()).expect("a log is text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), Phase::ALL.len() + 1, "{text}");
        assert!(lines[0].ends_with("checkpoint=7"), "{text}");
        let read: Vec<_> = lines.into_iter().map(Phase::of_line).collect();
        let expected: Vec<_> = Phase::ALL.into_iter().map(Some).chain([None]).collect();
        assert_eq!(read, expected, "{text}");
    }
}
