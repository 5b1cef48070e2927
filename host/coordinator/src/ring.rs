//! The last lines that a job wrote: bounded, numbered, and to be followed.
//!
//! ```text
//!   dropped      kept (at most `bytes_max`)     next
//! ├───────────┼───────────────────────────────┼─▶
//! 1           first                           last + 1
//! ```
//!
//! Numbers start at 1 and never repeat, so that a reader who was away goes on after the last number that it saw, and learns how many
//! lines it has missed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;
use weir_base::Clock;

/// The longest line; what is longer is broken in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;
/// What a line costs besides its text.
const LINE_COST: usize = size_of::<Line>();

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = JobLine)]
pub struct Line {
    /// its number
    pub seq: u64,
    /// when it was written, ms since 1970
    pub time_ms: i64,
    /// how grave it is (`info`, `warn`, …); lines of output have no level
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<&'static str>,
    /// the line, without its end
    pub text: String,
}

/// Some lines of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = JobLines)]
pub struct Page {
    /// lines, oldest first
    pub lines: Vec<Line>,
    /// how many lines between the number asked for and the first of `lines` are gone
    pub missed: u64,
    /// no line will come after these
    pub ended: bool,
}

/// The last lines of a job. Cheap to clone; all clones are one ring.
#[derive(Clone)]
pub struct Ring(Arc<Inner>);

struct Inner {
    lines: Mutex<Lines>,
    /// the number of the last line, and whether the ring is closed
    last: watch::Sender<(u64, bool)>,
    bytes_max: usize,
    clock: Clock,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<Line>,
    bytes: usize,
    last: u64,
    closed: bool,
}

impl Ring {
    /// A ring that keeps about this many bytes.
    pub fn new(bytes_max: usize, clock: Clock) -> Self {
        Self(Arc::new(Inner { lines: Mutex::default(), last: watch::Sender::new((0, false)), bytes_max, clock }))
    }

    /// Adds a line.
    pub fn push(&self, level: Option<&'static str>, text: &str) {
        self.push_all(level, std::iter::once(text));
    }

    fn push_all<'a>(&self, level: Option<&'static str>, texts: impl Iterator<Item = &'a str>) {
        let time_ms = self.0.clock.now_ms();
        let mut lines = self.0.lines.lock();
        for text in texts.flat_map(pieces) {
            lines.last += 1;
            lines.bytes += text.len() + LINE_COST;
            let seq = lines.last;
            lines.kept.push_back(Line { seq, time_ms, level, text: text.to_owned() });
            while lines.bytes > self.0.bytes_max && lines.kept.len() > 1 {
                let gone = lines.kept.pop_front().map_or(0, |l| l.text.len() + LINE_COST);
                lines.bytes -= gone;
            }
        }
        self.0.last.send_replace((lines.last, lines.closed));
    }

    /// There will be no more lines.
    pub fn close(&self) {
        let mut lines = self.0.lines.lock();
        lines.closed = true;
        self.0.last.send_replace((lines.last, true));
    }

    /// Drops all lines. Readers learn how many they have missed.
    fn clear(&self) {
        let mut lines = self.0.lines.lock();
        lines.kept = VecDeque::new();
        lines.bytes = 0;
    }

    fn bytes(&self) -> usize {
        self.0.lines.lock().bytes
    }

    /// At most `lines_max` lines after number `after`.
    pub fn after(&self, after: u64, lines_max: usize) -> Page {
        let lines = self.0.lines.lock();
        let first = lines.kept.front().map_or(lines.last + 1, |l| l.seq);
        let wanted = after.saturating_add(1);
        let skip = usize::try_from(wanted.saturating_sub(first)).unwrap_or(usize::MAX);
        let page: Vec<_> = lines.kept.iter().skip(skip).take(lines_max).cloned().collect();
        let ended = lines.closed && page.last().is_none_or(|l| l.seq == lines.last);
        Page { missed: first.saturating_sub(wanted), lines: page, ended }
    }

    /// Waits until there is a line after number `after`, or the ring is closed.
    pub async fn wait_after(&self, after: u64) {
        let mut last = self.0.last.subscribe();
        // The sender lives as long as this ring: waiting cannot fail.
        let _ = last.wait_for(|&(last, closed)| last > after || closed).await;
    }

    /// A writer that puts what is written into the ring, line by line.
    pub fn writer(&self) -> Writer {
        Writer { ring: self.clone(), partial: vec![] }
    }
}

/// Drops the lines of those rings that together with the ones before them have more bytes than this.
pub(crate) fn keep_first<'a>(rings: impl IntoIterator<Item = &'a Ring>, bytes_max: usize) {
    let mut bytes = 0;
    for ring in rings {
        bytes += ring.bytes();
        if bytes > bytes_max {
            bytes -= ring.bytes();
            ring.clear();
        }
    }
}

/// A line in pieces that are not too long, broken between characters. An empty line is one piece.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (piece, behind) = line.split_at(line.floor_char_boundary(LINE_BYTES_MAX));
        rest = Some(behind).filter(|behind| !behind.is_empty());
        Some(piece)
    })
}

/// See [`Ring::writer`].
pub struct Writer {
    ring: Ring,
    /// what has no end of line yet
    partial: Vec<u8>,
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.partial.extend_from_slice(bytes);
        let whole = match memchr::memrchr(b'\n', &self.partial) {
            Some(end) => end + 1,
            // Whole characters; what is cut off of one is there with the next write.
            None if self.partial.len() > LINE_BYTES_MAX => match std::str::from_utf8(&self.partial) {
                Err(e) if e.error_len().is_none() => e.valid_up_to(),
                _ => self.partial.len(),
            },
            None => return Ok(bytes.len()),
        };
        let text = String::from_utf8_lossy(&self.partial[..whole]);
        self.ring.push_all(None, text.lines());
        self.partial.drain(..whole);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn texts(page: &Page) -> Vec<&str> {
        page.lines.iter().map(|l| l.text.as_str()).collect()
    }

    /// Whatever the pieces in which lines are written, they come out whole.
    #[test]
    fn pieces_become_lines() {
        let ring = Ring::new(1 << 20, Clock::manual(7));
        let mut writer = ring.writer();
        for piece in ["a", "b\nc", "\n\nd", "e\nf"] {
            writer.write_all(piece.as_bytes()).expect("a ring takes everything");
        }
        assert_eq!(texts(&ring.after(0, 10)), ["ab", "c", "", "de"]);
        assert_eq!(texts(&ring.after(1, 1)), ["c"]);
    }

    /// A full ring drops its oldest lines, and says how many a reader has missed.
    #[test]
    fn old_lines_are_dropped_and_counted() {
        let ring = Ring::new(3 * (LINE_COST + 1), Clock::manual(7));
        (0..9).for_each(|i| ring.push(Some("info"), &i.to_string()));
        let page = ring.after(2, 10);
        assert_eq!((texts(&page), page.missed, page.ended), (vec!["6", "7", "8"], 4, false));
        ring.close();
        assert!(!ring.after(6, 1).ended);
        assert!(ring.after(6, 3).ended);
        assert!(ring.after(9, 3).ended);
    }

    /// A line that is too long comes in pieces, whether or not its end came with it, and no character is broken.
    #[test]
    fn long_lines_are_broken() {
        let long = "ü".repeat(LINE_BYTES_MAX);
        let ring = Ring::new(1 << 20, Clock::manual(7));
        for text in [format!("{long}\nnext\n"), format!("x{long}")] {
            ring.writer().write_all(text.as_bytes()).expect("a ring takes everything");
        }
        let mut halves = ring.writer();
        let (left, right) = long.as_bytes().split_at(LINE_BYTES_MAX + 1);
        halves.write_all(left).expect("a ring takes everything");
        halves.write_all(right).expect("a ring takes everything");
        halves.write_all(b"\n").expect("a ring takes everything");
        let page = ring.after(0, 100);
        assert!(page.lines.iter().all(|line| line.text.len() <= LINE_BYTES_MAX), "a line is too long");
        assert_eq!(texts(&page).concat(), format!("{long}nextx{long}{long}"));
    }

    /// A reader may ask for lines after any number.
    #[test]
    fn numbers_do_not_overflow() {
        let ring = Ring::new(1 << 10, Clock::manual(7));
        ring.push(None, "x");
        let page = ring.after(u64::MAX, 10);
        assert_eq!((page.lines.len(), page.missed), (0, 0));
    }

    /// Of many rings the first keep their lines as long as there is room; a ring without lines still says what was there.
    #[test]
    fn first_rings_keep_their_lines() {
        let rings: Vec<_> = (0..4).map(|_| Ring::new(1 << 10, Clock::manual(7))).collect();
        for (ring, text) in rings.iter().zip(["aa", "bb", "a long line", "cc"]) {
            ring.push(None, text);
            ring.close();
        }
        keep_first(&rings, 3 * (LINE_COST + 2));
        assert_eq!(rings.iter().map(|r| r.after(0, 10).lines.len()).collect::<Vec<_>>(), [1, 1, 0, 1]);
        let page = rings[2].after(0, 10);
        assert_eq!((page.missed, page.ended), (1, true));
    }

    /// Whoever waits is woken by a line, and by the end.
    #[tokio::test]
    async fn waiting_ends() {
        let ring = Ring::new(1 << 10, Clock::manual(7));
        let writer = ring.clone();
        let ((), ()) = tokio::join!(ring.wait_after(0), async { writer.push(None, "x") });
        let ((), ()) = tokio::join!(ring.wait_after(1), async { writer.close() });
    }
}
