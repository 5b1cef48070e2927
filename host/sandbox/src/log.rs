//! What guests say: bounded lines on their way to the job's log.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentType, Lift};

use crate::Limits;

/// How grave a line is.
#[derive(ComponentType, Lift, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    /// finest detail
    #[component(name = "trace")]
    Trace,
    /// for whoever debugs the guest
    #[component(name = "debug")]
    Debug,
    /// worth knowing
    #[component(name = "info")]
    Info,
    /// looks wrong
    #[component(name = "warn")]
    Warn,
    /// is wrong
    #[component(name = "error")]
    Error,
}

/// Where the lines of guests go. They arrive one at a time, without line breaks, and already bounded by the instance's limits.
#[derive(Clone)]
pub struct LogSink(Arc<dyn Fn(Level, &str) + Send + Sync>);

impl LogSink {
    /// A sink that calls `write` with each line, on the thread that runs the guest: it must not block.
    pub fn new(write: impl Fn(Level, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// A sink that forgets everything.
    pub fn none() -> Self {
        Self::new(|_, _| ())
    }

    /// A sink that writes to this process's own log, under the target `guest`.
    pub fn tracing() -> Self {
        Self::new(|level, line| match level {
            Level::Trace => tracing::trace!(target: "guest", "{line}"),
            Level::Debug => tracing::debug!(target: "guest", "{line}"),
            Level::Info => tracing::info!(target: "guest", "{line}"),
            Level::Warn => tracing::warn!(target: "guest", "{line}"),
            Level::Error => tracing::error!(target: "guest", "{line}"),
        })
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

/// What a line costs besides its bytes, so that a flood of empty lines is a flood, too.
const LINE_COST: usize = 32;

/// The log of one instance: passes on as much as the limits allow.
///
/// A bucket of bytes fills up with time; a line that finds it too empty is dropped and counted, and the count is reported
/// by the next line that gets through, or at the end.
pub(crate) struct GuestLog {
    sink: LogSink,
    line_bytes: usize,
    bytes_per_second: usize,
    bucket: usize,
    filled: Instant,
    dropped: u64,
    last_error: Option<String>,
}

impl GuestLog {
    pub(crate) fn new(sink: LogSink, limits: &Limits) -> Self {
        Self {
            sink,
            line_bytes: limits.log_line_bytes,
            bytes_per_second: limits.log_bytes_per_second,
            bucket: limits.log_bytes_per_second,
            filled: Instant::now(),
            dropped: 0,
            last_error: None,
        }
    }

    /// Takes what the guest wrote: one line, or several.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        for line in text.lines() {
            let line = &line[..line.floor_char_boundary(self.line_bytes)];
            if level >= Level::Warn {
                self.last_error = Some(line.to_owned());
            }
            if !self.pay(line.len() + LINE_COST) {
                self.dropped += 1;
                continue;
            }
            self.report_dropped();
            (self.sink.0)(level, line);
        }
    }

    /// Takes the last warning or error since this was called before: what a panic hook said, often.
    pub(crate) fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    fn pay(&mut self, cost: usize) -> bool {
        if self.bucket < cost {
            let elapsed = self.filled.elapsed().min(Duration::from_secs(1));
            let gained = (self.bytes_per_second as f64 * elapsed.as_secs_f64()) as usize;
            if gained == 0 {
                return false;
            }
            self.filled = Instant::now();
            self.bucket = (self.bucket + gained).min(self.bytes_per_second);
        }
        let enough = self.bucket >= cost;
        if enough {
            self.bucket -= cost;
        }
        enough
    }

    fn report_dropped(&mut self) {
        if self.dropped > 0 {
            let line = format!(
                "{} lines were dropped: the guest logged more than {} bytes a second",
                self.dropped, self.bytes_per_second
            );
            (self.sink.0)(Level::Warn, &line);
            self.dropped = 0;
        }
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        self.report_dropped();
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Long lines are cut between characters, a flood is dropped and counted once, and breaks make lines.
    #[test]
    fn lines_are_bounded() {
        let lines = Arc::new(Mutex::new(vec![]));
        let seen = Arc::clone(&lines);
        let sink = LogSink::new(move |level, line| seen.lock().push((level, line.to_owned())));
        let limits = Limits { log_line_bytes: 4, log_bytes_per_second: 3 * (LINE_COST + 4), ..Limits::default() };
        let mut log = GuestLog::new(sink, &limits);
        log.write(Level::Info, "abcdef\nüüü");
        log.write(Level::Error, "oops");
        assert_eq!(log.take_last_error().as_deref(), Some("oops"));
        log.bytes_per_second = 0;
        log.write(Level::Info, "late");
        log.write(Level::Info, "late");
        drop(log);
        let lines = lines.lock();
        let text: Vec<_> = lines.iter().map(|(_, l)| l.as_str()).collect();
        assert_eq!(text[..3], ["abcd", "üü", "oops"]);
        assert!(text[3].starts_with("2 lines were dropped") && text.len() == 4, "{text:?}");
    }
}
