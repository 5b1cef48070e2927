//! The process's standard output, as a sink writes to it.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::sync::Notify;

use super::lines::Lines;
use crate::out::shown;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// Standard output. When its reader has gone away it says so, and swallows what still comes: that is not an error of the job.
pub struct Stdout {
    out: BufWriter<File>,
    /// the progress, where a person reads this
    lines: Option<Lines>,
    closed: Arc<Notify>,
    is_closed: bool,
}

impl Stdout {
    /// The process's standard output. `closed` is notified when its reader goes away; on a terminal, the progress below `lines` makes way.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(closed: Arc<Notify>, lines: &Lines) -> io::Result<Self> {
        // Not `io::stdout()`, which writes at every end of line.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let lines = file.is_terminal().then(|| lines.clone());
        Ok(Self { out: BufWriter::with_capacity(BUFFER_BYTES, file), lines, closed, is_closed: false })
    }

    fn aside<R>(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> R) -> R {
        let Self { out, lines, .. } = self;
        match lines {
            Some(lines) => lines.aside(|| write(out)),
            None => write(out),
        }
    }

    fn unless_closed<T>(&mut self, result: io::Result<T>, swallowed: T) -> io::Result<T> {
        match result {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                self.closed.notify_one();
                Ok(swallowed)
            }
            other => other,
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let written = match self.lines {
            None => self.out.write(bytes),
            // Sinks write whole lines.
            Some(_) => {
                let text = String::from_utf8_lossy(bytes);
                let text = shown(&text, true);
                self.aside(|out| out.write_all(text.as_bytes())).map(|()| bytes.len())
            }
        };
        self.unless_closed(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_closed {
            return Ok(());
        }
        let flushed = self.aside(Write::flush);
        self.unless_closed(flushed, ())
    }
}
