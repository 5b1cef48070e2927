//! What guests say: bounded lines on their way to the job's log.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmtime::component::{ComponentType, Lift};
use weir_types::text;

use crate::Limits;
use crate::failure::cut;

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

/// Where the lines of a job's guests go. They arrive one at a time, without line breaks, already bounded, and with what would act on a terminal
/// [written out](text::shown).
///
/// Clones are one sink. What it may take a second it takes of all guests together: a job writes no more if it has more instances, or starts
/// them anew.
#[derive(Clone)]
pub struct LogSink(Arc<Inner>);

struct Inner {
    write: Box<dyn Fn(Level, &str) + Send + Sync>,
    budget: Mutex<Budget>,
}

/// A bucket of bytes, which fills up with time. A line that finds it too empty is dropped and counted, and the count is reported before the
/// next line that gets through, or at the end.
struct Budget {
    /// none before the first line
    bucket: Option<usize>,
    filled: Instant,
    dropped: u64,
}

impl LogSink {
    /// A sink that calls `write` with each line, on the thread that runs the guest: it must not block.
    pub fn new(write: impl Fn(Level, &str) + Send + Sync + 'static) -> Self {
        let budget = Budget { bucket: None, filled: Instant::now(), dropped: 0 };
        Self(Arc::new(Inner { write: Box::new(write), budget: Mutex::new(budget) }))
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

/// The longest text that is looked at of what a guest writes at once: what is longer would not fit into any budget, but cost time.
const TEXT_BYTES_MAX: usize = 64 << 10;

impl LogSink {
    /// Passes a line on if the budget of so many bytes a second allows it.
    fn line(&self, level: Level, line: &str, bytes_per_second: usize) {
        let dropped = {
            let mut budget = self.0.budget.lock();
            if !budget.pay(line.len() + LINE_COST, bytes_per_second) {
                budget.dropped += 1;
                return;
            }
            std::mem::take(&mut budget.dropped)
        };
        self.0.report(dropped);
        (self.0.write)(level, line);
    }

    /// Counts what was not even looked at.
    fn dropped(&self) {
        self.0.budget.lock().dropped += 1;
    }
}

impl Inner {
    fn report(&self, dropped: u64) {
        if dropped > 0 {
            (self.write)(
                Level::Warn,
                &format!("{dropped} lines were dropped: the job's guests log too much (`log_bytes_per_second`)"),
            );
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let dropped = self.budget.get_mut().dropped;
        self.report(dropped);
    }
}

impl Budget {
    fn pay(&mut self, cost: usize, bytes_per_second: usize) -> bool {
        let mut bucket = self.bucket.unwrap_or(bytes_per_second);
        if bucket < cost {
            let elapsed = self.filled.elapsed().min(Duration::from_secs(1));
            let gained = (bytes_per_second as f64 * elapsed.as_secs_f64()) as usize;
            if gained > 0 {
                self.filled = Instant::now();
                bucket = (bucket + gained).min(bytes_per_second);
            }
        }
        let left = bucket.checked_sub(cost);
        self.bucket = Some(left.unwrap_or(bucket));
        left.is_some()
    }
}

/// The log of one instance: cuts what the guest writes into lines, and keeps the last complaint.
pub(crate) struct GuestLog {
    sink: LogSink,
    line_bytes: usize,
    bytes_per_second: usize,
    last_error: Option<String>,
}

impl GuestLog {
    pub(crate) fn new(sink: LogSink, limits: &Limits) -> Self {
        Self { sink, line_bytes: limits.log_line_bytes, bytes_per_second: limits.log_bytes_per_second, last_error: None }
    }

    /// Takes what the guest wrote: one line, or several.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        let head = cut(text, TEXT_BYTES_MAX);
        for line in head.lines() {
            let shown = text::shown(cut(line, self.line_bytes));
            let line = cut(&shown, self.line_bytes);
            if level >= Level::Warn && says_why(line) {
                self.last_error = Some(line.to_owned());
            }
            self.sink.line(level, line, self.bytes_per_second);
        }
        // The rest of a line that is too long anyway is no line.
        if text[head.len()..].contains('\n') {
            self.sink.dropped();
        }
    }

    /// Takes the last warning or error since this was called before: what a panic hook said, often.
    pub(crate) fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }
}

/// Whether a line may say why a guest gives up. What follows a panic's message may not: that there are backtraces to be had.
fn says_why(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("note: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Arc<Mutex<Vec<String>>>;

    fn sink() -> (LogSink, Seen) {
        let seen = Seen::default();
        let lines = Arc::clone(&seen);
        (LogSink::new(move |_, line| lines.lock().push(line.to_owned())), seen)
    }

    /// A budget that is spent by three lines of four bytes, and does not come back before the test is over.
    fn limits() -> Limits {
        Limits { log_line_bytes: 4, log_bytes_per_second: 3 * (LINE_COST + 4), ..Limits::default() }
    }

    /// Long lines are cut between characters, a flood is dropped and counted once, and breaks make lines.
    #[test]
    fn lines_are_bounded() {
        let (sink, lines) = sink();
        let mut log = GuestLog::new(sink, &limits());
        log.write(Level::Info, "abcdef\nüüü");
        log.write(Level::Error, "oops");
        assert_eq!(log.take_last_error().as_deref(), Some("oops"));
        log.bytes_per_second = 0;
        log.write(Level::Info, "late");
        log.write(Level::Info, "late");
        drop(log);
        let lines = lines.lock();
        assert_eq!(lines[..3], ["abcd", "üü", "oops"]);
        assert!(lines[3].starts_with("2 lines were dropped") && lines.len() == 4, "{lines:?}");
    }

    /// What would move a terminal's cursor or turn text around is written out, within the bound of a line; so is what an error says of it.
    #[test]
    fn lines_do_not_act() {
        let (sink, lines) = sink();
        let limits = Limits { log_line_bytes: 16, ..Limits::default() };
        let mut log = GuestLog::new(sink, &limits);
        log.write(Level::Warn, "a\tb\x1b[2J\r\n\u{202e}001\n\0\0\0\0\0");
        assert_eq!(log.take_last_error().as_deref(), Some("\\u{0}\\u{0}\\u{0}\\"));
        assert_eq!(*lines.lock(), ["a\tb\\u{1b}[2J", "\\u{202e}001", "\\u{0}\\u{0}\\u{0}\\"]);
    }

    /// The last complaint is what a guest says of its failure, and not how to learn more of it, nor an empty line behind it.
    #[test]
    fn notes_are_no_complaints() {
        let (sink, lines) = sink();
        let limits = Limits { log_bytes_per_second: usize::MAX, ..Limits::default() };
        let mut log = GuestLog::new(sink, &limits);
        log.write(Level::Warn, "Traceback\nKeyError: 'boom'\n\nnote: run with `RUST_BACKTRACE=1` to see more\n  \n");
        assert_eq!(log.take_last_error().as_deref(), Some("KeyError: 'boom'"));
        log.write(Level::Error, "note: nothing else");
        assert_eq!(log.take_last_error(), None);
        assert_eq!(lines.lock().len(), 6, "the log has all lines");
    }

    /// All instances of a job have one budget: neither one beside the others nor one in the place of another has a full one.
    #[test]
    fn instances_share_a_budget() {
        let (sink, lines) = sink();
        let mut limits = limits();
        GuestLog::new(sink.clone(), &limits).write(Level::Info, "a\nb\nc");
        // From here on nothing comes back, however long the test takes.
        limits.log_bytes_per_second = 0;
        for _ in 0..10 {
            GuestLog::new(sink.clone(), &limits).write(Level::Info, "more");
        }
        assert_eq!(*lines.lock(), ["a", "b", "c"]);
        drop(sink);
        let lines = lines.lock();
        assert!(lines[3].starts_with("10 lines were dropped") && lines.len() == 4, "{lines:?}");
    }

    /// Of a text as large as a guest's memory only the beginning is cut into lines; the rest counts as a line that was dropped.
    #[test]
    fn texts_are_cut() {
        let (sink, lines) = sink();
        let limits = Limits { log_bytes_per_second: usize::MAX, ..Limits::default() };
        let mut log = GuestLog::new(sink, &limits);
        log.write(Level::Info, &"\n".repeat(16 << 20));
        assert_eq!(lines.lock().len(), TEXT_BYTES_MAX);
        log.write(Level::Info, &"x".repeat(1 << 20));
        drop(log);
        let lines = lines.lock();
        assert_eq!(lines.len(), TEXT_BYTES_MAX + 2);
        assert!(lines[TEXT_BYTES_MAX].starts_with("1 lines were dropped"), "{}", lines[TEXT_BYTES_MAX]);
        assert_eq!(lines[TEXT_BYTES_MAX + 1].len(), limits.log_line_bytes);
    }
}
