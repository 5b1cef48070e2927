//! Reads CSV records into columns.
//!
//! A record is a line of fields with a delimiter between them. A field in double quotes may hold delimiters, line ends and (doubled)
//! quotes. Of the fields, only those of wanted columns are looked at.

use std::borrow::Cow;

use super::columns::{Reason, Rows};
use crate::Error;

/// How CSV looks.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// the byte between fields
    pub delimiter: u8,
    /// whether the first record names the columns
    pub header: bool,
    /// the names of the columns, where there is no header
    pub columns: Vec<String>,
    /// unquoted fields that are no value; none given = the empty one, but in text columns that need a value
    pub null_values: Option<Vec<String>>,
}

/// A field of a record that was found in the input.
#[derive(Clone, Copy, Debug)]
struct Field {
    from: usize,
    to: usize,
    quoted: bool,
}

/// Reads records.
pub(crate) struct Csv {
    dialect: Dialect,
    awaits_header: bool,
    /// the number of columns that the header has
    width: usize,
    /// the fields of the record at hand; kept for its memory
    fields: Vec<Field>,
    /// for each column of the rows, which field it is
    sources: Vec<usize>,
}

impl Csv {
    /// Where there is no header, `rows` are bound to the dialect's columns; else to those of the header once it is there.
    pub fn new(dialect: Dialect, rows: &Rows) -> Result<Self, Error> {
        let (awaits_header, width) = (dialect.header, dialect.columns.len());
        let mut csv = Self { dialect, awaits_header, width, fields: Vec::new(), sources: Vec::new() };
        if !awaits_header {
            let names: Vec<_> = csv.dialect.columns.iter().map(|n| Cow::Borrowed(n.as_str())).collect();
            csv.sources = bind(&names, rows).map_err(|Reason(why)| Error::options(format!("the option columns: {why}")))?;
        }
        Ok(csv)
    }

    /// Whether the next record has to be given to [`Self::read_header`].
    pub fn awaits_header(&self) -> bool {
        self.awaits_header
    }

    /// Whether a line without text is a record: the missing value of the only column.
    pub fn has_blank_records(&self) -> bool {
        self.width == 1
    }

    /// Finds the end of the record that `bytes` begins with; none if the end is not there yet. `at_end`: nothing follows `bytes`.
    pub fn next_record(&mut self, bytes: &[u8], at_end: bool) -> Option<usize> {
        self.fields.clear();
        let mut at = 0;
        loop {
            let quoted = bytes.get(at) == Some(&b'"');
            let end = if quoted { closing_quote(bytes, at)? } else { at };
            // What follows a closing quote up to the delimiter is refused when the field is read.
            match memchr::memchr2(self.dialect.delimiter, b'\n', &bytes[end..]) {
                Some(length) if bytes[end + length] == self.dialect.delimiter => {
                    self.fields.push(Field { from: at, to: end + length, quoted });
                    at = end + length + 1;
                }
                Some(length) => {
                    let stop = end + length;
                    let to = if stop > end && bytes[stop - 1] == b'\r' { stop - 1 } else { stop };
                    self.fields.push(Field { from: at, to, quoted });
                    return Some(stop + 1);
                }
                None if at_end => {
                    self.fields.push(Field { from: at, to: bytes.len(), quoted });
                    return Some(bytes.len());
                }
                None => return None,
            }
        }
    }

    /// Binds the rows to the columns that the record at hand names.
    pub fn read_header(&mut self, record: &str, rows: &Rows) -> Result<(), Reason> {
        let record = record.trim_start_matches('\u{feff}');
        // Without the byte order mark, the fields are elsewhere.
        self.next_record(record.as_bytes(), true);
        let names = self.fields.iter().map(|&f| text(record, f)).collect::<Result<Vec<_>, _>>()?;
        self.width = names.len();
        self.sources = bind(&names, rows)?;
        self.awaits_header = false;
        Ok(())
    }

    /// Reads the record at hand into a row.
    pub fn read_record(&self, record: &str, rows: &mut Rows) -> Result<(), Reason> {
        for (column, &source) in rows.columns.iter_mut().zip(&self.sources) {
            let Some(&field) = self.fields.get(source) else {
                return Err(Reason(format!(
                    "there are {} fields, and \"{}\" is number {}",
                    self.fields.len(),
                    column.name(),
                    source + 1
                )));
            };
            let value = text(record, field)?;
            let is_null = !field.quoted
                && match &self.dialect.null_values {
                    Some(nulls) => nulls.iter().any(|null| *null == value),
                    None => value.is_empty() && (column.is_nullable() || !column.is_text()),
                };
            let pushed = if is_null { column.push_null() } else { column.push_text(&value) };
            pushed.map_err(|Reason(why)| Reason(format!("\"{}\": {why}", column.name())))?;
        }
        Ok(())
    }
}

/// Where the names of the rows' columns are.
fn bind(names: &[Cow<str>], rows: &Rows) -> Result<Vec<usize>, Reason> {
    let index = |column: &super::columns::Column| {
        names
            .iter()
            .position(|name| name == column.name())
            .ok_or_else(|| Reason(format!("there is no column \"{}\"; there are: {}", column.name(), names.join(", "))))
    };
    rows.columns.iter().map(index).collect()
}

/// The index behind the quote that closes the field whose opening quote is at `open`.
fn closing_quote(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        at += memchr::memchr(b'"', &bytes[at..])? + 1;
        if bytes.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// A field's text, without its quotes.
fn text(record: &str, field: Field) -> Result<Cow<'_, str>, Reason> {
    let raw = &record[field.from..field.to];
    if !field.quoted {
        return Ok(Cow::Borrowed(raw));
    }
    let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).filter(|_| raw.len() >= 2);
    match inner {
        Some(inner) if !inner.contains('"') => Ok(Cow::Borrowed(inner)),
        Some(inner) if inner.replace("\"\"", "").contains('"') => Err(Reason(format!("a quote in {raw} is not doubled"))),
        Some(inner) => Ok(Cow::Owned(inner.replace("\"\"", "\""))),
        None => Err(Reason(format!("a quoted field does not end with its quote: {raw}"))),
    }
}
