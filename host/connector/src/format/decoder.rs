//! Turns bytes of text into rows, record by record, and deals with records that are malformed.

use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::columns::{Reason, Rows};
use super::csv::{Csv, Dialect, Found};
use super::json;
use super::malformed::{Place, Policy};
use crate::positions::Runs;
use crate::{Error, Fetch, Reject};

/// A record longer than this, without its line end, is malformed: a missing quote must not read a whole file into memory.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 20;

/// How far the end of a record of CSV is looked for: one that is not there is [too long](is_over_long), whatever follows.
const SEARCH_BYTES_MAX: usize = RECORD_BYTES_MAX + 3;

/// What text may begin with, and is no part of it: editors write it so that others know that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How much is kept of a malformed line that is longer than a record may be.
pub(crate) const EXCERPT_BYTES: usize = 1 << 10;

/// A format of text, and how it looks.
#[derive(Clone, Debug)]
pub(crate) enum TextFormat {
    /// a JSON object a line
    Jsonl,
    /// CSV
    Csv(Dialect),
}

impl TextFormat {
    /// Checks that rows of `schema` can be read, as far as that goes without an input.
    pub fn check(&self, schema: &SchemaRef) -> Result<(), Error> {
        self.reading(schema).map(drop)
    }

    /// What reads records of the format, and the rows that it reads them into.
    fn reading(&self, schema: &SchemaRef) -> Result<(Records, Rows), Error> {
        let rows = Rows::new(schema)?;
        let records = match self {
            Self::Jsonl => Records::Jsonl,
            Self::Csv(dialect) => {
                if let Some(column) = rows.columns.iter().find(|c| c.is_nested()) {
                    return Err(Error::options(format!("csv has no lists and records, as the column \"{}\" is", column.name())));
                }
                Records::Csv(Csv::new(dialect.clone(), &rows)?)
            }
        };
        Ok((records, rows))
    }
}

enum Records {
    Jsonl,
    Csv(Csv),
}

impl Records {
    /// Finds the end of the record that `bytes` begins with.
    fn next(&mut self, bytes: &[u8], at_end: bool) -> Found {
        match self {
            Self::Jsonl => match memchr::memchr(b'\n', bytes) {
                Some(at) => Found::Record(at + 1),
                None if at_end => Found::Record(bytes.len()),
                None => Found::Nothing,
            },
            Self::Csv(csv) => {
                let seen = &bytes[..bytes.len().min(SEARCH_BYTES_MAX)];
                csv.next_record(seen, at_end && seen.len() == bytes.len())
            }
        }
    }

    /// The record whose end was looked for is malformed: records are looked for behind its first line.
    fn give_up(&mut self) {
        if let Self::Csv(csv) = self {
            csv.give_up();
        }
    }

    /// So many bytes are dealt with.
    fn pass(&mut self, length: usize) {
        if let Self::Csv(csv) = self {
            csv.pass(length);
        }
    }
}

/// The length of the line that `bytes` begins with, or of what is there of it.
fn first_line(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

/// Whether a record, or what is there of one, is longer than a record may be. What follows does not change a yes, so it does not matter
/// where the input is cut.
fn is_over_long(record: &[u8]) -> bool {
    let text = record.strip_suffix(b"\n").unwrap_or(record);
    text.strip_suffix(b"\r").unwrap_or(text).len() > RECORD_BYTES_MAX
}

/// The beginning of a line that is longer than a record may be. Where the line is UTF-8, so is the beginning.
fn excerpt(line: &[u8]) -> &[u8] {
    let begins_char = |&at: &usize| line[at] & 0xC0 != 0x80;
    let end = (EXCERPT_BYTES - 3..=EXCERPT_BYTES).rev().find(begins_char).unwrap_or(EXCERPT_BYTES);
    &line[..end]
}

/// Decodes one input.
pub(crate) struct Decoder {
    input: String,
    records: Records,
    rows: Rows,
    /// by row: the number of its line
    positions: Runs,
    policy: Arc<Policy>,
    /// whether what comes up to the next line end belongs to a line that was too long, and was dealt with
    skips_line: bool,
    /// lines that were decoded
    lines: u64,
    /// what was decoded since the last `take`
    events: u64,
    malformed: u64,
    rejects: Vec<Reject>,
    /// the length of these
    rejects_bytes: usize,
}

impl Decoder {
    /// Makes a decoder for rows of `schema`. `input` is what messages call the input.
    pub fn new(input: String, format: &TextFormat, schema: &SchemaRef, policy: Arc<Policy>) -> Result<Self, Error> {
        let (records, rows) = format.reading(schema)?;
        Ok(Self {
            input,
            records,
            rows,
            positions: Runs::default(),
            policy,
            skips_line: false,
            lines: 0,
            events: 0,
            malformed: 0,
            rejects: vec![],
            rejects_bytes: 0,
        })
    }

    /// Whether the first record, a header, was not seen yet.
    pub fn awaits_header(&self) -> bool {
        matches!(&self.records, Records::Csv(csv) if csv.awaits_header())
    }

    /// The number of lines that were decoded.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Goes on counting lines from here.
    pub fn set_lines(&mut self, lines: u64) {
        self.lines = lines;
    }

    /// Whether there is as much to take as was asked for. Never within a line that is skipped: a reader that went on from there would
    /// take the rest of the line for a line.
    pub fn has_enough(&self, max_rows: usize) -> bool {
        !self.skips_line
            && (self.rows.are_enough(max_rows) || self.malformed >= max_rows as u64 || self.rejects_bytes >= RECORD_BYTES_MAX)
    }

    /// Decodes records until there are enough rows. Returns how many bytes they were; what is left is the start of a record whose end is
    /// not there yet, or there are enough. `at_end`: nothing follows `bytes`.
    pub fn decode(&mut self, bytes: &[u8], at_end: bool, max_rows: usize) -> Result<usize, Error> {
        let mut at = 0;
        while at < bytes.len() && (self.awaits_header() || !self.has_enough(max_rows)) {
            let rest = &bytes[at..];
            if self.skips_line {
                let length = first_line(rest);
                self.skips_line = rest[length - 1] != b'\n';
                self.records.pass(length);
                at += length;
                continue;
            }
            if self.lines == 0 && rest.starts_with(BYTE_ORDER_MARK) {
                at += BYTE_ORDER_MARK.len();
                continue;
            }
            if self.lines == 0 && !at_end && BYTE_ORDER_MARK.starts_with(rest) {
                break;
            }
            let found = self.records.next(rest, at_end);
            let length = match found {
                // Whether or not its end is there.
                _ if is_over_long(&rest[..found.length().unwrap_or(rest.len())]) => {
                    self.over_long_record(rest)?;
                    continue;
                }
                Found::Record(length) => {
                    self.record(&rest[..length])?;
                    length
                }
                Found::Torn(_) => self.broken_record(
                    rest,
                    "a quoted field does not end before the next quote: one is missing, or is not doubled",
                )?,
                Found::Nothing if at_end => self.broken_record(rest, "a quoted field does not end")?,
                Found::Nothing => break,
            };
            self.lines += match &self.records {
                Records::Jsonl => 1,
                Records::Csv(_) => memchr::memchr_iter(b'\n', &rest[..length]).count() as u64,
            };
            self.records.pass(length);
            at += length;
        }
        Ok(at)
    }

    /// Takes what was decoded: rows, events and malformed ones. None if there is nothing.
    pub fn take(&mut self) -> Option<Fetch> {
        if self.events == 0 {
            return None;
        }
        let batches = if self.rows.len() > 0 { vec![(0, self.rows.take())] } else { Vec::new() };
        let (events, malformed) = (std::mem::take(&mut self.events), std::mem::take(&mut self.malformed));
        self.rejects_bytes = 0;
        let (rejects, positions) = (std::mem::take(&mut self.rejects), Some(self.positions.take()));
        Some(Fetch { batches, events, malformed, bytes: 0, rejects, positions })
    }

    /// A record that is too long: its first line is malformed. What comes up to the end of that line is skipped, as it comes. Decoding
    /// goes on behind it, also in CSV: if a quote is missing, the lines after it are records.
    #[cold]
    fn over_long_record(&mut self, rest: &[u8]) -> Result<(), Error> {
        let why = format!("a line or a quoted field does not end within {} MiB", RECORD_BYTES_MAX >> 20);
        if self.awaits_header() {
            return Err(self.bad_header(&why));
        }
        self.records.give_up();
        let line = &rest[..first_line(rest)];
        self.reject(Reason(why), if is_over_long(line) { excerpt(line) } else { line })?;
        self.lines += 1;
        self.skips_line = true;
        Ok(())
    }

    /// A record with a quoted field that does not end, or not as it should: its first line is malformed. Decoding goes on behind it: what seems to be a field
    /// of several lines is lines behind a stray quote.
    #[cold]
    fn broken_record(&mut self, rest: &[u8], why: &str) -> Result<usize, Error> {
        if self.awaits_header() {
            return Err(self.bad_header(why));
        }
        self.records.give_up();
        let line = first_line(rest);
        self.reject(Reason(why.into()), &rest[..line])?;
        Ok(line)
    }

    /// The header is malformed: nothing can be read without it, whatever is done with malformed lines.
    fn bad_header(&self, why: &str) -> Error {
        Error::malformed(format!("the header of {}: {why}", self.input))
    }

    fn record(&mut self, record: &[u8]) -> Result<(), Error> {
        let Ok(text) = std::str::from_utf8(record) else {
            if self.awaits_header() {
                return Err(self.bad_header(
                    "it is not UTF-8; convert the input to UTF-8, or decompress it if its name does not say how it is compressed",
                ));
            }
            return self.reject(Reason("the line is not UTF-8".into()), record);
        };
        let is_blank = record.first().is_none_or(|b| b.is_ascii_whitespace()) && text.trim().is_empty();
        let read = match &mut self.records {
            Records::Jsonl if is_blank => return Ok(()),
            Records::Jsonl => json::read_object(text, &mut self.rows),
            Records::Csv(csv) if csv.awaits_header() => {
                return csv.read_header(text, &self.rows).map_err(|Reason(why)| self.bad_header(&why));
            }
            Records::Csv(csv) if is_blank && !csv.has_blank_records() => return Ok(()),
            Records::Csv(csv) => csv.read_record(text, &mut self.rows),
        };
        match read.and_then(|()| self.rows.end_row(record.len())) {
            Ok(()) => {
                self.positions.push(self.rows.len() - 1, self.lines + 1);
                self.events += 1;
                Ok(())
            }
            Err(reason) => self.reject(reason, record),
        }
    }

    #[cold]
    fn reject(&mut self, reason: Reason, record: &[u8]) -> Result<(), Error> {
        self.rows.drop_row();
        self.events += 1;
        self.malformed += 1;
        let reject = self.policy.handle(&Place::Line { input: &self.input, line: self.lines + 1 }, reason, record)?;
        self.rejects_bytes += reject.as_ref().map_or(0, |reject| reject.record.len());
        self.rejects.extend(reject);
        Ok(())
    }
}
