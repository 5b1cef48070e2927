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

/// How far the end of a record has been looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    /// where the field at hand begins
    field: usize,
    /// where to go on looking
    at: usize,
    within: Within,
    /// whether it began in another record, so that the fields are not all those of this one
    is_taken_over: bool,
}

/// What a search has met of the field at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Within {
    /// nothing
    #[default]
    Nothing,
    /// its opening quote, and not the closing one
    Quotes,
    /// its closing quote, or that it has none
    Rest,
}

impl Search {
    /// The same, seen from a later beginning; none if nothing behind that was looked at.
    fn seen_from(self, beginning: usize) -> Option<Self> {
        let at = self.at.checked_sub(beginning).filter(|at| *at > 0)?;
        Some(Self { field: self.field.saturating_sub(beginning), at, ..self })
    }
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
    /// for the end of the record at hand: input that comes in many blocks is looked at once
    search: Search,
    /// that of a record that was given up
    given_up: Option<Search>,
    /// for each column of the rows, which field it is
    sources: Vec<usize>,
}

impl Csv {
    /// Where there is no header, `rows` are bound to the dialect's columns; else to those of the header once it is there.
    pub fn new(dialect: Dialect, rows: &Rows) -> Result<Self, Error> {
        let (awaits_header, width) = (dialect.header, dialect.columns.len());
        let (fields, sources) = (Vec::new(), Vec::new());
        let mut csv = Self { dialect, awaits_header, width, fields, search: Search::default(), given_up: None, sources };
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

    /// Finds the end of the record that `bytes` begins with; none if the end is not there yet: whoever asks again gives the same bytes, and more.
    /// `at_end`: nothing follows `bytes`.
    ///
    /// Behind a record that was given up, each line is the beginning of a record in its turn, and could be quoted as far as that one was. Nevertheless all of it
    /// is looked at once more only: where a line ends within quotes, it is where the search that was given up has been, in the same state, and goes on where that
    /// has ended.
    pub fn next_record(&mut self, bytes: &[u8], at_end: bool) -> Option<usize> {
        if self.search.at == 0
            && let Some(given_up) = self.given_up.take()
            && let Some(line) = memchr::memchr(b'\n', &bytes[..given_up.at])
        {
            if let Some(length) = self.look(&bytes[..=line], false) {
                self.given_up = Some(given_up);
                return Some(length);
            }
            self.search = Search { is_taken_over: true, ..given_up };
        }
        let is_taken_over = self.search.is_taken_over;
        let length = self.look(bytes, at_end)?;
        // The fields at the beginning are not known yet.
        if is_taken_over { self.look(bytes, at_end) } else { Some(length) }
    }

    /// The record at hand has no end that is waited for: what it begins with is [passed over](Self::pass), and records are looked for behind that.
    pub fn give_up(&mut self) {
        let search = std::mem::take(&mut self.search);
        self.given_up = (search.at > 0).then_some(search);
    }

    /// So many bytes at the beginning are dealt with.
    pub fn pass(&mut self, length: usize) {
        self.given_up = self.given_up.and_then(|search| search.seen_from(length));
    }

    /// Goes on with the search for the end of a record, and begins anew once that is found.
    fn look(&mut self, bytes: &[u8], at_end: bool) -> Option<usize> {
        let mut search = std::mem::take(&mut self.search);
        if search.at == 0 {
            self.fields.clear();
        }
        loop {
            let quoted = bytes.get(search.field) == Some(&b'"');
            if search.within == Within::Nothing && search.field < bytes.len() {
                search.within = if quoted { Within::Quotes } else { Within::Rest };
                search.at += usize::from(quoted);
            }
            if search.within == Within::Quotes {
                match closing_quote(bytes, search.at, at_end) {
                    Ok(end) => (search.at, search.within) = (end, Within::Rest),
                    Err(at) => {
                        self.search = Search { at, ..search };
                        return None;
                    }
                }
            }
            // What follows a closing quote up to the delimiter is refused when the field is read.
            match memchr::memchr2(self.dialect.delimiter, b'\n', &bytes[search.at..]) {
                Some(length) if bytes[search.at + length] == self.dialect.delimiter => {
                    let to = search.at + length;
                    self.fields.push(Field { from: search.field, to, quoted });
                    search = Search { field: to + 1, at: to + 1, within: Within::Nothing, ..search };
                }
                Some(length) => {
                    let stop = search.at + length;
                    let to = if stop > search.field && bytes[stop - 1] == b'\r' { stop - 1 } else { stop };
                    self.fields.push(Field { from: search.field, to, quoted });
                    return Some(stop + 1);
                }
                None if at_end => {
                    self.fields.push(Field { from: search.field, to: bytes.len(), quoted });
                    return Some(bytes.len());
                }
                None => {
                    self.search = Search { at: bytes.len(), ..search };
                    return None;
                }
            }
        }
    }

    /// Binds the rows to the columns that the record at hand names.
    pub fn read_header(&mut self, record: &str, rows: &Rows) -> Result<(), Reason> {
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

/// The index behind the quote that closes a field, looked for from `at` on. If it is not there, the error says where to go on once there is more.
fn closing_quote(bytes: &[u8], mut at: usize, at_end: bool) -> Result<usize, usize> {
    loop {
        let quote = at + memchr::memchr(b'"', &bytes[at..]).ok_or(bytes.len())?;
        match bytes.get(quote + 1) {
            Some(b'"') => at = quote + 2,
            // It may be the first of two.
            None if !at_end => return Err(quote),
            Some(_) | None => return Ok(quote + 1),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::*;

    fn csv() -> Csv {
        let dialect = Dialect { delimiter: b',', header: false, columns: vec!["a".into(), "b".into()], null_values: None };
        Csv::new(dialect, &Rows::new(&Arc::new(Schema::empty())).unwrap()).unwrap()
    }

    /// The fields of the record at hand.
    fn fields<'a>(csv: &Csv, record: &'a str) -> Vec<Cow<'a, str>> {
        csv.fields.iter().map(|&field| text(record, field).unwrap()).collect()
    }

    #[test]
    fn records_that_come_in_blocks_are_looked_at_once() {
        // Goal: where the end of a record is not there yet, the search goes on where it was: what it has been behind could have any end in it by now.
        // Wherever the record is cut, it has its fields.
        for (record, expected) in
            [("1,\"a\"\"\n\"\r\n", ["1", "a\"\n"]), ("\"\",x\r\n", ["", "x"]), ("12,\"\"\"\"\n", ["12", "\""])]
        {
            for cut in 0..record.len() {
                let mut csv = csv();
                assert_eq!(csv.next_record(&record.as_bytes()[..cut], false), None, "{record}, {cut}");
                assert_eq!(csv.next_record(record.as_bytes(), false), Some(record.len()), "{record}, {cut}");
                assert_eq!(fields(&csv, record), expected, "{cut}");
            }
        }
        let mut csv = csv();
        assert_eq!(csv.next_record(b"1,\"ab", false), None);
        assert_eq!(csv.next_record(b"\n\n\n\n\nc\"\n", false), Some(8));
    }

    #[test]
    fn what_was_given_up_is_not_looked_through_again() {
        // Goal: each line of a chain of quotes that does not end begins a record that does not either, and that is known by the line alone: the lines
        // behind it could have any end by now. A line that does end is a record; and where the chain ends in what has come meanwhile, so does the record.
        let chain = "a\",\"b\n";
        let mut csv = csv();
        assert_eq!(csv.next_record(chain.repeat(3).as_bytes(), false), None);
        csv.give_up();
        csv.pass(chain.len());
        assert_eq!(csv.next_record(format!("{chain}\"\n\n\n\n\n").as_bytes(), false), None);
        csv.give_up();
        csv.pass(chain.len());
        assert_eq!(csv.next_record(b"a,b,c\n", false), Some(6));
        csv.pass(6);
        assert_eq!(csv.next_record(format!("{chain}c\"\n").as_bytes(), false), Some(9));

        let mut csv = self::csv();
        assert_eq!(csv.next_record(chain.repeat(2).as_bytes(), false), None);
        csv.give_up();
        csv.pass(chain.len());
        let rest = format!("{chain}c\"\n");
        assert_eq!(csv.next_record(rest.as_bytes(), false), Some(rest.len()));
        assert_eq!(fields(&csv, &rest), ["a\"", "b\nc"]);
    }
}
